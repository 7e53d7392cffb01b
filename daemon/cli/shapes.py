"""
What the daemon answers, as types: the JSON that `--format json` passes on.

Imported for type checking only (`typing` is slow to import), so the annotations cost nothing at run time.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class LastExit(TypedDict):
    """How the last incarnation ended; `at` is unix time, `text` its last output, traceback or failed stage."""

    reason: str
    code: int | None
    signal: str | None
    at: float
    text: str


class Entry(TypedDict):
    """One line of `status`, in tree order."""

    name: str
    path: str
    kind: str
    state: str
    want: str
    ready: bool
    pid: int | None
    incarnation: int
    restarts: int
    since: float
    last_exit: LastExit | None
    detail: str
    supervisor: str | None
    strategy: str | None
    uptime_s: float | None
    standby: NotRequired[Standby]


class Standby(TypedDict):
    """The spares of the group that a worker belongs to."""

    wanted: int
    ready: int
    pids: list[int]
    failure: str


class Event(TypedDict):
    """One event; `cause` is the seq of the event that led to it, `mono` the monotonic clock."""

    seq: int
    at: float
    mono: float
    event: str
    name: str
    path: str
    incarnation: int | None
    pid: int | None
    cause: int | None
    reason: LastExit | None
    text: NotRequired[str]
    delay_s: NotRequired[float]
    used: NotRequired[int]
    intensity: NotRequired[int]
    period_s: NotRequired[float]
    strategy: NotRequired[str]
    standby: NotRequired[bool]
    scope: NotRequired[list[str]]


class Why(TypedDict):
    name: str
    status: Entry | None
    text: list[str]
    chain: list[Event]


class Hello(TypedDict):
    """The answer to `ping`."""

    pid: int
    name: str
    version: str
    state: str
    run_dir: str
    log_dir: str
    files: list[str]


class Outcome(TypedDict):
    """What `start`, `stop` or `restart` did to one name."""

    name: str
    result: str
    pid: NotRequired[int | None]
    error: NotRequired[dict[str, Any]]


class Problem(TypedDict):
    """One finding of `check`; `line` is 0 where there is none, `code` is stable."""

    file: str
    line: int
    key: str
    problem: str
    hint: str
    code: str


class LogLine(TypedDict):
    name: str
    line: str

