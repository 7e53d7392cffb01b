"""
The logger: one process that carries every child's output from its pipe to its file.

It can be killed at any instruction: what is not in a file is still in a pipe, and root, which keeps a
duplicate of every pipe, gives all of them to the next logger. It waits in one epoll and does nothing
unless bytes, messages, signals or a fault's retry time arrive.

Source: architecture sections 3 and 5; log_protocol for the conversation with root.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import select
import signal
import termios
import time
from collections import deque
from itertools import islice

from regrow.workers.system.backlog import Held
from regrow.workers.system.descriptors import use_all_descriptors
from regrow.workers.system.faults import Faults, next_retry_s
from regrow.workers.system.log_protocol import (
    GONE,
    FromLogger,
    Hello,
    LoggerEnd,
    LogProtocolError,
    Lost,
    Open,
    Opened,
    Reopen,
)
from regrow.workers.system.logfile import LogFile
from regrow.workers.system.peek import Peek
from regrow.workers.system.signal_pipe import SignalPipe
from regrow.workers.system.stream import HELD, STEP_BYTES, Stream
from regrow.workers.system.tail import on_alarm
from regrow.workers.system.waiting import Timers

HEARD = (signal.SIGTERM, signal.SIGHUP)
IGNORED = (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ)
"""EFBIG is wanted, not SIGXFSZ."""

MESSAGES_PER_TURN = 64
SHORTAGE_RETRY_S = 0.1
LINE_WAIT_S = 0.2
"""How long an unfinished line in a shared file is waited for before it is written as it is."""

LAST_WORDS_S = 1.0
"""How long a stopping logger waits for root to take its last messages."""


def run(channel_fd: int) -> None:
    """
    Log until SIGTERM or the end of the channel, then drain what the pipes hold, and return.

    SIGHUP does what `Reopen` does.
    """
    use_all_descriptors()
    logger = Logger(channel_fd)
    try:
        logger.serve()
    finally:
        logger.close()


class Logger:
    """All streams and files, and the loop that serves them."""

    def __init__(self, channel_fd: int) -> None:
        self._channel = LoggerEnd(channel_fd)
        self._epoll = select.epoll()
        self._peek = Peek()
        self._faults = Faults(self._send)
        self._claims = Faults(self._send)  # apart: they may last, and are not to hide a full disk
        self._held_bytes = Held()
        self._streams: dict[int, Stream] = {}
        self._by_fd: dict[int, Stream] = {}
        self._files: dict[str, LogFile] = {}
        self._outbox: deque[FromLogger] = deque()
        self._timers = Timers()
        self._awaits_room = False
        self._together: int | None = None
        self._hello_delay_s = 0.0
        self._stopping = False
        signal.signal(signal.SIGALRM, on_alarm)  # of slow searches
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})
        self._signals = SignalPipe(HEARD, IGNORED)
        for fd in (self._channel.fileno(), self._signals.fileno()):
            self._epoll.register(fd, select.EPOLLIN)
        self._send(Hello())
        self._send_queued()

    # -- the loop --------------------------------------------------------------------------------

    def serve(self) -> None:
        """Serve until told to stop; then drain."""
        while not self._stopping:
            self._turn(self._epoll.poll(self._timers.wait_s()))
        self._drain()

    def _turn(self, events: list[tuple[int, int]]) -> None:
        """Signals, then bytes, oldest stream first, then messages: an old stream ends before its successor opens."""
        ready = dict(events)
        if self._signals.fileno() in ready:
            self._on_signals()
        pipes = [(self._by_fd[fd].number, fd) for fd in ready if fd in self._by_fd]
        for _, fd in sorted(pipes):
            self._serve_stream(self._by_fd[fd], force=bool(ready[fd] & select.EPOLLHUP))
        channel_events = ready.get(self._channel.fileno(), 0)
        if channel_events & select.EPOLLOUT:
            self._send_queued()
        if channel_events & ~select.EPOLLOUT:
            self._receive()
        self._timers.run()
        if self._outbox and not self._awaits_room:
            self._send_queued()

    def _on_signals(self) -> None:
        numbers = self._signals.arrived()
        if signal.SIGTERM in numbers:
            self._stopping = True
        if signal.SIGHUP in numbers:
            self._reopen()

    # -- messages --------------------------------------------------------------------------------

    def _send(self, message: FromLogger) -> None:
        """At the end of this turn."""
        self._outbox.append(message)

    def _send_queued(self) -> None:
        """Send what root takes. A stream's bytes are moved only once root can know where they begin."""
        while self._outbox:
            try:
                count = self._channel.send(islice(self._outbox, self._together))
            except BlockingIOError:
                self._await_room(True)
                return
            except OSError as error:
                if error.errno in GONE:
                    count = len(self._outbox)  # nobody wants it; the end of the channel will be read next
                elif error.errno != errno.EMSGSIZE:  # no buffers: it passes
                    self._await_room(False)
                    self._timers.after(SHORTAGE_RETRY_S, "send", self._send_queued)
                    return
                else:
                    count = int(self._together == 1)  # the socket takes less than is usual, and one by one from now on
                    self._together = 1
            for message in [self._outbox.popleft() for _ in range(count)]:
                if isinstance(message, Opened) and message.stream in self._streams:
                    self._watch(self._streams[message.stream])
        self._await_room(False)

    def _await_room(self, wanted: bool) -> None:
        """Whether to be told when root takes more."""
        if wanted != self._awaits_room:
            self._awaits_room = wanted
            self._epoll.modify(self._channel.fileno(), select.EPOLLIN | (select.EPOLLOUT if wanted else 0))

    def _receive(self) -> bool:
        """Take messages; True when there may be more of them."""
        for _ in range(MESSAGES_PER_TURN):
            try:
                received = self._channel.receive()
            except BlockingIOError:
                return False
            except LogProtocolError as error:
                self._faults.begin("protocol", str(error))
                self._faults.end("protocol")
                continue
            if received is None:
                self._stopping = True
                return False
            message, fd = received
            if isinstance(message, Reopen):
                self._reopen()
            elif fd is None:
                self._ask_again(message)
            else:
                self._open(message, fd)
        return True

    def _ask_again(self, message: Open) -> None:
        """The kernel had no descriptor left for us, and dropped the pipe. Root still has it."""
        self._faults.begin("descriptors", f"cannot receive the output of {message.name}: no free descriptors")
        self._hello_delay_s = next_retry_s(self._hello_delay_s)
        self._timers.after(self._hello_delay_s, "hello", lambda: self._send(Hello()))

    # -- streams and files -----------------------------------------------------------------------

    def _open(self, spec: Open, fd: int) -> None:
        if spec.stream in self._streams:
            os.close(fd)
            return
        if "hello" not in self._timers:
            self._hello_delay_s = 0.0
            self._faults.end("descriptors")
        file = self._files.setdefault(spec.path, LogFile(spec.path, self._held_bytes, self._faults, self._claims))
        file.limit, file.keep = spec.max_size_bytes, spec.keep
        self._prepare(file)
        self._streams[spec.stream] = stream = Stream(spec, fd, file, self._peek, self._send)
        self._by_fd[fd] = stream
        self._send(Opened(spec.stream, stream.begin))

    def _prepare(self, file: LogFile) -> None:
        if file.error is None:
            try:
                file.prepare()
            except OSError as error:
                file.fail(error)
                self._look_after(file)

    def _watch(self, stream: Stream) -> None:
        try:
            self._epoll.register(stream.fd, select.EPOLLIN)
        except PermissionError:  # a plain file: no pipe, and nothing to wait for
            self._close_stream(stream)

    def _serve_stream(self, stream: Stream, force: bool) -> None:
        try:
            moved = stream.move(STEP_BYTES, force)
        except BlockingIOError:
            return
        if moved == HELD:
            self._epoll.unregister(stream.fd)
            self._timers.after(LINE_WAIT_S, f"line {stream.number}", lambda: self._stop_waiting(stream))
        elif moved == 0:
            self._epoll.unregister(stream.fd)
            self._close_stream(stream)
        if stream.file.troubled:
            self._look_after(stream.file)

    def _stop_waiting(self, stream: Stream) -> None:
        self._epoll.register(stream.fd, select.EPOLLIN)
        self._serve_stream(stream, force=True)

    def _close_stream(self, stream: Stream) -> None:
        del self._streams[stream.number], self._by_fd[stream.fd]
        closed = stream.finish()
        self._let_go(stream.file)
        self._send(closed)

    def _let_go(self, file: LogFile) -> None:
        """Close a file that nobody writes to any more."""
        if not file.tails and not file.backlog:
            file.abandon()
            self._files.pop(file.path, None)
            self._timers.cancel(f"file {file.path}")

    def _look_after(self, file: LogFile) -> None:
        """Come back to a file in trouble."""
        if file.path in self._files:
            file.retry_delay_s = file.retry_delay_s or next_retry_s(0)
            self._timers.after(file.retry_delay_s, f"file {file.path}", lambda: self._retry(file))

    def _report_lost(self, file: LogFile) -> None:
        for stream, count in file.backlog.unreported():
            self._send(Lost(stream, count, file.cause))

    def _retry(self, file: LogFile) -> None:
        self._report_lost(file)
        if file.retry():
            self._let_go(file)
        else:
            self._look_after(file)

    def _reopen(self) -> None:
        for file in self._files.values():
            file.release()
            self._prepare(file)

    # -- the end ---------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Move what every pipe holds now; what cannot be written stays in its pipe, for the next logger."""
        while self._receive():
            pass  # streams that were handed over before the end was asked for
        self._give_last_words()
        for file in list(self._files.values()):
            if file.troubled:
                self._retry(file)
                file.backlog.give_up()
                self._report_lost(file)
        for stream in list(self._streams.values()):
            self._drain_stream(stream)
        self._give_last_words()

    def _drain_stream(self, stream: Stream) -> None:
        left = _bytes_waiting(stream.fd)
        try:
            while stream.file.error is None:
                moved = stream.move(max(left, 1), force=True)
                if moved == 0:
                    self._close_stream(stream)
                if moved == 0 or left <= 0:
                    return
                left -= moved
        except BlockingIOError:
            pass

    def _give_last_words(self) -> None:
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLOUT)
        end_s = time.monotonic() + LAST_WORDS_S
        while self._outbox and (left_s := end_s - time.monotonic()) > 0 and poll.poll(left_s * 1000):
            self._send_queued()
            if "send" in self._timers:  # no buffers
                time.sleep(min(SHORTAGE_RETRY_S, left_s))
                self._timers.cancel("send")

    def close(self) -> None:
        """Close every descriptor and give the signals back."""
        self._signals.close()
        for stream in self._streams.values():
            os.close(stream.fd)
        for file in self._files.values():
            file.release()
        self._peek.close()
        self._epoll.close()
        self._channel.close()


def _bytes_waiting(fd: int) -> int:
    """How many bytes the pipe holds (FIONREAD)."""
    count = array.array("i", [0])
    fcntl.ioctl(fd, termios.FIONREAD, count)
    return count[0]
