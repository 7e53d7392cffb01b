"""`reexec`: root and supervisors go on in a new program, and nothing below them notices."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import processes
import procs
import pytest
from cli import regrow
from configs import Config
from farm import FOREVER, python, shell
from tree import Tree
from wire import TIMEOUT_S, CallError, Event

from regrow.config.version import VERSION
from regrow.daemon.reexec.carried import FORMAT, Incompatible, decode

REEXEC_S = 60.0
COUNTING = python(
    "import os, select, sys\nn = 0\nnotify('READY=1')\nwhile True:\n"
    "    n += 1\n    os.write(1, b'line %d\\n' % n)\n    select.select([], [], [], 0.001)"
)


def reexec(tree: Tree, **arguments: object) -> dict[str, Any]:
    """Ask for it and wait; what was answered."""
    answer: dict[str, Any] = tree.control.call("reexec", timeout_s=REEXEC_S, **arguments)
    return answer


def shown(tree: Tree) -> list[dict[str, Any]]:
    """What `status` says of everything, regrow's own included."""
    entries: list[dict[str, Any]] = tree.call("status", all=True)
    return entries


def title(pid: int) -> str:
    """What `ps` shows."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().partition(b"\0")[0].decode()


def open_files(pid: int) -> list[str]:
    """What the descriptors of a process are, without the numbers that differ from one to the next."""
    found = []
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{name}").partition(":[")[0])
        except OSError:
            continue
    return sorted(found)


def nested(tree: Tree, config: Config) -> Tree:
    """Three supervisors, one of them with a group strategy, and children of several kinds."""
    config.supervisor("top", "sup mid").supervisor("sup", "a:P b:P")
    config.supervisor("mid", "low c:P", strategy="one_for_all").supervisor("low", "d:P")
    return tree.grow()


def test_nothing_below_changes(tree: Tree, config: Config) -> None:
    """Every pid, incarnation and state is the same, root and supervisors too; who followed is said, parents first."""
    nested(tree, config)
    before, root = shown(tree), tree.call("ping")["pid"]
    answer = reexec(tree)
    assert answer["refused"] == []
    assert answer["supervisors"] == ["regrow.system", "top", "sup", "mid", "low"]
    assert (answer["version"], answer["before"], answer["pid"]) == (VERSION, VERSION, root)
    assert shown(tree) == before
    assert tree.trace("try") == ["try a", "try b", "try d", "try c"]


def test_it_runs_the_new_program(tree: Tree, config: Config) -> None:
    """Root and each supervisor were exec'd, and show themselves to `ps` as before."""
    nested(tree, config)
    pids = [tree.call("ping")["pid"], *tree.pids("top sup mid low").values()]
    before = [title(pid) for pid in pids]
    wrapper = tree.directory / "python"
    wrapper.write_text(f'#!/bin/sh\necho "$3" >> {tree.directory}/ran\nexec {sys.executable} "$@"\n')
    wrapper.chmod(0o755)
    reexec(tree, python=str(wrapper))
    ran = (tree.directory / "ran").read_text().split("\n")
    assert sum("program" in line for line in ran) == len(pids) + 1  # and regrow.system
    assert [title(pid) for pid in pids] == before


def test_deaths_are_handled_after_it(tree: Tree, config: Config) -> None:
    """A child, a supervisor with its children: restarted as ever, with their numbers going on."""
    nested(tree, config)
    reexec(tree)
    tree.crash_until_new("a")
    assert tree.entry("a")["restarts"] == 1
    before = tree.pids("low c d")
    procs.kill(tree.pid("low"))
    tree.wait_new(**before)
    assert [tree.entry(name)["incarnation"] for name in ("low", "c", "d")] == [2, 2, 2]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_orderly_stop_after_it(tree: Tree, config: Config, number: int) -> None:
    """Reverse order, exit 0, no word, and nothing left."""
    nested(tree, config)
    root = reexec(tree)["pid"]
    procs.kill(root, number)
    assert tree.wait_exit() == 0
    assert tree.stops() == "c d b a"
    assert tree.said() == ""
    assert not (tree.run_dir / "control.sock").exists()


def test_a_killed_root_takes_all_with_it(tree: Tree, config: Config) -> None:
    """The death signal holds after the exec as before it."""
    nested(tree, config)
    pids = tree.pids("top sup mid low a b c d")
    procs.kill(reexec(tree)["pid"])
    tree.wait_exit()
    for pid in pids.values():
        assert procs.wait_dead(pid, TIMEOUT_S)
    processes.await_no_children(keep=tree._others)  # orphans of a killed root fall to us


