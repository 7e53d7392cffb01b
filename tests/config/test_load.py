"""Files that are right: what each key becomes, and what is assumed where nothing is written."""

from __future__ import annotations

import json
import os
import pwd
import signal
from pathlib import Path

import msgspec
import pytest
from trees import ENVIRON, plan, problems, worker, workers, write

from regrow.config.load import load
from regrow.config.spec import (
    AutoShutdown,
    Backoff,
    CommandRule,
    CommandsSpec,
    Durability,
    HubSpec,
    Kind,
    Limits,
    Liveness,
    LogRotation,
    Output,
    OutputKind,
    Plan,
    Probe,
    Ready,
    ReadyKind,
    Restart,
    Shutdown,
    ShutdownKind,
    Start,
    Strategy,
    SupervisorSpec,
    WorkerSpec,
)

COMMAND = "command = ['true']\n"


def test_defaults_of_a_worker(tmp_path: Path) -> None:
    """A command without further keys: permanent, 5 s, started, SIGTERM, its file's folder as directory."""
    assert worker(tmp_path, COMMAND) == WorkerSpec(
        name="w", kind=Kind.COMMAND, group="w", command=("true",), executable="/usr/bin/true", cwd=str(tmp_path)
    )


def test_defaults_of_a_supervisor(tmp_path: Path) -> None:
    """A supervisor without keys: one_for_one, 3 in 5 s, shutdown infinity, no backoff."""
    root = plan(tmp_path, "[supervisor.app]\n").root
    assert root == SupervisorSpec("app", base_dir=str(tmp_path))
    assert (root.strategy, root.intensity, root.period_s) == (Strategy.ONE_FOR_ONE, 3, 5.0)
    assert root.shutdown.kind is ShutdownKind.INFINITY


def test_every_key_of_a_supervisor(tmp_path: Path) -> None:
    """Each key of a supervisor becomes its field."""
    text = """
    [supervisor.top]
    auto_shutdown = "all_significant"
    children = ["app", "pool"]
    [supervisor.app]
    strategy = "one_for_one"
    intensity = 2
    period = "1m"
    backoff = { first = "1s", factor = 3, max = "10s", jitter = 0, reset = "30s" }
    preload = ["json"]
    start = "parallel"
    restart = "transient"
    shutdown = "20s"
    significant = true
    [supervisor.pool]
    strategy = "dynamic"
    max_children = 7
    template = "job"
    [worker.job]
    command = ["true", "{name}"]
    """
    app, pool = plan(tmp_path, text).root.children
    assert app == SupervisorSpec(
        "app",
        intensity=2,
        period_s=60.0,
        backoff=Backoff(1.0, 3.0, 10.0, 0.0, 30.0),
        preload=("json",),
        start=Start.PARALLEL,
        restart=Restart.TRANSIENT,
        shutdown=Shutdown(ShutdownKind.TIMEOUT, 20.0),
        significant=True,
        base_dir=str(tmp_path),
    )
    assert isinstance(pool, SupervisorSpec)
    assert (pool.strategy, pool.max_children, pool.children) == (Strategy.DYNAMIC, 7, ())
    assert json.loads(pool.template) == {"command": ["true", "{name}"]}


