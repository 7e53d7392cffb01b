"""
The vocabulary of a supervision tree: what every room means by a child, a strategy, a shutdown.

Every type here is an immutable value that can be written as JSON or msgpack and read back unchanged.
Durations are seconds (`_s`), sizes are bytes (`_bytes`), signals are numbers.

Source: otp-rules S1-S25 for names and defaults; `signal(7)`, `setrlimit(2)`.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, field


def signal_name(number: int) -> str:
    """`SIGKILL` for 9; real-time signals by their offset."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


NICE = range(-20, 20)
"""Every scheduling priority that there is, the most urgent first."""


class Strategy(StrEnum):
    """Which siblings a death concerns (S51-S53); `dynamic` children come only through start_child."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"
    DYNAMIC = "dynamic"


class Restart(StrEnum):
    """After which exits a child is started again (S44-S46)."""

    PERMANENT = "permanent"
    TRANSIENT = "transient"
    TEMPORARY = "temporary"


class AutoShutdown(StrEnum):
    """When significant children that end by themselves end their supervisor (S117-S119)."""

    NEVER = "never"
    ANY_SIGNIFICANT = "any_significant"
    ALL_SIGNIFICANT = "all_significant"


class Start(StrEnum):
    """Whether children start (and stop) one after the other, or all at once (one_for_one only)."""

    SEQUENTIAL = "sequential"
    PARALLEL = "parallel"


class Escalate(StrEnum):
    """`never`: restart for ever, knowingly. Without it, a limit that can never trip is refused."""

    ON_INTENSITY = "on_intensity"
    NEVER = "never"


class Kind(StrEnum):
    """What a child is. A supervisor is a child too."""

    SUPERVISOR = "supervisor"
    AGENT = "agent"
    FUNCTION = "function"
    COMMAND = "command"


class ShutdownKind(StrEnum):
    BRUTAL_KILL = "brutal_kill"
    TIMEOUT = "timeout"
    INFINITY = "infinity"


class Shutdown(Struct, frozen=True, omit_defaults=True):
    """
    How a child is stopped: killed at once, asked and killed after `timeout_s`, or asked and awaited.

    `timeout_s` is meaningful for `TIMEOUT` only and may be 0 (S93).
    """

    kind: ShutdownKind = ShutdownKind.TIMEOUT
    timeout_s: float = 5.0


BRUTAL_KILL = Shutdown(ShutdownKind.BRUTAL_KILL, 0.0)
WAIT_FOREVER = Shutdown(ShutdownKind.INFINITY, 0.0)


class ReadyKind(StrEnum):
    NOTIFY = "notify"
    STARTED = "started"
    TCP = "tcp"
    UNIX = "unix"
    HTTP = "http"
    FILE = "file"
    LINE = "line"
    EXEC = "exec"


class Probe(Struct, frozen=True, omit_defaults=True):
    """
    One way to ask whether a child serves. What `kind` needs is in exactly these fields:

    tcp: `host`, `port` · unix, file: `path` · line: `pattern` · exec: `argv` ·
    http: `host` and `port` to connect to (numeric address), `path` to GET, `http_host` for the Host header.
    """

    kind: ReadyKind
    host: str = ""
    port: int = 0
    path: str = ""
    http_host: str = ""
    pattern: str = ""
    argv: tuple[str, ...] = ()


class Ready(Struct, frozen=True, omit_defaults=True):
    """When a started child counts as ready, and how long that may take."""

    probe: Probe
    timeout_s: float = 30.0


class Liveness(Struct, frozen=True, omit_defaults=True):
    """A probe repeated while the child runs; `failures` in a row make it unhealthy."""

    probe: Probe
    every_s: float = 5.0
    timeout_s: float = 1.0
    failures: int = 3


class Backoff(Struct, frozen=True, omit_defaults=True):
    """
    The delay before the n-th restart in a row: `first_s * factor**(n-1)`, at most `max_s`, spread by
    `jitter` (0.1: plus or minus 10 %). A child that stayed up for `reset_s` starts from the beginning.
    """

    first_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.1
    reset_s: float = 60.0


class OutputKind(StrEnum):
    LOG = "log"
    INHERIT = "inherit"
    NULL = "null"
    JOURNAL = "journal"
    PATH = "path"
    STDOUT = "stdout"  # stderr only: wherever stdout goes


JOURNAL = "/run/systemd/journal/stdout"
"""Where the journal takes streams, systemd-journald.service(8)."""


class Output(Struct, frozen=True, omit_defaults=True):
    kind: OutputKind = OutputKind.LOG
    path: str = ""


class LogRotation(Struct, frozen=True, omit_defaults=True):
    max_size_bytes: int = 10 * 1024 * 1024
    keep: int = 5


class Credentials(Struct, frozen=True):
    """Numeric identity a child runs under; `None` leaves that part as the daemon's."""

    uid: int | None = None
    gid: int | None = None
    groups: tuple[int, ...] | None = None
    home: str = ""
    user: str = ""


