"""
What /proc tells of the processes below this one; of which threads they have forked makes no difference.

`proc` is a descriptor of a /proc in which pids are to be looked up, where it is not the one that is mounted here.

Source: proc(5), /proc/PID/task/TID/children and the line NSpid of /proc/PID/status.
"""

from __future__ import annotations

import os
from collections.abc import Iterator


def children_of(pid: int | str, proc: int | None = None) -> list[int]:
    """Of all its threads; none when it has just ended. `pid` may be "self"."""
    try:
        threads = os.listdir(_place(f"{pid}/task", proc))
    except OSError:
        return []
    return [int(child) for thread in threads for child in read(f"{pid}/task/{thread}/children", proc).split()]


def below(proc: int | None = None) -> Iterator[int]:
    """All below us, a generation after the other."""
    generation = children_of("self", proc)
    while generation:
        yield from generation
        generation = [child for pid in generation for child in children_of(pid, proc)]


def parent_of(pid: int, proc: int | None = None) -> int:
    """0 when it is gone."""
    return _stat(pid, 1, proc)


def session_of(pid: int, proc: int | None = None) -> int:
    """0 when it is gone."""
    return _stat(pid, 3, proc)


def is_below(pid: int, proc: int) -> bool:
    """Whether it is a child of ours, or of one of them, and so on."""
    ours = _numbers("self", proc)[:1]
    while pid > 1:
        pid = parent_of(pid, proc)
        if [pid] == ours:
            return True
    return False


def wants_to_run(pid: int, proc: int | None = None) -> bool:
    """Whether it runs, or waits for a processor and nothing else."""
    return _state(pid, proc)[:1] == [b"R"]


def pid_here(pid: int, proc: int) -> int:
    """The number that a process below us, which `proc` knows as `pid`, has in our pid namespace; -1 when it is gone."""
    depth = len(_numbers("self", proc))
    numbers = _numbers(pid, proc)
    return numbers[depth - 1] if len(numbers) >= depth > 0 else -1


def _numbers(pid: int | str, proc: int) -> list[int]:
    """In the namespace of `proc`, in the one below it, and so on."""
    lines = read(f"{pid}/status", proc).split(b"\n")
    return next(([int(number) for number in line.split()[1:]] for line in lines if line.startswith(b"NSpid:")), [])


def _stat(pid: int, field: int, proc: int | None) -> int:
    """A field after the name, which may hold anything."""
    fields = _state(pid, proc)
    return int(fields[field]) if len(fields) > field else 0


def _state(pid: int, proc: int | None) -> list[bytes]:
    """What is behind the name: its state as a letter, its parent, and more."""
    return read(f"{pid}/stat", proc).rpartition(b")")[2].split()


def read(path: str, proc: int | None = None) -> bytes:
    """A file below /proc; nothing when its process is gone, or nobody may read it."""
    try:
        with open(_place(path, proc), "rb", buffering=0) as file:
            return file.readall()
    except OSError:
        return b""


def _place(path: str, proc: int | None) -> str:
    return f"/proc/{path}" if proc is None else f"/proc/self/fd/{proc}/{path}"
