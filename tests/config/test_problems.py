"""Every mistake the contract names: its file, line, key path, what is said, what is hinted, and its code."""

from __future__ import annotations

from pathlib import Path

import pytest
from trees import ENVIRON, problems, write

from regrow.config.errors import ConfigErrors, Problem
from regrow.config.load import load

SUP = '[supervisor.app]\nchildren = ["w"]\n'  # lines 1 and 2
W = f'{SUP}[worker.w]\ncommand = ["true"]\n'  # the worker's further keys begin in line 5

# text, line, key path, part of what is said, part of the hint, code
SHAPE = {
    "unknown table": (f"{W}[deamon]\n", 5, "deamon", "unknown table", "`daemon`", "unknown_key"),
    "unknown key": ('[supervisor.app]\nstratgy = "one_for_all"\n', 2, "supervisor.app.stratgy", "unknown key", "`strategy`", "unknown_key"),
    "unknown worker key": (f"{W}restrat = 1\n", 5, "worker.w.restrat", "unknown key", "`restart`", "unknown_key"),
    "unknown nested key": (f'{W}liveness = {{ tcp = 1,\n evry = "5s" }}\n', 6, "worker.w.liveness.evry", "unknown key", "`every`", "unknown_key"),
    "unknown child": ('[supervisor.app]\nchildren = [\n "w",\n "wbe"]\n[worker.w]\ncommand=["true"]\n[worker.web]\ncommand=["true"]\n',
                      4, "supervisor.app.children[1]", "no worker or supervisor `wbe`", "`web`", "unknown_child"),
    "two parents": (f'[supervisor.top]\nchildren = ["app", "w"]\n{W}', 4, "supervisor.app.children[0]", "already a child of `top`", "", "two_parents"),
    "listed twice": ('[supervisor.app]\nchildren = ["w",\n"w"]\n[worker.w]\ncommand=["true"]\n', 3, "supervisor.app.children[1]", "listed twice", "", "duplicate_child_name"),
    "cycle": (f'{W}[supervisor.a]\nchildren = ["b"]\n[supervisor.b]\nchildren = ["a"]\n', 8, "supervisor.b.children[0]", "b -> a -> b", "", "cycle"),
    "own child": ('[supervisor.a]\nchildren = ["a"]\n', 2, "supervisor.a.children[0]", "a -> a", "", "cycle"),
    "unused worker": (f'{W}[worker.x]\ncommand = ["true"]\n', 5, "worker.x", "nobody's child", "", "unused"),
    "several roots": (f"{W}[supervisor.b]\n", 5, "supervisor.b", "app, b are nobody's children", "", "several_roots"),
    "another root than named": (f'{W}[supervisor.b]\n[daemon]\nroot = "app"\n', 5, "supervisor.b", "not the root", "", "several_roots"),
    "no root": ("", 0, "", "there is no supervisor", "[supervisor.app]", "no_root"),
    "unknown root": (f'{W}[daemon]\nroot = "ap"\n', 6, "daemon.root", "no supervisor `ap`", "`app`", "no_root"),
    "root is a child": (f'{W}[supervisor.top]\nchildren = ["app"]\n[daemon]\nroot = "app"\n', 8, "daemon.root", "child of `top`", "", "no_root"),
    "same name twice": ('[supervisor.app]\nchildren = ["w"]\n[supervisor.w]\n[worker.w]\ncommand=["true"]\n', 4, "worker.w", ":3 is a supervisor of the same name", "", "duplicate_child_name"),
    "name of a replica": (f'{W}replicas = 2\n[worker."w.0"]\ncommand = ["true"]\n', 6, "worker.w.0", "small letters", "a replica of `w`", "duplicate_child_name"),
    "bad name": (f"{W}[supervisor.Big]\n", 5, "supervisor.Big", "small letters", "", "invalid_name"),
    "table is no table": ("worker = 3\n[supervisor.app]\n", 1, "worker", "must be a table of tables", "[worker.NAME]", "invalid_worker"),
    "worker is no table": ("worker.w = 3\n[supervisor.app]\n", 1, "worker.w", "must be a table", "[worker.NAME]", "invalid_w"),
}  # fmt: skip

