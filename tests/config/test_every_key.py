"""Each key of the file, changed alone: a comparison sees it, says what differs, and what is to be done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
from trees import plan

from regrow.config import keys
from regrow.config.diff import PlanDiff, diff
from regrow.config.tables import Table

TABLES: dict[str, Table] = {
    "daemon": keys.DAEMON,
    "access": keys.ACCESS,
    "hub": keys.HUB,
    "commands": keys.COMMANDS,
    "socket.s": keys.SOCKET,
    "workflow.f": keys.WORKFLOW,
    "supervisor.sub": keys.SUPERVISOR,
    "worker.w": keys.WORKER,
}

BASE: dict[str, dict[str, str]] = {
    "daemon": {"root": '"app"', "cgroup": '"off"'},
    "access": {"operators": "[1]", "viewers": "[2]"},
    "hub": {"listen": '"tcp://127.0.0.1:7300"', "clients": '["a", "b"]'},
    "commands": {"allow": '["true"]'},
    "socket.s": {"unix": '"/tmp/one.sock"'},
    "workflow.f": {"workflow": '"agents:Flow"'},
    "supervisor.app": {"children": '["sub", "dyn", "f"]'},
    "supervisor.sub": {"children": '["w", "x"]'},
    "supervisor.dyn": {"strategy": '"dynamic"', "template": '"t"'},
    "worker.w": {"command": '["tail", "1"]', "sockets": '["s"]'},
    "worker.x": {"command": '["tail", "1"]'},
    "worker.t": {"command": '["tail", "1"]'},
}

Edit = Mapping[str, str | None]


class To(NamedTuple):
    """Another value, and what else is in the file: in both, and in the second only (None: it is not there)."""

    value: str
    both: Edit = MappingProxyType({})
    after: Edit = MappingProxyType({})
    at: str = ""


AGENT: Edit = {"worker.w.command": None, "worker.w.agent": '"agents:One"'}
TEMPORARY: Edit = {"worker.w.restart": '"temporary"'}
ENDS_ALL: Edit = {"supervisor.app.auto_shutdown": '"any_significant"'}

EDITS: dict[str, dict[str, str | To]] = {
    "daemon": {
        "name": '"other"', "run_dir": '"/tmp/other"', "state_dir": '"/tmp/other"', "log_dir": '"/tmp/other"',
        "durability": '"full"', "cgroup": '"auto"',
        "root": To('"top"', after={"supervisor.top.children": '["sub", "dyn", "f"]', "supervisor.app": None}),
    },
    "access": {"operators": "[1, 3]", "viewers": "[]"},
    "hub": {"listen": '"tcp://127.0.0.1:7301"', "clients": '["b"]', "operators": '["a"]'},
    "commands": {
        "allow": '["true", "false"]', "max_parallel": "9", "queue": "3", "max_timeout": '"2m"',
        "limits": "{ open_files = 99 }", "isolate": '["tmp"]',
    },
    "socket.s": {
        "tcp": To("7301", after={"socket.s.unix": None}), "unix": '"/tmp/two.sock"', "backlog": "9", "mode": '"0600"',
        "user": "1", "group": "1",
    },
    "workflow.f": {
        "workflow": '"agents:Other"', "limit": "3", "keep": '"1d"', "preload": '["json"]', "shutdown": '"9s"',
        "env": '{ A = "1" }', "env_file": '"file.env"', "cwd": '"/"', "user": "1", "group": "1", "umask": '"027"',
        "nice": "3", "limits": "{ open_files = 99 }", "stdout": '"null"', "stderr": '"null"', "log": "{ keep = 9 }",
    },
    "supervisor.sub": {
        "strategy": '"one_for_all"', "intensity": "9", "period": '"9s"', "children": '["x", "w"]',
        "auto_shutdown": To('"any_significant"', TEMPORARY, {"worker.w.significant": "true"}),
        "backoff": '{ first = "10ms" }', "preload": '["json"]', "start": '"parallel"', "escalate": '"never"',
        "restart": '"transient"', "shutdown": '"9s"',
        "significant": To("true", {"supervisor.sub.restart": '"transient"'}, ENDS_ALL),
        "max_children": To("9", at="supervisor.dyn"),
        "template": To('"u"', after={"worker.t": None, "worker.u.command": '["tail", "2"]'}, at="supervisor.dyn"),
    },
    "worker.w": {
        "command": '["tail", "2"]',
        "agent": To('"agents:One"', after={"worker.w.command": None}),
        "function": To('"agents:run"', after={"worker.w.command": None}),
        "args": To("{ n = 1 }", AGENT), "replicas": "2", "standby": To("1", AGENT),
        "restart": '"transient"', "shutdown": '"9s"',
        "significant": To("true", TEMPORARY, {"supervisor.sub.auto_shutdown": '"any_significant"'}),
        "ready": '"notify"', "liveness": "{ tcp = 1 }", "watchdog": '"9s"', "stop_signal": '"SIGINT"',
        "normal_exit": "[0, 3]",
        "env": '{ A = "1" }', "env_file": '"file.env"', "cwd": '"/"', "user": "1", "group": "1", "umask": '"027"',
        "nice": "3", "limits": "{ open_files = 99 }", "stdout": '"null"', "stderr": '"null"', "log": "{ keep = 9 }",
        "sockets": "[]", "update": "{ rolling = 2 }",
    },
}  # fmt: skip
"""For each key another value than that of `BASE`."""

SAID = {
    "daemon root": "start top", "socket.s tcp": "address", "socket.s unix": "address",
    "worker.w replicas": "stop w", "worker.w group": "user", "worker.w env": "env.A", "worker.w env_file": "env.B",
    "worker.w limits": "limits.open_files",
    "workflow.f workflow": "args", "workflow.f limit": "args", "workflow.f keep": "args",
    **{f"workflow.f {key}": "template" for key in keys.WORKFLOW.keys if key in keys.WORKER.keys},
}  # fmt: skip
"""What is told where it is not the key itself: fields that go together, what a table stands for, and children."""

MODULE = """
from regrow.workers import Agent, Workflow

