"""What is different between two plans, and what each difference asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from msgspec.structs import replace
from plans import plans
from trees import plan

from regrow.config import diff as module
from regrow.config.described import words
from regrow.config.diff import Action, PlanDiff, diff, places
from regrow.config.spec import Credentials, Plan, Restart, SupervisorSpec, WorkerSpec

BASE = """
[supervisor.app]
children = ["w", "sub"]
[supervisor.sub]
children = ["x"]
[worker.w]
command = ["tail", "1"]
env = { SECRET = "one" }
limits = { memory = "512MiB" }
[worker.x]
command = ["tail", "1"]
replicas = 2
"""


def between(folder: Path, *edits: tuple[str, str], base: str = BASE) -> PlanDiff:
    """What edits of the text lead to."""
    text = base
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return diff(plan(folder, base), plan(folder, text))


def actions(found: PlanDiff) -> dict[str, str]:
    """The action for each name, in order."""
    return {child.name: str(child.action) for child in found.children}


def whys(found: PlanDiff, name: str) -> list[tuple[str, str, str]]:
    """The keys that differ for one name."""
    (child,) = (child for child in found.children if child.name == name)
    return [(change.key, change.before, change.after) for change in child.why]


@pytest.mark.parametrize(
    ("old", "new", "key", "before", "after"),
    [
        ('limits = { memory = "512MiB" }', 'limits = { memory = "1GiB" }', "limits.memory", "512MiB", "1GiB"),
        ('["tail", "1"]\nenv', '["tail", "2"]\nenv', "command", '["tail","1"]', '["tail","2"]'),
        ('SECRET = "one"', 'SECRET = "two"', "env.SECRET", "a value", "another value"),
        ('SECRET = "one"', "", "env.SECRET", "a value", ""),
        ('SECRET = "one"', 'SECRET = "one", MORE = "x"', "env.MORE", "", "a value"),
        ("[worker.x]", 'watchdog = "5s"\n[worker.x]', "watchdog", "", "5s"),
        ("[worker.x]", 'umask = "077"\n[worker.x]', "umask", "", "077"),
        ("[worker.x]", 'stdout = "null"\n[worker.x]', "stdout", "log", "null"),
        ("[worker.x]", 'cwd = "/usr"\n[worker.x]', "cwd", None, "/usr"),
        ("[worker.x]", "nice = 5\n[worker.x]", "nice", "", "5"),
    ],
)
def test_what_a_process_is_made_of(
    tmp_path: Path, old: str, new: str, key: str, before: str | None, after: str
) -> None:
    """A key that the process knows of: a restart of just that worker, with the values in the file's words."""
    found = between(tmp_path, (old, new))
    assert actions(found) == {"w": "restart"}
    assert whys(found, "w") == [(key, before if before is not None else str(tmp_path), after)]
    assert "one" not in str(found)


@pytest.mark.parametrize(
    ("line", "key", "before", "after"),
    [
        ('restart = "transient"', "restart", "permanent", "transient"),
        ('shutdown = "1m"', "shutdown", "5s", "1m"),
        ('shutdown = "brutal_kill"', "shutdown", "5s", "brutal_kill"),
        ("normal_exit = [0, 3]", "normal_exit", "[0]", "[0,3]"),
        ('stop_signal = "SIGINT"', "stop_signal", "SIGTERM", "SIGINT"),
        ("ready = { tcp = 80 }", "ready", "started within 30s", "tcp 127.0.0.1:80 within 30s"),
        ("liveness = { tcp = 80 }", "liveness", "", "tcp 127.0.0.1:80 every 5s within 1s, 3 failures"),
        ('log = { max_size = "1MiB" }', "log", "max_size = 10MiB, keep = 5", "max_size = 1MiB, keep = 5"),
    ],
)
def test_what_a_supervisor_decides(tmp_path: Path, line: str, key: str, before: str, after: str) -> None:
    """A key of which the process does not know changes in place."""
    found = between(tmp_path, ("[worker.x]", f"{line}\n[worker.x]"))
    assert actions(found) == {"w": "change"}
    assert whys(found, "w") == [(key, before, after)]