class Limits(Struct, frozen=True, omit_defaults=True):
    """Resource limits; `None` leaves a limit as the daemon's. `memory_bytes` is the whole child's."""

    memory_bytes: int | None = None
    open_files: int | None = None
    processes: int | None = None
    core_bytes: int | None = None
    cpu_s: int | None = None
    file_size_bytes: int | None = None


class Update(Struct, frozen=True, omit_defaults=True):
    """
    How an apply replaces a worker and its replicas: `rolling` at a time, `canary` of them first, and these watched
    for `hold_s` before it goes on.
    """

    rolling: int = 1
    canary: int = 0
    hold_s: float = 10.0


class WorkerSpec(Struct, frozen=True, tag="worker", omit_defaults=True):
    """
    One worker process, fully resolved: placeholders filled in, names of users turned into numbers.

    `name` is the address (`pricer.0`), `group` the table it came from (`pricer`), `index` its place in
    the group, which has `replicas` members. `target` is `module:callable` for a function, `module:Class` for an
    agent; `command` the argv of a command.
    `args_json` holds the keyword arguments of a target as a JSON object.
    `env` is the complete environment of the file for this child (env_file below env), without the
    daemon's own, which the child inherits beneath it.
    `cwd` is absolute; the folder of the file unless written. `executable` is the absolute path of `command[0]`.
    `import_path` is the folder that the target's module is imported from ("": Python finds it by itself).
    `sockets` are the names of the listening sockets that it gets, in this order.
    `standby` is how many processes wait for the deaths of the whole `group`, with the module imported.
    """

    name: str
    kind: Kind
    group: str = ""
    index: int | None = None
    replicas: int = 1
    target: str = ""
    args_json: str = "{}"
    import_path: str = ""
    command: tuple[str, ...] = ()
    executable: str = ""
    restart: Restart = Restart.PERMANENT
    shutdown: Shutdown = Shutdown()
    significant: bool = False
    ready: Ready = Ready(Probe(ReadyKind.STARTED))
    liveness: Liveness | None = None
    watchdog_s: float | None = None
    stop_signal: int = 15
    normal_exit: tuple[int, ...] = (0,)
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = ""
    credentials: Credentials | None = None
    umask: int | None = None
    nice: int | None = None
    limits: Limits = Limits()
    stdout: Output = Output()
    stderr: Output = Output()
    log: LogRotation = LogRotation()
    sockets: tuple[str, ...] = ()
    standby: int = 0
    update: Update = Update()


class SupervisorSpec(Struct, frozen=True, tag="supervisor", omit_defaults=True):
    """
    One supervisor and what it starts, in start order.

    `template`, for a dynamic supervisor, holds the keys of the [worker.X] table that every start_child
    builds upon, as JSON; empty when each start_child brings its whole spec. `base_dir` is the folder of the file:
    relative paths of start_child specs begin there, and `preload` modules are searched there first.
    """

    name: str
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: int = 3
    period_s: float = 5.0
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    children: tuple[ChildSpec, ...] = ()
    restart: Restart = Restart.PERMANENT
    shutdown: Shutdown = WAIT_FOREVER
    significant: bool = False
    backoff: Backoff | None = None
    preload: tuple[str, ...] = ()
    start: Start = Start.SEQUENTIAL
    escalate: Escalate = Escalate.ON_INTENSITY
    max_children: int | None = None
    template: str = ""
    base_dir: str = ""

    @property
    def kind(self) -> Kind:
        return Kind.SUPERVISOR


