"""What could be lost between two programs: signals, odd environments, descriptors, clients that go, odd imports."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import procs
import pytest
from cli import regrow
from configs import Config
from farm import FOREVER
from tree import Tree
from wire import CallError

from regrow.daemon.core.effects import ArmTimer
from regrow.daemon.linux.identity import Marker
from regrow.daemon.linux.leftovers import Leftovers
from regrow.daemon.loop import Loop
from regrow.daemon.reexec.carried import Incompatible, written
from regrow.daemon.stacks import Stacks
from regrow.daemon.timers import Armed

REEXEC_S = 60.0

NOTED = """
import os, signal, sys
from regrow.daemon.loop import Loop
from regrow.daemon.reexec.execute import become
loop = Loop()
loop.on_signals({signal.SIGTERM: lambda: None, signal.SIGHUP: lambda: None, signal.SIGCHLD: lambda: None})
os.kill(os.getpid(), signal.SIGTERM)
os.kill(os.getpid(), signal.SIGHUP)
failed = become(("/nonexistent",), b"", (), loop.unheard)
assert "No such file" in str(failed), failed
become((sys.executable, "-c", "import signal; print(*sorted(signal.sigpending()))"), b"", (), loop.unheard)
"""


def test_a_signal_that_was_not_handled_yet_goes_with_it() -> None:
    """What Python has noted before an exec waits for the new program; an exec that fails loses it no more."""
    ran = subprocess.run([sys.executable, "-c", NOTED], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == [str(int(signal.SIGHUP)), str(int(signal.SIGTERM))]


def test_an_environment_that_is_no_utf8(tree: Tree, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes through the exec as it is, and to the children that come after it."""
    monkeypatch.setenv("ODD", "a\udcffb")
    config.supervisor("top", "sup").supervisor("sup", "a:P")
    tree.grow()
    tree.control.call("reexec", timeout_s=REEXEC_S)
    new = tree.crash_until_new("a")
    assert b"\0ODD=a\xffb\0" in Path(f"/proc/{new}/environ").read_bytes()


def test_what_cannot_be_written_down_is_refused() -> None:
    """A text without a UTF-8 form ends no supervisor: it is what the operator is told."""
    with pytest.raises(Incompatible, match="cannot write down"):
        written(Armed(ArmTimer("start", "a\udcff", 1, 1.0), 0.0))  # type: ignore[arg-type]


def test_the_descriptors_stay_the_same(tree: Tree, config: Config) -> None:
    """A supervisor has after it exactly what it had before, the images for starting commands aside."""

    def files(pid: int) -> list[str]:
        folder = f"/proc/{pid}/fd"
        found = [os.readlink(f"{folder}/{name}") for name in os.listdir(folder)]
        kinds = (name.partition(":[")[0] for name in found if "regrow-shim" not in name)
        return sorted(kinds)

    config.workers["f"] = {"command": FOREVER}
    config.supervisor("top", "sup mid").supervisor("sup", "a:P f").supervisor("mid", "b:P")
    tree.grow()
    pids = tree.pids("top sup mid")
    before = {name: files(pid) for name, pid in pids.items()}
    tree.control.call("reexec", timeout_s=REEXEC_S)
    assert {name: files(pid) for name, pid in pids.items()} == before


def test_an_answer_for_who_has_gone_goes_to_nobody(tree: Tree, config: Config) -> None:
    """Whoever connects after that, and has its descriptor, gets what he asks for and nothing else."""
    config.supervisor("top", "sup mid").supervisor("sup", "a:P").supervisor("mid", "b:P")
    tree.grow()
    asking = tree.connect()
    asking.send("reexec")
    tree.wait("reexecuting", "")
    asking.close()
    others = [tree.connect() for _ in range(4)]
    numbers = [(other, other.send("ping")) for other in others]
    tree.wait("reexecuted", "")
    assert [other.answer(number)["state"] for other, number in numbers] == ["running"] * 4
    assert [other.call("ping")["state"] for other in others] == ["running"] * 4


def test_a_preload_that_takes_the_signals(tree: Tree, config: Config) -> None:
    """A supervisor hears of deaths and of its stop whatever its modules do when they are imported again."""
    (tree.directory / "meddles.py").write_text(
        "import signal\nsignal.set_wakeup_fd(-1)\n"
        "for number in (signal.SIGCHLD, signal.SIGTERM):\n    signal.signal(number, lambda *_: None)\n"
    )
    config.supervisor("top", "sup").supervisor("sup", "a:P", preload=["meddles"])
    tree.grow()
    tree.control.call("reexec", timeout_s=REEXEC_S)
    tree.crash_until_new("a")
    assert tree.down() == 0


