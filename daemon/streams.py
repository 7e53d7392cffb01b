"""
The root's side of the output of all children: it holds every pipe, and hands each to the logger that lives now.

The logger's end of the channel outlives any logger, so nothing that was sent is lost with one.
"""

from __future__ import annotations

import os
import select
from collections import Counter, deque
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from regrow.daemon import pipes
from regrow.daemon.loop import Loop, Timer
from regrow.workers.system.log_protocol import (
    Closed,
    Fault,
    FaultCleared,
    FromLogger,
    Hello,
    LogProtocolError,
    Lost,
    Matched,
    Open,
    Opened,
    Reopen,
    RootEnd,
)

BATCH = 64
LAST_S = 1.0
SHORTAGE_RETRY_S = 0.1
HAND_ON_S = 0.005
"""The logger is not woken while children are being made: pipes hold what they print meanwhile."""


class Stream(Struct):
    """One pipe: whose output it carries, where that goes, and the root's hold on it. No end of a `spare` is told."""

    supervisor: str
    child: str
    incarnation: int
    fd: int
    open: Open
    spare: bool = False


class Held(Struct, frozen=True):
    """
    All streams by number as they go through an exec; of those in `queued` the logger has not been told. There was no
    descriptor for the outputs of the children that are `lost`.
    """

    streams: dict[int, Stream]
    queued: tuple[int, ...]
    next: int
    lost: tuple[str, ...]


