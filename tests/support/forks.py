"""
Test bodies in a fork of their own: a small supervisor's view of the world, thrown away afterwards.

The fork is a subreaper with SIGCHLD blocked, so that every death is an event it can wait for, and what the body
leaves is its own to answer for. All processes that a body makes block on a pipe or a signal.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from regrow.daemon.linux import identity, kernel, procfs
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.identity import Marker, ProcessId
from regrow.daemon.linux.leftovers import Leftovers
from regrow.daemon.linux.owners import Key

TIMEOUT_S = 20.0
TOKEN = identity.new_token()
"""Of this run of the tests alone: others may run on the machine at the same time."""


def in_fork(body: Callable[[], None]) -> None:
    """
    Run `body` in a fork, which must leave no child behind.

    Raises:
        AssertionError with the traceback of whatever `body` raised.
    """
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run(body, writer)
    os.close(writer)
    _, status = os.waitpid(pid, 0)
    try:
        said = os.read(reader, 65_536).decode()
    except BlockingIOError:
        said = ""  # somebody that outlived the body holds the pipe
    finally:
        os.close(reader)
    assert not said, said
    assert status == 0, f"ended with {os.waitstatus_to_exitcode(status)}"


def _run(body: Callable[[], None], writer: int) -> NoReturn:
    try:
        kernel.set_child_subreaper()
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        make_room()
        body()
        left = [procfs.stat(pid) for pid in procfs.children_of_self()]
        assert not left, f"left behind: {left}"
    except BaseException:  # noqa: BLE001 - a fork must never return into the test runner's frames
        os.write(writer, traceback.format_exc()[-60_000:].encode())
        for pid in procfs.children_of_self():
            os.kill(pid, signal.SIGKILL)
        os._exit(1)
    os._exit(0)


def make_room() -> None:
    """Use the exec-time environment of the test runner, of which this fork has a copy, as the placeholder."""
    fields = procfs.read_file("/proc/self/stat").rpartition(b")")[2].split()
    start, end = int(fields[47]), int(fields[48])
    for name, value in list(os.environ.items()):
        os.environ[name] = value  # a copy elsewhere, for getenv(3)
    assignment = identity.VARIABLE.encode() + b"="
    length = end - start
    assert length > 100, "the test runner has hardly any environment"
    ctypes.memmove(start, assignment.ljust(length, b"\0"), length)
    identity._areas.marker = identity._Area(start + len(assignment), min(256, length - len(assignment) - 1))


def spawn(body: Callable[[], object], *, session: bool = True) -> int:
    """Fork; the child runs `body` in a session of its own and ends. Returns its pid."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if session:
                os.setsid()
            body()
            status = 0
        finally:
            os._exit(status)
    return pid