@pytest.mark.parametrize(
    ("written", "field", "value"),
    [
        ("restart = 'temporary'", "restart", Restart.TEMPORARY),
        ("shutdown = '0s'", "shutdown", Shutdown(ShutdownKind.TIMEOUT, 0.0)),
        ("shutdown = 'infinity'", "shutdown", Shutdown(ShutdownKind.INFINITY, 0.0)),
        ("shutdown = 'brutal_kill'", "shutdown", Shutdown(ShutdownKind.BRUTAL_KILL, 0.0)),
        ("watchdog = '30s'", "watchdog_s", 30.0),
        ("stop_signal = 'SIGINT'", "stop_signal", signal.SIGINT),
        ("stop_signal = 'SIGRTMIN+3'", "stop_signal", signal.SIGRTMIN + 3),
        ("normal_exit = [0, 3]", "normal_exit", (0, 3)),
        ("umask = '022'", "umask", 0o22),
        ("umask = '0077'", "umask", 0o77),
        ("nice = -5", "nice", -5),
        ("cwd = '/usr'", "cwd", "/usr"),
        ("env = { A = '{name}', B = '{{x}}', C = '' }", "env", {"A": "w", "B": "{x}", "C": ""}),
        ("env = { A = '{env:HOME}' }", "env", {"A": "/root"}),
        ("stdout = 'null'", "stdout", Output(OutputKind.NULL)),
        ("stdout = '/var/log/x'", "stdout", Output(OutputKind.PATH, "/var/log/x")),
        ("stderr = 'stdout'", "stderr", Output(OutputKind.STDOUT)),
        ("log = { max_size = '1MiB', keep = 0 }", "log", LogRotation(2**20, 0)),
        ("limits = { memory = '1GiB', open_files = 99, processes = 5 }", "limits", Limits(2**30, 99, 5)),
        (
            "limits = { core = 0, cpu = '1m', file_size = 'unlimited' }",
            "limits",
            Limits(core_bytes=0, cpu_s=60, file_size_bytes=-1),
        ),
        ("ready = 'notify'", "ready", Ready(Probe(ReadyKind.NOTIFY))),
        ("ready = { notify = true, timeout = '1m' }", "ready", Ready(Probe(ReadyKind.NOTIFY), 60.0)),
        ("ready = { tcp = 80 }", "ready", Ready(Probe(ReadyKind.TCP, host="127.0.0.1", port=80))),
        ("ready = { tcp = 'localhost:80' }", "ready", Ready(Probe(ReadyKind.TCP, host="127.0.0.1", port=80))),
        ("ready = { tcp = '[::1]:80' }", "ready", Ready(Probe(ReadyKind.TCP, host="::1", port=80))),
        ("ready = { unix = '/x/{name}' }", "ready", Ready(Probe(ReadyKind.UNIX, path="/x/w"))),
        ("ready = { unix = '@abstract' }", "ready", Ready(Probe(ReadyKind.UNIX, path="@abstract"))),
        ("ready = { line = 'x{{2}}$' }", "ready", Ready(Probe(ReadyKind.LINE, pattern="x{2}$"))),
        ("ready = { exec = ['true', 'x'] }", "ready", Ready(Probe(ReadyKind.EXEC, argv=("/usr/bin/true", "x")))),
        (
            "ready = { http = 'http://localhost:8000/health?x=1', timeout = '5s' }",
            "ready",
            Ready(Probe(ReadyKind.HTTP, "127.0.0.1", 8000, "/health?x=1", "localhost:8000"), 5.0),
        ),
        ("ready = { http = 'http://[::1]' }", "ready", Ready(Probe(ReadyKind.HTTP, "::1", 80, "/", "[::1]"))),
        (
            "liveness = { tcp = 6379, every = '7s', timeout = '2s', failures = 4 }",
            "liveness",
            Liveness(Probe(ReadyKind.TCP, host="127.0.0.1", port=6379), 7.0, 2.0, 4),
        ),
        ("command = ['sh', '-c', 'a {{ b }}']", "command", ("sh", "-c", "a { b }")),
        ("command = ['/bin/sh']", "executable", "/bin/sh"),
    ],
)  # fmt: skip
def test_key_of_a_worker(written: str, field: str, value: object, tmp_path: Path) -> None:
    """Each key becomes its field, in seconds, bytes and numbers."""
    keys = written if written.startswith("command") else COMMAND + written
    assert getattr(worker(tmp_path, keys), field) == value


def test_relative_paths(tmp_path: Path) -> None:
    """`cwd` and `env_file` begin in the file's folder; everything else in `cwd`."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "run.sh").touch(0o755)
    (tmp_path / "x.env").write_text("A=1\nB=2\n")
    spec = worker(
        tmp_path,
        "command = ['./run.sh']\ncwd = 'sub'\nenv_file = 'x.env'\nenv = { B = '3' }\nstdout = './out'\n"
        "ready = { file = 'up' }",
    )
    assert spec.cwd == f"{tmp_path}/sub"
    assert spec.executable == f"{tmp_path}/sub/run.sh"
    assert spec.command == ("./run.sh",)
    assert spec.stdout == Output(OutputKind.PATH, f"{tmp_path}/sub/out")
    assert spec.ready.probe.path == f"{tmp_path}/sub/up"
    assert spec.env == {"A": "1", "B": "3"}


def test_program_is_sought_in_the_childs_own_path(tmp_path: Path) -> None:
    """PATH in `env` comes before the daemon's."""
    (tmp_path / "true").touch(0o755)
    assert worker(tmp_path, f"{COMMAND}env = {{ PATH = '{tmp_path}' }}").executable == f"{tmp_path}/true"


