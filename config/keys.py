"""Every key of the file, once: its type, what it is for, its default. Reading and the JSON Schema come from here."""

from __future__ import annotations

import math
from typing import Any

from regrow.config.commands import Allowed
from regrow.config.probes import ARGV, LIVENESS, READY, Endpoint, SocketPath
from regrow.config.spec import (
    NICE,
    AutoShutdown,
    Backoff,
    CgroupUse,
    Durability,
    Escalate,
    Isolation,
    Limits,
    LogRotation,
    OutputKind,
    Restart,
    Start,
    Strategy,
    Update,
)
from regrow.config.tables import Key, ListOf, Pairs, Record, Table
from regrow.config.values import (
    BAD,
    NAME_PATTERN,
    At,
    Bool,
    Choice,
    Int,
    Number,
    Schema,
    Text,
    duration,
    reserved_variable,
    shown,
    size,
)
from regrow.config.words import (
    MODE,
    UMASK,
    ExitStatus,
    Limit,
    Listen,
    OutputWords,
    ShutdownWords,
    SignalName,
    WholeSeconds,
)

MOST_REPLICAS = 10_000
MOST_INTENSITY = 100_000
MOST_RUNS = 10_000
MOST_SPARES = 100
DAEMON_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
CLIENT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class Arguments:
    """Keyword arguments: a table of what JSON can hold, with the placeholders in its strings filled in."""

    def read(self, value: Any, at: At) -> Any:
        """Return the table with all strings filled."""
        if not isinstance(value, dict):
            return at.wrong(f"must be a table of keyword arguments, not {shown(value)}")
        for name in value:
            if not name.isidentifier():
                at.down(name).wrong("the name of an argument must be an identifier")
        return self._filled(value, at)

    def _filled(self, value: Any, at: At) -> Any:
        if isinstance(value, str):
            return at.filled(value)
        if isinstance(value, dict):
            return self._whole({name: self._filled(item, at.down(name)) for name, item in value.items()})
        if isinstance(value, list):
            items = [self._filled(item, at.down(index)) for index, item in enumerate(value)]
            return BAD if any(item is BAD for item in items) else items
        if isinstance(value, float) and not math.isfinite(value):
            return at.wrong(f"{value} cannot be passed on as JSON")
        if value is None or isinstance(value, (bool, int, float)):
            return value
        return at.wrong("a date or a time cannot be passed on as JSON", "write it as a string")

    def _whole(self, items: dict[str, Any]) -> Any:
        return BAD if any(item is BAD for item in items.values()) else items

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": "object"}


def _environment_key(key: str) -> str:
    """Say what is wrong with the name of an environment variable, or nothing."""
    if not key or "=" in key or "\0" in key:
        return "no name for an environment variable"
    return "is set by regrow" if reserved_variable(key) else ""


class Who:
    """A user or group by name or number, as written."""

    def read(self, value: Any, at: At) -> Any:
        """Return the name, or the number as an int."""
        if isinstance(value, int) and not isinstance(value, bool):
            return value if 0 <= value < 2**32 - 1 else at.wrong(f"no such id: {shown(value)}")
        text = Text("a name or a number").read(value, at)
        if isinstance(text, str) and text.isascii() and text.isdecimal():
            return self.read(int(text[:12]), at)
        return text

    def schema(self) -> Schema:
        """Return the schema."""
        return {"type": ["string", "integer"]}


NAME = Text("a name: small letters, digits, _ and -, beginning with a letter", pattern=NAME_PATTERN)
CHILDREN = ListOf(NAME)  # described here; the tree reads it

_PLACE = (
    Key("restart", Choice(Restart), "after which exits it is started again", default="permanent"),
    Key("shutdown", ShutdownWords(), "how it is stopped: a time between the stop signal and SIGKILL, or a word"),
    Key("significant", Bool(), "its end may end its supervisor, see auto_shutdown", default=False),
)