class One(Agent):
    def init(self, n: int = 1) -> None: ...

class Flow(Workflow):
    def run(self) -> None: ...

class Other(Flow): ...

def run(n=1): ...
"""

CASES = [(table, key) for table, known in TABLES.items() for key in known.keys]


def written(tables: dict[str, dict[str, str]]) -> str:
    """As a file."""
    lines = []
    for name, entries in tables.items():
        lines += [f"[{name}]", *(f"{key} = {value}" for key, value in entries.items())]
    return "\n".join(lines) + "\n"


def edited(table: str, key: str) -> tuple[dict[str, dict[str, str]], dict[str, dict[str, str]]]:
    """The file with what the key needs, and the same with another value of the key."""
    edit = EDITS[table][key]
    edit = edit if isinstance(edit, To) else To(edit)
    before, after = ({name: dict(entries) for name, entries in BASE.items()} for _ in range(2))
    for side, edits in ((before, edit.both), (after, edit.both), (after, edit.after)):
        for place, value in edits.items():
            name, _, own = place.rpartition(".")
            if value is not None:
                side.setdefault(name, {})[own] = value
            elif side.pop(place, None) is None:
                del side[name][own]
    after[edit.at or table][key] = edit.value
    return before, after


def told(found: PlanDiff) -> list[str]:
    """What of the file is named: keys, and where there are none what becomes of children."""
    said = [found.refused] if found.refused else []
    for child in found.children:
        said += [change.key for change in child.why] or [f"{child.action} {child.name}"]
    for why in (*(one.why for one in found.settings), *(one.why for one in found.sockets)):
        said += [change.key for change in why]
    return said


def test_all_keys_are_here() -> None:
    """Whoever adds a key says here what an apply makes of it, and in docs/deploy.md."""
    assert {(table, key) for table, edits in EDITS.items() for key in edits} == set(CASES)


@pytest.mark.parametrize(("table", "key"), CASES, ids=[f"[{table}] {key}" for table, key in CASES])
def test_a_change_of_one_key_is_told(tmp_path: Path, table: str, key: str) -> None:
    """By its name; what cannot be changed while the daemon runs is refused, with what to do."""
    (tmp_path / "file.env").write_text("B=1\n")
    (tmp_path / "agents.py").write_text(MODULE)
    before, after = (plan(tmp_path, written(tables)) for tables in edited(table, key))
    found = diff(before, after)
    expected = SAID.get(f"{table} {key}", key)
    if table == "daemon" and key != "root":
        expected = f"cannot change [daemon] {key} of a running daemon: stop it and start it again"
    if (table, key) == ("daemon", "name"):
        expected += ', or write name = "tree" there: a file without a name gives it its own'
    assert expected in told(found), "no comparison tells of it"