VALUES = {
    "no kind": (f"{SUP}[worker.w]\ncwd = '/'\n", 3, "worker.w", "says not what to run", "agent, function, command", "missing_start"),
    "two kinds": (f"{W}function = 'json:dumps'\n", 3, "worker.w", "function and command exclude", "", "bad_combination"),
    "args of a command": (f"{W}args = {{ a = 1 }}\n", 5, "worker.w.args", "takes no args", "`command`", "bad_combination"),
    "restart": (f"{W}restart = 'always'\n", 5, "worker.w.restart", "permanent, transient, temporary", "", "invalid_restart_type"),
    "near restart": (f"{W}restart = 'permanant'\n", 5, "worker.w.restart", "must be one of", "`permanent`", "invalid_restart_type"),
    "bare time": (f"{W}shutdown = 5\n", 5, "worker.w.shutdown", "with its unit", '"5s"', "invalid_shutdown"),
    "shutdown word": (f"{W}shutdown = 'brutal-kill'\n", 5, "worker.w.shutdown", '"brutal_kill"', "`brutal_kill`", "invalid_shutdown"),
    "bare size": (f"{W}limits = {{ memory = 512 }}\n", 5, "worker.w.limits.memory", "with its unit", '"512MiB"', "invalid_limits"),
    "decimal size": (f"{W}limits = {{ memory = '5MB' }}\n", 5, "worker.w.limits.memory", "such as", '"5MiB"', "invalid_limits"),
    "replicas": (f"{W}replicas = 0\n", 5, "worker.w.replicas", "from 1 to", "", "invalid_replicas"),
    "too many replicas": (f"{W}replicas = {'9' * 18}\n", 5, "worker.w.replicas", "from 1 to 10000", "", "invalid_replicas"),
    "more than there are numbers": (f"{W}env.A = '{{name}}'\nreplicas = {'9' * 30}\n", 6, "worker.w.replicas", "from 1 to 10000", "", "invalid_replicas"),
    "truth for a number": (f"{W}replicas = true\n", 5, "worker.w.replicas", "whole number, not true", "", "invalid_replicas"),
    "significant": (f"{W}significant = 'yes'\n", 5, "worker.w.significant", "true or false", "", "invalid_significant"),
    "signal": (f"{W}stop_signal = 'SIGTREM'\n", 5, "worker.w.stop_signal", "name of a signal", "`SIGTERM`", "invalid_stop_signal"),
    "short signal": (f"{W}stop_signal = 'int'\n", 5, "worker.w.stop_signal", "name of a signal", "`SIGINT`", "invalid_stop_signal"),
    "signal number": (f"{W}stop_signal = 15\n", 5, "worker.w.stop_signal", "name of a signal", "", "invalid_stop_signal"),
    "SIGKILL": (f"{W}stop_signal = 'SIGKILL'\n", 5, "worker.w.stop_signal", "cannot be a stop signal", "brutal_kill", "invalid_stop_signal"),
    "cpu in parts": (
        f"{W}limits.cpu = '1500ms'\n", 5, "worker.w.limits.cpu", 'whole seconds, not "1500ms"', 'write "2s"', "invalid_limits",
    ),
    "umask number": (f"{W}umask = 22\n", 5, "worker.w.umask", "octal digits", "", "invalid_umask"),
    "umask digits": (f"{W}umask = '089'\n", 5, "worker.w.umask", "octal digits", "", "invalid_umask"),
    "nice": (f"{W}nice = 20\n", 5, "worker.w.nice", "from -20 to 19", "", "invalid_nice"),
    "normal exit": (f"{W}normal_exit = [0, 256]\n", 5, "worker.w.normal_exit[1]", "exit status from 0", "", "invalid_normal_exit"),
    "shutdown as normal": (f"{W}normal_exit = [82]\n", 5, "worker.w.normal_exit[0]", "*shutdown*", "", "bad_combination"),
    "stdout": (f"{W}stdout = 'lgo'\n", 5, "worker.w.stdout", "log, inherit", "`log`", "invalid_stdout"),
    "stdout to stdout": (f"{W}stdout = 'stdout'\n", 5, "worker.w.stdout", "log, inherit", "", "invalid_stdout"),
    "env number": (f"{W}[worker.w.env]\nPORT = 80\n", 6, "worker.w.env.PORT", "must be a string", '"80"', "invalid_env"),
    "env of regrow": (f"{W}env = {{ NOTIFY_SOCKET = 'x' }}\n", 5, "worker.w.env.NOTIFY_SOCKET", "set by regrow", "", "invalid_env"),
    "NUL": (f'{W}env = {{ A = "\\u0000" }}\n', 5, "worker.w.env.A", "NUL", "", "invalid_env"),
    "empty command": (f"{SUP}[worker.w]\ncommand = []\n", 4, "worker.w.command", "must not be empty", "", "invalid_command"),
    "command is a string": (f"{SUP}[worker.w]\ncommand = 'true'\n", 4, "worker.w.command", "must be an array", '["true"]', "invalid_command"),
    "placeholder": (f"{W}cwd = '{{run_dri}}'\n", 5, "worker.w.cwd", "unknown placeholder", "`run_dir`", "invalid_placeholder"),
    "unset variable": (f"{W}cwd = '{{env:NOPE}}'\n", 5, "worker.w.cwd", "NOPE is not set", "", "invalid_placeholder"),
    "index without replicas": (f"{W}cwd = '/{{index}}'\n", 5, "worker.w.cwd", "`replicas`", "", "invalid_placeholder"),
    "date in args": (f"{SUP}[worker.w]\nfunction = 'json:dumps'\nargs = {{ obj = 2020-01-01 }}\n", 5, "worker.w.args.obj", "a date", "string", "invalid_args"),
    "target": (f"{SUP}[worker.w]\nfunction = 'json.dumps'\n", 4, "worker.w.function", "module:callable", "", "invalid_function"),
    "ready word": (f"{W}ready = 'notfy'\n", 5, "worker.w.ready", '"notify" or "started"', "`notify`", "invalid_ready"),
    "ready without kind": (f"{W}ready = {{ timeout = '1s' }}\n", 5, "worker.w.ready", "says not what to look at", "exactly one of", "invalid_ready"),
    "ready with two kinds": (f"{W}ready = {{ tcp = 1, file = 'x' }}\n", 5, "worker.w.ready", "tcp, file exclude", "", "invalid_ready"),
    "ready timeout": (f"{W}ready = {{ tcp = 1, timeout = 5 }}\n", 5, "worker.w.ready.timeout", "with its unit", '"5s"', "invalid_ready"),
    "port": (f"{W}ready = {{ tcp = 70000 }}\n", 5, "worker.w.ready.tcp", "no such port", "", "invalid_ready"),
    "endpoint": (f"{W}ready = {{ tcp = 'a:b:c' }}\n", 5, "worker.w.ready.tcp", "HOST:PORT", "", "invalid_ready"),
    "https": (f"{W}ready = {{ http = 'https://x/' }}\n", 5, "worker.w.ready.http", "https cannot", "", "invalid_ready"),
    "url": (f"{W}ready = {{ http = 'localhost:80' }}\n", 5, "worker.w.ready.http", "http://", "", "invalid_ready"),
    "regex": (f"{W}ready = {{ line = '(' }}\n", 5, "worker.w.ready.line", "not a regular expression", "", "invalid_ready"),
    "long socket": (f"{W}ready = {{ unix = '/{'x' * 200}' }}\n", 5, "worker.w.ready.unix", "at most 107 bytes", "", "invalid_ready"),
    "liveness line": (f"{W}liveness = {{ line = 'x' }}\n", 5, "worker.w.liveness.line", "unknown key", "", "unknown_key"),
    "liveness word": (f"{W}liveness = 'tcp'\n", 5, "worker.w.liveness", "must be a table", "{ tcp", "invalid_liveness"),
    "standby of a command": (f"{W}standby = 1\n", 5, "worker.w.standby", "agents and functions", "", "bad_combination"),
    "standby of a temporary one": ("[supervisor.a]\nchildren = ['w']\n[worker.w]\nfunction = 'time:time'\nrestart = 'temporary'\nstandby = 1\n", 6, "worker.w.standby", "never restarted", "", "bad_combination"),
    "standby of unlike replicas": ("[supervisor.a]\nchildren = ['w']\n[worker.w]\nfunction = 'time:time'\nreplicas = 2\nstdout = './{name}.txt'\nstandby = 1\n", 7, "worker.w.standby", "differ in stdout", "{index}", "bad_combination"),
    "template with standby": ("[supervisor.a]\nstrategy = 'dynamic'\ntemplate = 'w'\n[worker.w]\nfunction = 'time:time'\nstandby = 2\n", 3, "supervisor.a.template", "have no spares", "", "bad_combination"),
    "line unseen": (f"{W}ready = {{ line = 'x' }}\nstdout = 'null'\nstderr = 'stdout'\n", 5, "worker.w.ready.line", '"log"', "", "bad_combination"),
    "strategy": ("[supervisor.a]\nstrategy = 'one_for_al'\n", 2, "supervisor.a.strategy", "one_for_one", "`one_for_all`", "invalid_strategy"),
    "intensity": ("[supervisor.a]\nintensity = -1\n", 2, "supervisor.a.intensity", "from 0", "", "invalid_intensity"),
    "period": ("[supervisor.a]\nperiod = 5\n", 2, "supervisor.a.period", "unit", '"5s"', "invalid_period"),
    "no period": ("[supervisor.a]\nperiod = '0s'\n", 2, "supervisor.a.period", "more than nothing", "", "invalid_period"),
    "auto_shutdown": ("[supervisor.a]\nauto_shutdown = 'any'\n", 2, "supervisor.a.auto_shutdown", "never", "", "invalid_auto_shutdown"),
    "daemon name": (f"{W}[daemon]\nname = 'a b'\n", 6, "daemon.name", "must be a name", "", "invalid_name"),
    "long run_dir": (f"{W}[daemon]\nrun_dir = '/{'x' * 100}'\n", 6, "daemon.run_dir", "at most 94 bytes", "", "invalid_run_dir"),
    "durability": (f"{W}[daemon]\ndurability = 'none'\n", 6, "daemon.durability", "process, system, full", "", "invalid_durability"),
    "access": (f"{W}[access]\noperators = ['groop:x']\n", 6, "access.operators[0]", '"group:NAME"', "`group`", "invalid_operators"),
    "hub for nobody": (f"{W}[hub]\nlisten = 'tcp://127.0.0.1:7300'\n", 6, "hub.listen", "nobody could connect", "clients", "bad_combination"),
    "hub for an empty list": (f"{W}[hub]\nlisten = 'tcp://127.0.0.1:7300'\nclients = []\n", 6, "hub.listen", "nobody could connect", "clients", "bad_combination"),
    "hub without a place": (f"{W}[hub]\nclients = ['laptop']\n", 6, "hub.clients", "nowhere to connect", "listen", "bad_combination"),
    "hub endpoint": (f"{W}[hub]\nclients = ['laptop']\nlisten = '127.0.0.1:7300'\n", 7, "hub.listen", "tcp://0.0.0.0:7300", "", "invalid_listen"),
    "hub port": (f"{W}[hub]\nclients = ['laptop']\nlisten = 'tcp://127.0.0.1:70000'\n", 7, "hub.listen", "tcp://0.0.0.0:7300", "", "invalid_listen"),
    "hub socket": (f"{W}[hub]\nclients = ['laptop']\nlisten = 'ipc:///tmp/x'\n", 7, "hub.listen", "must be an endpoint", "", "invalid_listen"),
    "client with a path": (f"{W}[hub]\nlisten = 'tcp://*:1'\nclients = ['../x']\n", 7, "hub.clients[0]", "the name of a key", "", "invalid_clients"),
    "operator that is no client": (f"{W}[hub]\nlisten = 'tcp://*:1'\nclients = ['laptop']\noperators = ['laptp']\n", 8, "hub.operators[0]", "none of the `clients`", "`laptop`", "invalid_operators"),
    "unknown hub key": (f"{W}[hub]\nlisen = 'tcp://*:1'\n", 6, "hub.lisen", "unknown key", "`listen`", "unknown_key"),
    "max_parallel": (f"{W}[commands]\nmax_parallel = 0\n", 6, "commands.max_parallel", "from 1", "", "invalid_max_parallel"),
}  # fmt: skip

