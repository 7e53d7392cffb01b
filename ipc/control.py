"""
A client of the control socket: one JSON object a line, several requests in flight.

Every wait here ends: a request has a time limit, and so has following events unless the caller asks for `FOREVER`.
Nothing is retried, because most verbs act.

Source: contract section 3 (`config-and-cli`), unix(7) for SO_PEERCRED and the waiting connect.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
import time
from collections import deque

from regrow.ipc.errors import ControlTimeout, Refused, Unreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Any, Self

SOCKET = "control.sock"
FOREVER = float("inf")
MAX_LINE_BYTES = 64 * 1024 * 1024
"""A longer answer is a fault of the other side; 10,000 children take about 5 MiB."""

MAX_PATH_BYTES = 107
"""`sun_path` without its closing zero; a longer path is reached through its directory's descriptor."""

LOOK_AGAIN = "look again with `regrow status`"
HOW_IN = "have one of them add you there and run `regrow reload`"


class ControlClient:
    """
    One connection to a daemon.

    Args:
        where: the socket, or the run_dir it lies in.
        timeout_s: how long to wait for the connection, and for an answer unless the request says otherwise.
        label: how messages call the daemon; default: by its place.
    Raises:
        Unreachable: nobody listens there, or this user may not connect.
    """

    def __init__(self, where: str | os.PathLike[str], *, timeout_s: float = 5.0, label: str = "") -> None:
        path = os.path.abspath(os.fspath(where))
        self.path = path if path.endswith(".sock") else os.path.join(path, SOCKET)
        self.run_dir = os.path.dirname(self.path)
        self.label = label or f"the daemon at {self.run_dir}"
        self.timeout_s = timeout_s
        self._last_id = 0
        self._buffer = bytearray()
        self._unread: deque[dict[str, Any]] = deque()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _connect(self._socket, self.path, timeout_s)
        except OSError as error:
            self._socket.close()
            raise self._unreachable(error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        """Readable when `receive` may have something new (but look at `receive(0)` first)."""
        return self._socket.fileno()

    def peer_pid(self) -> int:
        """The daemon's pid as this process sees it; 0 when it lives in another pid namespace."""
        peer = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return int(struct.unpack("iII", peer)[0])

    def request(self, verb: str, *, within_s: float | None = None, **fields: Any) -> Any:
        """
        Ask and wait for the answer.

        Args:
            within_s: this request's time limit in seconds; default: the client's `timeout_s`.
            fields: what the verb takes.
        Raises:
            Refused (`bad_request` for fields that JSON cannot say: nothing was sent), ControlTimeout, Unreachable (the
            connection broke).
        """
        return self.answer(self.submit(verb, **fields), within_s)

    def submit(self, verb: str, **fields: Any) -> int:
        """Send a request and return its id at once; its answer comes through `answer` or `receive`."""
        self._last_id += 1
        try:
            line = json.dumps({"id": self._last_id, "verb": verb, **fields}) + "\n"
        except (TypeError, ValueError, RecursionError) as error:
            why = "this is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise Refused("bad_request", f"cannot ask for {verb}: a request is JSON, and {why}") from None
        if "\\ud" in line:  # part of a character that is beyond 16 bits, or of none
            _check_text(fields)
        self._socket.settimeout(self.timeout_s)
        try:
            self._socket.sendall(line.encode())
        except TimeoutError:
            raise self._late(self.timeout_s) from None
        except (BrokenPipeError, ConnectionResetError):
            pass  # it hung up; `answer` finds what it said before (who may not look is told so), or that
        except OSError as error:
            raise self._broken(error) from error
        return self._last_id

    def answer(self, request_id: int, within_s: float | None = None) -> Any:
        """The answer to one request, whatever else arrives before it."""
        limit_s = self.timeout_s if within_s is None else within_s
        message = self._next_of(request_id, limit_s)
        if message is None:
            raise self._late(limit_s)
        return result_of(message)

    def follow(self, verb: str, *, within_s: float | None = None, **fields: Any) -> Iterator[dict[str, Any]]:
        """
        The list that `verb` answers, item by item, then every event as it happens.

        Ends after `within_s` seconds without an event (`FOREVER`: never); default: the client's `timeout_s`.
        """
        limit_s = self.timeout_s if within_s is None else within_s
        request_id = self.submit(verb, follow=True, **fields)
        yield from self.answer(request_id)
        while (message := self._next_of(request_id, limit_s)) is not None:
            if "event" not in message:
                result_of(message)
                return
            yield message["event"]

    def receive(self, within_s: float) -> dict[str, Any] | None:
        """The next message of any request, or None when `within_s` seconds pass without one."""
        if self._unread:
            return self._unread.popleft()
        deadline_s = time.monotonic() + within_s
        while not self._unread:
            if not self._fill(deadline_s):
                return None
        return self._unread.popleft()

    def _next_of(self, request_id: int, within_s: float) -> dict[str, Any] | None:
        deadline_s = time.monotonic() + within_s
        while True:
            for message in self._unread:
                # What concerns the connection (not allowed, unreadable) is refused under a null id.
                if message.get("id") in (request_id, None):
                    self._unread.remove(message)
                    return message
            if not self._fill(deadline_s):
                return None

    def _fill(self, deadline_s: float) -> bool:
        """Read once, until the deadline; False when nothing came."""
        wait_s = max(deadline_s - time.monotonic(), 0.0)
        self._socket.settimeout(None if wait_s == FOREVER else wait_s)
        try:
            chunk = self._socket.recv(1 << 18)
        except (TimeoutError, BlockingIOError):
            return False
        except OSError as error:
            raise self._broken(error) from error
        if not chunk:
            raise self._broken(None)
        searched = len(self._buffer)
        self._buffer += chunk
        if b"\n" in chunk:
            self._split(searched)
        elif len(self._buffer) > MAX_LINE_BYTES:
            raise self._stranger("its answer has no end")
        return True

    def _split(self, searched: int) -> None:
        end = self._buffer.rindex(b"\n", searched)
        whole = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        for line in whole.split(b"\n"):
            try:
                message = json.loads(line)
            except ValueError:
                raise self._stranger("it does not answer in JSON") from None
            if not isinstance(message, dict):
                raise self._stranger("its answer is not an object")
            self._unread.append(message)

    def _unreachable(self, error: OSError) -> Unreachable:
        what = f"cannot reach {self.label}"
        if error.errno in (errno.EACCES, errno.EPERM):
            return Unreachable(
                what,
                f"permission denied at {self.path}",
                f"only {owners(self.path)} and whom [access] in its file names may talk to it; {HOW_IN}",
                denied=True,
            )
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ECONNREFUSED, errno.ENOTSOCK):
            why = f"nothing listens at {self.path}"
            return Unreachable(what, why, "start it with `regrow up FILE`", absent=True)
        if error.errno == errno.EAGAIN:
            return Unreachable(
                what,
                f"it accepts no connection at {self.path} within {self.timeout_s:g} s",
                "see whether its process is stopped or overloaded",
            )
        return Unreachable(what, f"{error.strerror or error} at {self.path}", "see whether --run-dir is right")

    def _broken(self, error: OSError | None) -> Unreachable:
        reason = f" ({error.strerror})" if error is not None and error.strerror else ""
        return Unreachable(
            f"cannot go on talking to {self.label}",
            f"it closed the connection at {self.path}{reason}",
            LOOK_AGAIN,
        )

    def _stranger(self, why: str) -> Unreachable:
        return Unreachable(f"cannot talk to {self.label}", f"{why} at {self.path}", "see what listens there")

    def _late(self, limit_s: float) -> ControlTimeout:
        pid = self.peer_pid()
        process = f" (pid {pid})" if pid else ""
        return ControlTimeout(f"cannot get an answer from {self.label}{process} at {self.path}", limit_s, LOOK_AGAIN)