def test_more_and_fewer_replicas(tmp_path: Path) -> None:
    """Only the difference is started or stopped; those that stay are told how many they are."""
    more = between(tmp_path, ("replicas = 2", "replicas = 3"))
    assert actions(more) == {"x.0": "change", "x.1": "change", "x.2": "start"}
    assert whys(more, "x.0") == [("replicas", "2", "3")]
    assert actions(between(tmp_path, ("replicas = 2", "replicas = 1"))) == {"x.0": "change", "x.1": "stop"}


def test_a_supervisors_keys(tmp_path: Path) -> None:
    """They change in place, the order of its children too; no process is restarted."""
    found = between(
        tmp_path,
        ('children = ["w", "sub"]', 'children = ["sub", "w"]\nintensity = 7\nstrategy = "one_for_all"'),
        ('children = ["x"]', 'children = ["x"]\nbackoff = { first = "1s" }\nescalate = "never"'),
    )
    assert actions(found) == {"app": "change", "sub": "change"}
    assert ("intensity", "3", "7") in whys(found, "app")
    assert ("children", '["w","sub"]', '["sub","w"]') in whys(found, "app")
    backoff = "first = 1s, factor = 2.0, max = 30s, jitter = 0.1, reset = 1m"
    assert whys(found, "sub") == [("backoff", "", backoff), ("escalate", "on_intensity", "never")]


def test_preload_restarts_its_supervisor(tmp_path: Path) -> None:
    """What is imported before the children are made needs a new supervisor, and so new children."""
    found = between(tmp_path, ('children = ["x"]', 'children = ["x"]\npreload = ["json"]'))
    assert actions(found) == {"sub": "restart", "x.0": "restart", "x.1": "restart"}
    assert [child.because for child in found.children] == ["", "sub", "sub"]


def test_a_move(tmp_path: Path) -> None:
    """Another supervisor is a stop there and a start here, and says from where."""
    found = between(tmp_path, ('["w", "sub"]', '["sub"]'), ('["x"]', '["x", "w"]'))
    (moved,) = found.children
    assert (moved.name, moved.action, moved.left, moved.supervisor) == ("w", Action.MOVE, "app", "sub")


def test_everything_renamed(tmp_path: Path) -> None:
    """A tree of other names is stopped and started, the supervisor at the top included."""
    text = BASE.replace("app", "app2").replace('"w"', '"w2"').replace("worker.w", "worker.w2")
    text = text.replace("sub", "sub2").replace('"x"', '"x2"').replace("worker.x", "worker.x2")
    found = diff(plan(tmp_path, BASE), plan(tmp_path, text))
    started = [child.name for child in found.children if child.action is Action.START]
    stopped = [child.name for child in found.children if child.action is Action.STOP]
    assert started == ["app2", "w2", "sub2", "x2.0", "x2.1"]
    assert stopped == ["app", "w", "sub", "x.0", "x.1"]


def test_another_kind_under_the_same_name(tmp_path: Path) -> None:
    """A command that becomes a function is restarted."""
    found = between(tmp_path, ('command = ["tail", "1"]\nenv', 'function = "time:time"\nenv'))
    assert actions(found) == {"w": "restart"}
    assert ("kind", "command", "function") in whys(found, "w")


def test_to_dynamic_and_back(tmp_path: Path) -> None:
    """A supervisor whose children come at run time begins anew."""
    base = BASE.replace("replicas = 2\n", "")
    edits = ('[supervisor.sub]\nchildren = ["x"]', '[supervisor.sub]\nstrategy = "dynamic"\ntemplate = "x"')
    there = between(tmp_path, edits, base=base)
    assert actions(there) == {"sub": "restart", "x": "stop"}
    back = between(tmp_path, (edits[1], edits[0]), base=base.replace(*edits))
    assert actions(back) == {"sub": "restart", "x": "start"}