BACKOFF = Record(
    Backoff,
    Table(
        Key("first", duration(), "the delay before the first restart in a row", field="first_s", default="100ms"),
        Key("factor", Number(1.0, 1000.0), "how much longer each further delay is", default=2.0),
        Key("max", duration(), "the longest delay", field="max_s", default="30s"),
        Key("jitter", Number(0.0, 1.0), "the part by which a delay is spread at random", default=0.1),
        Key("reset", duration(), "who stayed up that long begins again", field="reset_s", default="60s"),
    ),
)

MODULE = Text("a module", pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$")
PRELOAD = Key("preload", ListOf(MODULE), "modules imported before forking")

SUPERVISOR = Table(
    Key("strategy", Choice(Strategy), "which siblings a death concerns", default="one_for_one"),
    Key("intensity", Int(0, MOST_INTENSITY), "how many restarts are accepted within a period", default=3),
    Key("period", duration(), "the time in which they are counted", field="period_s", default="5s"),
    Key("auto_shutdown", Choice(AutoShutdown), "whose end ends this supervisor", default="never"),
    Key("children", CHILDREN, "who is started, in this order, and stopped in the reverse one"),
    Key("backoff", BACKOFF, "the delay before restarts; none unless written"),
    PRELOAD,
    Key("start", Choice(Start), "children one after the other, or all at once", default="sequential"),
    Key("escalate", Choice(Escalate), "`never`: restart for ever, whatever the limit says", default="on_intensity"),
    Key("max_children", Int(0, 1_000_000), "dynamic only: how many children there may be"),
    Key("template", NAME, "dynamic only: the [worker.X] that every start_child builds upon"),
    *_PLACE,
)

LIMITS = Record(
    Limits,
    Table(
        Key("memory", size(), "memory of the whole child", field="memory_bytes"),
        Key("open_files", Limit(Int(16, 2**31 - 1)), "open descriptors"),
        Key("processes", Limit(Int(1, 2**31 - 1)), "processes of its user"),
        Key("core", Limit(size(), zero=True), "size of a core file", field="core_bytes"),
        Key("cpu", Limit(WholeSeconds()), "processor time", field="cpu_s"),
        Key("file_size", Limit(size()), "size of a file it writes", field="file_size_bytes"),
    ),
)

LOG = Record(
    LogRotation,
    Table(
        Key("max_size", size(), "a log file is rotated at this size", field="max_size_bytes", default="10MiB"),
        Key("keep", Int(0, 1000), "how many rotated files are kept", default=5),
    ),
)

UPDATE = Record(
    Update,
    Table(
        Key("rolling", Int(1, MOST_REPLICAS), "how many replicas are replaced at a time", default=1),
        Key("canary", Int(0, MOST_REPLICAS), "how many are replaced first, and watched", default=0),
        Key("hold", duration(), "how long these are watched before it goes on", field="hold_s", default="10s"),
    ),
)

_STDOUT = (OutputKind.LOG, OutputKind.INHERIT, OutputKind.NULL, OutputKind.JOURNAL)
TARGET = Text("module:callable", pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")

WORKER = Table(
    Key("agent", TARGET, "module:Class of an agent", field="agent"),
    Key("function", TARGET, "module:callable, run in a process of its own", field="function"),
    Key("command", ARGV, "the program and its arguments; there is no shell"),
    Key("args", Arguments(), "keyword arguments of an agent or a function"),
    Key("replicas", Int(1, MOST_REPLICAS), "that many of it: NAME.0, NAME.1, …"),
    Key("standby", Int(0, MOST_SPARES), "that many processes wait, module imported, for its deaths", default=0),
    *_PLACE,
    Key("ready", READY, "when it counts as ready; agents: notify, others: started"),
    Key("liveness", LIVENESS, "a probe repeated while it runs; none unless written"),
    Key("watchdog", duration(), "it must show progress at least this often", field="watchdog_s"),
    Key("stop_signal", SignalName(), "the signal that asks it to stop", default="SIGTERM"),
    Key("normal_exit", ListOf(ExitStatus()), "exit statuses that are no failure", default=[0]),
    Key("env", Pairs(Text(empty=True), _environment_key), "environment variables"),
    Key("env_file", Text("a path"), "a file of NAME=value lines, beneath env"),
    Key("cwd", Text("a path"), "the working directory; default: the folder of the file"),
    Key("user", Who(), "the user it runs as"),
    Key("group", Who(), "the group it runs as", field="as_group"),
    Key("umask", UMASK, "the file mode creation mask"),
    Key("nice", Int(NICE[0], NICE[-1]), "the scheduling priority"),
    Key("limits", LIMITS, "resource limits"),
    Key("stdout", OutputWords(*_STDOUT), "log, inherit, null, journal or a path", default="log"),
    Key("stderr", OutputWords(*_STDOUT, OutputKind.STDOUT), "the same, or stdout", default="log"),
    Key("log", LOG, "rotation of the log file"),
    Key("sockets", ListOf(NAME), "the [socket.X] that it gets, in this order, as descriptors from 3 on"),
    Key("update", UPDATE, "how `regrow apply` replaces it"),
)

SOCKET = Table(
    Key("tcp", Endpoint(any_host=True), 'a port, or "HOST:PORT"; "*:PORT" is every IPv4 address of this host'),
    Key("unix", SocketPath("the path of a socket"), "the path of a socket, or @NAME of an abstract one"),
    Key("backlog", Int(1, 2**31 - 1), "how many connections wait at most until they are accepted", default=4096),
    Key("mode", MODE, "unix: the permissions of the path", default="0666"),
    Key("user", Who(), "unix: who owns the path"),
    Key("group", Who(), "unix: the group of the path", field="as_group"),
)

_OF_RUNS = (
    "shutdown", "env", "env_file", "cwd", "user", "group", "umask", "nice", "limits", "stdout", "stderr", "log",
)  # fmt: skip

WORKFLOW = Table(
    Key("workflow", TARGET, "module:Class of the workflow"),
    Key("limit", Int(1, MOST_RUNS), "how many runs there are at once; the others wait", default=10),
    Key("keep", duration(), "how long runs that are over are kept", field="keep_s", default="30d"),
    PRELOAD,
    *(WORKER.keys[key] for key in _OF_RUNS),
)

DAEMON = Table(
    Key("name", Text("a name", pattern=DAEMON_NAME_PATTERN), "the daemon's name; default: the file's stem"),
    Key("run_dir", Text("a path"), "sockets and locks"),
    Key("state_dir", Text("a path"), "what survives a restart"),
    Key("log_dir", Text("a path"), "log files"),
    Key("durability", Choice(Durability), "what a commit survives", default="system"),
    Key("cgroup", Choice(CgroupUse), "whether children get cgroups of their own", default="auto"),
    Key("root", NAME, "the supervisor at the top; default: the only one that is nobody's child"),
)

ACCESS = Table(
    Key("operators", ListOf(Who()), 'who may do everything: "user:NAME", "group:NAME", or a user id', field="operator"),
    Key("viewers", ListOf(Who()), "who may only look", field="viewer"),
)

CLIENT = Text("the name of a key", pattern=CLIENT_PATTERN)

HUB = Table(
    Key("listen", Listen(), "where clients of other hosts connect: tcp://HOST:PORT; default: nowhere"),
    Key("clients", ListOf(CLIENT), "whose keys may connect there"),
    Key("operators", ListOf(CLIENT), "which of them may also start and stop"),
)

COMMANDS = Table(
    Key("allow", ListOf(Allowed()), "programs that agents may run", default=[]),
    Key("max_parallel", Int(1, 10_000), "how many at the same time", default=8),
    Key("queue", Int(0, 100_000), "how many more may wait for their turn", default=100),
    Key("max_timeout", duration(), "the longest time that may be asked for", field="max_timeout_s", default="1h"),
    Key("limits", LIMITS, "resource limits of each command"),
    Key("isolate", ListOf(Choice(Isolation)), "what every command is kept away from", default=[]),
)
