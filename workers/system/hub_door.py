"""
A door of the hub: one ROUTER, those who are connected to it, and the kernel's or CURVE's word on who they are.

ZeroMQ does not say when the peer of a routing id has gone. It does say which descriptor a message came by and which
descriptor was closed; that joins the two.

Source: zmq_socket(3), zmq_msg_gets(3) (`Peer-Address`, `User-Id`), zmq_socket_monitor(3), zmq_setsockopt(3).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

import zmq

from regrow.ipc.hub_wire import NOBODY
from regrow.ipc.may import ASKING, VIEWING
from regrow.ipc.wire import BAD_REQUEST, MAX_MESSAGE_BYTES
from regrow.workers.system.hub_gateway import Gateway
from regrow.workers.system.hub_peer import Peer

BATCH = 256
"""Messages taken from one door before the others have their turn."""

SEND_HWM = 5_000
"""Messages that one connection lets lie: more than its limits leave room for, unless it does not read at all."""

HEARTBEAT_MS = 10_000
"""Over TCP the other end may vanish without a word; it is given up after three of these."""

CURVE_BYTES = 33
"""What encryption adds to a message: libzmq counts it in (RFC 26: a command's name, a nonce, flags and a MAC)."""

LARGE_BYTES = 1 << 16
IPC_FILTER_UID, IPC_FILTER_GID = 59, 60
# Plain numbers: arithmetic with enumerations costs as much as sending does.
_NOW, _MORE, _HAS_MORE = int(zmq.DONTWAIT), int(zmq.SNDMORE | zmq.DONTWAIT), int(zmq.RCVMORE)
_INPUT, _STATE = int(zmq.POLLIN), int(zmq.EVENTS)
_EVENTS = zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED


class Who(NamedTuple):
    """Who is at the other end of a connection, and which control verbs it may use (None: all)."""

    label: str
    verbs: frozenset[str] | None
    pid: int = 0


class Door:
    """
    Args:
        identify: turns (`Peer-Address`, `User-Id`) into who it is.
        prepare: sets the options of the socket before it is bound.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        gateway: Gateway,
        identify: Callable[[str, str], Who],
        prepare: Callable[[zmq.Socket[bytes]], None],
    ) -> None:
        self._gateway = gateway
        self._identify = identify
        self.socket = _new_router(context)
        # Before anybody can connect: who was not seen to come would be taken for gone.
        self.monitor = self.socket.get_monitor_socket(_EVENTS)
        try:
            prepare(self.socket)
        except zmq.ZMQError:
            self.close(0.0)
            raise
        self.peers: dict[bytes, Peer] = {}
        self._session = os.urandom(4).hex()
        self._count = 0
        self._open_fds: set[int] = set()
        self._by_fd: dict[int, list[bytes]] = {}
        self._fd_of: dict[bytes, int] = {}
        self._gone: list[bytes] = []
        base = zmq.backend.Socket  # its methods without the checks of pyzmq's own, which cost as much as the work
        self._send = base.send.__get__(self.socket)
        self._recv = base.recv.__get__(self.socket)
        self._get = base.get.__get__(self.socket)

    def turn(self) -> bool:
        """Take in what has come, up to a batch of it. Returns whether there is more."""
        self._watch()
        gone, self._gone = self._gone, []
        for _ in range(BATCH):
            try:
                routing = self._recv(_NOW)
            except zmq.Again:
                break
            self._message(routing)
        else:
            self._gone = gone + self._gone  # what they said before is still to be heard
            return True
        for routing in gone:
            self._forget(routing)
        return bool(self._gone) or self.has_input()

    def has_input(self) -> bool:
        return bool(self._get(_STATE) & _INPUT)

    def _message(self, routing: bytes) -> None:
        peer = self.peers.get(routing)
        if not self._get(_HAS_MORE):
            return
        if peer is None:
            first = self._recv(_NOW, False)
            peer = self._admit(routing, first)
            frame = first.bytes
        else:
            frame = self._recv(_NOW)
        if not self._get(_HAS_MORE):
            self._gateway.receive(peer, frame)
            return
        parts = 1
        while self._get(_HAS_MORE):
            self._recv(_NOW)
            parts += 1
        self._gateway.bad += 1
        peer.refuse(NOBODY, BAD_REQUEST, f"a message is one frame, not {parts}", {"path": "$"})

    def _admit(self, routing: bytes, first: zmq.Frame) -> Peer:
        """
        The first message of a connection.

        One that has ended already may still cast and publish. One whose descriptor ZeroMQ cannot tell speaks a version
        of its protocol from before 2011: nobody does, but for noise that looks like it.
        """
        self._watch()
        fd = _descriptor(first)
        who = self._identify(_property(first, "Peer-Address"), _property(first, "User-Id"))
        self._count += 1
        session = f"{self._session}.{self._count}"
        peer = Peer(self._transmit(routing), session, label=who.label, verbs=who.verbs, pid=who.pid)
        if fd in self._open_fds:
            self.peers[routing] = peer
            self._by_fd.setdefault(fd, []).append(routing)
            self._fd_of[routing] = fd
            peer.welcome()
        else:
            peer.open = False
            peer.is_expelled = fd < 0
        return peer

    def _transmit(self, routing: bytes) -> Callable[[bytes], bool]:
        send = self._send

        def transmit(frame: bytes) -> bool:
            try:
                send(routing, _MORE)
            except zmq.Again:
                self._gone.append(routing)  # it does not read: it is as good as gone, and begins anew if it returns
                return False
            except zmq.ZMQError:
                return False  # its end is on its way to us
            send(frame, _NOW, len(frame) < LARGE_BYTES)
            return True

        return transmit

    def _watch(self) -> None:
        """Take in which connections began and ended."""
        while True:
            try:
                head, _ = self.monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            event, fd = struct.unpack("=hi", head)
            if event == zmq.Event.ACCEPTED:
                self._open_fds.add(fd)
            else:
                self._open_fds.discard(fd)
                self._gone += self._by_fd.pop(fd, ())

    def _forget(self, routing: bytes) -> None:
        peer = self.peers.pop(routing, None)
        if peer is None:
            return
        fd = self._fd_of.pop(routing)
        if routing in (connected := self._by_fd.get(fd, [])):
            connected.remove(routing)
        self._gateway.close(peer)

    def expel(self, is_meant: Callable[[Peer], bool]) -> None:
        """Give up what these peers asked for and listen to them no more, though they are still connected."""
        for peer in self.peers.values():
            if is_meant(peer):
                self._gateway.expel(peer)

    def close(self, linger_s: float = 0.5) -> None:
        """End all connections; what was said is given some time to leave."""
        self.socket.disable_monitor()
        self.monitor.close(0)
        self.socket.close(int(linger_s * 1000))


def _descriptor(frame: zmq.Frame) -> int:
    try:
        return int(frame.get(zmq.SRCFD))
    except zmq.ZMQError:
        return -1


def _property(frame: zmq.Frame, name: str) -> str:
    try:
        return str(frame.get(name))
    except zmq.ZMQError:
        return ""


def _new_router(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    router = context.socket(zmq.ROUTER)
    router.setsockopt(zmq.LINGER, 0)
    router.setsockopt(zmq.ROUTER_MANDATORY, 1)
    router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
    router.setsockopt(zmq.SNDHWM, SEND_HWM)
    router.setsockopt(zmq.BACKLOG, 1_024)
    return router


# who may come, and who it is


def open_local(run_dir_fd: int, file: str, admitted: str) -> Callable[[zmq.Socket[bytes]], None]:
    """
    Listen in run_dir. `admitted` are the ids of who may connect, such as `u0,u1000,g27`; "": all whom the folder lets.

    Raises (when called):
        zmq.ZMQError.
    """

    def prepare(router: zmq.Socket[bytes]) -> None:
        for kind, option in (("u", IPC_FILTER_UID), ("g", IPC_FILTER_GID)):
            for id in _ids(admitted, kind):
                router.setsockopt(option, id)
        # sun_path holds 107 bytes; a descriptor makes a short name of any folder.
        name = f"/proc/self/fd/{run_dir_fd}/{file}"
        try:
            os.unlink(name)  # of a hub that was killed
        except FileNotFoundError:
            pass
        router.bind(f"ipc://{name}")
        os.chmod(name, 0o666)  # who may connect is decided by credentials

    return prepare


def _ids(admitted: str, kind: str) -> list[int]:
    return [int(item[1:]) for item in admitted.split(",") if item[:1] == kind and item[1:].isdecimal()]


def identify_local(address: str, _user: str) -> Who:
    """By the credentials that the kernel noted when it connected: `localhost:UID:GID:PID`."""
    try:
        uid, _gid, pid = (int(part) for part in address.rsplit(":", 3)[1:])
    except ValueError:
        return Who("an unknown process", ASKING)
    return Who(f"uid {uid} (pid {pid})", None if uid in (0, os.geteuid()) else ASKING, pid)


def identify_remote(operators: Iterable[str]) -> Callable[[str, str], Who]:
    """By the name that its key was admitted under."""
    known = frozenset(operators)
    return lambda _address, user: Who(f"client {user}", None if user in known else VIEWING)


def open_remote(endpoints: Iterable[str], public: bytes, secret: bytes) -> Callable[[zmq.Socket[bytes]], None]:
    """
    Listen on TCP, for those whom the ZAP handler of the same context admits.

    Raises (when called):
        zmq.ZMQError.
    """

    def prepare(router: zmq.Socket[bytes]) -> None:
        router.setsockopt(zmq.CURVE_SERVER, 1)
        router.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES + CURVE_BYTES)
        router.setsockopt(zmq.CURVE_PUBLICKEY, public)
        router.setsockopt(zmq.CURVE_SECRETKEY, secret)
        router.setsockopt(zmq.ZAP_DOMAIN, b"regrow")
        router.setsockopt(zmq.IPV6, 1)
        router.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        router.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
        router.setsockopt(zmq.HEARTBEAT_TTL, 3 * HEARTBEAT_MS)
        for endpoint in endpoints:
            router.bind(endpoint)

    return prepare