@pytest.mark.parametrize("what", ["raise SystemExit(3)", "raise ValueError('no')", "import nothing_of_that_name"])
def test_a_preload_that_fails_by_now(tree: Tree, config: Config, what: str) -> None:
    """The supervisor goes on without it and says so; its children keep their processes."""
    module = tree.directory / "late.py"
    module.write_text("")
    config.supervisor("top", "sup").supervisor("sup", "a:P", preload=["late"])
    tree.grow()
    before = tree.pids("sup a")
    module.write_text(what + "\n")
    answer = tree.control.call("reexec", timeout_s=REEXEC_S)
    assert answer["refused"] == []
    assert tree.pids("sup a") == before
    assert "cannot preload late" in tree.wait("fault", "sup")["text"]


def test_what_is_known_of_strays_goes_on() -> None:
    """Strangers stay guarded when the last of those that were there has gone, and whose a stray is stays known."""
    left = Leftovers(Marker("a" * 32, "sup", 1), strangers=(77,))
    left.started("w", 1, 501)
    left.below(601, gone=False)
    left.reaped(77)
    left._owners._seen[701] = ("w", 1)
    known = left.carried()
    assert known.guarded
    other = Leftovers(Marker("a" * 32, "sup", 1))
    other.take_up(known)
    other.started("w", 1, 501)
    assert other.carried() == known
    for one in (left, other):
        one.close()


def test_stacks_that_came_before_it_are_told() -> None:
    """What a hanging worker was doing is known of its end, though another program hears of that."""
    loop = Loop()
    reader, writer = os.pipe()
    stacks = Stacks(loop, os.getpid(), reader, "in a deep well")
    assert stacks.text == "in a deep well"
    assert not stacks.ask(lambda: None)
    stacks.close()
    os.close(writer)
    loop.close()


def test_what_a_plan_is_compared_with_stays(tree: Tree, config: Config) -> None:
    """After a reload `regrow plan` still speaks of the processes that run, before a re-execution and after it."""
    config.supervisor("top", "sup").supervisor("sup", "a:P")
    tree.grow()
    config.workers["a"]["nice"] = 3
    tree.reload()
    before = tree.call("plan")
    assert before["changes"]
    tree.control.call("reexec", timeout_s=REEXEC_S)
    assert tree.call("plan") == before


def test_the_record_has_no_gap(tree: Tree, config: Config) -> None:
    """The steps of before and after are in one record, numbered on."""
    config.supervisor("top", "sup").supervisor("sup", "a:P")
    tree.grow()
    for _ in range(2):
        tree.control.call("reexec", timeout_s=REEXEC_S)
        tree.crash_until_new("a")
    tree.down()
    ran = regrow("replay", str(tree.directory / "log" / "sup.steps.log"))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "!" not in ran.stdout


def test_down_while_it_is_under_way(tree: Tree, config: Config) -> None:
    """Whenever the stop comes, it is an orderly one, and whoever has asked for the other is told."""
    config.supervisor("top", "sup mid").supervisor("sup", "a:P").supervisor("mid", "b:P")
    tree.grow()
    tree.control.send("reexec")
    tree.wait("reexecuting", "")
    procs.kill(tree.connect().call("ping")["pid"], signal.SIGTERM)
    assert tree.wait_exit() == 0
    assert tree.stops() == "b a"


def other_version(tree: Tree, version: str = "9.9") -> Path:
    """An interpreter whose regrow says that it is another version, and is this one all the same."""
    wrapper = tree.directory / "python"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$3" in *print*VERSION*) echo {version}; exit;; '
        f'*check*) [ -e {tree.directory}/no ] && exit 3;; esac\nexec {sys.executable} "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


def test_a_hangup_after_an_upgrade(tree: Tree, config: Config) -> None:
    """The daemon goes on in the regrow that is installed now, which applies the files; ready is said at the end."""
    config.supervisor("top", "sup").supervisor("sup", "a:P b:P")
    tree.grow()
    tree.control.call("reexec", timeout_s=REEXEC_S, python=str(other_version(tree)))
    root, before = tree.call("ping")["pid"], tree.pids("top sup a b")
    config.supervisors["sup"]["children"] = ["a"]
    config.workers.pop("b")
    config.write()
    tree.heard()
    procs.kill(root, signal.SIGHUP)
    tree.wait("reexecuted", "", count=2)
    tree.wait("apply_done", "")
    assert tree.pids("top sup a") == {name: before[name] for name in ("top", "sup", "a")}
    told = [line for notice in tree.heard(until="READY=1") for line in notice.split("\n")]
    assert [line.partition("=")[0] for line in told].count("READY") == 1
    assert [event["event"] for event in tree.stream.events if event["event"] in ("reexecuted", "apply_started")] == [
        "reexecuted",
        "reexecuted",
        "apply_started",
    ]


