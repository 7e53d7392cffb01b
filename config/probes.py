"""The tables `ready` and `liveness`: which probe, where to, and how long."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from regrow.config.errors import did_you_mean
from regrow.config.spec import Liveness, Probe, Ready, ReadyKind
from regrow.config.tables import Key, ListOf, Table
from regrow.config.values import BAD, At, Int, Schema, Text, Type, duration, shown

LONGEST_SOCKET_PATH = 107  # sockaddr_un.sun_path holds 108 bytes with the final NUL, unix(7)


class Always:
    """`true`, for the kinds that need nothing: `{ notify = true, timeout = "5s" }`."""

    def read(self, value: Any, at: At) -> Any:
        """Return True."""
        return True if value is True else at.wrong(f"must be true, not {shown(value)}")

    def schema(self) -> Schema:
        """Return the schema."""
        return {"const": True}


class Endpoint:
    """
    A port of this host, or `"HOST:PORT"`, `"[::1]:80"`. Returns (host, port), the host as written.

    With `any_host`, `*` is every IPv4 address of this host.
    """

    def __init__(self, *, any_host: bool = False) -> None:
        self._any_host = any_host

    def read(self, value: Any, at: At) -> Any:
        """Return host and port."""
        if isinstance(value, int) and not isinstance(value, bool):
            return ("127.0.0.1", value) if 1 <= value <= 65535 else at.wrong(f"no such port: {value}")
        text = at.filled(value) if isinstance(value, str) else ""
        if not isinstance(text, str):
            return text
        host, colon, port = text.rpartition(":")
        if not re.fullmatch("[0-9]{1,5}", port) or not 1 <= int(port) <= 65535 or (colon and not host):
            return at.wrong(f'must be a port or "HOST:PORT", not {shown(value)}')
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        if host == "*" and self._any_host:
            host = "0.0.0.0"
        return (host or "127.0.0.1", int(port))

    def schema(self) -> Schema:
        """Return the schema."""
        return {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 65535}, {"type": "string"}]}


class Url:
    """`http://HOST[:PORT]/path`. Returns (host, port, path, Host header), the host as written."""

    def read(self, value: Any, at: At) -> Any:
        """Return the parts."""
        text = at.filled(value) if isinstance(value, str) else ""
        if not isinstance(text, str):
            return text
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError as error:
            return at.wrong(f"not a URL: {error}")
        if parts.scheme == "https":
            return at.wrong("https cannot be probed", "probe an http port, or use exec")
        if parts.scheme != "http" or not parts.hostname or port == 0:
            return at.wrong(f'must be a URL such as "http://localhost:8000/health", not {shown(value)}')
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or not parts.netloc.isascii() or re.search(r"[\s\x00-\x1f\x7f]", text):
            return at.wrong("a URL may hold only ASCII characters and no spaces", "write them as %20")
        return (parts.hostname, port or 80, path, parts.netloc.rpartition("@")[2])

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "string", "pattern": "^http://"}


class SocketPath(Text):
    """A path that a socket address can hold; `@name` is an abstract one."""

    def read(self, value: Any, at: At) -> Any:
        """Return the path."""
        path = super().read(value, at)
        if isinstance(path, str) and len(path.encode()) > LONGEST_SOCKET_PATH:
            return at.wrong(f"a socket's path has at most {LONGEST_SOCKET_PATH} bytes, this one {len(path.encode())}")
        return path


class Pattern(Text):
    """A regular expression of Python's `re`."""

    def read(self, value: Any, at: At) -> Any:
        """Return the text of the expression, which compiles."""
        pattern = super().read(value, at)
        if isinstance(pattern, str):
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                return at.wrong(f"not a regular expression: {error}")
        return pattern


ARGV = ListOf(Text(empty=True), least=1)


class Kind:
    """One kind of probe: the type of its value, what it is for, and the Probe it becomes."""

    def __init__(self, type: Type, about: str, build: Callable[[Any], Probe], *, repeats: bool) -> None:
        self.type = type
        self.about = about
        self.build = build
        self.repeats = repeats


def _tcp(read: tuple[str, int]) -> Probe:
    return Probe(ReadyKind.TCP, host=read[0], port=read[1])


