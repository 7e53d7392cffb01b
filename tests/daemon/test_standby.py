"""Spares: who is the successor of a death, and what becomes of those who wait for one."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Iterator
from pathlib import Path

import processes
import procs
import pytest
from configs import Config
from harness import REGROW
from spares import MODULE, Garden, dead
from tree import SUP
from wire import TIMEOUT_S, CallError

from regrow.ipc import Client


@pytest.fixture
def garden(directory: Path, config: Config) -> Iterator[Garden]:
    """A garden that is not planted yet; it leaves nothing behind."""
    garden = Garden(directory, config)
    yield garden
    garden.finish()


def test_a_spare_is_the_successor(garden: Garden) -> None:
    """Of a killed function; it counts as a restart, `why` tells it, and another one stands by afterwards."""
    garden.plant("worker")
    spare = garden.stands("worker")
    assert garden.standby("worker") == {"wanted": 1, "ready": 1, "pids": [spare], "failure": ""}
    assert garden.crash_until_new("worker") == spare
    entry = garden.entry("worker")
    assert (entry["incarnation"], entry["restarts"]) == (2, 1)
    assert garden.wait("starting", "worker", count=2)["standby"] is True
    assert f"worker was taken over by a spare (incarnation 2, pid {spare})" in garden.why("worker")
    assert garden.stands("worker", 2) not in (spare, entry["pid"])


def test_an_agent_from_a_spare(garden: Garden) -> None:
    """It has its name, its mailbox and its arguments, and answers."""
    garden.plant("worker", agent="spares_module:Worker", args={"word": "hello"})
    spare = garden.stands("worker")
    assert garden.crash_until_new("worker") == spare
    with Client(str(garden.run_dir)) as client:
        assert client.call("worker", "who") == ["worker", "hello", str(spare)]
    assert Path(f"/proc/{spare}/cmdline").read_bytes().startswith(b"regrow: worker spares_module:Worker")


def test_replicas_share_their_spares(garden: Garden) -> None:
    """A spare becomes whichever of them died; what they do not have alike is nobody's while the module is imported."""
    garden.plant("worker", replicas=2, env={"ALIKE": "yes", "OWN": "{name}"})
    first = garden.stands("worker.0")
    assert garden.crash_until_new("worker.1") == first
    told = garden.told("worker.1")[:4]
    assert told == ["1", "- yes -", "worker.1 2 1 yes worker.1", "worker.1"]
    second = garden.stands("worker.0", 2)
    assert garden.crash_until_new("worker.0") == second
    assert garden.told("worker.0")[2:4] == ["worker.0 2 0 yes worker.0", "worker.0"]


def test_a_killed_spare_is_replaced(garden: Garden) -> None:
    """With a word about it; nobody else notices."""
    garden.plant("worker")
    procs.kill(garden.stands("worker"))
    failed = garden.wait("standby_failed", "worker")
    assert "it ended while it stood by: SIGKILL" in failed["text"]
    garden.takes_over("worker", 2)


def test_a_module_that_cannot_be_imported_any_more(garden: Garden) -> None:
    """Is told with its traceback, and tried again; a death is answered as if there were no spares."""
    garden.plant("worker", standby=1)
    spare = garden.stands("worker")
    broken = garden.wish("broken")
    procs.kill(spare)
    failed = garden.wait("standby_failed", "worker", count=2)
    assert "Traceback" in failed["text"]
    assert "RuntimeError: no such luck" in failed["text"]
    assert garden.standby("worker")["failure"] == "RuntimeError: no such luck"
    pid = garden.crash_until_new("worker")
    assert "standby" not in garden.wait("starting", "worker", count=2)
    broken.unlink()
    assert garden.stands("worker", 2) != pid
    assert garden.standby("worker")["failure"] == ""