def test_deaths_during_it(tree: Tree, config: Config) -> None:
    """Whoever dies while its supervisor is between two programs is restarted, once."""
    config.supervisor("top", "sup", intensity=1000).supervisor("sup", "a:P b:P c:P d:P", intensity=1000, period="1s")
    tree.grow()
    for round_ in range(4):
        number = tree.control.send("reexec")
        before = tree.pids("a b c d")
        for pid in before.values():
            procs.kill(pid)
        tree.wait_new(**before)
        tree.control.answer(number, REEXEC_S)
        assert [tree.entry(name)["restarts"] for name in "abcd"] == [round_ + 1] * 4
    assert tree.tries("a") == 5


def test_starts_and_stops_under_way_go_on(tree: Tree, config: Config) -> None:
    """A child that is starting becomes ready after it, and one that is being stopped is still waited for."""
    config.supervisor("top", "sup other")
    config.supervisor("sup", "a:P b:P", strategy="rest_for_one", actors={"b": {"stop": "gate", "shutdown": "60s"}})
    config.supervisor("other", "c:P", actors={"c": {"plan": "ready,gate"}})
    tree.grow()
    before = tree.pids("a b c")
    tree.crash("c")
    starting = tree.gate.next()
    tree.crash("a")
    stopping = tree.gate.next()
    assert (starting.question, stopping.question, stopping.name) == ("start", "stop", "b")
    reexec(tree)
    assert (tree.entry("c")["state"], tree.entry("b")["state"]) == ("starting", "stopping")
    starting.release("ready")
    stopping.release("ready")
    tree.wait_new(**before)
    tree.control.send("down")
    tree.gate.next().release("ready")
    assert tree.wait_exit() == 0


def test_timers_go_on(tree: Tree, config: Config) -> None:
    """A start limit and a backoff that run when it happens end when they would have ended."""
    backoff = {"first": "1s", "max": "1s", "jitter": 0.0}
    config.supervisor("top", "sup slow").supervisor("sup", "a:P", backoff=backoff, escalate="never")
    config.supervisor("slow", "b:P", actors={"b": {"plan": "ready,hang,ready"}}, intensity=100)
    config.workers["b"]["ready"] = "notify"
    tree.config.workers["b"] |= {"stop_signal": "SIGTERM"}
    tree.grow()
    pid = tree.crash("a")
    tree.wait("waiting", "a")
    reexec(tree)
    tree.wait_new(a=pid)
    exited, started = tree.wait("exited", "a"), tree.wait("starting", "a", count=2)
    assert started["mono"] - exited["mono"] == pytest.approx(1.0, abs=0.9)


def test_a_start_limit_goes_on(tree: Tree, config: Config) -> None:
    """A child that never becomes ready is killed after it."""
    config.supervisor("top", "sup").supervisor("sup", "a:P", actors={"a": {"plan": "ready,hang,ready"}}, intensity=100)
    config.workers["a"]["ready"] = "notify"
    tree.config.workers["a"]["ready"] = {"file": str(tree.directory / "there"), "timeout": "2s"}
    (tree.directory / "there").touch()
    tree.grow()
    (tree.directory / "there").unlink()
    pid = tree.crash("a")
    tree.wait("starting", "a", count=2)
    reexec(tree)
    assert tree.wait("start_failed", "a")["reason"]["reason"] == "start_timeout"
    (tree.directory / "there").touch()
    tree.wait_new(a=pid)


def test_clients_stay_connected(tree: Tree, config: Config) -> None:
    """The event stream goes on without a gap, and who asked for an end before it is told of that after it."""
    nested(tree, config)
    waiting = tree.connect()
    number = waiting.send("exit_reason", name="a", incarnation=1, within_s=30)
    reexec(tree)
    tree.crash_until_new("a")
    assert waiting.answer(number)["signal"] == "SIGKILL"
    tree.wait("ready", "a", count=2)
    numbers = [event["seq"] for event in tree.stream.events]
    assert numbers == list(range(1, numbers[-1] + 1))
    asked = [event["event"] for event in tree.stream.events if event["event"].startswith("reexec")]
    assert asked == ["reexecuting", "reexecuted"]
    assert "exited" in [event["event"] for event in tree.call("why", name="a")["chain"]]


def test_no_line_is_lost(tree: Tree, config: Config) -> None:
    """A child that prints all the time, over several: its log has every line once, in order."""
    config.workers["teller"] = {"command": COUNTING, "ready": "notify"}
    config.supervisor("top", "teller")
    tree.grow()
    for _ in range(3):
        reexec(tree)
    tree.terminate_child("teller", supervisor="top")
    tree.down()
    lines = (tree.directory / "log" / "teller.log").read_text().splitlines()
    assert lines == [f"line {n}" for n in range(1, len(lines) + 1)]
    assert len(lines) > 100


