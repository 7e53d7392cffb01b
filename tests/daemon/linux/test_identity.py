"""Who a process is: markers, titles, pidfds, and what /proc is asked for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import forks
import pytest
from forks import TOKEN, Told, in_fork, spawn

from regrow.daemon.linux import identity, kernel, procfs
from regrow.daemon.linux.identity import Marker, ProcessId

ANY_TOKEN = "0123456789abcdef" * 2

ROOT = """
import os, sys
from regrow.daemon.linux import identity, kernel, procfs
found = identity.locate()
identity.mark(sys.argv[1] + ":regrow.root:1")
identity.set_title("regrow: shop root")
kernel.set_name("shop")
reader, writer = os.pipe()
end, end_writer = os.pipe()
pid = os.fork()
if pid == 0:
    identity.mark(sys.argv[1] + ":pricing:7")
    identity.set_title("regrow: shop/pricing supervisor")
    kernel.set_name("pricing")
    os.write(writer, b"x")
    os.close(end_writer)
    os.read(end, 1)
    os._exit(0)
os.read(reader, 1)
for shown in (os.getpid(), pid):
    line = procfs.read_file(f"/proc/{shown}/cmdline").rstrip(b"\\0")
    print(found, identity.read_marker(shown), line, procfs.stat(shown).comm)
sys.stdout.flush()
os.close(end_writer)
os.waitpid(pid, 0)
print(os.environ["HOME"], procfs.environ(os.getpid()).startswith(b"HOME=/nowhere\\0"))
"""


def test_root_and_fork_show_their_own_marker_and_title() -> None:
    """Each forked process shows its own marker, command line and name, and the rest of the environment stays."""
    env = identity.with_placeholder({"HOME": "/nowhere", "REGROW_CHILD": "of an outer regrow"})
    argv = identity.padded_argv([sys.executable, "-P", "-c", ROOT, TOKEN])
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout.splitlines() == [
        f"True {TOKEN}:regrow.root:1 b'regrow: shop root' shop",
        f"True {TOKEN}:pricing:7 b'regrow: shop/pricing supervisor' pricing",
        "/nowhere True",
    ]


def test_without_room_nothing_is_overwritten() -> None:
    """A process that was not exec'd for it shows no marker and keeps its command line."""
    before = procfs.read_file("/proc/self/cmdline")

    def body() -> None:
        identity._areas.marker = None
        assert not identity.locate()
        assert not identity.mark(f"{TOKEN}:a:1")
        identity.set_title("something else")
        assert procfs.read_file("/proc/self/cmdline") == before

    in_fork(body)


def test_forks_show_their_own_marker() -> None:
    """Parent and child overwrite the same address, each in its own memory."""

    def body() -> None:
        told = Told()
        assert identity.mark(f"{TOKEN}:app:2")

        def child() -> None:
            identity.mark(f"{TOKEN}:pricer.0:31")
            told.stay()

        pid = spawn(child)
        assert told.pids(1) == [pid]
        assert identity.read_marker(pid) == Marker(TOKEN, "pricer.0", 31)
        assert identity.read_marker(os.getpid()) == Marker(TOKEN, "app", 2)
        found = {(who.pid, marker.name) for who, marker in identity.all_marked(TOKEN)}
        assert found == {(pid, "pricer.0"), (os.getpid(), "app")}
        forks.kill_and_reap(pid)

    in_fork(body)


def test_programs_inherit_the_marker_of_who_started_them() -> None:
    """A program that a marked process runs with its own environment carries the same marker."""

    def body() -> None:
        identity.mark(f"{TOKEN}:pricer.0:31")
        said = subprocess.run(["/bin/sh", "-c", "echo $REGROW_CHILD"], capture_output=True, text=True, check=True)
        assert said.stdout.strip() == f"{TOKEN}:pricer.0:31"

    in_fork(body)


def test_name_that_does_not_fit_is_left_out() -> None:
    """A cut name would be another child's."""

    def body() -> None:
        identity.mark(f"{TOKEN}:{'n' * 500}:4")
        assert identity.read_marker(os.getpid()) == Marker(TOKEN, "", 4)

    in_fork(body)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b":",
        b"::",
        b"abc:a:1",
        ANY_TOKEN.encode(),
        f"{ANY_TOKEN}:a:".encode(),
        f"{ANY_TOKEN}:a:-1".encode(),
        f"{ANY_TOKEN}:a:x".encode(),
        f"{'g' * 32}:a:1".encode(),
        ANY_TOKEN.encode() + b":\xff:1",
        f"{ANY_TOKEN}:a:{'9' * 40}".encode(),
    ],
)
def test_what_is_no_marker(text: bytes) -> None:
    """Anything but token, name and incarnation is no marker."""
    assert identity.parse_marker(text) is None


