"""Workers that hang: what they were doing is known after they were killed."""

from __future__ import annotations

import signal
import time
from typing import Any

import procs
import pytest
from farm import Farm

MODULE = """
import ctypes, itertools, os, select, signal, socket, sys, threading, time

def notify(text):
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), "\\0" + address[1:])

def spinning():
    notify("READY=1")
    while True:
        pass

def idle():
    notify("READY=1")
    deeper()

def deeper():
    while True: signal.pause()

def holding():
    notify("READY=1")
    sum(itertools.repeat(0))  # in C, with the interpreter's lock

def waiting():
    notify("READY=1")
    select.select([], [], [])

def threaded():
    threading.Thread(target=deeper, daemon=True).start()
    notify("READY=1")
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()

def bottomless(depth=300):
    if not depth:
        notify("READY=1")
        deeper()
    bottomless(depth - 1)

def deaf():
    signal.signal(signal.SIGUSR1, lambda *_: print("asked", flush=True))
    notify("READY=1")
    while True:
        select.select([], [], [])

def without():
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    notify("READY=1")
    select.select([], [], [])

def never_ready():
    deeper()

def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    notify("READY=1")
    deeper()
"""


@pytest.fixture
def module(farm: Farm) -> Farm:
    """The farm with a module `hangs` next to its file."""
    file = farm.directory / "hangs.py"
    if not file.exists():
        file.write_text(MODULE)
    return farm


def add(farm: Farm, name: str, function: str, **keys: Any) -> int:
    """Start a function of the module that is ready when it says so, and hangs from then on."""
    return farm.add(name, function=f"hangs:{function}", ready="notify", **keys)


def watched(farm: Farm, function: str) -> Any:
    """The reason of the end of a function that the watchdog ends."""
    add(farm, function, function, watchdog="200ms")
    reason = farm.exited(function)
    assert (reason["reason"], reason["signal"]) == ("watchdog", "SIGKILL"), reason
    assert reason["text"].startswith("no progress shown within 0.2 s"), reason
    return reason


@pytest.mark.parametrize(
    ("function", "line"),
    [("spinning", "in spinning"), ("idle", "in deeper"), ("holding", "in holding"), ("waiting", "in waiting")],
)
def test_watchdog_tells_the_stack(module: Farm, function: str, line: str) -> None:
    """In a loop, a pause, C with the interpreter's lock, or a system call: the stack is in last_exit and why."""
    text = watched(module, function)["text"]
    head, stack = text.split("its Python stacks:\n")
    assert head == "no progress shown within 0.2 s; "
    assert "hangs.py" in stack.splitlines()[1], text
    assert stack.splitlines()[1].endswith(line), text
    assert "_be_child" not in stack, "frames of the supervisor"
    assert module.entry(function)["last_exit"]["text"] == text
    told = module.why(function)
    assert f"{line}\n" in f"{told}\n"
    assert f"{function} (incarnation 1) ended: watchdog, SIGKILL (no progress shown within 0.2 s" in told
    module.remove(function)


def test_every_thread_is_told(module: Farm) -> None:
    """Also threads that are not the main one, which is the last."""
    stack = watched(module, "threaded")["text"]
    assert stack.index("in deeper") < stack.index("in threaded"), stack
    module.remove("threaded")


def test_deep_stack(module: Farm) -> None:
    """Of a deep recursion the innermost frames are told; the text stays within its bounds."""
    text = watched(module, "bottomless")["text"]
    assert len(text) < 4200
    assert text.splitlines()[-1] == "  ..."
    module.remove("bottomless")


def test_stopped_process_has_no_stacks(module: Farm) -> None:
    """A process that was stopped by a signal cannot answer; that is said, and it is killed at once."""
    pid = add(module, "frozen", "idle", watchdog="1s")
    procs.freeze(pid, 10.0)
    reason = module.exited("frozen")
    assert (reason["reason"], reason["signal"]) == ("watchdog", "SIGKILL")
    assert reason["text"] == "no progress shown within 1 s; it was stopped by a signal: no Python stacks"
    module.remove("frozen")


def test_a_handler_of_the_workers_own(module: Farm) -> None:
    """A worker that handles SIGUSR1 itself is killed after a moment, without stacks; one that does not, at once."""
    assert watched(module, "deaf")["text"].endswith("; no Python stacks came within 200 ms")
    module.remove("deaf")
    assert watched(module, "without")["text"] == "no progress shown within 0.2 s"
    module.remove("without")


def test_start_timeout_tells_the_stack(module: Farm) -> None:
    """What a worker did instead of becoming ready is known."""
    spec = {"id": "late", "function": "hangs:never_ready", "ready": {"notify": True, "timeout": "300ms"}}
    error = module.refused("start_child", supervisor="sup", spec=spec)
    assert error.code == "start_failed"
    assert "no READY=1 came; its Python stacks:" in str(error)
    reason = module.wait("start_failed", "late")["reason"]
    assert reason["reason"] == "start_timeout"
    assert "in deeper" in reason["text"]


def test_stop_timeout_tells_the_stack(module: Farm) -> None:
    """What a worker did instead of ending, too."""
    add(module, "stubborn", "stubborn", shutdown="200ms")
    assert module.call("stop", names=["stubborn"])[0]["result"] == "stopped"
    last = module.entry("stubborn")["last_exit"]
    assert (last["reason"], last["signal"]) == ("stopped", "SIGKILL")
    assert "in deeper" in last["text"]
    module.remove("stubborn")


def test_brutal_kill_asks_nothing(module: Farm) -> None:
    """Who is to be killed at once is killed at once."""
    add(module, "brutal", "stubborn", shutdown="brutal_kill")
    assert module.call("stop", names=["brutal"])[0]["result"] == "stopped"
    assert module.entry("brutal")["last_exit"]["text"] == ""
    module.remove("brutal")


def test_liveness_tells_the_stack(module: Farm) -> None:
    """A worker whose liveness fails is asked as well."""
    flag = module.directory / "well"
    flag.touch()
    probe = {"file": str(flag), "every": "50ms", "timeout": "1s", "failures": 1}
    add(module, "ailing", "idle", liveness=probe)
    flag.unlink()
    reason = module.exited("ailing")
    assert reason["reason"] == "liveness"
    assert "in deeper" in reason["text"]
    module.remove("ailing")


def test_the_kill_waits_for_nobody_else(module: Farm) -> None:
    """While one that does not answer is waited for, its siblings are looked after."""
    pid = add(module, "mute", "deaf", under="quick", watchdog="200ms")
    module.add("neighbour", under="quick")
    module.wait("unhealthy", "mute")
    neighbour = module.entry("neighbour")["pid"]
    began = time.monotonic()
    module.remove("neighbour", under="quick")
    assert time.monotonic() - began < 5.0
    assert procs.wait_dead(neighbour, 10.0)
    assert procs.wait_dead(pid, 10.0)
    module.remove("mute", under="quick")


def test_signal_of_a_stranger_ends_nothing(module: Farm) -> None:
    """SIGUSR1 from anybody else makes a worker write where nobody reads; it lives on, however often."""
    pid = add(module, "poked", "waiting")
    for _ in range(2000):
        procs.kill(pid, signal.SIGUSR1)
    assert module.entry("poked")["pid"] == pid
    module.call("stop", names=["poked"])
    assert module.entry("poked")["last_exit"]["signal"] == "SIGTERM"
    module.remove("poked")