SIGNIFICANT = "auto_shutdown = 'any_significant'\n[worker.w]\ncommand = ['true']\nsignificant = true\n"
COMBINATIONS = {
    "S12": (f"{SUP}{SIGNIFICANT}", 6, "worker.w.significant", "cannot be permanent", "transient", "bad_combination"),
    "S13": (f"{W}significant = true\nrestart = 'transient'\n", 5, "worker.w.significant", 'auto_shutdown = "never"', "", "bad_combination"),
    "S13 before S12": (f"{W}significant = true\n", 5, "worker.w.significant", 'auto_shutdown = "never"', "", "bad_combination"),
    "S13 for a supervisor": ("[supervisor.a]\nchildren = ['b']\n[supervisor.b]\nsignificant = true\n", 4, "supervisor.b.significant", "never", "", "bad_combination"),
    "S25": ("[supervisor.a]\nstrategy = 'dynamic'\nauto_shutdown = 'any_significant'\n", 3, "supervisor.a.auto_shutdown", "dynamic", "", "bad_combination"),
    "S128": ("[supervisor.a]\nstrategy = 'dynamic'\ntemplate = 'w'\n[worker.w]\ncommand = ['true']\nsignificant = true\n", 6, "worker.w.significant", "dynamic", "", "invalid_significant"),
    "significant root": ("[supervisor.a]\nsignificant = true\n", 2, "supervisor.a.significant", "root", "", "bad_combination"),
    "dynamic children": ("[supervisor.a]\nstrategy = 'dynamic'\nchildren = []\n", 3, "supervisor.a.children", "start_child", "`template`", "bad_combination"),
    "static max_children": ("[supervisor.a]\nmax_children = 3\n", 2, "supervisor.a.max_children", "dynamic supervisors only", "dynamic", "bad_combination"),
    "static template": (f"{W}[supervisor.b]\ntemplate = 'w'\n[supervisor.c]\nchildren = ['app', 'b']\n", 6, "supervisor.b.template", "dynamic supervisors only", "", "bad_combination"),
    "unknown template": ("[supervisor.a]\nstrategy = 'dynamic'\ntemplate = 'x'\n", 3, "supervisor.a.template", "no worker `x`", "", "unknown_child"),
    "template with replicas": ("[supervisor.a]\nstrategy = 'dynamic'\ntemplate = 'w'\n[worker.w]\ncommand = ['true']\nreplicas = 2\n", 3, "supervisor.a.template", "replicas", "", "bad_combination"),
    "parallel": ("[supervisor.a]\nstart = 'parallel'\nstrategy = 'rest_for_one'\n", 2, "supervisor.a.start", "one_for_one only", "", "bad_combination"),
    "cannot trip": ("[supervisor.a]\nintensity = 5\nbackoff = { first = '500ms' }\n", 2, "supervisor.a.intensity", "5 restarts in 5s can never happen", 'escalate = "never"', "cannot_trip"),
    "cannot trip by default": ("[supervisor.a]\n\nbackoff = { first = '5s' }\n", 3, "supervisor.a.backoff", "3 restarts in 5s", "", "cannot_trip"),
    "first above max": ("[supervisor.a]\nbackoff = { first = '5s', max = '1s' }\n", 2, "supervisor.a.backoff", "5s, is above the longest, 1s", "", "bad_combination"),
    "factor": ("[supervisor.a]\nbackoff = { factor = 0.5 }\n", 2, "supervisor.a.backoff.factor", "from 1 to", "", "invalid_backoff"),
}  # fmt: skip

