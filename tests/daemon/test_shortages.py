"""The machine runs out of something: the tree goes on, the fault is told, and it passes when its cause does."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import resource
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import procs
import pytest
from configs import Config
from farm import FOREVER, python, shell
from harness import DaemonEnded
from tree import Tree
from wire import TIMEOUT_S, CallError, Event

LIBC = ctypes.CDLL(None, use_errno=True)


@contextlib.contextmanager
def few_descriptors(pid: int, spare: int) -> Iterator[None]:
    """Leave a process no more than `spare` new descriptors for the block."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    free = (number for number in itertools.count() if number not in taken)
    limit = next(itertools.islice(free, spare, None))
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def faults(tree: Tree) -> list[Event]:
    """The fault events so far."""
    tree.stream.answered(-1)
    return [event for event in tree.stream.events if event["event"] == "fault"]


def grown(tree: Tree, config: Config, **keys: object) -> Tree:
    """A tree of two commands that print, below two supervisors."""
    for name in ("a", "b"):
        config.workers[name] = {"command": shell("echo up; exec tail -f /dev/null"), **keys}
    config.supervisor("top", "sup").supervisor("sup", "a b", intensity=1000, period="1s")
    tree.grow()
    return tree


@pytest.mark.parametrize("spare", [0, 1, 2, 3])
@pytest.mark.parametrize("who", ["sup", "root"])
def test_no_descriptors(tree: Tree, config: Config, who: str, spare: int) -> None:
    """
    A supervisor or the root has no free descriptors when a child dies: a fault, no crash; the successor comes as soon
    as there are some again, and nobody else was hurt.
    """
    grown(tree, config)
    before = {name: tree.pid(name) for name in ("top", "sup", "b")}
    root = tree.call("ping")["pid"]
    dead = tree.pid("a")
    with few_descriptors(root if who == "root" else before["sup"], spare):
        procs.kill(dead)
        tree.wait("exited", "a")
        tree.stream.wait_events(lambda e: e["event"] in ("fault", "ready") and e["seq"] > 10, what="fault or success")
        if who == "sup" and spare < 2:
            fault = tree.wait("fault", "a")
            assert "EMFILE" in fault["text"] or "Too many open files" in fault["text"]
            assert "trying again" in tree.entry("a")["detail"]
    new = tree.wait_new(a=dead)["a"]
    assert new != dead
    if any(event["name"] == "a" for event in faults(tree)):
        tree.wait("fault_cleared", "a")
    if any("SIGPIPE" in event["text"] for event in faults(tree)):
        tree.wait("ready", "a", count=3)  # nobody read what it printed, so it ended once more
    assert {name: tree.pid(name) for name in before} == before
    assert tree.call("ping")["pid"] == root
    assert tree.crash_until_new("a")


def test_no_descriptors_for_clients(tree: Tree, config: Config) -> None:
    """A root without descriptors cannot take new clients; those it has are served, and later ones again."""
    grown(tree, config)
    root = tree.call("ping")["pid"]
    with few_descriptors(root, 0):
        late = tree.connect()
        number = late.send("ping")
        assert tree.call("ping")["pid"] == root
        tree.call("status")
    assert late.answer(number)["pid"] == root


def test_no_descriptors_for_a_nested_supervisor(tree: Tree, config: Config) -> None:
    """The same when what has to be made anew is a supervisor: its channel needs descriptors."""
    grown(tree, config)
    top, sup = tree.pid("top"), tree.pid("sup")
    with few_descriptors(top, 0):
        procs.kill(sup)
        tree.wait("exited", "sup")
        tree.wait("fault", "sup")
    tree.wait_new(sup=sup)
    tree.wait("fault_cleared", "sup")
    assert tree.pid("top") == top
    tree.wait("ready", "b", count=2)