def test_other_tables(tmp_path: Path) -> None:
    """Of [access], [hub] and [commands] it is said that they differ."""
    found = between(tmp_path, ("[supervisor.app]", "[access]\noperators = [7]\n[commands]\n[supervisor.app]"))
    assert (found.children, found.tables) == ((), ("access", "commands"))


@pytest.mark.parametrize("key", module.FIXED)
def test_what_holds_for_the_life_of_a_daemon(tmp_path: Path, key: str) -> None:
    """Its name, its directories and the like: refused, with the remedy."""
    before = plan(tmp_path, BASE)
    after = replace(before, daemon=replace(before.daemon, **{key: "other"}))
    found = diff(before, after)
    expected = f"cannot change [daemon] {key} of a running daemon: stop it and start it again"
    if key == "name":
        expected += f', or write name = "{before.daemon.name}" there: a file without a name gives it its own'
    assert found.refused == expected


@given(plans())
def test_equal_plans(a: Plan) -> None:
    """A plan and itself: nothing, and nothing is what is false."""
    assert not diff(a, a)


@given(plans(), plans())
def test_every_name_is_told_once_and_rightly(a: Plan, b: Plan) -> None:
    """Whoever is in one tree only is started or stopped; a pair that differs is named, and one that does not is not."""
    found = diff(a, b)
    old, new = places(a.root), places(b.root)
    told = {child.name: child for child in found.children}
    assert len(told) == len(found.children)
    for name in {*old, *new}:
        child = told.get(name)
        if name not in old or name not in new:
            assert child is not None
            assert child.action is (Action.START if name in new else Action.STOP)
        elif child is None:
            assert old[name].supervisor == new[name].supervisor
            assert _alone(old[name].spec) == _alone(new[name].spec)


@given(plans(), plans())
def test_there_and_back(a: Plan, b: Plan) -> None:
    """Who is started on the way there is stopped on the way back, and keys change back."""
    there = {child.name: child for child in diff(a, b).children}
    back = {child.name: child for child in diff(b, a).children}
    opposite = {Action.START: Action.STOP, Action.STOP: Action.START}
    assert {name: opposite.get(child.action, child.action) for name, child in there.items()} == {
        name: child.action for name, child in back.items()
    }
    for name, child in there.items():
        assert {(c.key, c.before, c.after) for c in child.why if not c.key.startswith("env")} == {
            (c.key, c.after, c.before) for c in back[name].why if not c.key.startswith("env")
        }


def _alone(spec: Any) -> Any:
    """A spec without what is below it."""
    return replace(spec, children=()) if isinstance(spec, SupervisorSpec) else spec


def test_words_of_all_fields() -> None:
    """Every field can be shown, set or not."""
    user = Credentials(7, 8, (), "/home", "web")
    assert words("credentials", user) == "web, group 8"
    for spec in (WorkerSpec("w", "command"), SupervisorSpec("s")):  # type: ignore[arg-type]
        for field in spec.__struct_fields__:
            assert isinstance(words(field, getattr(spec, field)), str)
    assert words("restart", Restart.TRANSIENT) == "transient"


def test_a_socket_at_another_address(tmp_path: Path) -> None:
    """Whoever has it is restarted; its other keys are no business of a process."""
    base = BASE.replace("[worker.x]", 'sockets = ["in"]\n[socket.in]\nunix = "@one"\n[worker.x]')
    moved = between(tmp_path, ("@one", "@two"), base=base)
    assert (actions(moved), moved.tables, moved.again) == ({"w": "restart"}, ("socket.in",), ("w",))
    assert whys(moved, "w") == [("socket.in", "@one", "@two")]
    longer = between(tmp_path, ('unix = "@one"', 'unix = "@one"\nbacklog = 7'), base=base)
    assert (actions(longer), longer.tables) == ({}, ("socket.in",))
