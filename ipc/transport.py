"""
One ZeroMQ socket for all that a process says and hears, and the kernel's word on who is at the other end.

A ROUTER that connects to the mailboxes of others, and is bound to the process's own one, if it has any. Not
thread-safe: whoever uses it holds the lock of the node that owns it; only `epoll` may be waited for without.

Source: zmq_socket(3), zmq_socket_monitor(3), zmq_setsockopt(3), unix(7) for SO_PEERCRED.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import zmq

from regrow.ipc import memory
from regrow.ipc.dispositions import held_back
from regrow.ipc.wire import MAX_MESSAGE_BYTES

ALIAS_BYTES = 8
"""Names of connections are random: no stranger's connection can take one in advance."""

RECEIVE_HWM = 1_000
"""Messages of one connection that wait in ZeroMQ; beyond it the sender's own queue fills."""

SEND_HWM = 10_000
SEND_BUFFER_BYTES = 1 << 20
"""
Of each connection, in the kernel, which cuts it down to net.core.wmem_max and doubles it (socket(7)), as soon as there
was a large message. One leaves in one piece then; with the default of 208 KiB it takes turns with its reader. Many
small ones are slower with more room. ZMQ_SNDBUF is for TCP only.
"""

BACKLOG = 4_096
LARGE_BYTES = 1 << 15
"""A message from here on is read where ZeroMQ has put it, and is given room in the kernel."""

IPC_FILTER_UID, IPC_FILTER_GID = 59, 60
"""zmq_setsockopt's numbers; pyzmq has no names for them."""

_EVENTS = (
    zmq.Event.CONNECTED | zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED | zmq.Event.HANDSHAKE_SUCCEEDED
)


# pyzmq's constants are enumerations, whose arithmetic takes longer than the calls that it is for.
_DONTWAIT, _MORE_NOW = int(zmq.DONTWAIT), int(zmq.SNDMORE | zmq.DONTWAIT)
_RCVMORE = int(zmq.RCVMORE)

_poll = zmq.backend.zmq_poll
"""`get` of ZMQ_EVENTS makes an enumeration's member of the option first, which takes longer than both questions."""


class Gone(Exception):
    """There is no connection of that name any more."""


class Full(Exception):
    """So much is on its way there that nothing more is taken."""


