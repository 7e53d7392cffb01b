"""How exactly one incarnation ended: asked for later, at once, and too early."""

from __future__ import annotations

import os
import time

import procs
import pytest
from configs import Config
from farm import FOREVER, Farm, python, shell
from tree import SUP, Tree
from wire import CallError

from regrow.daemon.ends import KEEP_NAMES, KEEP_OF_A_NAME, Ends


def refusal(tree: Tree, **arguments: object) -> CallError:
    """The refusal of an `exit_reason`."""
    return tree.refused("exit_reason", **arguments)


def test_reason_of_the_past(farm: Farm) -> None:
    """While the successor runs, its predecessor's end is told: the last_exit, with the name and the number."""
    first = farm.add("past", under="quick")
    second = farm.crash_until_new("past")
    reason = farm.call("exit_reason", name="past", incarnation=1)
    assert {key: reason[key] for key in ("name", "incarnation", "reason", "signal", "code")} == {
        "name": "past",
        "incarnation": 1,
        "reason": "signal",
        "signal": "SIGKILL",
        "code": None,
    }
    assert reason["at"] == farm.entry("past")["last_exit"]["at"]
    assert first != second == farm.entry("past")["pid"]
    farm.remove("past", under="quick")


def test_what_it_printed_last_is_told(farm: Farm) -> None:
    """Also when the successor runs and the output comes up after the death."""
    code = shell('read line < "$0"; echo farewell; exit 3')
    fifo = farm.directory / "word"
    os.mkfifo(fifo)
    farm.add("teller", [*code, str(fifo)], under="quick")
    fifo.write_text("go\n")
    farm.wait("exited", "teller")
    farm.eventually(lambda: farm.call("exit_reason", name="teller", incarnation=1)["text"], lambda t: "farewell" in t)
    assert farm.call("exit_reason", name="teller", incarnation=1)["code"] == 3
    farm.remove("teller", under="quick")


def test_waits_until_it_is_known(farm: Farm) -> None:
    """Who asks first is answered when it ends."""
    pid = farm.add("future", under="quick")
    wire = farm.connect()
    asked = [wire.send("exit_reason", name="future", incarnation=1, within_s=20) for _ in range(3)]
    assert wire.call("ping")["state"] == "running"
    assert not any(wire.answered(number) for number in asked)
    procs.kill(pid)
    assert [wire.answer(number)["signal"] for number in asked] == ["SIGKILL"] * 3
    wire.close()
    farm.remove("future", under="quick")


def test_asked_at_the_moment_of_death(farm: Farm) -> None:
    """Whoever sees the death by a pidfd, and asks at once, is answered."""
    pid = farm.add("racer", under="quick")
    for incarnation in range(1, 21):
        procs.kill(pid)
        assert procs.wait_dead(pid, 10.0)
        assert farm.call("exit_reason", name="racer", incarnation=incarnation)["signal"] == "SIGKILL"
        farm.wait("ready", "racer", count=incarnation + 1)
        pid = farm.pid("racer")
    assert refusal(farm, name="racer", incarnation=1).code == "not_found"
    assert farm.call("exit_reason", name="racer", incarnation=20 - KEEP_OF_A_NAME + 1)["reason"] == "signal"
    farm.remove("racer", under="quick")


def test_still_running(farm: Farm) -> None:
    """One that does not end within the time: `timeout`; the time is the asker's."""
    began = time.monotonic()
    error = refusal(farm, name="witness", incarnation=1, within_s=0.1)
    assert (error.code, "has not ended within 0.1 s" in error.message) == ("timeout", True)
    assert time.monotonic() - began >= 0.1
    assert refusal(farm, name="witness", incarnation=1, within_s=0).code == "timeout"


def test_never_seen(farm: Farm) -> None:
    """Names and incarnations that nobody has heard of: `not_found`, after the moment a report may take."""
    assert refusal(farm, name="nobody", incarnation=1, within_s=30).code == "not_found"
    assert refusal(farm, name="witness", incarnation=7, within_s=30).code == "not_found"
    assert refusal(farm, name="witness", incarnation=0).code == "not_found"


def test_of_a_child_that_is_no_more(farm: Farm) -> None:
    """A child that was deleted, or temporary, is still known by its ends."""
    farm.add("brief")
    farm.remove("brief")
    assert farm.call("exit_reason", name="brief", incarnation=1)["reason"] == "stopped"
    assert refusal(farm, name="brief", incarnation=2, within_s=0.1).code == "not_found"
    farm.add("once", ["false"], restart="temporary")
    assert farm.call("exit_reason", name="once", incarnation=1)["code"] == 1


