"""
What is asked for: a command, as it is sent.

Source: docs/commands.md.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple, TypeAlias

from regrow.config.readable import quoted
from regrow.config.spec import NICE, Limits
from regrow.config.units import LARGEST_BYTES, UnitError, duration_s, size_bytes, whole_s
from regrow.ipc import commands_wire as wire
from regrow.ipc.errors import BadRequest

Word: TypeAlias = str | bytes | os.PathLike[str]

TIMEOUT_S = 60.0
"""How long a command may take unless it is said otherwise."""

OUTPUT_BYTES = 1 << 20
"""How much of each stream is kept unless it is said otherwise."""


def request_of(
    argv: Collection[Word],
    *,
    timeout: float = TIMEOUT_S,
    env: Mapping[str, Word] | None = None,
    cwd: Word | None = None,
    user: str | int | None = None,
    stdout_limit: int | None = None,
    stderr_limit: int | None = None,
    limits: Limits | Mapping[str, Any] | None = None,
    isolate: Collection[str] = (),
    share_processes: bool = False,
    nice: int = 0,
    feeds: bool = False,
    by: str = "",
) -> wire.Request:
    """
    What is asked for, as it is sent.

    Raises:
        ValueError, TypeError: it says nothing that could be sent.
    """
    if isinstance(argv, str | bytes):
        raise TypeError(f"a command is a list of words, as in ['git', 'status'], not {argv!r}: there is no shell")
    if not (timeout or 0) > 0 or not math.isfinite(timeout):  # nor is None a time
        raise ValueError(f"cannot run a command for {timeout!r} seconds: a timeout is above 0, and finite")
    if type(nice) is not int or nice not in NICE:
        raise ValueError(f"cannot run a command: nice is a number from {NICE[0]} to {NICE[-1]}, not {nice!r:.80}")
    return wire.Request(
        argv=tuple(_bytes(word, f"argv[{n}]") for n, word in enumerate(argv)),
        timeout_s=float(timeout),
        env={
            _bytes(name, "a name in env"): _bytes(value, f"env[{quoted(name, 80)}]")
            for name, value in (env or {}).items()
        },
        cwd=_bytes(cwd, "cwd") if cwd is not None else b"",
        user=_name("" if user is None else str(user)),
        feeds=feeds,
        stdout_limit=OUTPUT_BYTES if stdout_limit is None else stdout_limit,
        stderr_limit=OUTPUT_BYTES if stderr_limit is None else stderr_limit,
        limits=limits if isinstance(limits, Limits) else limits_of(limits or {}),
        isolate=(isolate,) if isinstance(isolate, str) else tuple(isolate),
        shares_processes=share_processes,
        nice=nice,
        by=by,
    )


def check_input(data: object) -> None:
    """
    See that a program can be fed with this.

    Raises:
        TypeError.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise TypeError(f"cannot feed a command: its input must be bytes, not {data!r:.80}")


def _bytes(word: Word, what: str) -> bytes:
    """
    As a program gets it. What Python shows of bytes that are no text (PEP 383) becomes those bytes again.

    Raises:
        ValueError, TypeError: it stands for no bytes; `what` says which word it is.
    """
    try:
        return os.fsencode(word)
    except UnicodeEncodeError as error:
        bad = quoted(error.object[error.start : error.end], 80)
        raise ValueError(
            f"cannot run a command: {what} holds {bad}, which {error.encoding} cannot write; pass bytes instead"
        ) from None
    except TypeError:
        raise TypeError(f"cannot run a command: {what} must be str, bytes or a path, not {word!r:.80}") from None


def _name(user: str) -> str:
    """
    The user as it is sent: users have names that are text.

    Raises:
        ValueError: it is none.
    """
    try:
        user.encode()
    except UnicodeEncodeError:
        raise ValueError(f"cannot run a command: user is not UTF-8: {quoted(user, 80)}") from None
    return user


def _number(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        raise ValueError(value)
    return int(value)


def _bytes_of(value: Any) -> int:
    return size_bytes(value) if isinstance(value, str) else _number(value)


def _core_bytes(value: Any) -> int:
    return 0 if value == "0" else _bytes_of(value)


def _seconds(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(value)
    shown = f'"{value:.40}"' if isinstance(value, str) else str(value)
    return whole_s(duration_s(value) if isinstance(value, str) else value, shown)


class _Limit(NamedTuple):
    """Its name on the way, how it is read, and the least that it may be: as in the file."""

    field: str
    read: Callable[[Any], int]
    least: int


_LIMITS = {
    "memory": _Limit("memory_bytes", _bytes_of, 1),
    "file_size": _Limit("file_size_bytes", _bytes_of, 1),
    "core": _Limit("core_bytes", _core_bytes, 0),
    "cpu": _Limit("cpu_s", _seconds, 1),
    "open_files": _Limit("open_files", _number, 16),
    "processes": _Limit("processes", _number, 1),
}


def limits_of(written: Mapping[str, Any]) -> Limits:
    """
    Limits under the names that they have in the file; a number is bytes or seconds, a text has a unit.

    Raises:
        ValueError: there is no such limit, or it is none that can be held.
    """
    fields: dict[str, int] = {}
    for name, value in written.items():
        if name not in _LIMITS:
            from regrow.config.errors import nearest

            near = nearest(name, _LIMITS)
            meant = f"did you mean {near}?" if near else f"there are {', '.join(_LIMITS)}"
            raise ValueError(f"there is no limit {name[:40]}; {meant}")
        limit = _LIMITS[name]
        try:
            fields[limit.field] = read = limit.read(value)
        except UnitError as error:
            raise ValueError(f"limit {name} {f'{error}; {error.hint}' if error.hint else error}") from None
        except (ValueError, OverflowError):  # infinity has no whole part
            raise ValueError(f"limit {name} must be a whole number, not {str(value)[:40]!r}") from None
        if read < limit.least:
            raise ValueError(f"limit {name} must be {limit.least} or more, not {str(value)[:40]}")
        if read > LARGEST_BYTES:
            raise ValueError(f"limit {name} must be {LARGEST_BYTES} or less, not {str(value)[:40]}")
    return Limits(**fields)


def request_frame(request: wire.Request) -> bytes:
    """
    As it is sent.

    Raises:
        BadRequest: it is too long.
    """
    said = wire.pack(wire.RUN, request)
    if len(said) > wire.MAX_REQUEST_BYTES:
        raise BadRequest(wire.NAME, f"the request has {len(said)} bytes, {wire.MAX_REQUEST_BYTES} are the limit")
    return said