def test_replicas(tmp_path: Path) -> None:
    """Replicas get names, indices and their own placeholders, and share a group."""
    text = """
    [supervisor.app]
    children = ["a", "b", "c"]
    [worker.a]
    command = ["true"]
    replicas = 2
    [worker.b]
    command = ["true", "{name}", "{index}"]
    ready = { tcp = "127.0.0.1:808{index}" }
    replicas = 3
    [worker.c]
    command = ["true"]
    replicas = 1
    """
    found = workers(plan(tmp_path, text).root)
    assert list(found) == ["a.0", "a.1", "b.0", "b.1", "b.2", "c.0"]
    assert [(spec.group, spec.index) for spec in found.values()] == [
        ("a", 0), ("a", 1), ("b", 0), ("b", 1), ("b", 2), ("c", 0),
    ]  # fmt: skip
    assert [spec.replicas for spec in found.values()] == [2, 2, 3, 3, 3, 1]
    assert found["b.2"].command == ("true", "b.2", "2")
    assert found["b.1"].ready.probe.port == 8081


def test_problem_of_replicas_is_told_once(tmp_path: Path) -> None:
    """What is wrong with a table is wrong once, not once per replica."""
    text = "[supervisor.app]\nchildren = ['w']\n[worker.w]\ncommand = ['true', '{name}']\nreplicas = 5\nnice = 99\n"
    assert len(problems(tmp_path, text)) == 1


def test_function(tmp_path: Path) -> None:
    """A function's arguments become JSON, its module is found beside the file without being imported."""
    (tmp_path / "mine.py").write_text("raise SystemExit('imported!')\ndef main(a, b=()): ...\n")
    spec = worker(tmp_path, "function = 'mine:main'\nargs = { a = '{name}', b = [1, 2.5, { c = true }] }")
    assert (spec.kind, spec.target, spec.import_path) == (Kind.FUNCTION, "mine:main", str(tmp_path))
    assert json.loads(spec.args_json) == {"a": "w", "b": [1, 2.5, {"c": True}]}
    assert spec.ready.probe.kind is ReadyKind.STARTED


def test_installed_function_needs_no_import_path(tmp_path: Path) -> None:
    """A module that Python finds anyway gets no folder in front of the others."""
    assert worker(tmp_path, "function = 'json:dumps'\nargs = { obj = 1 }").import_path == ""
    assert worker(tmp_path, "function = 'time:time'").import_path == ""
    assert worker(tmp_path, "function = 'json.decoder:JSONDecoder'").import_path == ""


@pytest.mark.parametrize("place", ["cwd", "file", "env", "environ"])
def test_where_modules_are_sought(place: str, tmp_path: Path) -> None:
    """A module may be in `cwd`, beside the file, or in the PYTHONPATH of the worker or the daemon."""
    folder = tmp_path if place == "file" else tmp_path / "there"
    package = folder / "shop" / "parts"
    package.mkdir(parents=True)
    (package / "one.py").write_text("from os import *\n")
    keys = {"cwd": "cwd = 'there'", "env": f"env = {{ PYTHONPATH = '{folder}' }}"}.get(place, "")
    environ = {**ENVIRON, "PYTHONPATH": str(folder)} if place == "environ" else ENVIRON
    spec = worker(tmp_path, f"function = 'shop.parts.one:anything'\n{keys}", environ=environ)
    assert spec.import_path == str(folder)


@pytest.mark.parametrize(
    "text",
    [
        "main = make()\n",
        "def __getattr__(name): ...\n",
        "from other import *\n",
        "from other import main\n",
        "if x:\n    def main(): ...\n",
        "try:\n    import main\nexcept ImportError:\n    main = None\n",
        "main = None\nmain = make()\n",
        "with a as main: ...\n",
        "for main in range(3): ...\n",
        "(main := make())\n",
        "a, main = make()\n",
        "@decorated\ndef main(x, y): ...\n",
        "def main(**anything): ...\n",
        "def main(*anything): ...\n",
        "class main:\n    def __init__(self, x): ...\n",
        "async def main(): ...\n",
        "main: object = make()\n",
    ],
)
def test_what_cannot_be_told_is_accepted(text: str, tmp_path: Path) -> None:
    """Only what is certainly wrong is refused."""
    (tmp_path / "mine.py").write_text(text)
    assert worker(tmp_path, "function = 'mine:main'").target == "mine:main"


def test_agent_is_ready_when_it_says_so(tmp_path: Path) -> None:
    """Agents notify unless told otherwise."""
    (tmp_path / "mine.py").write_text("class Mine(Agent): ...\n")
    spec = worker(tmp_path, "agent = 'mine:Mine'\nargs = { whatever = 1 }")
    assert (spec.kind, spec.ready) == (Kind.AGENT, Ready(Probe(ReadyKind.NOTIFY)))
    assert (spec.target, spec.import_path, spec.args_json) == ("mine:Mine", str(tmp_path), '{"whatever": 1}')