def test_a_death_while_the_spare_imports(garden: Garden) -> None:
    """It is not waited for."""
    held = garden.directory / "held"
    os.mkfifo(held)
    garden.plant("worker")
    with held.open("w"):
        pid = garden.crash_until_new("worker")
        assert "standby" not in garden.wait("starting", "worker", count=2)
    held.unlink()
    assert garden.stands("worker") != pid


def test_a_stopped_spare_holds_up_nobody(garden: Garden) -> None:
    """It has a moment to answer; then it is killed, and the successor is made."""
    garden.plant("worker")
    spare = garden.stands("worker")
    procs.freeze(spare, TIMEOUT_S)
    assert garden.crash_until_new("worker") != spare
    assert "it has not taken over within" in garden.wait("standby_failed", "worker")["text"]
    assert dead(spare)
    assert garden.entry("worker")["restarts"] == 1


def test_stopped_while_a_spare_has_yet_to_answer(garden: Garden) -> None:
    """The child is stopped all the same, and nobody has the name."""
    garden.plant("worker")
    spare = garden.stands("worker")
    procs.freeze(spare, TIMEOUT_S)
    garden.crash("worker")
    garden.wait("exited", "worker")
    assert garden.call("stop", names=["worker"])[0]["result"] == "stopped"
    assert dead(spare)
    entry = garden.entry("worker")
    assert (entry["state"], entry["pid"]) == ("stopped", None)


def test_kills_faster_than_spares_are_made(garden: Garden) -> None:
    """Each death has one successor, from a spare or not."""
    garden.plant("worker", supervisor={"intensity": 1000})
    garden.stands("worker")
    before = garden.pid("worker")
    for _ in range(20):
        procs.kill(before)
        before = garden.wait_new(worker=before)["worker"]
    entry = garden.entry("worker")
    assert (entry["incarnation"], entry["restarts"]) == (21, 20)
    garden.until(lambda: garden.log("worker"), lambda log: log.count("serving") == 21)


def test_intensity_counts_spares_too(garden: Garden) -> None:
    """More restarts than allowed end the supervisor, whoever the successors were."""
    garden.config.supervisor("top", SUP, intensity=10, period="10s")
    garden.plant("worker", supervisor={"intensity": 1, "period": "60s"})
    garden.stands("worker")
    garden.takes_over("worker")
    garden.stands("worker", 2)
    garden.crash("worker")
    garden.wait_ended(SUP)
    spare = garden.stands("worker", 3)
    assert garden.crash_until_new("worker") == spare


def test_group_strategies(garden: Garden) -> None:
    """All of the group are taken over by their spares."""
    garden.plant("one", "two", supervisor={"strategy": "one_for_all"})
    spares = {name: garden.stands(name) for name in ("one", "two")}
    before = garden.pids("one two")
    garden.crash("one")
    assert garden.wait_new(**before) == spares


def test_a_changed_module(garden: Garden) -> None:
    """A spare is as old as its import; whoever asks for a restart gets what is on disk, and spares of that."""
    garden.plant("worker")
    spare = garden.stands("worker")
    garden.write_module(MODULE.replace("VERSION = 1", "VERSION = 2"))
    assert garden.crash_until_new("worker") == spare
    assert garden.told("worker")[0] == "1"
    newer = garden.stands("worker", 2)
    garden.write_module(MODULE.replace("VERSION = 1", "VERSION = 3"))
    assert garden.call("restart", names=["worker"])[0]["result"] == "restarted"
    assert dead(newer)
    assert garden.told("worker")[0] == "3"
    newest = garden.stands("worker", 3)
    assert garden.crash_until_new("worker") == newest
    assert garden.told("worker")[0] == "3"


def test_after_a_start_that_failed(garden: Garden) -> None:
    """The next attempt is with what is on disk then."""
    garden.plant("worker", standby=2, supervisor={"intensity": 1000, "backoff": {"first": "10ms", "max": "10ms"}})
    spares = {garden.stands("worker"), garden.stands("worker", 2)}
    failing = garden.wish("failing")
    first = garden.crash("worker")
    garden.wait("ready", "worker", count=2)
    garden.wait("exited", "worker", count=2)
    failing.unlink()
    assert garden.wait_new(worker=first)
    assert len(spares) == 2