def test_nothing_piles_up(tree: Tree, config: Config) -> None:
    """After five of them root and supervisors have the descriptors that they had after the first."""
    nested(tree, config)
    reexec(tree)
    pids = [tree.call("ping")["pid"], *tree.pids("top sup mid low").values()]
    before = [open_files(pid) for pid in pids]
    for _ in range(4):
        reexec(tree)
    assert [open_files(pid) for pid in pids] == before


def test_children_of_run_time_stay(tree: Tree, config: Config) -> None:
    """Who came by start_child is still there, under its supervisor, with its spec."""
    config.supervisor("top", "sup dyn").supervisor("sup", "a:P").supervisor("dyn", strategy="dynamic")
    tree.grow()
    tree.start_child("b")
    tree.start_child("x", supervisor="dyn")
    tree.terminate_child("a")
    before = tree.children(), tree.children("dyn"), tree.pids("b x")
    spec = tree.call("get_childspec", supervisor="dyn", child="x")
    reexec(tree)
    assert (tree.children(), tree.children("dyn"), tree.pids("b x")) == before
    assert tree.call("get_childspec", supervisor="dyn", child="x") == spec
    tree.crash_until_new("b")


def test_health_is_watched_after_it(tree: Tree, config: Config) -> None:
    """Watchdog and liveness begin anew, and still end who fails them."""
    alive = tree.directory / "alive"
    alive.touch()
    liveness = {"file": str(alive), "every": "50ms", "failures": 2}
    config.workers["live"] = {"command": FOREVER, "liveness": liveness}
    config.workers["mute"] = {"command": python("import select\nnotify('READY=1')\nselect.select([],[],[])")}
    config.workers["mute"] |= {"ready": "notify", "watchdog": "1500ms"}
    config.supervisor("top", "sup other").supervisor("sup", "live").supervisor("other", "mute", intensity=100)
    tree.grow()
    reexec(tree)
    alive.unlink()
    assert tree.wait("exited", "live")["reason"]["reason"] == "liveness"
    alive.touch()
    assert tree.wait("exited", "mute")["reason"]["reason"] == "watchdog"


def test_python_children_stay(tree: Tree, config: Config) -> None:
    """A function and an agent keep their processes; the agent answers, and its successor is made by the new program."""
    (tree.directory / "work.py").write_text(
        "import select\nfrom regrow.workers import Agent, handler\n\n"
        "def wait():\n    select.select([], [], [])\n\n"
        "class Adder(Agent):\n    @handler\n    def add(self, a: int, b: int) -> int:\n        return a + b\n"
    )
    config.workers["f"] = {"function": "work:wait"}
    config.workers["adder"] = {"agent": "work:Adder"}
    config.supervisor("top", "f adder", preload=["work"])
    tree.grow()
    before = tree.pids("f adder")
    reexec(tree)
    assert tree.pids("f adder") == before
    assert regrow("call", "--run-dir", str(tree.run_dir), "adder", "add", "a=2", "b=3").stdout.strip() == "5"
    tree.crash_until_new("adder")
    assert regrow("call", "--run-dir", str(tree.run_dir), "adder", "add", "a=2", "b=4").stdout.strip() == "6"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/nonexistent/python", "cannot run /nonexistent/python: No such file or directory"),
        ("/bin/false", "/bin/false cannot take over: it ended with status 1"),
        ("/bin/true", "/bin/true cannot take over: it ended with status 0, and without a regrow's answer"),
        ("/bin/echo", "/bin/echo cannot take over: it ended with status 0, and without a regrow's answer"),
        ("python", "absolute path"),
        (7, "absolute path"),
    ],
)
def test_a_program_that_cannot_take_over(tree: Tree, config: Config, path: object, said: str) -> None:
    """It is found out first; the old one goes on, and can be asked again."""
    nested(tree, config)
    before = shown(tree)
    refused = tree.refused("reexec", python=path)
    assert said in refused.message
    assert shown(tree) == before
    assert reexec(tree)["refused"] == []


def test_an_interpreter_that_another_process_runs(tree: Tree, config: Config) -> None:
    """A wrapper without exec would be root in its place, and Python its child, which no supervisor would know."""
    nested(tree, config)
    before = shown(tree)
    wrapper = tree.directory / "python"
    wrapper.write_text(f'#!/bin/sh\n{sys.executable} "$@"\nexit $?\n')
    wrapper.chmod(0o755)
    assert "an exec is missing in it" in tree.refused("reexec", python=str(wrapper)).message
    assert shown(tree) == before
    assert reexec(tree)["refused"] == []