def test_no_descriptors_for_start_child_and_reload(tree: Tree, config: Config) -> None:
    """What the root cannot do for want of descriptors is refused in words."""
    grown(tree, config)
    root = tree.call("ping")["pid"]
    with few_descriptors(root, 0):
        refused = tree.refused("start_child", supervisor="sup", spec={"id": "x", "command": ["true"]})
        assert "Too many open files" in refused.message
        refused = tree.refused("reload")
        assert "Too many open files" in refused.message
    assert tree.call("start_child", supervisor="sup", spec={"id": "x", "command": list(FOREVER)})["pid"]


@pytest.fixture
def pids_cgroup() -> Iterator[Path]:
    """A control group whose number of processes can be limited."""
    path = Path("/sys/fs/cgroup/pids") / f"regrow-test-{os.getpid()}"
    try:
        path.mkdir()
    except OSError:
        pytest.skip("no pids control group can be made here")
    yield path
    path.rmdir()


@pytest.mark.root
def test_fork_fails_with_eagain(tree: Tree, config: Config, pids_cgroup: Path) -> None:
    """No process can be made: a fault that says so, siblings unharmed; with room again, it goes on by itself."""
    for name in ("a", "b"):
        config.workers[name] = {"command": FOREVER, "stdout": "null", "stderr": "null"}
    config.supervisor("top", "a b", intensity=3, period="60s")
    tree.grow()
    before = tree.pids("top b")
    first = tree.pid("a")
    (pids_cgroup / "cgroup.procs").write_text(str(before["top"]))
    (pids_cgroup / "pids.max").write_text("1")
    try:
        procs.kill(first)
        fault = tree.wait("fault", "a")
        assert "EAGAIN" in fault["text"]
        assert "fork" in fault["text"]
        entry = tree.entry("a")
        assert (entry["pid"], entry["ready"]) == (None, False)
        assert "trying again" in entry["detail"]
        assert "EAGAIN" in "\n".join(tree.call("why", name="a")["text"])
        (pids_cgroup / "pids.max").write_text("max")
        tree.wait("fault_cleared", "a")
        second = tree.wait_new(a=first)["a"]
        assert tree.pids("top b") == before
        assert tree.entry("a")["restarts"] == 1
        (pids_cgroup / "pids.max").write_text("1")
        procs.kill(second)
        tree.wait("fault", "a", count=2)
        assert tree.call("stop", names=["a"])[0]["result"] == "stopped"
        assert tree.entry("a")["state"] == "stopped"
        refused = tree.call("stop", names=["b"])
        assert refused[0]["result"] == "stopped"
        (pids_cgroup / "pids.max").write_text("max")
        assert tree.call("start", names=["a", "b"])
    finally:
        for pid in (pids_cgroup / "cgroup.procs").read_text().split():
            with contextlib.suppress(OSError):
                (pids_cgroup.parent / "cgroup.procs").write_text(pid)