def test_stopped_and_started(garden: Garden) -> None:
    """Nobody stands by for a child that is not to run."""
    garden.plant("worker")
    spare = garden.stands("worker")
    assert garden.call("stop", names=["worker"])[0]["result"] == "stopped"
    assert dead(spare)
    assert garden.call("start", names=["worker"])[0]["result"] == "started"
    garden.takes_over("worker", 2)


def test_reload(garden: Garden) -> None:
    """The file may want more of them, or none."""
    garden.plant("worker")
    spare = garden.stands("worker")
    garden.config.workers["worker"]["standby"] = 2
    garden.reload()
    assert dead(spare)
    standing = {garden.stands("worker", 2), garden.stands("worker", 3)}
    assert set(garden.standby("worker")["pids"]) == standing
    garden.config.workers["worker"]["standby"] = 0
    garden.reload()
    assert all(dead(pid) for pid in standing)
    assert "standby" not in garden.entry("worker")


def test_the_supervisor_is_killed(garden: Garden) -> None:
    """Its spares die with it, those too that have seen to it that they do not; its successor makes others."""
    garden.config.supervisor("top", SUP, intensity=10, period="10s")
    garden.plant("worker")
    garden.wish("immortal")
    spare = garden.stands("worker")
    procs.kill(spare)
    immortal = garden.stands("worker", 2)
    procs.freeze(immortal, TIMEOUT_S)
    garden.crash(SUP)
    assert dead(immortal)
    assert garden.stands("worker", 3) != immortal


def test_everybody_is_killed(garden: Garden) -> None:
    """The next daemon ends a spare that has outlived its own."""
    garden.wish("immortal")
    garden.plant("worker")
    immortal = garden.stands("worker")
    root, sup = garden.call("ping")["pid"], garden.pid(SUP)
    for pid in (immortal, root):
        procs.freeze(pid, TIMEOUT_S)  # or else it ends with the socket on which it waits
    for pid in (sup, root):
        procs.kill(pid)
    garden.wait_exit()
    assert not procs.is_dead(immortal)
    second = [REGROW, "up", "--detach", str(garden.file)]
    assert subprocess.run(second, capture_output=True, timeout=TIMEOUT_S, check=False).returncode == 0
    assert dead(immortal)
    down = [REGROW, "down", "--run-dir", str(garden.run_dir)]
    assert subprocess.run(down, capture_output=True, timeout=TIMEOUT_S, check=False).returncode == 0
    processes.await_no_children(keep=garden._others)  # orphans of a killed root fall to us


def test_what_a_spare_is(garden: Garden) -> None:
    """Limits, mask, directory and session are those of the worker from the beginning, and stay."""
    garden.plant("worker", limits={"open_files": 77}, umask="027", cwd="/", nice=3, env={"PYTHONPATH": "x"})
    spare = garden.stands("worker")
    for _ in range(2):
        limits = Path(f"/proc/{spare}/limits").read_text()
        assert "Max open files            77                   77" in limits
        status = Path(f"/proc/{spare}/status").read_text()
        assert "Umask:\t0027" in status
        assert os.readlink(f"/proc/{spare}/cwd") == "/"
        assert os.getsid(spare) == spare
        assert os.getpriority(os.PRIO_PROCESS, spare) == 3
        if garden.pid("worker") != spare:
            assert garden.crash_until_new("worker") == spare


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")
def test_a_spare_of_another_user(garden: Garden) -> None:
    """It is that user before it imports anything."""
    garden.plant("worker", user="daemon", agent="spares_module:Worker")
    spare = garden.stands("worker")
    uid = pwd.getpwnam("daemon").pw_uid
    assert os.stat(f"/proc/{spare}").st_uid == uid
    assert garden.crash_until_new("worker") == spare
    with Client(str(garden.run_dir)) as client:
        assert client.call("worker", "who") == ["worker", "-", str(spare)]