@pytest.mark.parametrize("around", ["{}", "A=1\0{}", "{}\0B=2", "A=1\0{}\0B=2\0\0\0"])
def test_marker_is_found_anywhere(around: str) -> None:
    """First, last, or amid other variables, with or without padding."""
    environment = around.format(f"REGROW_CHILD={ANY_TOKEN}:a.0:12").encode()
    assert identity.find_marker(environment) == Marker(ANY_TOKEN, "a.0", 12)


def test_other_variables_are_no_marker() -> None:
    """A variable that ends in the same letters, or a value that holds the marker, is not ours."""
    for environment in (f"X_REGROW_CHILD={ANY_TOKEN}:a:1", f"NOTE=REGROW_CHILD={ANY_TOKEN}:a:1", "REGROW_CHILDREN=3"):
        assert identity.find_marker(environment.encode()) is None


def test_gone_and_zombie_have_no_marker() -> None:
    """Neither has anything to read, and neither is an error."""
    pid = spawn(lambda: None)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert identity.read_marker(pid) is None
    assert identity.process_id(pid) is None
    os.waitpid(pid, 0)
    assert identity.read_marker(pid) is None
    assert procfs.stat(pid) is None


def test_pidfd_of_the_right_process() -> None:
    """The pidfd becomes readable, and waitable, when exactly that process dies."""
    pid = spawn(forks.block)
    (who,) = forks.identities([pid])
    pidfd = identity.pidfd_of(who)
    assert pidfd is not None
    try:
        assert os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG) is None
        assert kernel.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOWAIT)
        end = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert end is not None
        assert (end.si_pid, end.si_code, end.si_status) == (pid, os.CLD_KILLED, signal.SIGKILL)
        assert not kernel.pidfd_send_signal(pidfd, signal.SIGKILL)
        assert identity.pidfd_of(who) is None
    finally:
        os.close(pidfd)


@pytest.mark.parametrize("who", [ProcessId(os.getpid(), 1), ProcessId(2**22 + 1, 5), ProcessId(0, 0), ProcessId(-5, 0)])
def test_no_pidfd_of_somebody_else(who: ProcessId) -> None:
    """A pid that now means another process, or none, gives no pidfd."""
    assert identity.pidfd_of(who) is None


@pytest.mark.parametrize("comm", [") R 1 2 3", "a) (b", "\n\t x", "é)"])
def test_stat_is_read_whatever_the_name_is(comm: str) -> None:
    """Blanks, brackets and newlines in the name of a process change nothing."""
    told = Told()

    def body() -> None:
        kernel.set_name(comm)
        told.stay()

    pid = spawn(body)
    told.pids(1)
    found = procfs.stat(pid)
    assert found is not None
    assert (found.comm, found.ppid, found.pgid, found.sid) == (comm, os.getpid(), pid, pid)
    forks.kill_and_reap(pid)
    told.close()


def test_children_and_descendants(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of finding children agree; descendants come parents first."""
    told = Told()

    def parent() -> None:
        spawn(told.stay)
        forks.block()

    def body() -> None:
        pids = [spawn(parent), spawn(forks.block)]
        (grandchild,) = told.pids(1)
        assert procfs.children_of_self() == pids
        below = [found.pid for found in procfs.descendants_in(procfs.all_stats(), [os.getpid()])]
        assert set(below) == {*pids, grandchild}
        assert below.index(pids[0]) < below.index(grandchild)
        monkeypatch.setattr(os, "open", _without_children_files)
        assert sorted(procfs.children_of_self()) == sorted(pids)
        forks.kill_and_reap(*pids)
        forks.kill_and_reap(grandchild)

    in_fork(body)
    told.close()


_open = os.open


def _without_children_files(path: str, flags: int) -> int:
    if path.endswith("/children"):
        raise FileNotFoundError(path)
    return _open(path, flags)


def test_cost_of_taking_on_a_name() -> None:
    """What a fork pays for its marker and title; printed, not judged."""

    def body() -> None:
        rounds = 1000
        start_s = time.perf_counter()
        for number in range(rounds):
            identity.mark(f"{TOKEN}:pricer.0:{number}")
            identity.set_title("regrow: pricer.0")
        forks.measured("mark and title", (time.perf_counter() - start_s) / rounds)

    in_fork(body)
