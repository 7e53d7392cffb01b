"""How children of every temper are stopped, and what of them is left: nothing."""

from __future__ import annotations

import signal
import time

import procs
import pytest
from configs import Config
from farm import FOREVER, Farm, dead, python
from tree import Tree
from wire import TIMEOUT_S

DEAF = (
    "import signal, select\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nnotify('READY=1')\nselect.select([], [], [])"
)

STRAYS = """
import select, sys
r, w = os.pipe()
for number in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.setsid()
            os.write(w, b"%d " % os.getpid())
            select.select([], [], [])
        os._exit(0)
    os.wait()
pids = b""
while pids.count(b" ") < 3:
    pids += os.read(r, 100)
notify("READY=1\\nSTATUS=" + pids.decode())
select.select([], [], [])
"""


def answering(name: str, what: str) -> str:
    """A program that does `what` at that signal."""
    handler = f"import signal\nsignal.signal(signal.{name}, lambda *_: {what})\n"
    return handler + "notify('READY=1')\nwhile True: signal.pause()"


def stop(farm: Farm, name: str, *, under: str = "sup") -> float:
    """Terminate a child; how many seconds that took."""
    begun = time.monotonic()
    farm.call("terminate_child", supervisor=under, child=name)
    return time.monotonic() - begun


def test_ignores_sigterm(farm: Farm) -> None:
    """A deaf child is killed when its time is up; `killing` is told, and SIGKILL is in last_exit and why."""
    pid = farm.add("deaf", python(DEAF), ready="notify", shutdown="300ms")
    assert 0.3 <= stop(farm, "deaf") < 3
    assert dead(pid)
    farm.wait("killing", "deaf")
    last = farm.entry("deaf")["last_exit"]
    assert (last["reason"], last["signal"]) == ("stopped", "SIGKILL")
    assert "did not stop in time and was killed" in farm.why("deaf")


def test_brutal_kill(farm: Farm) -> None:
    """brutal_kill asks nobody."""
    pid = farm.add("brutal", python(DEAF), ready="notify", shutdown="brutal_kill")
    assert stop(farm, "brutal") < 2
    assert dead(pid)
    assert farm.entry("brutal")["last_exit"]["signal"] == "SIGKILL"


def test_shutdown_zero(farm: Farm) -> None:
    """A time of 0 is asked, and killed at once."""
    farm.add("zero", python(DEAF), ready="notify", shutdown="0s")
    assert stop(farm, "zero") < 2
    assert farm.entry("zero")["last_exit"]["signal"] == "SIGKILL"


def test_infinity(farm: Farm) -> None:
    """Infinity waits as long as it takes, and others are served meanwhile."""
    pid = farm.add("eternal", python(DEAF), ready="notify", shutdown="infinity")
    number = farm.control.send("terminate_child", supervisor="sup", child="eternal")
    farm.wait("stopping", "eternal")
    farm.add("meanwhile", under="quick")
    assert not farm.control.answered(number)
    assert farm.entry("eternal")["state"] == "stopping"
    procs.kill(pid)
    farm.control.answer(number)
    assert farm.entry("eternal")["last_exit"]["signal"] == "SIGKILL"


def test_stop_signal(farm: Farm) -> None:
    """stop_signal is what is sent; a handler's exit code is kept."""
    code = answering("SIGQUIT", "os._exit(7)")
    farm.add("quitter", python(code), ready="notify", stop_signal="SIGQUIT")
    stop(farm, "quitter")
    last = farm.entry("quitter")["last_exit"]
    assert (last["reason"], last["code"]) == ("stopped", 7)


def test_stopped_by_sigstop_then_terminated(farm: Farm) -> None:
    """A child that somebody stopped is continued, so that it can take its leave."""
    code = answering("SIGTERM", "os._exit(6)")
    pid = farm.add("frozen", python(code), ready="notify", shutdown="10s")
    procs.freeze(pid, TIMEOUT_S)
    assert stop(farm, "frozen") < 8
    assert farm.entry("frozen")["last_exit"]["code"] == 6


def test_sigstop_alone_is_no_death(farm: Farm) -> None:
    """A stopped child is still the same child."""
    pid = farm.add("paused", under="quick")
    procs.freeze(pid, TIMEOUT_S)
    assert farm.entry("paused")["pid"] == pid
    procs.kill(pid, signal.SIGCONT)
    assert farm.entry("paused")["state"] == "running"


@pytest.mark.parametrize("end", ["stop", "crash", "restart"])
@pytest.mark.parametrize("under", ["sup", "many"])
def test_strays(farm: Farm, end: str, under: str) -> None:
    """What a child double-forked into sessions of its own dies with it, before a successor or an answer comes."""
    name = f"stray-{end}-{under}"
    pid = farm.add(name, python(STRAYS), under=under, ready="notify")
    strays = [int(word) for word in farm.eventually(lambda: farm.entry(name)["detail"]).split()]
    assert not any(procs.is_dead(stray) for stray in strays)
    if end == "crash":
        procs.kill(pid)
        farm.wait("exited", name)
    elif end == "stop":
        stop(farm, name, under=under)
    else:
        farm.call("restart", names=[name])
    assert all(procs.is_dead(stray) for stray in strays)
    assert dead(pid)
    farm.wait("leftovers", name)


def test_fork_bomb_while_dying(farm: Farm) -> None:
    """A tree of processes that keeps making sessions while it is killed: all of it ends."""
    code = """
import select, signal
notify("READY=1")
def multiply(depth):
    if os.fork() == 0:
        os.setsid()
        if depth:
            multiply(depth - 1)
            multiply(depth - 1)
        select.select([], [], [])
        os._exit(0)
signal.signal(signal.SIGTERM, lambda *_: (multiply(4), os._exit(0)))
while True: signal.pause()
"""
    farm.add("bomb", python(code), ready="notify")
    stop(farm, "bomb")
    assert not procs.carrying("REGROW_NAME=bomb")


def test_death_while_stopping(farm: Farm) -> None:
    """A child that crashes while it is being stopped is stopped: no restart."""
    code = answering("SIGTERM", "os.abort()")
    farm.add("sulky", python(code), under="quick", ready="notify", limits={"core": 0})
    stop(farm, "sulky", under="quick")
    entry = farm.entry("sulky")
    assert (entry["state"], entry["restarts"], entry["last_exit"]["signal"]) == ("stopped", 0, "SIGABRT")


def test_parallel_supervisor_stops_all_at_once(tree: Tree, config: Config) -> None:
    """Twenty children that need 300 ms each are stopped together, not one after the other."""
    actors = {f"p{n}": {"stop": "300"} for n in range(20)}
    config.supervisor("top", " ".join(f"p{n}:P" for n in range(20)), actors=actors, start="parallel")
    tree.grow()
    begun = time.monotonic()
    assert tree.down() == 0
    assert time.monotonic() - begun < 4


def test_stop_during_backoff(farm: Farm) -> None:
    """A child that waits for its backoff can be stopped and started by hand."""
    farm.add("backing", FOREVER)
    farm.crash("backing")
    farm.wait("waiting", "backing")
    assert farm.call("stop", names=["backing"])[0]["result"] == "stopped"
    assert farm.entry("backing")["state"] == "stopped"
    assert farm.call("start", names=["backing"])[0]["result"] == "started"
    assert farm.entry("backing")["state"] == "running"