HOST = {
    "program": (f"{SUP}[worker.w]\ncommand = ['no-such-program-x']\n", 4, "worker.w.command[0]", "no program no-such-program-x in PATH", "", "invalid_command"),
    "program path": (f"{SUP}[worker.w]\ncommand = ['/no/such']\n", 4, "worker.w.command[0]", "there is no /no/such", "", "invalid_command"),
    "directory as program": (f"{SUP}[worker.w]\ncommand = ['/usr']\n", 4, "worker.w.command[0]", "/usr is a directory", "", "invalid_command"),
    "not executable": (f"{SUP}[worker.w]\ncommand = ['./tree.toml']\n", 4, "worker.w.command[0]", "is not executable", "", "invalid_command"),
    "without ./": (f"{SUP}[worker.w]\ncommand = ['here.sh']\n", 4, "worker.w.command[0]", "in PATH", '"./here.sh"', "invalid_command"),
    "probe program": (f"{W}ready = {{ exec = ['no-such-program-x'] }}\n", 5, "worker.w.ready.exec[0]", "no program", "", "invalid_ready"),
    "user": (f"{W}user = 'no-such-user-x'\n", 5, "worker.w.user", "no user no-such-user-x", "", "invalid_user"),
    "near user": (f"{W}user = 'nobdy'\n", 5, "worker.w.user", "no user nobdy", "`nobody`", "invalid_user"),
    "group": (f"{W}group = 'no-such-group-x'\n", 5, "worker.w.group", "no group no-such-group-x", "", "invalid_group"),
    "operators": (f"{W}[access]\nviewers = ['user:no-such-user-x']\n", 6, "access.viewers[0]", "no user", "", "invalid_viewers"),
    "cwd": (f"{W}cwd = '/no/such'\n", 5, "worker.w.cwd", "no directory /no/such", "", "invalid_cwd"),
    "cwd is a file": (f"{W}cwd = 'tree.toml'\n", 5, "worker.w.cwd", "is not a directory", "", "invalid_cwd"),
    "env_file": (f"{W}env_file = 'no.env'\n", 5, "worker.w.env_file", "cannot read", "", "invalid_env_file"),
    "env_file device": (f"{W}env_file = '/dev/zero'\n", 5, "worker.w.env_file", "not a regular file", "", "invalid_env_file"),
    "module": (f"{SUP}[worker.w]\nfunction = 'no_such_module_x:f'\n", 4, "worker.w.function", "no module no_such_module_x", "", "invalid_function"),
    "near module": (f"{SUP}[worker.w]\nfunction = 'mymodul:f'\n", 4, "worker.w.function", "no module mymodul", "`mymodule`", "invalid_function"),
    "submodule": (f"{SUP}[worker.w]\nfunction = 'json.decodr:f'\n", 4, "worker.w.function", "json has no decodr", "`decoder`", "invalid_function"),
    "callable": (f"{SUP}[worker.w]\nfunction = 'mymodule:mian'\n", 4, "worker.w.function", "has no mian", "`main`", "invalid_function"),
    "constant": (f"{SUP}[worker.w]\nfunction = 'mymodule:LIMIT'\n", 4, "worker.w.function", "not callable", "", "invalid_function"),
    "argument": (f"{SUP}[worker.w]\nfunction = 'mymodule:main'\nargs = {{ prot = 1 }}\n", 4, "worker.w.function", "no argument `prot`", "`port`", "invalid_function"),
    "missing argument": (f"{SUP}[worker.w]\nfunction = 'mymodule:main'\n", 4, "worker.w.function", "needs the argument `port`", "args", "invalid_function"),
    "broken module": (f"{SUP}[worker.w]\nfunction = 'broken:main'\n", 4, "worker.w.function", "broken.py:2:", "", "invalid_function"),
    "agent": (f"{SUP}[worker.w]\nagent = 'mymodule:Agnt'\n", 4, "worker.w.agent", "has no Agnt", "", "invalid_agent"),
    "function as agent": (f"{SUP}[worker.w]\nagent = 'mymodule:main'\n", 4, "worker.w.agent", "not a class", "class main(Agent)", "invalid_agent"),
    "constant as agent": (f"{SUP}[worker.w]\nagent = 'mymodule:LIMIT'\n", 4, "worker.w.agent", "not a class", "", "invalid_agent"),
    "class as agent": (f"{SUP}[worker.w]\nagent = 'mymodule:Main'\n", 4, "worker.w.agent", "not an agent", "class Main(Agent)", "invalid_agent"),
    "argument of init": (f"{SUP}[worker.w]\nagent = 'mymodule:Pricer'\nargs = {{ curency = 'EUR' }}\n", 4, "worker.w.agent", "Pricer.init takes no argument `curency`", "`currency`", "invalid_agent"),
    "missing argument of init": (f"{SUP}[worker.w]\nagent = 'mymodule:Pricer'\n", 4, "worker.w.agent", "Pricer.init needs the argument `currency`", "args", "invalid_agent"),
    "self as argument of init": (f"{SUP}[worker.w]\nagent = 'mymodule:Pricer'\nargs = {{ currency = 'EUR', self = 1 }}\n", 4, "worker.w.agent", "takes no argument `self`", "", "invalid_agent"),
    "preload": ("[supervisor.a]\npreload = ['json', 'no_such_module_x']\n", 2, "supervisor.a.preload[1]", "no module", "", "invalid_preload"),
    "host": (f"{W}ready = {{ tcp = 'no-such-host.invalid:1' }}\n", 5, "worker.w.ready.tcp", "cannot resolve", "numeric", "invalid_ready"),
}  # fmt: skip

