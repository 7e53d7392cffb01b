"""One root per run_dir, and what it does about a root that was killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import forks
import msgspec
import pytest
from forks import TOKEN, Told, in_fork

from regrow.daemon.errors import RunDirError
from regrow.daemon.linux import cgroup_subtree, identity, killing, procfs, takeover
from regrow.daemon.linux.identity import Marker
from regrow.daemon.linux.takeover import Identity, Refused, Taken
from regrow.ipc.process import boot_id

NEXT = identity.new_token()
TITLE = "regrow: test root"


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    """A run_dir that is not there yet."""
    return str(tmp_path / "run")


def take(run_dir: str, token: str = NEXT) -> Taken:
    """Be the root of `run_dir`."""
    return takeover.take(run_dir, token, TITLE)


def root(run_dir: str, told: Told, body: Callable[[], object] = forks.block, token: str = TOKEN) -> int:
    """Another root, which has taken `run_dir`, and then runs `body`. Returns its pid."""

    def be_root() -> None:
        forks.make_room()
        path, _ = cgroup_subtree.place(token)
        takeover.take(run_dir, token, TITLE, path)
        told.tell()
        body()

    pid = forks.spawn(be_root)
    assert told.pids(1) == [pid]
    return pid


def marked(name: str, body: Callable[[], object]) -> Callable[[], None]:
    """`body` in a process that carries the marker of a child."""

    def run() -> None:
        identity.mark(str(Marker(TOKEN, name, 1)))
        body()

    return run


def reap_adopted() -> int:
    """Reap what was killed below us; how many."""
    count = 0
    while procfs.children_of_self():
        os.waitpid(-1, 0)
        count += 1
    return count


def test_first_root(run_dir: str) -> None:
    """The run_dir is made and tells who has it; an orderly end leaves nothing of the root in it."""

    def body() -> None:
        taken = take(run_dir)
        assert (taken.killed, taken.reports) == (0, ())
        me = identity.process_id(os.getpid())
        assert me is not None
        assert takeover.read(run_dir) == Identity(NEXT, boot_id(), me.pid, me.start)
        assert identity.read_marker(os.getpid()) == Marker(NEXT, identity.ROOT_NAME, 1)
        for name in ("control.sock", "hub.api", "command.sock"):
            Path(run_dir, name).touch()
        takeover.release(run_dir, taken.lock_fd)
        assert os.listdir(run_dir) == ["lock"]
        assert takeover.read(run_dir) is None

    in_fork(body)


def test_living_root_is_named(run_dir: str) -> None:
    """A second root is refused, and learns the first one's pid; nothing changes for the first."""

    def body() -> None:
        told = Told()
        pid = root(run_dir, told)
        before = takeover.read(run_dir)
        with pytest.raises(Refused, match=f"pid {pid}") as refused:
            take(run_dir)
        assert refused.value.pid == pid
        assert takeover.read(run_dir) == before
        forks.kill_and_reap(pid)
        assert take(run_dir).killed == 0

    in_fork(body)


def test_lock_ends_with_the_root_not_with_its_forks(run_dir: str) -> None:
    """A fork that outlives the root holds no lock; it is ended before the next root starts."""

    def body() -> None:
        told = Told()
        pid = root(run_dir, told, lambda: forks.fork_and_stay(marked("app", told.stay)))
        (supervisor,) = forks.identities(told.pids(1))
        forks.kill_and_reap(pid)
        assert forks.alive(supervisor)
        assert take(run_dir).killed == 1
        assert not forks.alive(supervisor)
        assert reap_adopted() == 1

    in_fork(body)


def test_everything_a_killed_root_left_is_ended(run_dir: str) -> None:
    """Supervisors, workers and daemons that escaped them, and what is below those, even without a marker."""

    def body() -> None:
        told = Told()

        def worker() -> None:
            forks.spawn(lambda: nameless(told))
            forks.escape(told.stay)
            told.stay()

        def supervisor() -> None:
            forks.spawn(marked("pricer.0", worker))
            told.stay()

        pid = root(run_dir, told, lambda: forks.fork_and_stay(marked("app", supervisor)))
        Path(run_dir, "control.sock").touch()
        left = forks.identities(told.pids(4))
        os.kill(pid, signal.SIGKILL)
        assert take(run_dir).killed == 4
        assert not any(map(forks.alive, left))
        assert sorted(os.listdir(run_dir)) == ["identity", "lock"]
        assert reap_adopted() > 0

    in_fork(body)


