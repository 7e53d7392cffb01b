"""
Who may come over TCP: the hub's answers to ZeroMQ's questions about keys.

Asked once for each connection, inside the process. The folder of keys is read each time, so that a client which was
added is admitted, and one which was removed refused, without anybody telling the hub.

Source: rfc.zeromq.org/spec/27 (ZAP).
"""

from __future__ import annotations

from collections.abc import Collection

import zmq
import zmq.utils.z85

from regrow.ipc.keys import list_clients

ENDPOINT = "inproc://zeromq.zap.01"
VERSION = b"1.0"


class Doorkeeper:
    """
    Args:
        clients: the names of those who may come, if their keys are there.
    """

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], state_dir: str, clients: Collection[str]) -> None:
        self._state_dir = state_dir
        self._clients = frozenset(clients)
        self.socket = context.socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ENDPOINT)
        self.refused = 0

    def admitted(self) -> dict[bytes, str]:
        """Names by public key."""
        try:
            known = list_clients(self._state_dir)
        except OSError:
            return {}  # who cannot be known is not admitted
        return {key: name for name, key in known.items() if name in self._clients}

    def turn(self) -> bool:
        """Answer what was asked. Returns whether there is more."""
        try:
            sender, empty, *request = self.socket.recv_multipart(zmq.DONTWAIT)
        except zmq.Again:
            return False
        self.socket.send_multipart([sender, empty, *self._answer(request)])
        return True

    def _answer(self, request: list[bytes]) -> list[bytes]:
        version, number, _domain, _address, _identity, mechanism, *credentials = request
        name = None
        if version == VERSION and mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
            name = self.admitted().get(zmq.utils.z85.encode(credentials[0]))
        if name is None:
            self.refused += 1
            return [VERSION, number, b"400", b"this key is not admitted", b"", b""]
        return [VERSION, number, b"200", b"", name.encode(), b""]

    def close(self) -> None:
        self.socket.close(0)