MODULE = (
    "LIMIT = 3\n\ndef main(port, *, host='x'):\n    raise SystemExit(port)\n\nclass Main:\n    pass\n"
    "class Pricer(Agent):\n    def init(self, currency, *, digits=2): ...\n"
)


def only(folder: Path, text: str) -> Problem:
    """Return the one thing that is wrong, and check that it names the file."""
    found = problems(folder, text)
    assert len(found) == 1, "\n".join(map(str, found))
    assert found[0].file == str(folder / "tree.toml")
    return found[0]


@pytest.mark.parametrize(
    ("text", "line", "key", "said", "hint", "code"),
    [pytest.param(*case, id=name) for table in (SHAPE, VALUES, COMBINATIONS, HOST) for name, case in table.items()],
)
def test_problem(text: str, line: int, key: str, said: str, hint: str, code: str, tmp_path: Path) -> None:
    """Each mistake is found alone, at its line and key, with its words, its hint and its code."""
    (tmp_path / "mymodule.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import os\ndef main(:\n")
    (tmp_path / "here.sh").touch(0o755)
    problem = only(tmp_path, text)
    assert (problem.line, problem.key, problem.code) == (line, key, code)
    assert said in problem.problem
    assert hint in problem.hint


@pytest.mark.parametrize("name", HOST)
def test_host_is_not_asked_without_check_system(name: str, tmp_path: Path) -> None:
    """`check_system=False` finds nothing wrong with a file that only asks for what this host lacks."""
    assert problems(tmp_path, HOST[name][0], check_system=False) == ()