def test_of_a_start_that_failed(farm: Farm) -> None:
    """A start that failed has a reason, and one that was not needed was a normal end."""
    farm.refused("start_child", supervisor=SUP, spec={"id": "dud", "command": ["false"], "ready": "notify"})
    assert farm.call("exit_reason", name="dud", incarnation=1)["reason"] == "start_failed"
    command = python("notify('X_REGROW_IGNORE=1')")
    farm.call("start_child", supervisor=SUP, spec={"id": "idle", "command": command, "ready": "notify"})
    reason = farm.call("exit_reason", name="idle", incarnation=1)
    assert (reason["reason"], reason["code"]) == ("exit", 0)


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "witness"},
        {"incarnation": 1},
        {"name": "", "incarnation": 1},
        {"name": 3, "incarnation": 1},
        {"name": "witness", "incarnation": "1"},
        {"name": "witness", "incarnation": True},
        {"name": "witness", "incarnation": 1, "within_s": 31},
        {"name": "witness", "incarnation": 1, "within_s": -1},
        {"name": "witness", "incarnation": 1, "within_s": "soon"},
    ],
)
def test_bad_requests(farm: Farm, arguments: dict[str, object]) -> None:
    """What is no name, no number, no time is refused."""
    assert refusal(farm, **arguments).code == "bad_request"


def test_under_a_dynamic_supervisor_and_a_killed_one(config: Config, tree: Tree) -> None:
    """Children of dynamic supervisors end like others; those of a supervisor that was killed, with it."""
    config.supervisor("top", "pool below")
    config.supervisor("pool", strategy="dynamic", intensity=100)
    config.workers["leaf"] = {"command": FOREVER}
    config.supervisor("below", "leaf")
    tree.grow()
    pid = tree.call("start_child", supervisor="pool", spec={"id": "job", "command": FOREVER})["pid"]
    wire = tree.connect()
    asked = wire.send("exit_reason", name="job", incarnation=1, within_s=20)
    procs.kill(pid)
    assert wire.answer(asked)["signal"] == "SIGKILL"
    asked = wire.send("exit_reason", name="leaf", incarnation=1, within_s=20)
    tree.crash("below")
    reason = wire.answer(asked)
    assert (reason["signal"], "its supervisor below ended" in reason["text"]) == ("SIGKILL", True)
    assert tree.call("exit_reason", name="below", incarnation=1)["signal"] == "SIGKILL"


def test_a_client_that_goes_away(farm: Farm) -> None:
    """Nothing is kept of a wait whose client is gone, once its end has come."""
    pid = farm.add("lonely", under="quick")
    wire = farm.connect()
    wire.send("exit_reason", name="lonely", incarnation=1, within_s=30)
    wire.call("ping")
    wire.close()
    procs.kill(pid)
    farm.wait("ready", "lonely", count=2)
    assert farm.call("exit_reason", name="lonely", incarnation=1)["signal"] == "SIGKILL"
    farm.remove("lonely", under="quick")


def test_ends_are_bounded() -> None:
    """Of each name the last few are kept, and of the names those that ended last."""
    ends = Ends()
    for incarnation in range(1, 10):
        ends.ended("a", incarnation, {"code": incarnation})
    assert [ends.get("a", number) is not None for number in range(1, 10)] == [False] * 5 + [True] * 4
    for number in range(KEEP_NAMES - 1):
        ends.ended(f"n{number}", 1, {})
    assert ends.get("a", 9) == {"code": 9}
    ends.ended("one-more", 1, {})
    assert ends.get("a", 9) is None
    assert ends.get("n0", 1) == {}


def test_ends_tell_each_waiter_once() -> None:
    """Who has given up is not told; the number of waits goes back to none."""
    ends = Ends()
    told: list[str] = []
    for key in ("first", "second", "third"):
        ends.wait(key, "a", 1, lambda end, key=key: told.append(key + end["x"]))  # type: ignore[misc]
    ends.give_up("second", "a", 1)
    ends.give_up("second", "a", 1)
    ends.give_up("nobody", "b", 1)
    assert len(ends) == 2
    ends.ended("a", 2, {"x": "!"})
    ends.ended("a", 1, {"x": "?"})
    ends.ended("a", 1, {"x": "!"})
    assert told == ["first?", "third?"]
    assert len(ends) == 0