def _check_text(fields: Mapping[str, Any]) -> None:
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        why = "that is not UTF-8, and a request is"
        raise Refused("bad_request", f"cannot ask for {json.dumps(fields)}: {why}") from None


def result_of(message: dict[str, Any]) -> Any:
    """
    The `ok` of an answer.

    Raises:
        Refused: the answer is an error.
    """
    if "error" not in message:
        return message.get("ok")
    error = message["error"]
    if not isinstance(error, dict):
        raise Refused("internal", str(error))
    details = {key: value for key, value in error.items() if key not in ("code", "message")}
    code = str(error.get("code", "internal"))
    raise Refused(code, str(error.get("message", code)), details)


def _connect(connection: socket.socket, path: str, timeout_s: float) -> None:
    """Connect, waiting while the daemon's queue of connections is full; EAGAIN after `timeout_s`."""
    # A non-blocking connect fails at once on a full queue; SO_SNDTIMEO lets the kernel wait instead.
    seconds, fraction = divmod(max(timeout_s, 0.001), 1)
    limit = struct.pack("ll", int(seconds), int(fraction * 1_000_000))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    if len(os.fsencode(path)) <= MAX_PATH_BYTES:
        connection.connect(path)
        return
    folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        connection.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
    finally:
        os.close(folder)


def owners(path: str) -> str:
    """Who needs nobody's leave: root, and whose the nearest part of `path` is that may be looked at."""
    owner = _owner(path)
    return "root" if owner == "root" else f"root, {owner}"


def _owner(path: str) -> str:
    while True:
        try:
            uid = os.stat(path).st_uid
        except OSError:
            path = os.path.dirname(path)
            continue
        from pwd import getpwuid

        try:
            return getpwuid(uid).pw_name
        except KeyError:
            return f"uid {uid}"