def test_all_problems_at_once(tmp_path: Path) -> None:
    """Problems of every kind and table come together, in the order of their lines, each once."""
    text = "\n".join(
        [
            "[supervisor.app]",
            "stratgy = 'x'",
            "children = ['w', 'v', 'gone']",
            "[worker.w]",
            "shutdown = 5",
            "[worker.v]",
            "command = ['no-such-program-x']",
            "replicas = 3",
            "user = 'no-such-user-x'",
            "[daemon]",
            "nam = 'x'",
        ]
    )
    found = problems(tmp_path, text)
    assert [problem.line for problem in found] == [2, 3, 4, 5, 7, 9, 11]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("a = 1\nb = = 2\n", 2, "column 5"),
        ("[a]\nb = 1\nb = 2\n", 3, "column"),
        ("[a\n", 1, "not valid TOML"),
        ('a = """x\n\n', 3, "end of the file"),
        ("a = " + "[" * 5000 + "]" * 5000, 1, "nested"),
        ("a = " + "1" * 5000, 1, "not valid TOML"),
    ],
)
def test_syntax_error_has_its_line(text: str, line: int, said: str, tmp_path: Path) -> None:
    """What is no TOML is refused with line and column."""
    problem = only(tmp_path, text)
    assert (problem.line, problem.code) == (line, "syntax")
    assert said in problem.problem