def nameless(told: Told) -> None:
    """A process without any mark."""
    told.become({})


def test_takeover_at_the_moment_of_death(run_dir: str) -> None:
    """A root that is killed right now is not taken for a living one, time and again."""

    def body() -> None:
        told = Told()
        for _ in range(10):
            pid = root(run_dir, told, lambda: forks.fork_and_stay(marked("app", told.stay)))
            told.pids(1)
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(forks.spawn(lambda: take(run_dir)), 0)
            assert status == 0
            assert reap_adopted() == 2

    in_fork(body)


def test_nameless_daemon_is_found_in_the_groups(run_dir: str) -> None:
    """Without marker and without parents it is still in a control group of the killed root."""
    path, reason = cgroup_subtree.place(TOKEN)
    if reason:
        pytest.skip(reason)

    def body() -> None:
        told = Told()

        def be_root() -> None:
            subtree, why = cgroup_subtree.open_subtree(path)
            assert subtree is not None, why
            assert subtree.child("a").create() == ""
            forks.escape(lambda: nameless(told))
            told.stay()

        pid = root(run_dir, told, be_root)
        (escaped,) = [who for who in forks.identities(told.pids(2)) if who.pid != pid]
        forks.kill_and_reap(pid)
        assert forks.alive(escaped)
        taken = take(run_dir)
        assert (taken.killed, taken.reports) == (1, ())
        assert not forks.alive(escaped)
        assert not os.path.exists(path)
        reap_adopted()

    in_fork(body)


def test_strangers_are_not_touched(run_dir: str) -> None:
    """Another run's processes, and one that merely knows the token, live on."""

    def body() -> None:
        told = Told()
        forks.kill_and_reap(root(run_dir, told))

        def other_run() -> None:
            identity.mark(str(Marker(identity.new_token(), "app", 1)))
            told.stay()

        strangers = [
            forks.spawn(other_run),
            forks.spawn(lambda: told.become({"SEEN": f"REGROW_CHILD={TOKEN}:app:1"})),
            forks.spawn(lambda: told.become({"REGROW_CHILD": f"{TOKEN}0:app:1"})),
        ]
        who = forks.identities(told.pids(3))
        assert take(run_dir).killed == 0
        assert all(map(forks.alive, who))
        forks.kill_and_reap(*strangers)

    in_fork(body)


def test_pid_that_means_somebody_else_now(run_dir: str) -> None:
    """The root's pid belongs to a stranger with another start time: neither awaited nor killed."""

    def body() -> None:
        told = Told()
        stranger = forks.spawn(told.stay)
        (who,) = forks.identities(told.pids(1))
        leave(run_dir, Identity(TOKEN, boot_id(), who.pid, who.start - 1))
        assert take(run_dir).killed == 0
        assert forks.alive(who)
        forks.kill_and_reap(stranger)

    in_fork(body)


def leave(run_dir: str, earlier: Identity) -> None:
    """What a root of old has left in its run_dir."""
    os.makedirs(run_dir)
    Path(run_dir, "identity").write_bytes(msgspec.json.encode(earlier))


def test_target_that_is_somebody_else_by_now_is_not_signalled() -> None:
    """Between the scan and the signal a pid may change its owner."""

    def body() -> None:
        told = Told()
        pid = forks.spawn(told.stay)
        (who,) = forks.identities(told.pids(1))
        assert killing.kill_all({identity.ProcessId(pid, who.start + 1)}, 0.0)
        assert forks.alive(who)
        forks.kill_and_reap(pid)

    in_fork(body)