class Streams:
    """
    Every open output pipe. `printed(child, incarnation, tail)`, `matched(supervisor, child, incarnation)` and
    `note(event, child, text)` are called as the logger reports.
    """

    def __init__(
        self,
        loop: Loop,
        channel: RootEnd,
        log_dir: str,
        printed: Callable[[str, int, str], None],
        matched: Callable[[str, str, int], None],
        note: Callable[[str, str, str], None],
    ) -> None:
        self._loop = loop
        self._channel = channel
        self._fd = channel.fileno()
        self._log_dir = log_dir
        self._printed = printed
        self._matched = matched
        self._note = note
        self._streams: dict[int, Stream] = {}
        self._paths: Counter[str] = Counter()
        self._lost: set[str] = set()
        self._next = 1
        self._timer: Timer | None = None
        self._queue: deque[Open | Reopen] = deque()
        loop.watch(self._fd, select.EPOLLIN, self._ready)

    @property
    def fd(self) -> int:
        """The root's end of the channel to the logger."""
        return self._fd

    def carried(self) -> Held:
        """Every open pipe, to go through an exec."""
        queued = tuple(message.stream for message in self._queue if isinstance(message, Open))
        return Held(self._streams, queued, self._next, tuple(self._lost))

    def take_up(self, held: Held) -> None:
        """Go on with what was `carried`."""
        self._streams, self._next = held.streams, held.next
        self._paths = Counter(stream.open.path for stream in held.streams.values())
        self._lost = set(held.lost)
        for number in held.queued:
            if number in self._streams:
                self._send(self._streams[number].open)

    @property
    def settled(self) -> bool:
        """Whether nothing but streams waits to be told to the logger."""
        return not any(isinstance(message, Reopen) for message in self._queue)

    def take(self, printed: pipes.Stream, fd: int) -> None:
        """Hold the read end `fd` from now on and have it read; -1: there was no descriptor to spare for it."""
        child = printed.child
        if fd < 0:
            self._not_held(child)
            return
        message = Open(
            stream=self._next,
            name=child,
            path=os.path.join(self._log_dir, f"{printed.file or child}.log"),
            max_size_bytes=printed.rotation.max_size_bytes,
            keep=printed.rotation.keep,
            pattern=printed.pattern,
        )
        if child in self._lost:
            self._lost.discard(child)
            self._note("fault_cleared", child, "its output is read again")
        self._streams[self._next] = Stream(
            printed.supervisor, child, printed.incarnation, fd, message, bool(printed.file)
        )
        self._paths[message.path] += 1
        self._next += 1
        self._send(message)

    def _not_held(self, child: str) -> None:
        self._lost.add(child)
        why = "no free descriptors"
        self._note("fault", child, f"its output cannot be read, it will be ended by SIGPIPE if it prints: {why}")

    def reopen(self) -> None:
        """The files were moved away (logrotate): write to new ones."""
        self._send(Reopen())

    def _send(self, message: Open | Reopen) -> None:
        self._queue.append(message)
        urgent = isinstance(message, Reopen) or message.pattern
        if self._timer is None:
            self._timer = self._loop.call_later(0.0 if urgent else HAND_ON_S, self._flush)

    def hand_on_all(self) -> None:
        """The logger is about to be stopped, and reads what it was given before it ends: wait until it has it all."""
        end_s = self._loop.now() + LAST_S
        poller = select.poll()
        poller.register(self._fd, select.POLLOUT)
        self._flush()
        while self._queue and (left_s := end_s - self._loop.now()) > 0:
            poller.poll(left_s * 1000)
            self._flush()

    def _flush(self) -> None:
        """Hand on what is queued, a bounded number in one turn."""
        self._timer = None
        for _ in range(BATCH):
            if not self._queue:
                break
            message = self._queue[0]
            held = self._streams.get(message.stream) if isinstance(message, Open) else None
            if isinstance(message, Open) and held is None:
                self._queue.popleft()  # it met its end while this waited
                continue
            try:
                if held is None:
                    self._channel.send(message)
                else:
                    self._channel.send(replace(held.open, shared=self._paths[held.open.path] > 1), held.fd)
            except BlockingIOError:
                self._loop.watch(self._fd, select.EPOLLIN | select.EPOLLOUT, self._ready)
                return
            except OSError:  # too many descriptors under way, no buffers: it passes
                self._timer = self._loop.call_later(SHORTAGE_RETRY_S, self._flush)
                return
            self._queue.popleft()
        if self._queue and self._timer is None:
            self._timer = self._loop.call_later(0.0, self._flush)

    def _ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._loop.watch(self._fd, select.EPOLLIN, self._ready)
            self._flush()
        if events & select.EPOLLIN:
            count = 0
            while count < BATCH:
                try:
                    received = self._channel.receive()
                except BlockingIOError:
                    return
                except LogProtocolError as error:
                    self._note("fault", "", str(error))
                    count += 1
                    continue
                if received is None:
                    return
                count += len(received)
                for message in received:
                    self._received(message)

    def _received(self, message: FromLogger) -> None:
        if isinstance(message, Hello):
            self._queue.clear()
            self._queue.extend(stream.open for stream in self._streams.values())
            self._flush()
        elif isinstance(message, Fault):
            self._note("fault", "", message.text)
        elif isinstance(message, FaultCleared):
            self._note("fault_cleared", "", "output is written again")
        elif (stream := self._streams.get(message.stream)) is not None:
            self._about(stream, message)

    def _about(self, stream: Stream, message: Opened | Matched | Closed | Lost) -> None:
        match message:
            case Opened():
                stream.open = replace(stream.open, since=message.position)
            case Matched():
                stream.open = replace(stream.open, pattern="")
                self._matched(stream.supervisor, stream.child, stream.incarnation)
            case Closed():
                del self._streams[message.stream]
                self._let_go(stream)
                if not stream.spare:
                    self._printed(stream.child, stream.incarnation, message.tail)
            case Lost():
                lost = f"{message.bytes_lost} bytes of its output were lost: " if message.bytes_lost else ""
                self._note("fault", stream.child, f"{lost}{message.text}")

    def _let_go(self, stream: Stream) -> None:
        os.close(stream.fd)
        self._paths[stream.open.path] -= 1
        if not self._paths[stream.open.path]:
            del self._paths[stream.open.path]