def test_file_that_is_not_utf8(tmp_path: Path) -> None:
    """A file in another encoding is refused at the line of its first wrong byte."""
    (tmp_path / "tree.toml").write_bytes(b"a = 1\n# caf\xe9\n")
    with pytest.raises(ConfigErrors) as caught:
        load([tmp_path / "tree.toml"])
    assert [(problem.line, problem.code) for problem in caught.value.problems] == [(2, "syntax")]


@pytest.mark.parametrize("path", ["/no/such.toml", "/", "/proc/self/mem"])
def test_file_that_cannot_be_read(path: str) -> None:
    """A file that is missing, a directory or unreadable is one problem, not a crash."""
    with pytest.raises(ConfigErrors) as caught:
        load([path])
    assert [(problem.file, problem.code) for problem in caught.value.problems] == [(path, "unreadable")]


def test_no_file() -> None:
    """No file at all is a problem as well."""
    with pytest.raises(ConfigErrors, match="no file"):
        load([])


def test_later_file_may_only_add_tables(tmp_path: Path) -> None:
    """A table that two files have is refused at the second, which names the first."""
    first = write(tmp_path, f"{SUP}[worker.w]\ncommand = ['true']\n[daemon]\nname = 'x'\n", "a.toml")
    second = write(tmp_path, "[daemon]\nname = 'y'\n\n[worker.w]\ncommand = ['true']\n", "b.toml")
    with pytest.raises(ConfigErrors) as caught:
        load([first, second], environ=ENVIRON)
    assert [(problem.file, problem.line, problem.key) for problem in caught.value.problems] == [
        (str(second), 1, "daemon"),
        (str(second), 4, "worker.w"),
    ]
    assert "a.toml:3" in caught.value.problems[1].problem