def test_a_hangup_after_an_upgrade_that_cannot_take_over(tree: Tree, config: Config) -> None:
    """That is told, and the files are applied by the regrow that runs."""
    config.supervisor("top", "sup").supervisor("sup", "a:P")
    tree.grow()
    tree.control.call("reexec", timeout_s=REEXEC_S, python=str(other_version(tree)))
    (tree.directory / "no").touch()
    procs.kill(tree.call("ping")["pid"], signal.SIGHUP)
    fault, done = tree.wait("fault", ""), tree.wait("apply_done", "")
    assert "cannot take over: it ended with status 3" in fault["text"]
    assert fault["seq"] < done["seq"]


def test_a_hangup_with_the_same_regrow(tree: Tree, config: Config) -> None:
    """Only applies the files."""
    config.supervisor("top", "sup").supervisor("sup", "a:P")
    tree.grow()
    procs.kill(tree.call("ping")["pid"], signal.SIGHUP)
    tree.wait("apply_done", "")
    assert not [event for event in tree.stream.events if event["event"].startswith("reexec")]


@pytest.mark.parametrize("victim", ["root", "sup", "low"])
def test_a_stop_at_any_moment(tree: Tree, config: Config, victim: str) -> None:
    """SIGTERM to the root, or to a supervisor, somewhere between two programs: an orderly stop, and what follows it."""
    seed = int(os.environ.get("REGROW_STORM_SEED") or time.time_ns() % 1_000_000)
    print(f"REGROW_STORM_SEED={seed}")  # noqa: T201 - pytest shows it with a failure
    config.supervisor("top", "sup mid").supervisor("sup", "a:P").supervisor("mid", "b:P low").supervisor("low", "c:P")
    tree.grow()
    root, before = tree.call("ping")["pid"], tree.pids("sup a low c")
    tree.control.send("reexec")
    tree.wait("reexecuting", "")
    select.select([], [], [], random.Random(seed).uniform(0, 1))
    if victim == "root":
        procs.kill(root, signal.SIGTERM)
        assert tree.wait_exit() == 0
        assert tree.stops() == "c b a"
    else:
        procs.kill(before[victim], signal.SIGTERM)
        tree.wait_new(**{name: before[name] for name in {"sup": ("sup", "a"), "low": ("low", "c")}[victim]})
        assert tree.down() == 0


@pytest.mark.slow
def test_a_supervisor_that_does_not_answer(tree: Tree, config: Config) -> None:
    """One that is still importing what it is to preload is waited for, but not for ever; and nothing has changed."""
    held = tree.directory / "held"
    code = f"import os\nif os.path.exists({str(held)!r}):\n    open({str(held)!r}).read()\n"
    (tree.directory / "slow.py").write_text(code)
    config.supervisor("top", "sup other").supervisor("sup", "a:P", preload=["slow"]).supervisor("other", "b:P")
    tree.grow()
    os.mkfifo(held)
    before = tree.pids("sup a")
    procs.kill(before["sup"])
    tree.wait("starting", "sup", count=2)
    with pytest.raises(CallError, match=r"busy: .* sup has not answered within 15 s"):
        tree.control.call("reexec", timeout_s=REEXEC_S)
    with held.open("w"):
        held.unlink()
    tree.wait_new(**before)
    assert tree.control.call("reexec", timeout_s=REEXEC_S)["refused"] == []


def test_a_stop_while_it_imports_again(tree: Tree, config: Config) -> None:
    """A supervisor whose preload hangs in the new program can be stopped all the same, in order."""
    held = tree.directory / "held"
    code = f"import os\nif os.path.exists({str(held)!r}):\n    open({str(held)!r}).read()\n"
    (tree.directory / "slow.py").write_text(code)
    config.supervisor("top", "sup").supervisor("sup", "a:P b:P", preload=["slow"])
    tree.grow()
    os.mkfifo(held)
    tree.connect().send("reexec")
    with held.open("w"):  # it has been opened by the import, which reads until this is closed
        assert tree.down() == 0
    assert tree.stops() == "b a"