@pytest.mark.parametrize(
    "text",
    [
        "class Mine(Agent):\n    def init(self, a, b=1): ...\n",
        "class Mine(Agent):\n    async def init(self, *, a): ...\n",
        "class Mine(Agent):\n    def init(this, **anything): ...\n",
        "class Mine(Agent):\n    @decorated\n    def init(self): ...\n",
        "class Mine(Agent):\n    def __init__(self): ...\n",
        "class Mine(Base): ...\n",
        "class Mine(metaclass=Made): ...\n",
        "@decorated\nclass Mine: ...\n",
        "from other import Mine\n",
        "Mine = make()\n",
        "class Mine(Agent):\n    if x:\n        def init(self): ...\n",
        "class Mine(Agent):\n    def init(self): ...\n    def init(self, a): ...\n",
    ],
)
def test_agents_that_may_be_right_are_accepted(text: str, tmp_path: Path) -> None:
    """Only an `init` that certainly does not take the arguments is refused."""
    (tmp_path / "mine.py").write_text(text)
    assert worker(tmp_path, "agent = 'mine:Mine'\nargs = { a = 1 }").target == "mine:Mine"


HUB = "[supervisor.app]\n[hub]\n"


@pytest.mark.parametrize(
    ("listen", "endpoint"),
    [
        ("tcp://127.0.0.1:7300", "tcp://127.0.0.1:7300"),
        ("tcp://*:7300", "tcp://0.0.0.0:7300"),
        ("tcp://[::1]:7300", "tcp://[::1]:7300"),
        ("tcp://localhost:7300", "tcp://127.0.0.1:7300"),
    ],
)
def test_hub(listen: str, endpoint: str, tmp_path: Path) -> None:
    """The hub listens at a numeric address for the holders of keys."""
    text = f"{HUB}listen = '{listen}'\nclients = ['laptop', 'b-2', 'laptop']\noperators = ['b-2']\n"
    assert plan(tmp_path, text).hub == HubSpec(endpoint, ("laptop", "b-2"), ("b-2",))


def test_hub_without_clients_elsewhere(tmp_path: Path) -> None:
    """An empty table asks for a hub of this host; without the table there is none to ask for."""
    assert plan(tmp_path, HUB).hub == HubSpec()
    assert plan(tmp_path, "[supervisor.app]\n").hub is None


@pytest.mark.root
def test_user_becomes_numbers(tmp_path: Path) -> None:
    """A user brings uid, gid, groups and home; a group replaces the gid; a number needs no entry but a group."""
    nobody = pwd.getpwnam("nobody")
    credentials = worker(tmp_path, f"{COMMAND}user = 'nobody'").credentials
    assert credentials is not None
    assert (credentials.uid, credentials.gid, credentials.user) == (nobody.pw_uid, nobody.pw_gid, "nobody")
    assert credentials.groups == (nobody.pw_gid,)
    credentials = worker(tmp_path, f"{COMMAND}user = 54321\ngroup = 'daemon'").credentials
    assert credentials is not None
    assert (credentials.uid, credentials.gid, credentials.groups) == (54321, 1, (1,))
    assert [problem.key for problem in problems(
        tmp_path, f"[supervisor.a]\nchildren=['w']\n[worker.w]\n{COMMAND}user = 54321\n"
    )] == ["worker.w.user"]  # fmt: skip


def test_only_root_changes_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without root another user is refused, and one's own changes nothing."""
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    monkeypatch.setattr(os, "getegid", lambda: 1)
    found = problems(tmp_path, f"[supervisor.a]\nchildren=['w']\n[worker.w]\n{COMMAND}user = 'nobody'\n")
    assert [problem.key for problem in found] == ["worker.w.user"]
    assert "runs as root" in found[0].problem
    assert worker(tmp_path, f"{COMMAND}user = 1").credentials is None


def test_access_and_commands(tmp_path: Path) -> None:
    """Names in [access] become numbers; [commands] is taken as it is."""
    text = """
    [access]
    operators = ["group:daemon", "user:nobody", 1000, 1000]
    viewers = ["user:1001", "group:7"]
    [commands]
    allow = ["git"]
    max_parallel = 3
    [supervisor.app]
    """
    found = plan(tmp_path, text)
    nobody = pwd.getpwnam("nobody").pw_uid
    assert (found.access.operator_uids, found.access.operator_gids) == ((nobody, 1000), (1,))
    assert (found.access.viewer_uids, found.access.viewer_gids) == ((1001,), (7,))
    assert found.commands == CommandsSpec(allow=(CommandRule("git", env=("*",)),), max_parallel=3)