def test_problem_reads_as_one_line() -> None:
    """A problem is printed as file:line: key: what is wrong (hint)."""
    assert str(Problem("a.toml", 3, "worker.w", "is wrong", "write it")) == "a.toml:3: worker.w: is wrong (write it)"


def test_env_file_problems_have_their_own_lines(tmp_path: Path) -> None:
    """What is wrong in an env_file is reported at the env_file's line."""
    (tmp_path / "x.env").write_text("A=1\nnonsense\nB='open\nREGROW_X=1\n")
    found = problems(tmp_path, f"{W}env_file = 'x.env'\n")
    assert [(problem.file, problem.line) for problem in found] == [(str(tmp_path / "x.env"), line) for line in (2, 3, 4)]


@pytest.mark.parametrize("key", ["run_dir", "state_dir", "log_dir"])
@pytest.mark.parametrize("below", ["", "/a/b"])
@pytest.mark.parametrize("has_agents", [False, True])
def test_a_file_in_the_way_of_a_directory(tmp_path: Path, key: str, below: str, has_agents: bool) -> None:
    """Of run_dir, and where there are agents of state_dir: without them `up` fails. It does not without log files."""
    (tmp_path / "file").write_text("")
    kind = 'agent = "workers:Idle"' if has_agents else 'command = ["true"]'
    (tmp_path / "workers.py").write_text("from regrow.workers import Agent\n\n\nclass Idle(Agent):\n    pass\n")
    text = f'[daemon]\n{key} = "{tmp_path}/file{below}"\n{SUP}[worker.w]\n{kind}\n'
    found = problems(tmp_path, text)
    if key == "log_dir" or (key == "state_dir" and not has_agents):
        assert found == ()
        return
    (one,) = found
    assert (one.line, one.key) == (2, f"daemon.{key}")
    assert one.problem == (
        f"{tmp_path}/file{below} cannot be made: {tmp_path}/file is not a directory"
        if below
        else f"{tmp_path}/file is not a directory"
    )
