"""
The control socket: one JSON object a line, from whom the kernel says it comes.

Every connection is bounded: a request line, what waits to be sent, requests in flight. A request may be malformed,
huge, slow or cut off: that connection gets an error or is closed, and nothing else notices.

Source: unix(7) (SO_PEERCRED, SO_PEERGROUPS).
"""

from __future__ import annotations

import os
import select
import socket
import traceback
from collections.abc import Callable, Collection
from typing import Any

import msgspec
from msgspec import Struct

from regrow.config.spec import AccessSpec
from regrow.daemon.linux import kernel
from regrow.daemon.loop import Loop, Timer
from regrow.daemon.tell import complain
from regrow.ipc.may import ASKING, VIEWING

MAX_LINE = 1 << 20
MAX_ID = 1_000
MAX_IN_FLIGHT = 2_000
MAX_FOLLOWS = 16
"""Event streams of one connection: each event is sent once for each."""

MAX_UNSENT = 32 << 20
MAX_CONNECTIONS = 2_000
CHUNK = 1 << 16
ACCEPT_BATCH = 64
ACCEPT_RETRY_S = 0.2

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class ControlError(Exception):
    """A refusal on its way to the client: a closed code, and words."""

    def __init__(self, code: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class Follow(Struct, frozen=True):
    """A connection gets each new event as an answer to its request `id`; only about `names`, where there are any."""

    id: Any
    names: frozenset[str] = frozenset()


class Client(Struct, frozen=True):
    """A connection as it goes through an exec; for the fields see `Connection`."""

    fd: int
    verbs: frozenset[str] | None
    identity: str
    received: bytes
    unsent: bytes
    ended: bool
    owed: int
    follows: tuple[Follow, ...]


class Connection:
    """
    One client. `verbs` are what it may ask for, None for everything, decided when it connected; `identity` names it
    in events.
    """

    def __init__(
        self, server: ControlServer, stream: socket.socket, verbs: frozenset[str] | None, identity: str
    ) -> None:
        self._server = server
        self._socket = stream
        self.fd = stream.fileno()
        self.verbs = verbs
        self.identity = identity
        self._received = bytearray()
        self._unsent = bytearray()
        self._ended = False
        self._owed = 0
        self.closed = False
        self.follows: list[Follow] = []
        self.on_close: list[Callable[[], None]] = []

    def carried(self) -> Client:
        """All of it, to go through an exec."""
        return Client(
            self.fd,
            self.verbs,
            self.identity,
            bytes(self._received),
            bytes(self._unsent),
            self._ended,
            self._owed,
            tuple(self.follows),
        )

    def take_up(self, client: Client) -> None:
        """Go on with what was `carried`; events are followed again by whoever serves this."""
        self._received += client.received
        self._unsent += client.unsent
        self._ended, self._owed = client.ended, client.owed
        self._flush()

    def answer(self, id: Any, ok: Any) -> None:
        """The one answer to a request."""
        self._owed = max(0, self._owed - 1)
        self.send({"id": id, "ok": ok})

    def refuse(self, id: Any, error: ControlError) -> None:
        """The one answer to a request that is not granted."""
        self._owed = max(0, self._owed - 1)
        self.send({"id": id, "error": {"code": error.code, "message": str(error), **error.details}})

    def send(self, message: dict[str, Any]) -> None:
        """Send, or keep until the client reads; a client that does not read is let go."""
        if self.closed:
            return
        self._unsent += _encode(message) + b"\n"
        self._flush()
        if len(self._unsent) > MAX_UNSENT:
            self.close()

    def ready(self, events: int) -> None:
        if events & select.EPOLLOUT:
            self._flush()
        if not self.closed and events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end_of_input()
            return
        searched = len(self._received)
        self._received += data
        while (end := self._received.find(b"\n", searched)) >= 0 and not self.closed:
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            searched = 0
            if line.strip():
                self._request(line)
        if len(self._received) > MAX_LINE:
            self.refuse(None, ControlError("bad_request", f"cannot read a request of more than {MAX_LINE} bytes"))
            self.close()

    def _end_of_input(self) -> None:
        """The client says no more; what it is still owed will be sent, unless it is gone altogether."""
        if self._ended:
            self.close()
            return
        self._ended = True
        if self._received:
            self._owed += 1
            self.refuse(None, ControlError("bad_request", "the last request has no end of line"))
        else:
            self._flush()

    def _request(self, line: bytes) -> None:
        id: Any = None
        self._owed += 1
        try:
            request = _decode(line)
            if not isinstance(request, dict):
                raise ControlError("bad_request", "a request is a JSON object")
            id = _id(request.get("id"))
            verb = request.get("verb")
            if not isinstance(verb, str):
                raise ControlError("bad_request", 'a request names its "verb"')
            if self.verbs is not None and verb not in self.verbs:
                raise _forbidden(self.verbs, verb)
            if self._owed > MAX_IN_FLIGHT:
                raise ControlError("bad_request", f"{MAX_IN_FLIGHT} requests of this connection are not answered yet")
            self._server.serve(self, id, verb, request)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.refuse(id, ControlError("bad_request", f"a request is a JSON object on one line: {error}"))
        except ControlError as error:
            self.refuse(id, error)
        except Exception:  # noqa: BLE001 - whatever one request sets off, it must not end the supervision of all
            complain(f"internal error in a request of {self.identity}:\n{traceback.format_exc()}")
            self.refuse(id, ControlError("internal", "this request met a mistake in regrow; see the daemon's output"))

    def _flush(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(memoryview(self._unsent)[:CHUNK], socket.MSG_NOSIGNAL)
                del self._unsent[:sent]
        except BlockingIOError:
            interest = select.EPOLLOUT if self._ended else select.EPOLLIN | select.EPOLLOUT
            self._server.loop.watch(self.fd, interest, self.ready)
            return
        except OSError:
            self.close()
            return
        if not self._ended:
            self._server.loop.watch(self.fd, select.EPOLLIN, self.ready)
        elif self._owed:
            self._server.loop.watch(self.fd, 0, self.ready)  # only its going altogether is still heard (EPOLLHUP)
        else:
            self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._server.loop.unwatch(self.fd)
            self._server.connections.discard(self)
            self._socket.close()
            for call in self.on_close:
                call()


def _id(id: Any) -> Any:
    """The id as it can be sent back: anything else might not be encodable, and an answer must always be."""
    if id is None or isinstance(id, bool | float) or (isinstance(id, str) and len(id) <= MAX_ID):
        return id
    if isinstance(id, int) and -(1 << 63) <= id < 1 << 64:
        return id
    raise ControlError("bad_request", f'"id" is a number of 64 bits, or a text of up to {MAX_ID} characters')


def _forbidden(verbs: frozenset[str], verb: str) -> ControlError:
    if verbs is ASKING:
        return ControlError("forbidden", f"you may ask for {', '.join(sorted(verbs))}, but not {verb}: see [access]")
    return ControlError("forbidden", f"you may look, but not {verb}: that takes one of [access] operators in its file")


def _who_may(uid: int) -> str:
    """For somebody who may nothing."""
    own = f", uid {os.geteuid()}" if os.geteuid() else ""
    whom = f"only root{own} and whom [access] in its file names may"
    how = f"have one of them add {uid} there, to operators or viewers, and run `regrow reload`"
    return f"uid {uid} may neither look at this daemon nor operate it: {whom}; {how}"


class ControlServer:
    """
    Listens at `path`. `serve(connection, id, verb, request)` may raise ControlError, or answer later.

    `fd` is the listening socket, where it is open already.
    """

    def __init__(
        self,
        loop: Loop,
        path: str,
        access: AccessSpec,
        serve: Callable[[Connection, Any, str, dict[str, Any]], None],
        fd: int = -1,
    ) -> None:
        self.loop = loop
        self.serve = serve
        self.connections: set[Connection] = set()
        self._access = access
        self._agents: Collection[int] = ()
        self._path = path
        self._paused: Timer | None = None
        self._socket = _listen(path) if fd < 0 else socket.socket(fileno=fd)
        loop.watch(self._socket.fileno(), select.EPOLLIN, self._accept)

    def _accept(self, _events: int) -> None:
        for _ in range(ACCEPT_BATCH):
            try:
                stream, _ = self._socket.accept()
            except BlockingIOError:
                return
            except OSError:  # no descriptors: look again soon, instead of being woken without end
                self._pause()
                return
            self._admit(stream)

    def _admit(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        peer = kernel.peer_of(stream)
        uid, groups = peer.uid, kernel.peer_groups(stream) | {peer.gid}
        access = self._access
        verbs: frozenset[str] | None = frozenset()
        if uid in (0, os.geteuid(), *access.operator_uids) or groups & set(access.operator_gids):
            verbs = None
        elif uid in access.viewer_uids or groups & set(access.viewer_gids):
            verbs = VIEWING
        elif uid in self._agents:
            verbs = ASKING
        connection = Connection(self, stream, verbs, f"uid {uid} (pid {peer.pid})")
        error: ControlError | None = None
        if verbs is not None and not verbs:
            error = ControlError("forbidden", _who_may(uid))
        elif len(self.connections) >= MAX_CONNECTIONS:
            error = ControlError("internal", f"there are {MAX_CONNECTIONS} connections already")
        self.connections.add(connection)
        if error is not None:
            connection.refuse(None, error)
            connection.close()
        else:
            self.loop.watch(connection.fd, select.EPOLLIN, connection.ready)

    @property
    def fd(self) -> int:
        """The listening socket."""
        return self._socket.fileno()

    def take_up(self, client: Client) -> Connection:
        """Go on with a connection after an exec."""
        connection = Connection(self, socket.socket(fileno=client.fd), client.verbs, client.identity)
        self.connections.add(connection)
        connection.take_up(client)
        return connection

    def admit_by(self, access: AccessSpec, agents: Collection[int]) -> None:
        """From now on this decides about new connections; `agents` are the users that agents run as."""
        self._access = access
        self._agents = agents

    def _pause(self) -> None:
        fd = self._socket.fileno()
        self.loop.unwatch(fd)
        self._paused = self.loop.call_later(
            ACCEPT_RETRY_S, lambda: self.loop.watch(fd, select.EPOLLIN, self._accept)
        )

    def close(self) -> None:
        """Stop listening, let clients go, and remove the socket's name."""
        if self._paused is not None:
            self._paused.cancel()
        self.loop.unwatch(self._socket.fileno())
        for connection in list(self.connections):
            connection.close()
        self._socket.close()
        try:
            os.unlink(self._path)
        except OSError:
            pass  # somebody removed it already


def _listen(path: str) -> socket.socket:
    """
    Listen at `path`, whatever its length; who may connect is decided by credentials, not by the file's mode.

    Raises:
        OSError: run_dir is unusable.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        # sun_path holds 108 bytes; a descriptor makes a short name of any directory.
        name = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        try:
            os.unlink(name)
        except FileNotFoundError:
            pass
        listener.bind(name)
        os.chmod(name, 0o666)
        listener.listen(512)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(directory)
    return listener