def test_output(garden: Garden) -> None:
    """What its import prints is in the log; what it prints under its name is in the log and in last_exit."""
    garden.plant("worker")
    spare = garden.stands("worker")
    assert garden.crash_until_new("worker") == spare
    garden.stands("worker", 2)
    garden.crash("worker")
    garden.wait("exited", "worker", count=2)
    why = garden.until(lambda: garden.why("worker"), lambda text: "serving 2" in text)
    assert "imported" not in why
    lines = {f"imported by {spare}", "serving 2"}
    garden.until(lambda: garden.log("worker"), lambda log: lines <= set(log.splitlines()))


def test_what_an_import_leaves_behind(garden: Garden) -> None:
    """A helper that the import has started is the worker's, and gone before there is a successor."""
    garden.wish("helped")
    garden.plant("worker")
    spare = garden.stands("worker")
    assert garden.crash_until_new("worker") == spare
    later = garden.stands("worker", 2)
    helpers = garden.helpers()
    assert spare in helpers
    assert later in helpers
    assert garden.crash_until_new("worker") == later
    assert procs.is_dead(helpers[spare])
    assert not procs.is_dead(helpers[later])


def test_watchdog(garden: Garden) -> None:
    """It watches over a successor that was a spare, which tells what it was doing."""
    garden.plant("worker", agent="spares_module:Worker", watchdog="300ms")
    spare = garden.stands("worker")
    assert garden.crash_until_new("worker") == spare
    with Client(str(garden.run_dir)) as client:
        client.cast("worker", "hang")
        reason = garden.wait("exited", "worker", count=2)["reason"]
    assert reason["reason"] == "watchdog"
    assert " in hang" in reason["text"]


def test_an_import_that_takes_too_long(garden: Garden) -> None:
    """Has the time that a start has."""
    os.mkfifo(garden.directory / "held")
    garden.plant("worker", ready={"notify": True, "timeout": "500ms"})
    assert "its import took more than 0.5 s" in garden.wait("standby_failed", "worker")["text"]


def test_refused_under_a_dynamic_supervisor(garden: Garden) -> None:
    """Children of one kind come and go there."""
    garden.config.supervisor("pool", strategy="dynamic")
    garden.config.supervisor(SUP, "pool")
    garden.write_module()
    garden.grow()
    with pytest.raises(CallError) as refused:
        garden.call("start_child", supervisor="pool", spec={"id": "x", "function": "spares_module:serve", "standby": 1})
    assert "the children of a dynamic supervisor have no spares" in refused.value.message


def test_reexec(garden: Garden) -> None:
    """Spares do not live through it: those that are children by then do, others are made anew."""
    garden.wish("helped")
    garden.plant("worker")
    worker = garden.takes_over("worker")
    spare = garden.stands("worker", 2)
    done = [REGROW, "reexec", "--run-dir", str(garden.run_dir)]
    assert subprocess.run(done, capture_output=True, timeout=TIMEOUT_S, check=False).returncode == 0
    assert dead(spare)
    assert garden.pid("worker") == worker
    assert not procs.is_dead(garden.helpers()[worker])
    garden.until(lambda: garden.standby("worker"), lambda standby: standby["ready"] == 1)
    newest = garden.standby("worker")["pids"][0]
    procs.kill(worker)
    garden.until(lambda: garden.entry("worker"), lambda entry: entry["pid"] == newest and entry["ready"])


def test_sockets(garden: Garden) -> None:
    """A spare has inherited the listening sockets, and learns of them with its name."""
    garden.config.sections["socket.web"] = {"unix": str(garden.directory / "web.sock")}
    garden.plant("worker", sockets=["web"])
    spare = garden.takes_over("worker")
    assert os.readlink(f"/proc/{spare}/fd/3").startswith("socket:")
    environ = garden.told("worker")
    assert environ[4] == f"1 web {spare}"