class Transport:
    """
    Args:
        folder: where mailboxes lie; addresses are file names in it.
    Raises:
        OSError: there is no such folder.
    """

    def __init__(self, folder: str) -> None:
        self._folder_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._context = zmq.Context(io_threads=1)
        self._context.max_sockets = 1024
        self._router = self._new_router()
        self._monitor = self._new_monitor()
        self._peers: dict[int, int] = {}
        self._connected: Counter[str] = Counter()
        self._large_bytes = LARGE_BYTES
        """The next size that something is done for; then a message will not be the last of its size."""
        self.met: list[str] = []
        self.is_midway = False
        """Between the two parts of a message: nothing else may be sent or received there, as by a signal's handler."""
        self.wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self.epoll = select.epoll()
        self.monitor_fd = int(self._monitor.get(zmq.FD))
        self.router_fd = int(self._router.get(zmq.FD))
        for fd in (self.router_fd, self.monitor_fd, self.wake_fd):
            self.epoll.register(fd, select.EPOLLIN)
        base = zmq.backend.Socket  # its methods without the checks of pyzmq's own, which cost as much as the work
        self._send = base.send.__get__(self._router)
        self._recv: Any = base.recv.__get__(self._router)
        self._get = base.get.__get__(self._router)
        self._input = [(self._router, int(zmq.POLLIN))]
        self.watch_connections()  # a socket whose reader has never found it empty is not announced by its descriptor

    def bind(self, file: str, admit: tuple[Iterable[int], Iterable[int]] = ((), ())) -> None:
        """
        Have the mailbox `file` from now on.

        Args:
            admit: (user ids, group ids) that may connect to it; empty: everybody whom the folder lets in.
        Raises:
            OSError: it cannot be made.
        """
        for option, ids in zip((IPC_FILTER_UID, IPC_FILTER_GID), admit, strict=True):
            for id in ids:
                self._router.setsockopt(option, id)
        try:
            self._router.bind(self._address(file))
        except zmq.ZMQError as error:
            folder = os.readlink(f"/proc/self/fd/{self._folder_fd}")
            raise OSError(error.errno, f"{error} at {folder}/{file}") from None
        # Who may connect is decided by the folder and by `admit`; bind(2) takes the umask into account.
        os.chmod(f"/proc/self/fd/{self._folder_fd}/{file}", 0o777)

    def _new_router(self) -> zmq.Socket[bytes]:
        router = self._context.socket(zmq.ROUTER)
        router.setsockopt(zmq.LINGER, 0)
        router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        router.setsockopt(zmq.RCVHWM, RECEIVE_HWM)
        router.setsockopt(zmq.SNDHWM, SEND_HWM)
        router.setsockopt(zmq.BACKLOG, BACKLOG)
        router.setsockopt(zmq.RECONNECT_IVL, 10)
        router.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        return router

    def _new_monitor(self) -> zmq.Socket[bytes]:
        """Without a limit on what waits to be read: at one, the thread of ZeroMQ that does all the work would wait."""
        address = f"inproc://connections-{id(self._router)}"
        self._router.monitor(address, _EVENTS)
        monitor = self._context.socket(zmq.PAIR)
        monitor.setsockopt(zmq.RCVHWM, 0)
        monitor.connect(address)
        return monitor

    def _address(self, file: str) -> str:
        # sun_path holds 107 bytes; a descriptor makes a short name of any folder.
        return f"ipc:///proc/self/fd/{self._folder_fd}/{file}"

    def turn_to(self, folder: str) -> None:
        """
        Look for mailboxes in another folder from now on: addresses begin with a descriptor, made to be its.

        Raises:
            OSError: there is none.
        """
        fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        os.dup2(fd, self._folder_fd, inheritable=False)
        os.close(fd)

    def connect(self, file: str) -> bytes:
        """Begin to connect to the mailbox `file`; returns the connection's name, which may be used at once."""
        alias = b"\1" + os.urandom(ALIAS_BYTES - 1)
        self._router.setsockopt(zmq.CONNECT_RID, alias)
        self._router.connect(self._address(file))
        return alias

    def disconnect(self, file: str) -> None:
        """End the connection to `file`; what was not sent yet is dropped."""
        self._connected.pop(file, None)
        try:
            self._router.disconnect(self._address(file))
        except zmq.ZMQError:
            pass  # it has ended by itself

    def send(self, to: bytes, frame: bytes) -> None:
        """
        Hand over one message; never blocks.

        Raises:
            Gone, Full; RuntimeError: as `refuse_midway`.
        """
        if len(frame) >= self._large_bytes:
            self._expect_large(len(frame))
        if self.is_midway:
            self.refuse_midway()
        try:
            self.is_midway = True
            self._send(to, _MORE_NOW)
            self._send(frame, _DONTWAIT)
        except zmq.Again:
            raise Full from None
        except zmq.ZMQError as error:
            if error.errno == errno.EHOSTUNREACH:
                raise Gone from None
            raise
        except BaseException:  # a signal's handler has raised: half a message would become the head of the next
            self._send(frame, _DONTWAIT)  # a frame alone, if it was whole, which a ROUTER ignores
            raise
        finally:
            self.is_midway = False

    def refuse_midway(self) -> NoReturn:
        """To be called where `is_midway` is seen: it was a signal's handler. Raises RuntimeError."""
        raise RuntimeError(
            "a signal's handler has interrupted this thread in the middle of a message, and cannot send or wait "
            "there: let it set a flag, or write into a pipe, and do the rest where that is looked at"
        )

    def receive(self) -> tuple[bytes, bytes | memoryview] | None:
        """
        The next message with its connection's name, None when there is none. One of several frames is `b""`.

        A large one is where ZeroMQ has put it: copying it would cost more than reading it.
        """
        if self.is_midway:
            return None  # what there is belongs to whoever a signal's handler has interrupted
        try:
            self.is_midway = True
            routing = self._recv(_DONTWAIT)
            frame = self._recv(_DONTWAIT, False)  # at least one has come with it
            if frame.more:
                while frame.more:
                    frame = self._recv(_DONTWAIT, False)
                return routing, b""
        except zmq.Again:
            return None
        except BaseException:  # a signal's handler has raised: the rest would be taken for the head of the next
            while self._get(_RCVMORE):
                self._recv(_DONTWAIT, False)
            raise
        finally:
            self.is_midway = False
        if len(frame) < LARGE_BYTES:
            return routing, frame.bytes
        if len(frame) >= self._large_bytes:
            self._expect_large(len(frame))
        return routing, frame.buffer

    def _expect_large(self, size: int) -> None:
        if self._large_bytes == LARGE_BYTES:
            self.watch_connections()
            self.wake()  # whoever waits may want to know what was heard there
            for fd in self._peers:
                _make_room(fd)
        self._large_bytes = memory.LARGE_BYTES
        if size >= memory.LARGE_BYTES:
            self._large_bytes = sys.maxsize
            memory.keep_freed()

    def has_input(self) -> bool:
        return bool(_poll(self._input, 0))

    def watch_connections(self) -> None:
        """Take in which connections began and ended."""
        while True:
            try:
                frames = self._monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            if len(frames) != 2:
                continue  # the rest of one whose reading a signal's handler has ended
            head, address = frames
            event, fd = struct.unpack("=hi", head)
            if event == zmq.Event.DISCONNECTED:
                self._peers.pop(fd, None)
            elif event == zmq.Event.HANDSHAKE_SUCCEEDED:
                self.met.append(_file(address))
            else:
                self._peers[fd] = _peer_pid(fd)
                if self._large_bytes > LARGE_BYTES:
                    _make_room(fd)
                if event == zmq.Event.CONNECTED:
                    self._connected[_file(address)] += 1

    def handshakes(self) -> list[str]:
        """The files to which connections have come about since this was asked last."""
        found, self.met = self.met, []
        return found

    def is_heard_out(self, pid: int) -> bool:
        """Whether no connection with that process is open: then nothing that it sent can still come."""
        self.watch_connections()
        return pid not in self._peers.values()

    def connections(self, file: str) -> int:
        """How many were made to `file`, one after the other, until `disconnect`."""
        return self._connected[file]

    def wake(self) -> None:
        """End a wait for `epoll`; may be called by any thread and any signal handler."""
        try:
            os.eventfd_write(self.wake_fd, 1)
        except (BlockingIOError, OSError):
            pass  # it is set already, or closed

    def close(self, linger_s: float = 0.0) -> None:
        """End all connections; what was handed over is given `linger_s` to leave."""
        self._input = []  # of a closed socket zmq_poll asks the descriptor 0
        self._router.disable_monitor()
        self._monitor.close(0)
        self._router.close(int(linger_s * 1000))
        with held_back():  # by a signal the wait would be over, and what has not left would be lost
            self._context.term()
        self.epoll.close()
        os.close(self.wake_fd)
        os.close(self._folder_fd)

    def forget(self) -> None:
        """In a forked process: let go of the parent's sockets without touching them."""
        if self.wake_fd >= 0:
            self.epoll.close()
            os.close(self.wake_fd)
            os.close(self._folder_fd)
            self.wake_fd = self._folder_fd = -1