@pytest.fixture
def small_disk(directory: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    path = directory / "small"
    path.mkdir()
    if os.geteuid() != 0 or LIBC.mount(b"none", bytes(path), b"tmpfs", 0, b"size=1m") != 0:
        pytest.skip("cannot mount")
    yield path
    LIBC.umount2(bytes(path), 2)


@pytest.mark.root
def test_full_disk_under_log_dir(tree: Tree, config: Config, small_disk: Path) -> None:
    """Output cannot be written: a fault; deaths are answered as ever; when there is room, it goes on by itself."""
    config.daemon["log_dir"] = str(small_disk / "log")
    grown(tree, config)
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    code = """
notify("READY=1")
for n in range(300):
    os.write(1, b"%d a line that needs room\\n" % n)
import select; select.select([], [], [])
"""
    tree.call("start_child", supervisor="sup", spec={"id": "printer", "command": python(code), "ready": "notify"})
    tree.wait("fault", "regrow.logger")
    assert tree.crash_until_new("a")
    filler.unlink()
    tree.wait("fault_cleared", "regrow.logger")
    log = small_disk / "log" / "printer.log"
    deadline = time.monotonic() + TIMEOUT_S
    while not log.exists() or not log.read_text().endswith("299 a line that needs room\n"):
        assert time.monotonic() < deadline, log.read_text()[-200:]
        tree.call("ping")
    assert log.read_text().splitlines() == [f"{n} a line that needs room" for n in range(300)]


@pytest.mark.root
def test_read_only_file_system(tree: Tree, config: Config, small_disk: Path) -> None:
    """Everything under the daemon becomes read-only: deaths are answered, and the stop is orderly."""
    config.daemon |= {
        "log_dir": str(small_disk / "log"),
        "run_dir": str(small_disk / "run"),
        "state_dir": str(small_disk / "state"),
    }
    tree.run_dir = small_disk / "run"
    grown(tree, config)
    remount = 32 | 1  # MS_REMOUNT | MS_RDONLY
    if LIBC.mount(b"none", bytes(small_disk), b"tmpfs", remount, b"") != 0:
        pytest.skip("cannot remount")
    try:
        assert tree.crash_until_new("a")
        assert tree.crash_until_new("b")
        assert tree.call("status")
    finally:
        LIBC.mount(b"none", bytes(small_disk), b"tmpfs", 32, b"")
    assert tree.crash_until_new("a")


def test_unwritable_run_dir(directory: Path, tree: Tree, config: Config) -> None:
    """A run_dir that cannot be made is an error that names it; nothing has been started."""
    blocked = directory / "blocked"
    blocked.write_text("a file, no folder")
    config.daemon["run_dir"] = str(blocked / "run")
    config.workers["a"] = {"command": ["touch", str(directory / "ran")]}
    config.supervisor("top", "a")
    config.write()
    with pytest.raises(DaemonEnded) as ended:
        tree.start()
    assert ended.value.status in (1, 78)
    assert str(blocked) in ended.value.output
    assert "Traceback" not in ended.value.output
    assert not (directory / "ran").exists()


def test_run_dir_removed_under_the_daemon(tree: Tree, config: Config) -> None:
    """Somebody removes the run_dir: connected clients are served, deaths answered, the end is orderly."""
    grown(tree, config)
    shutil.rmtree(tree.run_dir)
    assert tree.crash_until_new("a")
    assert tree.down() == 0


def test_log_dir_removed_under_the_daemon(tree: Tree, config: Config) -> None:
    """Somebody removes the log_dir: output goes on being taken."""
    grown(tree, config)
    shutil.rmtree(tree.directory / "log")
    assert tree.crash_until_new("a")
    spec = {
        "id": "p",
        "command": shell("echo heard; exec tail -f /dev/null"),
        "ready": {"line": "heard", "timeout": "10s"},
    }
    assert tree.call("start_child", supervisor="sup", spec=spec)["pid"]


def test_only_stamps_use_the_wall_clock() -> None:
    """
    No decision depends on the wall clock: in the daemon `time.time` occurs only where an event or a state is stamped.

    (Setting the clock back would concern the whole machine: time namespaces have no CLOCK_REALTIME.)
    """
    import regrow.daemon.loop as loop

    room = Path(str(loop.__file__)).parent
    users = {
        str(path.relative_to(room))
        for path in room.rglob("*.py")
        if "time.time()" in path.read_text() and "cli" not in path.parts
    }
    assert users <= {"tree.py", "events.py", "books.py", "recording.py", "deploying/deploying.py"}
    core = [path for path in (room / "core").glob("*.py") if "import time" in path.read_text()]
    assert core == []


def test_error_in_a_call_is_no_error_of_the_daemon(tree: Tree, config: Config) -> None:
    """A refusal leaves no trace in the daemon's own output."""
    grown(tree, config)
    with contextlib.suppress(CallError):
        tree.call("start_child", supervisor="sup", spec={"id": "a", "command": ["true"]})
    assert tree.said() == ""
