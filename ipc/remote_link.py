"""
A connection to the hub from outside: one socket, served by one thread, made anew whenever it is lost.

What was asked over a connection ends with it, in `noconnection`; nothing is asked twice. A new connection is a new
socket, so that nothing that was given up is sent after all.

Source: docs/protocol.md; zmq_socket_monitor(3), zmq_curve(7).
"""

from __future__ import annotations

import os
import select
import struct
import threading
from collections import deque
from typing import Protocol

import zmq

from regrow.ipc import hub_wire
from regrow.ipc.keys import ClientKey
from regrow.ipc.wire import MAX_MESSAGE_BYTES, WireError

HEARTBEAT_MS = 5_000
"""The other host may vanish without a word; it is given up after three of these."""

AGAIN_MS, MAX_AGAIN_MS = 50, 1_000
"""How soon, and how late at most, it is tried to connect again."""

LINGER_S = 1.0
BATCH = 256
_EVENTS = zmq.Event.DISCONNECTED | zmq.Event.HANDSHAKE_FAILED_AUTH | zmq.Event.HANDSHAKE_FAILED_NO_DETAIL


class Listener(Protocol):
    """What is told of a connection, in the link's thread. No method may block."""

    def came_up(self, session: str) -> None: ...

    def heard(self, message: hub_wire.FromHub) -> None: ...

    def lost(self) -> None: ...


class RemoteLink:
    """
    `send` may be called by any thread. `refused` says why the hub does not let this client in, "" while it does.
    """

    def __init__(self, endpoint: str, key: ClientKey | None, listener: Listener) -> None:
        self._endpoint = endpoint
        self._key = key
        self._listener = listener
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._out: deque[bytes] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._closing = False
        self.is_up = False
        self.refused = ""
        self.bad = 0
        self._connect()
        self._thread = threading.Thread(target=self._serve, name="regrow remote", daemon=True)

    def start(self) -> None:
        """Connect; the listener is told from now on."""
        self._thread.start()

    def send(self, frame: bytes) -> None:
        """Hand over a frame for the connection that is up now."""
        self._out.append(frame)
        self.wake()

    def wake(self) -> None:
        """Let the thread look at what is to be sent."""
        try:
            os.eventfd_write(self._wake_fd, 1)
        except OSError:
            pass  # it was closed meanwhile

    def close(self) -> None:
        """Send what is to be sent, then end the connection."""
        if self._closing:
            return
        self._closing = True
        self.wake()
        self._thread.join()
        os.close(self._wake_fd)

    # the thread

    def _connect(self) -> None:
        dealer = self._context.socket(zmq.DEALER)
        dealer.setsockopt(zmq.LINGER, 0)
        dealer.setsockopt(zmq.PROBE_ROUTER, 1)  # the hub answers this with its welcome
        dealer.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES + 1024)
        dealer.setsockopt(zmq.SNDHWM, 0)
        dealer.setsockopt(zmq.RCVHWM, 0)  # bounded by what this side asks for
        dealer.setsockopt(zmq.RECONNECT_IVL, AGAIN_MS)
        dealer.setsockopt(zmq.RECONNECT_IVL_MAX, MAX_AGAIN_MS)
        dealer.setsockopt(zmq.IPV6, 1)
        if self._key is not None:
            dealer.setsockopt(zmq.CURVE_PUBLICKEY, self._key.public)
            dealer.setsockopt(zmq.CURVE_SECRETKEY, self._key.secret)
            dealer.setsockopt(zmq.CURVE_SERVERKEY, self._key.server)
        if self._endpoint.startswith("tcp"):
            dealer.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
            dealer.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
        self._dealer = dealer
        self._monitor = dealer.get_monitor_socket(_EVENTS)
        dealer.connect(self._endpoint)

    def _disconnect(self, linger_s: float = 0.0) -> None:
        self._dealer.disable_monitor()
        self._monitor.close(0)
        self._dealer.close(int(linger_s * 1000))

    def _serve(self) -> None:
        try:
            while not self._closing:
                self._turn()
            self._flush()
        finally:
            self._disconnect(LINGER_S)
            self._context.term()
            self.is_up = False
            self._listener.lost()

    def _turn(self) -> None:
        poller = zmq.Poller()
        poller.register(self._dealer, zmq.POLLIN)
        poller.register(self._monitor, zmq.POLLIN)
        poller.register(self._wake_fd, select.POLLIN)
        while not self._closing:
            ready = dict(poller.poll())
            if self._wake_fd in ready:
                os.eventfd_read(self._wake_fd)
            self._flush()
            self._receive()
            if self._monitor in ready and self._has_ended():
                self._begin_anew()
                return

    def _flush(self) -> None:
        while self.is_up and self._out:
            self._dealer.send(self._out.popleft(), zmq.DONTWAIT)

    def _receive(self) -> None:
        for _ in range(BATCH):
            try:
                frame = self._dealer.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            try:
                message = hub_wire.decode_from_hub(frame)
            except WireError:
                self.bad += 1
                continue
            if isinstance(message, hub_wire.Welcome):
                if self.is_up:
                    self._give_up()  # the hub had, and begins anew
                self.is_up = True
                self.refused = ""
                self._listener.came_up(message.session)
                self._flush()
            else:
                self._listener.heard(message)

    def _has_ended(self) -> bool:
        """Whether the connection did; what had come by it has been taken in."""
        ended = False
        while True:
            try:
                head, _ = self._monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return ended
            event, value = struct.unpack("=hi", head)
            if event == zmq.Event.DISCONNECTED:
                while self._dealer.poll(0):
                    self._receive()
                ended = ended or self.is_up
            elif event == zmq.Event.HANDSHAKE_FAILED_AUTH:
                self.refused = f"it does not admit this key (ZAP status {value})"
            else:
                self.refused = "its key is another one, or it asks for none"

    def _begin_anew(self) -> None:
        self._give_up()
        self._disconnect()
        self._connect()

    def _give_up(self) -> None:
        """Nothing more is handed over for this connection, all that is open on it ends, and nothing of it is sent."""
        self.is_up = False
        self._listener.lost()
        self._out.clear()