def _http(read: tuple[str, int, str, str]) -> Probe:
    return Probe(ReadyKind.HTTP, host=read[0], port=read[1], path=read[2], http_host=read[3])


def _unix(read: str) -> Probe:
    return Probe(ReadyKind.UNIX, path=read)


def _file(read: str) -> Probe:
    return Probe(ReadyKind.FILE, path=read)


def _line(read: str) -> Probe:
    return Probe(ReadyKind.LINE, pattern=read)


def _exec(read: tuple[str, ...]) -> Probe:
    return Probe(ReadyKind.EXEC, argv=read)


KINDS: dict[str, Kind] = {
    "notify": Kind(Always(), "READY=1 on NOTIFY_SOCKET", lambda _: Probe(ReadyKind.NOTIFY), repeats=False),
    "started": Kind(Always(), "at once, when the program runs", lambda _: Probe(ReadyKind.STARTED), repeats=False),
    "tcp": Kind(Endpoint(), "a port that accepts", _tcp, repeats=True),
    "unix": Kind(SocketPath("the path of a socket"), "a socket that accepts", _unix, repeats=True),
    "http": Kind(Url(), "a URL that answers GET with a status below 400", _http, repeats=True),
    "file": Kind(Text("a path"), "a file that exists", _file, repeats=True),
    "line": Kind(Pattern("a regular expression"), "a line of output that matches", _line, repeats=False),
    "exec": Kind(ARGV, "a command that exits with 0", _exec, repeats=True),
}

WORDS = tuple(name for name, kind in KINDS.items() if isinstance(kind.type, Always))


class ProbeTable:
    """A table with exactly one kind of probe and the keys around it."""

    def __init__(self, build: Callable[..., Any], noun: str, *keys: Key, repeated: bool) -> None:
        self._build = build
        self._noun = noun
        self._kinds = {name: kind for name, kind in KINDS.items() if kind.repeats or not repeated}
        self._words = () if repeated else WORDS
        self._table = Table(*(Key(name, kind.type, kind.about) for name, kind in self._kinds.items()), *keys)

    def read(self, value: Any, at: At) -> Any:
        """Return what `build` makes of the probe and the other keys."""
        if isinstance(value, str):
            if value in self._words:
                return self._build(KINDS[value].build(True))
            hint = did_you_mean(value, self._words) or (f"{{ {value} = … }}" if value in self._kinds else "")
            words = " or ".join(f'"{word}"' for word in self._words)
            return at.wrong(f"must be {f'{words}, or ' if words else ''}a table, not {shown(value)}", hint)
        if not isinstance(value, dict):
            return at.wrong(f"must be a table, not {shown(value)}")
        written = [name for name in value if name in self._kinds]
        fields = self._table.read(value, at)
        if not written and any(name not in self._table.keys for name in value):
            return BAD  # the kind is misspelt, which has been reported
        if len(written) != 1:
            said = f"{', '.join(written)} exclude one another" if written else "says not what to look at"
            return at.wrong(f"{self._noun} {said}", f"exactly one of {', '.join(self._kinds)}")
        if written[0] not in fields:
            return BAD
        return self._build(self._kinds[written[0]].build(fields.pop(written[0])), **{
            name: field for name, field in fields.items() if name not in self._kinds
        })  # fmt: skip

    def schema(self) -> Schema:
        """Return the schema."""
        one = {"oneOf": [{"required": [name]} for name in self._kinds], **self._table.schema()}
        return {"anyOf": [{"enum": list(self._words)}, one]} if self._words else one


READY = ProbeTable(
    Ready, "ready", Key("timeout", duration(), "how long it may take", field="timeout_s", default="30s"), repeated=False
)
LIVENESS = ProbeTable(
    Liveness,
    "liveness",
    Key("every", duration(), "how often to look", field="every_s", default="5s"),
    Key("timeout", duration(), "how long one answer may take", field="timeout_s", default="1s"),
    Key("failures", Int(1, 1000), "how many failures in a row make it unhealthy", default=3),
    repeated=True,
)


def is_numeric(host: str) -> bool:
    """Say whether a host is an address rather than a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