def test_daemon_as_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's daemon lives in /run, /var/lib and /var/log, under the file's stem."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    daemon = plan(tmp_path, "[supervisor.app]\n").daemon
    assert (daemon.name, daemon.durability) == ("tree", Durability.SYSTEM)
    assert daemon.run_dir == "/run/regrow/tree"
    assert daemon.state_dir == "/var/lib/regrow/tree"
    assert daemon.log_dir == "/var/log/regrow/tree"


@pytest.mark.parametrize(
    ("environ", "run_dir"),
    [({"XDG_RUNTIME_DIR": "/run/user/9"}, "/run/user/9/regrow/x"), ({}, "/home/me/.regrow/x/run")],
)
def test_daemon_of_a_user(
    environ: dict[str, str], run_dir: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's daemon lives in the runtime directory and at home."""
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    daemon = plan(
        tmp_path, "[daemon]\nname = 'x'\n[supervisor.app]\n", environ={**ENVIRON, "HOME": "/home/me", **environ}
    ).daemon
    assert daemon.run_dir == run_dir
    assert (daemon.state_dir, daemon.log_dir) == ("/home/me/.regrow/x/state", "/home/me/.regrow/x/log")


def test_directories_of_the_daemon(tmp_path: Path) -> None:
    """Directories may use the name and each other; relative ones begin in the file's folder."""
    text = "[daemon]\nname = 'x'\nrun_dir = 'run/{name}'\nlog_dir = '{run_dir}/log'\n[supervisor.app]\n"
    daemon = plan(tmp_path, text).daemon
    assert (daemon.run_dir, daemon.log_dir) == (f"{tmp_path}/run/x", f"{tmp_path}/run/x/log")


def test_several_files(tmp_path: Path) -> None:
    """Later files add tables; paths begin in the folder of the file they stand in."""
    (tmp_path / "more").mkdir()
    first = write(tmp_path, "[daemon]\nname = 'x'\n[supervisor.app]\nchildren = ['w']\n", "a.toml")
    second = write(tmp_path / "more", "[worker.w]\ncommand = ['true']\n", "b.toml")
    found = load([str(first), second], environ=ENVIRON)
    assert found.files == (str(first), str(second))
    assert workers(found.root)["w"].cwd == str(tmp_path / "more")


def test_root_is_chosen(tmp_path: Path) -> None:
    """[daemon] root names the supervisor at the top."""
    text = "[daemon]\nroot = 'b'\n[supervisor.a]\n[supervisor.b]\nchildren = ['a']\nauto_shutdown = 'any_significant'\n"
    root = plan(tmp_path, text).root
    assert (root.name, root.auto_shutdown) == ("b", AutoShutdown.ANY_SIGNIFICANT)


def test_escalate_never_accepts_a_limit_that_cannot_trip(tmp_path: Path) -> None:
    """Who writes `escalate = "never"` knows."""
    text = "[supervisor.a]\nescalate = 'never'\nbackoff = { first = '5s' }\n"
    assert plan(tmp_path, text).root.escalate == "never"


def test_plan_survives_msgpack_and_json(tmp_path: Path) -> None:
    """A plan written and read back is the same plan."""
    found = load([Path(__file__).parents[2] / "examples" / "shop.toml"])
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(found), type=Plan) == found
    assert msgspec.json.decode(msgspec.json.encode(found), type=Plan) == found


def test_linked_file_stands_where_it_leads_to(tmp_path: Path) -> None:
    """Relative paths of a file that is a link begin at the file itself; links among the folders above stay."""
    (tmp_path / "release").mkdir()
    (tmp_path / "current").symlink_to("release")
    file = write(tmp_path / "release", f"[supervisor.app]\nchildren = ['w']\n[worker.w]\n{COMMAND}")
    link = tmp_path / "linked.toml"
    link.symlink_to(tmp_path / "current" / Path(file).name)
    (tmp_path / "again.toml").symlink_to("linked.toml")
    for path in (link, tmp_path / "again.toml"):
        assert load([path], environ=ENVIRON).root.base_dir == str(tmp_path / "current")
    assert load([link], environ=ENVIRON).daemon.name == "linked"