ChildSpec: TypeAlias = WorkerSpec | SupervisorSpec

DESK, RUNS = ".desk", ".runs"
"""
What is behind the name of a workflow in those of its desk, which starts its runs, and of their supervisor.

No name in the file has a dot, so they are nobody else's.
"""

STANDBY = ".standby"
"""What is behind the name of a group in that of its spares, as long as they have no name of their own."""

RUN_TARGET, DESK_TARGET = "regrow.workers.workflow_run:RunAgent", "regrow.workers.workflow_desk:Desk"
"""What runs in the process of a run, and in that of the desk."""


class Durability(StrEnum):
    PROCESS = "process"
    SYSTEM = "system"
    FULL = "full"


class CgroupUse(StrEnum):
    """
    `auto`: a control group per child where the service manager has delegated a cgroup v2 subtree to the daemon;
    `on`: also at the top of a cgroup namespace that nobody manages, and a complaint where there is none.
    """

    AUTO = "auto"
    ON = "on"
    OFF = "off"


class DaemonSpec(Struct, frozen=True):
    name: str
    run_dir: str
    state_dir: str
    log_dir: str
    durability: Durability = Durability.SYSTEM
    cgroup: CgroupUse = CgroupUse.AUTO


class AccessSpec(Struct, frozen=True):
    """Numeric ids that may operate, or only look, besides root and the daemon's own user."""

    operator_uids: tuple[int, ...] = ()
    operator_gids: tuple[int, ...] = ()
    viewer_uids: tuple[int, ...] = ()
    viewer_gids: tuple[int, ...] = ()


class Isolation(StrEnum):
    """What a command can be kept away from, each by a namespace of its own."""

    NETWORK = "network"
    TMP = "tmp"
    ROOT = "root"
    PROCESSES = "processes"


class CommandRule(Struct, frozen=True):
    """
    A program that agents may run: a name or an absolute path.

    `arguments` are patterns, one of which each argument must match; None: any. `env` are patterns of the names of
    variables that may be set.
    """

    program: str
    arguments: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()


class CommandsSpec(Struct, frozen=True):
    """
    System commands. `limits` are what a command has unless it asks for less, `isolate` is done to every one.
    """

    allow: tuple[CommandRule, ...] = ()
    max_parallel: int = 8
    queue: int = 100
    max_timeout_s: float = 3600.0
    limits: Limits = Limits()
    isolate: tuple[Isolation, ...] = ()


class HubSpec(Struct, frozen=True):
    """
    The hub towards other hosts: `listen` is an endpoint with a numeric host (`tcp://127.0.0.1:7300`), empty for none.

    `clients` are the names of the keys that may connect, `operators` those of them that may also start and stop;
    `<state_dir>/keys` holds the keys.
    """

    listen: str = ""
    clients: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()


class SocketSpec(Struct, frozen=True, omit_defaults=True):
    """
    A listening socket that the daemon holds for its workers: a stream socket at `host` (numeric) and `port`, or at
    `path`, which is absolute, or abstract (`@name`).

    `mode`, `uid` and `gid` are those of the path; None leaves the daemon's own.
    """

    name: str
    host: str = ""
    port: int = 0
    path: str = ""
    mode: int = 0o666
    uid: int | None = None
    gid: int | None = None
    backlog: int = 4096

    @property
    def address(self) -> str:
        """Where it listens, as systemd writes it, and as nothing else is."""
        return self.path or (f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}")

    @property
    def has_file(self) -> bool:
        """Whether it is to be found in the file system."""
        return self.path.startswith("/")


class Plan(Struct, frozen=True):
    """
    Everything a daemon needs to run, checked and resolved. `files` are absolute, in reading order.

    `hub` and `commands` are None where the file does not ask for them; the agents of a tree have them all the same.
    """

    daemon: DaemonSpec
    root: SupervisorSpec
    access: AccessSpec = AccessSpec()
    commands: CommandsSpec | None = None
    files: tuple[str, ...] = ()
    hub: HubSpec | None = None
    sockets: tuple[SocketSpec, ...] = ()