def block() -> None:
    """Live until killed."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    signal.sigwait({signal.SIGUSR1})


def exec_blocking(env: dict[str, str]) -> NoReturn:
    """Become a program with this environment that lives until killed."""
    ours, theirs = socket.socketpair()
    ours.set_inheritable(True)  # the other end: it waits for itself
    os.dup2(theirs.fileno(), 0)
    os.execve("/bin/cat", ["cat"], env)


def escape(then: Callable[[], object]) -> None:
    """Leave session and parent the way a daemon does, then run `then`, as an orphan. Returns at once."""

    def middle() -> None:
        pidfd = os.pidfd_open(os.getpid())

        def orphan() -> None:
            select.select([pidfd], [], [])  # readable once the kernel has found the children a new parent
            os.close(pidfd)
            then()

        spawn(orphan)

    os.waitpid(spawn(middle), 0)


def escape_and_stay(*bodies: Callable[[], object]) -> None:
    """Make daemons that run these, and live until killed."""
    for body in bodies:
        escape(body)
    block()


def fork_and_stay(*bodies: Callable[[], object]) -> None:
    """Make children that run these, and live until killed."""
    for body in bodies:
        spawn(body)
    block()


class Told:
    """Processes tell their identity to whoever made this; `pids` waits for so many of them."""

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC)
        self._said: list[int] = []

    def tell(self) -> None:
        """Say that this process is there; one line, whole."""
        os.write(self._writer, b"%d\n" % os.getpid())

    def stay(self) -> None:
        """Say so, then live until killed."""
        self.tell()
        block()

    def become(self, env: dict[str, str]) -> None:
        """Say so, then be a program with this environment until killed."""
        self.tell()
        exec_blocking(env)

    def pids(self, count: int) -> list[int]:
        """The next `count` that tell."""
        while len(self._said) < count:
            more = os.read(self._reader, 4096)  # whole lines: each is written at once
            assert more
            self._said += map(int, more.split())
        found, self._said = self._said[:count], self._said[count:]
        return found

    def close(self) -> None:
        os.close(self._reader)
        os.close(self._writer)


def alive(who: ProcessId) -> bool:
    """Whether exactly that process lives."""
    return identity.process_id(who.pid) == who


def identities(pids: Iterable[int]) -> list[ProcessId]:
    """Who has these pids now; all of them must live."""
    found = [identity.process_id(pid) for pid in pids]
    assert None not in found
    return [who for who in found if who is not None]


class Again:
    """A loop for `Leftovers` of which only one thing is wanted: that it is looked again, as at a SIGCHLD."""

    def __init__(self) -> None:
        self.calls = 0

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        pass

    def unwatch(self, fd: int) -> None:
        pass

    def call_later(self, _delay_s: float, callback: Callable[[], None]) -> None:
        self.calls += 1
        callback()

    @staticmethod
    def changed() -> None:
        os.kill(os.getpid(), signal.SIGCHLD)


class Mini:
    """The least supervisor: `Leftovers`, and a sweep per SIGCHLD."""

    def __init__(self, *, guarded: bool = False, strangers: Iterable[int] = ()) -> None:
        self.own = Marker(TOKEN, "app", 1)
        identity.mark(str(self.own))
        self.again = Again()
        self.left = Leftovers(
            self.own, guarded=guarded, strangers=strangers, watcher=self.again, changed=self.again.changed
        )
        self.main: dict[int, Key] = {}
        self.dead: set[Key] = set()

    def child(
        self, name: str, body: Callable[[], object], *, supervises: bool = False, group: Group | None = None
    ) -> int:
        """Start a child that carries its marker, and run `body` in it."""
        key = (name, 1)

        def marked() -> None:
            identity.mark(str(Marker(TOKEN, *key)))
            body()

        pid = spawn(marked)
        self.left.started(*key, pid, supervises=supervises, group=group)
        self.main[pid] = key
        return pid

    def reap(self) -> set[Key]:
        """Reap all that is dead; the children among them."""
        batch = set()
        while (pid := next_dead()) is not None:
            self.left.before_reap(pid)
            os.waitpid(pid, 0)
            self.left.reaped(pid)
            if pid in self.main:
                batch.add(self.main.pop(pid))
        return batch

    def sweep(self) -> set[Key]:
        """What the runtime does at a SIGCHLD; the children of which nothing is left any more."""
        batch = self.reap()
        clear = self.left.sweep()
        return clear | (batch - self.left.dead(batch)) if batch else clear

    def await_clear(self, *names: str) -> None:
        """Sweep at every SIGCHLD until nothing is left of these children."""
        wanted = {(name, 1) for name in names}
        self.dead |= self.sweep()
        while not wanted <= self.dead:
            next_death()
            self.dead |= self.sweep()

    def end(self) -> None:
        """Kill everything, until nobody is left."""
        while not self.left.everything():
            next_death()
            self.sweep()


def next_death() -> None:
    """Wait for a SIGCHLD; the time-out exists only to fail."""
    assert signal.sigtimedwait({signal.SIGCHLD}, TIMEOUT_S) is not None, "no SIGCHLD came"


def next_dead() -> int | None:
    """A child that has ended and is not reaped, or None."""
    try:
        end = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return end.si_pid if end is not None else None


def measured(what: str, seconds: float) -> None:
    """Put a figure into the output of the test (`pytest -s` shows it)."""
    os.write(1, f"\n{what}: {seconds * 1e6:.1f} µs\n".encode())


def kill_and_reap(*pids: int) -> None:
    """End children of this process that a test is done with."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
