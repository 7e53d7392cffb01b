"""The root daemon: signals, its place in the system, its beginnings and its ends."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import processes
import procs
import pytest
from cli import regrow
from configs import Config
from farm import FOREVER, dead, python, shell
from harness import REGROW, DaemonEnded
from tree import Tree
from wire import TIMEOUT_S

DEAF = (
    "import signal, select\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nnotify('READY=1')\nselect.select([], [], [])"
)


def root_pid(tree: Tree) -> int:
    """The root daemon's process."""
    pid: int = tree.call("ping")["pid"]
    return pid


def small(tree: Tree, config: Config) -> Tree:
    """Two scripted children below two supervisors, running."""
    config.supervisor("top", "sup").supervisor("sup", "a:P b:P")
    tree.grow()
    tree.forget()
    return tree


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_orderly_stop(tree: Tree, config: Config, number: int) -> None:
    """SIGTERM, or one SIGINT: children in reverse order, exit 0, no word of complaint, nothing left in run_dir."""
    small(tree, config)
    procs.kill(root_pid(tree), number)
    assert tree.wait_exit() == 0
    assert tree.stops() == "b a"
    assert tree.said() == ""
    assert not (tree.run_dir / "control.sock").exists()


def test_second_interrupt_is_now(tree: Tree, config: Config) -> None:
    """The second SIGINT kills what the first had asked to stop."""
    config.workers["deaf"] = {"command": python(DEAF), "ready": "notify", "shutdown": "infinity"}
    config.supervisor("top", "sup").supervisor("sup", "deaf")
    tree.grow()
    root = root_pid(tree)
    procs.kill(root, signal.SIGINT)
    tree.wait("stopping", "deaf")
    assert not procs.is_dead(root)
    procs.kill(root, signal.SIGINT)
    assert tree.wait_exit() in (0, 1)


def test_down_now(tree: Tree, config: Config) -> None:
    """`down` with now: nobody is asked."""
    config.workers["deaf"] = {"command": python(DEAF), "ready": "notify", "shutdown": "infinity"}
    config.supervisor("top", "deaf")
    tree.grow()
    tree.call("down", now=True)
    assert tree.wait_exit() in (0, 1)


def test_stop_while_starting(tree: Tree, config: Config) -> None:
    """A stop overtakes a start that is still under way."""
    config.workers["hang"] = {"command": FOREVER, "ready": {"file": "/no/such/file", "timeout": "60s"}}
    config.supervisor("top", "a:P hang")
    config.write()
    tree.launch()
    control = tree.run_dir / "control.sock"
    _await_path(control)
    wire = tree.connect()
    wire.follow()
    wire.wait_events(lambda event: event["event"] == "starting" and event["name"] == "hang")
    assert wire.call("ping")["state"] == "starting"
    assert tree._process is not None
    procs.kill(tree._process.pid, signal.SIGTERM)
    assert tree.wait_exit() == 0


