"""
What the regrow of an interpreter answers to the running one: its version, and whether it can take over.

Each is asked in a process of its own (`errand`): an interpreter may be on a disk that does not answer.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from regrow.config import exits
from regrow.daemon.reexec import execute

WITHIN_S = 15.0

_VERSION = "from regrow.config.version import VERSION; print(VERSION)"


class Ran(NamedTuple):
    """A process that has ended."""

    pid: int
    status: int
    stdout: bytes
    stderr: bytes


def version(python: str) -> bytes:
    """
    Which regrow belongs to that interpreter now.

    Raises:
        RuntimeError: nobody can say.
    """
    ran = _run(execute.program(python, _VERSION), b"")
    if ran.status != exits.DONE or len(ran.stdout.split()) != 1:
        raise RuntimeError(f"{python} cannot say which regrow it has: {_said(ran)}")
    return ran.stdout.strip()


def check(python: str, values: list[bytes]) -> bytes:
    """
    Have the regrow of that interpreter look at everything that would be carried.

    It has to answer: who only ends well may be any program, in whose hands all would be lost.

    Raises:
        RuntimeError: it cannot be run, or will not.
    """
    ran = _run(execute.program(python, execute.CHECK), msgspec.msgpack.encode(values))
    answer = ran.stdout.split()
    if ran.status != exits.DONE or not 1 <= len(answer) <= 2:
        raise RuntimeError(f"{python} cannot take over: {_said(ran)}")
    if answer[1:] not in ([], [b"%d" % ran.pid]):  # those before this one did not say their pid
        why = "it runs Python as another process, and the pid would be lost: an exec is missing in it"
        raise RuntimeError(f"{python} cannot take over: {why}")
    return answer[0]


def _run(argv: tuple[str, ...], data: bytes) -> Ran:
    import subprocess  # never in the root itself: threads, which come with it, make every fork dearer

    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as running:
            try:
                stdout, stderr = running.communicate(data, WITHIN_S)
            except subprocess.TimeoutExpired:
                running.kill()
                raise RuntimeError(f"{argv[0]} has not answered within {WITHIN_S:g} s") from None
    except OSError as error:
        raise RuntimeError(f"cannot run {argv[0]}: {error.strerror}") from None
    return Ran(running.pid, running.returncode, stdout, stderr)


def _said(ran: Ran) -> str:
    """Its last line."""
    said = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    ended = f"it ended with status {ran.status}"
    return said or (ended if ran.status else f"{ended}, and without a regrow's answer")