def test_a_program_of_another_format(tree: Tree, config: Config) -> None:
    """What the new program says is what the operator is told; nothing has changed."""
    nested(tree, config)
    wrapper = tree.directory / "python"
    wrapper.write_text('#!/bin/sh\ncat > /dev/null\necho "regrow 9 takes up no state of format 1" >&2\nexit 1\n')
    wrapper.chmod(0o755)
    root = tree.call("ping")["pid"]
    refused = tree.refused("reexec", python=str(wrapper))
    assert refused.code == "start_failed"
    assert "regrow 9 takes up no state of format 1" in refused.message
    assert tree.call("ping")["pid"] == root
    tree.crash_until_new("a")


def test_a_supervisor_whose_new_program_fails(tree: Tree, config: Config) -> None:
    """A supervisor that does not come up is made anew by its parent, with its children, and the others follow."""
    nested(tree, config)
    before = tree.pids("sup a b")
    others = tree.pids("top mid low c d")
    wrapper = tree.directory / "python"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$3" in *program*) [ "$$" = {before["sup"]} ] && exit 70;; esac\nexec {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    answer = reexec(tree, python=str(wrapper))
    assert "sup" not in answer["supervisors"]
    tree.wait_new(**before)
    assert tree.pids("top mid low c d") == others


def test_one_at_a_time(tree: Tree, config: Config) -> None:
    """A second request while one is under way is answered, and the first goes on."""
    nested(tree, config)
    first = tree.control.send("reexec")
    second = tree.connect()
    number = second.send("reexec")
    assert not tree.control.answer(first, REEXEC_S)["refused"]
    with contextlib.suppress(CallError):  # it may also have come when the first was over
        second.answer(number, REEXEC_S)
    tree.wait("reexecuted", "")


def test_it_waits_for_requests_that_are_not_answered(tree: Tree, config: Config) -> None:
    """While a stop takes long, the daemon says what is in the way instead of forgetting who waits."""
    config.supervisor("top", "a:P", actors={"a": {"stop": "gate", "shutdown": "60s"}})
    tree.grow()
    stop = tree.connect()
    number = stop.send("stop", names=["a"])
    held = tree.gate.next()
    refused = tree.refused("reexec")
    assert refused.code == "busy"
    held.release("ready")
    assert stop.answer(number)[0]["result"] == "stopped"
    reexec(tree)


def test_the_service_manager_is_told(tree: Tree, config: Config) -> None:
    """RELOADING=1 before, READY=1 after: nobody takes it for dead."""
    nested(tree, config)
    tree.heard()
    reexec(tree)
    words = [line.partition("=")[0] for notice in tree.heard(until="READY=1") for line in notice.split("\n")]
    assert [word for word in words if word in ("RELOADING", "READY")] == ["RELOADING", "READY"]


def test_the_record_goes_on(tree: Tree, config: Config) -> None:
    """`regrow replay` finds the same decisions before and after it."""
    nested(tree, config)
    tree.crash_until_new("a")
    reexec(tree)
    tree.crash_until_new("b")
    tree.down()
    ran = regrow("replay", str(tree.directory / "log" / "sup.steps.log"))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_from_the_command_line(tree: Tree, config: Config) -> None:
    """`regrow reexec` says what runs now, how many have followed, and how long it took."""
    nested(tree, config)
    ran = regrow("reexec", "--run-dir", str(tree.run_dir))
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"regrow {VERSION} (before: {VERSION}): root and 5 supervisors, ")
    ran = regrow("reexec", "--run-dir", str(tree.run_dir), "--format", "json")
    assert json.loads(ran.stdout)["supervisors"] == ["regrow.system", "top", "sup", "mid", "low"]
    ran = regrow("reexec", "--run-dir", str(tree.run_dir), "--python", "/bin/false")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1


def test_a_shell_child_is_its_supervisors_child_still(tree: Tree, config: Config) -> None:
    """Orphans of a child are found and ended by the new program as by the old."""
    config.workers["w"] = {"command": shell("tail -f /dev/null & exec tail -f /dev/null")}
    config.supervisor("top", "w")
    tree.grow()
    reexec(tree)
    tree.crash_until_new("w")
    events: list[Event] = tree.stream.events
    assert not [event for event in events if event["event"] == "fault"]


def test_unreadable_values() -> None:
    """What has another format, or is damaged, is refused with the versions and the remedy."""
    with pytest.raises(Incompatible, match="cannot read the state"):
        decode(b"\xc1")
    said = rf"takes up state of format {FORMAT}, and that of regrow 9\.9 is of format 7"
    with pytest.raises(Incompatible, match=said):
        decode(msgspec.msgpack.encode({"format": 7, "version": "9.9"}))