def _await_path(path: Path) -> None:
    """Wait until something listens there."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        assert time.monotonic() < deadline
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except OSError:
                select.select([], [], [], 0.01)
                continue
            return


def test_second_up_is_refused(tree: Tree, config: Config) -> None:
    """A second `up` on the same run_dir names the one that runs, and harms nothing."""
    small(tree, config)
    before = tree.pids("top sup a b")
    done = regrow("up", tree.file)
    assert done.returncode == 1
    assert str(root_pid(tree)) in done.stderr
    assert "Traceback" not in done.stderr
    assert tree.pids("top sup a b") == before


def test_killed_root_is_taken_over(tree: Tree, config: Config, directory: Path) -> None:
    """SIGKILL of the root: its tree dies with it; the next `up` starts anew and leaves exactly one tree."""
    small(tree, config)
    old = list(tree.pids("top sup a b").values())
    procs.kill(root_pid(tree))
    tree.wait_exit()
    assert all(dead(pid) for pid in old)
    processes.await_no_children(keep=tree._others)  # orphans of a killed root fall to us
    second = subprocess.run(
        [REGROW, "up", "--detach", str(tree.file)], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    try:
        assert second.returncode == 0, second.stderr
        status = json.loads(regrow("status", "--run-dir", tree.run_dir, "--format", "json").stdout)
        assert [entry["state"] for entry in status] == ["running"] * 4
    finally:
        assert regrow("down", "--run-dir", tree.run_dir).returncode == 0


def test_detach(tree: Tree, config: Config) -> None:
    """--detach returns when all is ready; a failing start is told, with exit 1."""
    config.supervisor("top", "a:P")
    config.write()
    tree.output.touch()
    read_end, write_end = os.pipe()
    done = regrow("up", "--detach", tree.file, pass_fds=(write_end,))
    os.close(write_end)
    assert done.returncode == 0, done.stderr
    assert os.read(read_end, 1) == b"", "the daemon has a descriptor of its caller's"
    os.close(read_end)
    pid = int(done.stdout.rpartition("pid ")[2].rstrip(")\n"))
    assert os.getsid(pid) == pid
    tree.attach()
    assert tree.entry("a")["state"] == "running"
    done = regrow("down", "--run-dir", tree.run_dir)
    assert done.returncode == 0, done.stderr
    assert dead(pid)
    config.worker("a", plan="fail")
    config.write()
    done = regrow("up", "--detach", tree.file)
    assert done.returncode == 1
    assert "a could not be started" in done.stderr
    assert "refuses to start" in done.stderr + (tree.directory / "log" / "a.log").read_text()


def test_two_in_one_log_dir(tree: Tree, config: Config) -> None:
    """Who is detached second says so, there and in the file; both run. Alone, nothing is said: not after a restart."""
    config.supervisor("top", "a:P")
    config.write()
    tree.output.touch()
    other = tree.directory / "other.toml"
    other.write_text(tree.file.read_text().replace(f'{tree.directory}/run"', f'{tree.directory}/run-2"'))
    log = tree.directory / "log" / "daemon.log"
    for _ in range(2):
        assert regrow("up", "--detach", tree.file).stderr == ""
        try:
            second = regrow("up", "--detach", other)
            assert second.returncode == 0
            said = f"regrow: cannot have {log} alone: another daemon writes there too: give each a log_dir of its own\n"
            assert second.stderr == said
            assert said in log.read_text()
            again = regrow("up", "--detach", other)
            assert again.returncode != 0
            assert "another daemon writes there" not in again.stderr, "it does not start, and shares nothing"
        finally:
            regrow("down", "--run-dir", tree.directory / "run-2")
            regrow("down", "--run-dir", tree.run_dir)
        log.write_text("")


def test_failed_first_start(tree: Tree, config: Config) -> None:
    """Exit 1, the child and its reason on stderr; those that had started are stopped."""
    config.supervisor("top", "sup").supervisor("sup", "a:P bad:P", actors={"bad": {"plan": "fail"}})
    config.write()
    with pytest.raises(DaemonEnded) as ended:
        tree.start()
    assert ended.value.status == 1
    assert "bad could not be started" in ended.value.output
    assert tree.stops() == "a"


def test_give_up(tree: Tree, config: Config) -> None:
    """The root supervisor gives up: exit 1, with the reason on stderr; all is stopped."""
    config.supervisor("top", "a:P b:P", intensity=1, period="60s")
    tree.grow()
    tree.crash_until_new("a")
    tree.crash("a")
    assert tree.wait_exit() == 1
    assert "top gave up" in tree.said()
    assert "Traceback" not in tree.said()


def test_nested_give_up(tree: Tree, config: Config) -> None:
    """A nested one that gives up is restarted by its parent until that gives up too; each step is an event."""
    config.supervisor("top", "sup", intensity=1, period="60s")
    config.supervisor("sup", "a:P", intensity=0, period="60s")
    tree.grow()
    tree.crash("a")
    tree.wait("gave_up", "sup")
    tree.wait("ready", "a", count=2)
    tree.crash("a")
    assert tree.wait_exit() == 1
    assert "gave up" in tree.said()


def test_executable_vanishes_and_the_supervisor_gives_up(tree: Tree, config: Config) -> None:
    """Restarts that cannot succeed are counted: the limit is reached, the reason names the executable."""
    path = tree.directory / "program"
    path.write_text("#!/bin/sh\necho up\nexec tail -f /dev/null\n")
    path.chmod(0o755)
    config.workers["p"] = {"command": [str(path)], "ready": {"line": "up"}}
    config.supervisor("top", "sup").supervisor("sup", "p", intensity=3, period="60s", restart="temporary")
    tree.grow()
    path.unlink()
    tree.crash("p")
    tree.wait("gave_up", "sup")
    failures = [e for e in tree.stream.events if e["event"] == "start_failed" and e["name"] == "p"]
    assert len(failures) == 3
    assert all(failure["reason"]["reason"] == "exec_failed" for failure in failures)
    assert str(path) in tree.entry("p")["last_exit"]["text"] or tree.entry("p")["last_exit"]["text"].startswith("its")


def test_management_across_nesting(tree: Tree, config: Config) -> None:
    """Calls reach supervisors at any depth; names are addresses in the whole tree."""
    config.supervisor("top", "s1").supervisor("s1", "s2").supervisor("s2", "s3").supervisor("s3", "leaf:P")
    tree.grow()
    assert tree.start_child("extra", supervisor="s3")
    assert tree.entry("extra")["path"] == "top/s1/s2/s3/extra"
    assert (
        tree.refused("start_child", supervisor="s1", spec={"id": "leaf", **config.actor("leaf")}).code
        == "already_started"
    )
    tree.call("stop", names=["s1"])
    assert tree.entry("leaf")["pid"] is None
    assert tree.refused("which_children", supervisor="s3").code == "noproc"
    assert tree.call("start", names=["s1"])[0]["result"] == "started"
    assert tree.entry("leaf")["state"] == "running"


def test_sd_notify(tree: Tree, config: Config) -> None:
    """READY with STATUS, STOPPING, and WATCHDOG as often as systemd wants it."""
    os.environ["WATCHDOG_USEC"] = "400000"
    try:
        config.supervisor("top", "a:P")
        config.write()
        tree.launch()
    finally:
        del os.environ["WATCHDOG_USEC"]
    seen: list[str] = []

    def until(part: str, count: int = 1) -> None:
        while sum(part in text for text in seen) < count:
            assert select.select([tree._notify], [], [], TIMEOUT_S)[0], seen
            seen.append(tree._notify.recv(1 << 16).decode())

    until("READY=1")
    until("STATUS=")
    until("WATCHDOG=1", 4)
    tree.attach()
    procs.kill(root_pid(tree), signal.SIGHUP)
    until("RELOADING=1")
    assert "MONOTONIC_USEC=" in "".join(seen)
    until("READY=1", 2)
    procs.kill(root_pid(tree), signal.SIGTERM)
    until("STOPPING=1")
    assert tree.wait_exit() == 0


def test_notify_socket_that_nobody_reads(tree: Tree, config: Config) -> None:
    """A service manager that takes no datagrams does not hold up the daemon."""
    os.environ["WATCHDOG_USEC"] = "2000"
    try:
        small(tree, config)
    finally:
        del os.environ["WATCHDOG_USEC"]
    for _ in range(3):
        tree.crash_until_new("a")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a pid namespace")
def test_pid_1(tree: Tree, config: Config) -> None:
    """As PID 1 of a container it reaps strangers' orphans, restarts children, forwards the stop and ends with 0."""
    stray = shell("(setsid sh -c 'exit 3' &) ; (setsid sh -c 'exit 4' &); echo up; exec tail -f /dev/null")
    config.workers["maker"] = {"command": stray, "ready": {"line": "^up$"}}
    config.supervisor("top", "maker a:P")
    config.write()
    address = str(tree.directory / "notify")
    tree._notify.bind(address)
    with tree.output.open("wb") as output:
        tree._process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL", REGROW, "up", str(tree.file)],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            env={**os.environ, "NOTIFY_SOCKET": address}, cwd=tree.directory,
        )  # fmt: skip
    tree._pidfd = procs.pidfd(tree._process.pid)
    tree.until_ready()
    assert tree.call("ping")["pid"] == 1
    first = tree.entry("a")["pid"]
    inside = next(
        int(child) for child in Path(f"/proc/{tree._process.pid}/task/{tree._process.pid}/children").read_text().split()
    )
    stranger = subprocess.run(
        ["nsenter", "-t", str(inside), "-p", "-m", "sh", "-c", "(exec 1>&- 2>&-; tail -f /dev/null) & echo"],
        stdout=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert stranger.returncode == 0
    subprocess.run(
        ["nsenter", "-t", str(inside), "-p", "-m", "sh", "-c", f"kill -9 {first}"], timeout=TIMEOUT_S, check=True
    )
    tree.wait_new(a=first)
    zombies = [pid for pid in descendants(inside) if procs.state(pid) == "Z"]
    deadline = time.monotonic() + TIMEOUT_S
    while zombies := [pid for pid in zombies if procs.state(pid) == "Z"]:
        assert time.monotonic() < deadline, zombies
        tree.call("ping")
    procs.kill(inside, signal.SIGTERM)
    assert tree.wait_exit() == 0


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [below for child in map(int, children) for below in (child, *descendants(child))]


def test_parallel_calls_from_many_clients(tree: Tree, config: Config) -> None:
    """Many clients restart the same children at the same time: each gets an answer, one of each lives afterwards."""
    small(tree, config)
    results: list[Any] = []

    def hammer() -> None:
        wire = tree.connect()
        results.extend(wire.call("restart", names=["a", "b"]) for _ in range(5))

    threads = [threading.Thread(target=hammer) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 30
    tree.call("start", names=["a", "b"])
    assert [tree.entry(name)["state"] for name in "ab"] == ["running", "running"]
    alive = [line for line in procs.carrying(str(tree.directory)).values() if "actor.py" in line]
    assert len(alive) == 2


def test_stdout_closed(tree: Tree, config: Config) -> None:
    """A daemon whose standard streams are closed or broken works."""
    config.supervisor("top", "a:P")
    config.write()
    address = str(tree.directory / "notify")
    tree._notify.bind(address)
    tree.output.touch()
    reader, writer = os.pipe()
    os.close(reader)
    tree._process = subprocess.Popen(
        ["sh", "-c", f"exec {REGROW} up {tree.file} <&- 1>&-"],
        stderr=writer,
        env={**os.environ, "NOTIFY_SOCKET": address},
        cwd=tree.directory,
    )
    os.close(writer)
    tree._pidfd = procs.pidfd(tree._process.pid)
    tree.until_ready()
    assert tree.crash_until_new("a")


def test_replay(tree: Tree, config: Config) -> None:
    """What a daemon recorded can be replayed: every decision comes out the same."""
    small(tree, config)
    for _ in range(3):
        tree.crash_until_new("a")
    assert tree.down() == 0
    files = sorted((tree.directory / "log").glob("*.steps.log"))
    assert [file.name for file in files] == [
        "regrow.steps.log",
        "regrow.system.steps.log",
        "sup.steps.log",
        "top.steps.log",
    ]
    for file in files:
        done = regrow("replay", file)
        assert done.returncode == 0, (file, done.stdout + done.stderr)