def test_other_boot(run_dir: str) -> None:
    """What was written before a reboot names nobody who could live."""

    def body() -> None:
        told = Told()
        pid = forks.spawn(marked("app", told.stay))
        (who,) = forks.identities(told.pids(1))
        leave(run_dir, Identity(TOKEN, "another boot", who.pid, who.start))
        assert take(run_dir).killed == 0
        assert forks.alive(who)
        forks.kill_and_reap(pid)

    in_fork(body)


@pytest.mark.parametrize("damage", [b"", b"{", b'{"token": 5}', b"\xff" * 100])
def test_damaged_identity(run_dir: str, damage: bytes) -> None:
    """It is reported, and what an earlier root left is found by the run_dir in a program's environment."""

    def body() -> None:
        told = Told()
        env = {"REGROW_RUN_DIR": run_dir, "REGROW_CHILD": f"{TOKEN}:web:1"}

        def leave_two() -> None:
            forks.fork_and_stay(lambda: told.become(env), marked("app", told.stay))

        pid = root(run_dir, told, leave_two)
        left = forks.identities(told.pids(2))
        for who in left:
            until_marked(who.pid)
        forks.kill_and_reap(pid)
        Path(run_dir, "identity").write_bytes(damage)
        taken = take(run_dir)
        assert taken.killed == 2
        assert "damaged" in taken.reports[0]
        assert not any(map(forks.alive, left))
        reap_adopted()

    in_fork(body)


def until_marked(pid: int) -> None:
    """Wait until the process shows the marker of a child (its exec is over)."""
    while (marker := identity.read_marker(pid)) is None or marker.name == identity.ROOT_NAME:
        os.sched_yield()


def test_files_of_a_living_root_were_removed(run_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has tidied the run_dir of a living root away: it is refused all the same."""
    monkeypatch.setattr(takeover, "_DYING_ROOT_S", 0.05)

    def body() -> None:
        told = Told()
        env = {"REGROW_RUN_DIR": run_dir, "REGROW_CHILD": f"{TOKEN}:web:1"}
        pid = root(run_dir, told, lambda: forks.fork_and_stay(lambda: told.become(env)))
        (worker,) = forks.identities(told.pids(1))
        until_marked(worker.pid)
        for name in os.listdir(run_dir):
            os.unlink(os.path.join(run_dir, name))
        with pytest.raises(Refused, match=f"pid {pid}"):
            take(run_dir)
        assert forks.alive(worker)
        forks.kill_and_reap(pid)
        forks.kill_and_reap(worker.pid)

    in_fork(body)


def test_lock_of_a_living_root_was_replaced(run_dir: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the identity still there, the living root is known by it."""
    monkeypatch.setattr(takeover, "_DYING_ROOT_S", 0.05)

    def body() -> None:
        told = Told()
        pid = root(run_dir, told)
        os.unlink(os.path.join(run_dir, "lock"))
        with pytest.raises(Refused, match=f"pid {pid}"):
            take(run_dir)
        forks.kill_and_reap(pid)

    in_fork(body)


@pytest.mark.root
def test_run_dir_of_somebody_else(run_dir: str) -> None:
    """A run_dir of another user, or open to everybody, is not used."""
    if os.geteuid() != 0:
        pytest.skip("needs root to give a directory away")
    os.makedirs(run_dir)
    os.chown(run_dir, 1234, 1234)

    def body() -> None:
        with pytest.raises(RunDirError, match="belongs to uid 1234"):
            take(run_dir)
        os.chown(run_dir, 0, 0)
        os.chmod(run_dir, 0o777)
        with pytest.raises(RunDirError, match="everybody may write"):
            take(run_dir)
        assert os.listdir(run_dir) == []

    in_fork(body)


def test_run_dir_that_cannot_be_used(tmp_path: Path) -> None:
    """The error says what and why."""
    (tmp_path / "file").touch()

    def body() -> None:
        with pytest.raises(RunDirError, match="Not a directory"):
            take(str(tmp_path / "file" / "run"))
        with pytest.raises(RunDirError, match="cannot use /proc/1/nothing"):
            take("/proc/1/nothing")

    in_fork(body)
