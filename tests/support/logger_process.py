"""A real logger process, and the root's part of the conversation with it, as small as it can be."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from msgspec.structs import replace

from regrow.workers.system.inotify import IN_CREATE, IN_MODIFY, IN_MOVED_TO, Inotify
from regrow.workers.system.log_protocol import Closed, FromLogger, Hello, Open, Opened, Reopen, RootEnd
from regrow.workers.system.logger import run

FAIL_AFTER_S = 20.0

Message = TypeVar("Message")


def forked(body: Callable[[], None], keep: tuple[int, ...] = ()) -> int:
    """Fork a process that runs `body` with no descriptors but the standard ones and `keep`; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        last = 2
        for fd in sorted(keep):
            os.closerange(last + 1, fd)
            last = fd
        os.closerange(last + 1, 4096)
        body()
        code = 0
    except BaseException:  # noqa: BLE001 - a forked test must never return into pytest
        traceback.print_exc()
    finally:
        os._exit(code)


def wait_readable(fd: int, timeout_s: float = FAIL_AFTER_S) -> bool:
    """Wait for a descriptor, for instance a pidfd; False after `timeout_s`."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def reap(pid: int, timeout_s: float = FAIL_AFTER_S) -> int:
    """Wait for a child's end and return its exit code, negative for a signal."""
    pidfd = os.pidfd_open(pid)
    try:
        assert wait_readable(pidfd, timeout_s), f"process {pid} still lives after {timeout_s} s"
    finally:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class LoggerProcess:
    """
    Root's side: sends streams to a logger, keeps their read ends, gives them to a successor.

    `received` holds every message so far; `next` waits for one of a kind.
    """

    def __init__(self, preparation: Callable[[], None] = lambda: None) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel = RootEnd(ours.detach())
        self.their_fd = theirs.detach()
        self._preparation = preparation
        self.streams: dict[int, tuple[Open, int]] = {}
        self.received: list[FromLogger] = []
        self._unread: list[FromLogger] = []
        self.pid = 0
        self.start()

    def __enter__(self) -> LoggerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.pid:
            self.kill()
        for _, fd in self.streams.values():
            os.close(fd)
        self.channel.close()
        if self.their_fd >= 0:
            os.close(self.their_fd)

    # -- the process -----------------------------------------------------------------------------

    def start(self) -> None:
        """Start a logger and wait for its Hello, which is answered with every stream that is open."""
        self.pid = forked(self._run, keep=(self.their_fd,))
        self.next(Hello)

    def _run(self) -> None:
        self._preparation()
        run(self.their_fd)

    def kill(self) -> None:
        """SIGKILL the logger and reap it."""
        os.kill(self.pid, signal.SIGKILL)
        pid, self.pid = self.pid, 0
        assert reap(pid) == -signal.SIGKILL
        self.take_messages()

    def restart(self) -> None:
        """SIGKILL the logger and start the next."""
        self.kill()
        self.start()

    def stop(self) -> int:
        """SIGTERM the logger and return its exit code."""
        os.kill(self.pid, signal.SIGTERM)
        return self.ended()

    def ended(self) -> int:
        """Wait for the logger's own end and return its exit code."""
        pid, self.pid = self.pid, 0
        code = reap(pid)
        self.take_messages()
        return code

    # -- the conversation ------------------------------------------------------------------------

    def open(self, path: Path, number: int = 1, size: int = 0, keep: int = 5, pattern: str = "") -> int:
        """Open a stream and return the write end of its pipe, once the logger has it."""
        write_end = self.offer(path, number, size, keep, pattern)
        self.next(Opened, number)
        return write_end

    def offer(self, path: Path, number: int = 1, size: int = 0, keep: int = 5, pattern: str = "") -> int:
        """Send a stream without waiting for the logger's answer, and return the write end of its pipe."""
        read_end, write_end = os.pipe()
        spec = Open(number, f"child{number}", str(path), size, keep, pattern)
        self.streams[number] = (spec, read_end)
        self.send(spec, read_end)
        return write_end

    def reopen(self) -> None:
        """Send Reopen."""
        self.send(Reopen())

    def send(self, message: Open | Reopen, fd: int | None = None) -> None:
        """Send a message; wait while the socket is full, as root would not."""
        poll = select.poll()
        poll.register(self.channel.fileno(), select.POLLOUT)
        while True:
            try:
                self.channel.send(message, fd)
            except BlockingIOError:
                assert poll.poll(FAIL_AFTER_S * 1000), "the logger receives nothing"
            else:
                return

    def next(self, kind: type[Message], stream: int | None = None, timeout_s: float = FAIL_AFTER_S) -> Message:
        """Return the next unread message of this kind, of this stream if given; others stay unread."""
        end_s = time.monotonic() + timeout_s
        while True:
            for message in self._unread:
                if isinstance(message, kind) and stream in (None, getattr(message, "stream", None)):
                    self._unread.remove(message)
                    return message
            left_s = end_s - time.monotonic()
            there = left_s > 0 and wait_readable(self.channel.fileno(), left_s)
            assert there, f"no {kind.__name__} within {timeout_s} s; unread: {self._unread[-5:]}"
            self.take_messages()

    def count(self, kind: type[Message]) -> int:
        """How many messages of this kind came so far."""
        return sum(isinstance(message, kind) for message in self.received)

    def closed(self, number: int) -> Closed:
        """Wait for this stream's end."""
        return self.next(Closed, number)

    def take_messages(self) -> None:
        """Receive what is there, as root would."""
        with contextlib.suppress(BlockingIOError):
            while received := self.channel.receive():
                for message in received:
                    self._note(message)

    def _note(self, message: FromLogger) -> None:
        self.received.append(message)
        self._unread.append(message)
        if isinstance(message, Hello):
            paths = Counter(spec.path for spec, _ in self.streams.values())
            for spec, fd in self.streams.values():
                self.send(replace(spec, shared=paths[spec.path] > 1), fd)
        if isinstance(message, Opened) and message.stream in self.streams:
            spec, fd = self.streams[message.stream]
            self.streams[message.stream] = (replace(spec, since=message.position), fd)
        if isinstance(message, Closed) and message.stream in self.streams:
            os.close(self.streams.pop(message.stream)[1])