def _file(address: bytes) -> str:
    return address.decode(errors="replace").rpartition("/")[2]


def _peer_pid(fd: int) -> int:
    """Who is at the other end of a connection of ours, by its descriptor; 0 when it is closed already."""
    with _borrowed(fd) as stream:
        return 0 if stream is None else _pid_behind(stream)


def _make_room(fd: int) -> None:
    """For large messages in the kernel, unless somebody else's socket has the number of a closed connection by now."""
    with _borrowed(fd) as stream:
        if stream is not None and _pid_behind(stream):
            try:
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            except OSError:
                pass  # it has been closed since


@contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket | None]:
    """
    A descriptor of ZeroMQ's as a socket, and not closed with that; None when it is no socket any more.

    It is a copy where there is a descriptor for one: what a signal's handler raises may fall between any two lines, a
    socket that is dropped there closes its descriptor, and ZeroMQ aborts the process when that is one of its own.
    """
    own = fd
    with suppress(OSError):
        own = os.dup(fd)
    try:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, own)
    except OSError:
        if own != fd:
            os.close(own)
        yield None
        return
    try:
        yield stream
    finally:
        if own == fd:
            stream.detach()
        else:
            stream.close()


def _pid_behind(stream: socket.socket) -> int:
    try:
        return int(struct.unpack("iII", stream.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0])
    except OSError:
        return 0