@contextlib.contextmanager
def writer(body: Callable[[], None], write_end: int) -> Iterator[int]:
    """Run `body` in a process of its own that has only `write_end`, which is closed here; yield its pid; reap it."""
    pid = forked(body, keep=(write_end,))
    os.close(write_end)
    try:
        yield pid
    finally:
        reap(pid)


def write_all(fd: int, said: bytes) -> None:
    """Write all of it."""
    rest = memoryview(said)
    while rest:
        rest = rest[os.write(fd, rest) :]


def whole_log(path: Path) -> bytes:
    """Everything in the log, oldest file first; files may be missing in between."""
    files = sorted(path.parent.glob(path.name + ".*"), key=lambda file: -int(file.suffix[1:]))
    said = b""
    for file in [*files, path]:
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            said += file.read_bytes()
    return said


def wait_until(path: Path, true: Callable[[], bool]) -> None:
    """Wait until something holds that depends on the files beside `path`; looks whenever one of them changes."""
    inotify = Inotify()
    try:
        inotify.watch(str(path.parent), IN_MODIFY | IN_CREATE | IN_MOVED_TO)
        while not true():
            assert wait_readable(inotify.fileno()), f"{path} stayed as it is: ends with {whole_log(path)[-200:]!r}"
            list(inotify.events())
    finally:
        inotify.close()


def wait_for_bytes(path: Path, said: bytes) -> None:
    """Wait until the log ends with these bytes."""
    wait_until(path, lambda: whole_log(path).endswith(said))


def processor_ticks(pid: int) -> tuple[int, int]:
    """CPU time used in clock ticks, and how often the process gave up the CPU to wait."""
    ticks = sum(int(field) for field in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13])
    status = dict(line.split(":\t") for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
    return ticks, int(status["voluntary_ctxt_switches"])
