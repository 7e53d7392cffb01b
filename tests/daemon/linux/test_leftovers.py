"""What dead children leave behind, on real processes."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import forks
import pytest
from forks import TOKEN, Mini, Told, in_fork

from regrow.daemon.linux import identity, kernel, owners, procfs
from regrow.daemon.linux.leftovers import Leftovers


def test_nothing_left() -> None:
    """A child without descendants is gone as soon as it is reaped."""

    def body() -> None:
        mini = Mini()
        mini.child("a", lambda: None)
        forks.next_death()
        assert mini.sweep() == {("a", 1)}
        assert mini.left.everything()

    in_fork(body)


def test_rest_of_the_process_group_is_killed() -> None:
    """What a child left running in its own group ends with it, at once."""

    def body() -> None:
        mini, told = Mini(), Told()
        mini.child("a", lambda: (forks.spawn(told.stay, session=False), told.pids(1)))
        mini.await_clear("a")

    in_fork(body)


@pytest.mark.parametrize("siblings", [0, 2])
def test_escaped_daemon_is_killed(siblings: int) -> None:
    """A daemon that left session and parent is known by its marker, and its siblings' daemons are not touched."""

    def body() -> None:
        mini, told = Mini(), Told()
        for number in range(siblings):
            mini.child(f"sibling{number}", lambda: forks.escape_and_stay(told.stay))
        others = forks.identities(told.pids(siblings))

        main = mini.child("a", lambda: forks.escape_and_stay(told.stay))
        (escaped,) = forks.identities(told.pids(1))
        os.kill(main, signal.SIGKILL)
        mini.await_clear("a")
        assert not forks.alive(escaped)
        assert all(map(forks.alive, others))
        mini.end()
        assert not any(map(forks.alive, others))

    in_fork(body)


def test_adopted_from_a_living_child_is_left_alone() -> None:
    """A living child's daemon becomes ours to reap, not ours to end; its death is no death of the child."""

    def body() -> None:
        mini, told = Mini(), Told()
        mini.child("a", lambda: forks.escape_and_stay(told.stay))
        mini.child("b", forks.block)
        (daemon,) = told.pids(1)
        assert daemon in procfs.children_of_self()
        assert mini.left.dead([]) == set()
        os.kill(daemon, signal.SIGUSR1)
        forks.next_death()
        assert mini.sweep() == set()
        assert daemon not in procfs.children_of_self()
        mini.end()

    in_fork(body)


def test_waits_until_the_last_is_reaped() -> None:
    """A child is reported gone neither early nor twice."""

    def body() -> None:
        mini, told = Mini(), Told()
        main = mini.child("a", lambda: forks.escape_and_stay(told.stay))
        (escaped,) = told.pids(1)
        os.kill(main, signal.SIGKILL)
        os.waitid(os.P_PID, main, os.WEXITED | os.WNOWAIT)
        batch = mini.reap()
        assert batch == {("a", 1)}
        assert mini.left.dead(batch) == batch
        assert mini.left.remains(("a", 1)) == [escaped]
        assert mini.left.sweep() == set()
        os.waitid(os.P_PID, escaped, os.WEXITED | os.WNOWAIT)
        assert mini.left.sweep() == set(), "a zombie's own children may have come meanwhile"
        assert mini.reap() == set()
        assert mini.left.sweep() == {("a", 1)}
        assert mini.left.sweep() == set()

    in_fork(body)


def test_daemons_that_fork_again_are_caught() -> None:
    """A chain of daemons, each of which makes the next in a new session and ends, comes to its end."""

    def hop(told: Told) -> None:
        told.tell()
        while True:
            if os.getpid() != os.getsid(0):
                os.setsid()
            if os.fork():
                os._exit(0)

    def body() -> None:
        mini, told = Mini(), Told()
        for number in range(2):
            mini.child(f"a{number}", lambda: forks.escape_and_stay(lambda: hop(told)))
        told.pids(2)
        for pid in list(mini.main):
            os.kill(pid, signal.SIGKILL)
        mini.await_clear("a0", "a1")

    in_fork(body)


def test_daemons_that_watch_over_each_other_are_caught() -> None:
    """Each of a pair starts the other again when it dies; both end all the same."""

    def keeper(told: Told) -> None:
        told.tell()
        while True:
            os.waitpid(forks.spawn(forks.block), 0)

    def body() -> None:
        mini, told = Mini(), Told()
        main = mini.child("a", lambda: forks.escape_and_stay(*[lambda: keeper(told)] * 5))
        mini.child("b", forks.block)
        told.pids(5)
        os.kill(main, signal.SIGKILL)
        mini.await_clear("a")
        mini.end()

    in_fork(body)


def _nameless(told: Told) -> None:
    told.become({})


@pytest.mark.parametrize("owner", ["dead", "living"])
def test_who_is_in_the_middle_of_an_exec_is_waited_for(owner: str) -> None:
    """It cannot be told yet whose it is, for however long: nobody is gone before, and nobody is killed for it."""

    def body() -> None:
        mini, told = Mini(), Told()
        mains = {owner: mini.child(owner, lambda: forks.escape_and_stay(told.stay))}
        mains |= {name: mini.child(name, forks.block) for name in {"dead", "living"} - {owner}}
        (escaped,) = forks.identities(told.pids(1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(procfs, "environ", lambda _pid: b"")
            patch.setattr(procfs, "in_exec", lambda pid: pid == escaped.pid)
            os.kill(mains["dead"], signal.SIGKILL)
            while mains["dead"] in mini.main:
                forks.next_death()
                assert not mini.sweep()
            calls = mini.again.calls
            assert calls
            forks.next_death()  # of nobody: it is time to look again
            assert not mini.sweep()
            assert mini.again.calls > calls
            assert forks.alive(escaped)
        mini.await_clear("dead")
        assert forks.alive(escaped) == (owner == "living")
        mini.end()

    in_fork(body)


def test_an_exec_that_does_not_end_holds_nobody_up_for_good() -> None:
    """Its program may be on a disk that does not answer; it is ended with the supervisor."""

    def body() -> None:
        mini, told = Mini(), Told()
        mini.child("living", lambda: forks.escape_and_stay(told.stay))
        main = mini.child("dead", forks.block)
        (escaped,) = forks.identities(told.pids(1))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owners, "MAX_TIMES", 10)
            patch.setattr(procfs, "environ", lambda _pid: b"")
            patch.setattr(procfs, "in_exec", lambda _pid: True)
            os.kill(main, signal.SIGKILL)
            mini.await_clear("dead")
            assert forks.alive(escaped)
            mini.end()

    in_fork(body)


@pytest.mark.parametrize("env", [{}, {"SOME": "thing"}])
def test_an_exec_that_is_over_is_known_as_such(env: dict[str, str]) -> None:
    """Also of a program without any environment, and of one that is gone."""

    def body() -> None:
        pid = forks.spawn(lambda: forks.exec_blocking(env))
        while Path(f"/proc/{pid}/comm").read_text() != "cat\n" or procfs.in_exec(pid):
            os.sched_yield()
        assert procfs.environ(pid) == b"".join(f"{name}={value}\0".encode() for name, value in env.items())
        forks.kill_and_reap(pid)
        assert not procfs.in_exec(pid)

    in_fork(body)


def test_nameless_daemon_of_an_only_child_is_killed() -> None:
    """Without marker, session and parent it can still be nobody else's."""

    def body() -> None:
        mini, told = Mini(), Told()
        main = mini.child("a", lambda: forks.escape_and_stay(lambda: _nameless(told)))
        (escaped,) = forks.identities(told.pids(1))
        os.kill(main, signal.SIGKILL)
        mini.await_clear("a")
        assert not forks.alive(escaped)

    in_fork(body)


def test_nameless_daemon_among_siblings_ends_with_the_supervisor() -> None:
    """It might be the living sibling's: left alone until everything ends."""

    def body() -> None:
        mini, told = Mini(), Told()
        main = mini.child("a", lambda: forks.escape_and_stay(lambda: _nameless(told)))
        mini.child("b", forks.block)
        (escaped,) = forks.identities(told.pids(1))
        _until_nameless(escaped.pid)
        os.kill(main, signal.SIGKILL)
        mini.await_clear("a")
        assert forks.alive(escaped)
        mini.end()
        assert not forks.alive(escaped)

    in_fork(body)


def _until_nameless(pid: int) -> None:
    while procfs.environ(pid):
        os.sched_yield()


def test_what_a_dead_supervisor_left_is_killed() -> None:
    """The workers and daemons of a supervisor that was killed end before it counts as gone; others' do not."""

    def body() -> None:
        mini, told = Mini(), Told()

        def supervisor() -> None:
            kernel.set_child_subreaper()

            def worker() -> None:
                identity.mark(f"{TOKEN}:below:9")
                forks.escape(told.stay)
                forks.escape(lambda: _nameless(told))
                told.stay()

            forks.spawn(worker)
            forks.block()

        main = mini.child("sub", supervisor, supervises=True)
        below = forks.identities(told.pids(3))
        other = mini.child("other", supervisor, supervises=True)
        others = forks.identities(told.pids(3))
        os.kill(main, signal.SIGKILL)
        mini.await_clear("sub")
        assert not any(map(forks.alive, below))
        assert all(map(forks.alive, others))
        os.kill(other, signal.SIGKILL)
        mini.await_clear("other")
        assert not any(map(forks.alive, others))

    in_fork(body)


def test_forks_of_the_supervisor_itself_are_left_alone() -> None:
    """What the supervisor forked for a purpose of its own carries its marker, and ends only with it."""

    def body() -> None:
        mini, told = Mini(), Told()
        helper = forks.spawn(told.stay)
        main = mini.child("a", forks.block)
        told.pids(1)
        os.kill(main, signal.SIGKILL)
        mini.await_clear("a")
        assert procfs.children_of_self() == [helper]
        mini.end()

    in_fork(body)


def test_strangers_are_never_touched() -> None:
    """Children from before, and unmarked ones where strangers may come, live on; ours end."""

    def body() -> None:
        told = Told()
        before = forks.spawn(told.stay)
        mini = Mini(strangers=[before])
        later = forks.spawn(lambda: _nameless(told))
        mini.child("a", lambda: forks.escape_and_stay(told.stay))
        told.pids(3)
        _until_nameless(later)
        mini.end()
        assert procfs.children_of_self() == [before, later]
        forks.kill_and_reap(before, later)

    in_fork(body)


def test_child_that_dies_before_its_session_does_not_take_us_along() -> None:
    """A child killed at once after the fork is still in the supervisor's own group."""

    def body() -> None:
        os.setpgid(0, 0)
        mini = Mini()
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        mini.left.started("a", 1, pid)
        mini.main[pid] = ("a", 1)
        mini.await_clear("a")

    in_fork(body)


PID_ONE = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
import forks
from regrow.daemon.linux import identity, kernel, procfs
assert os.getpid() == 1 and procfs.usable()
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
assert identity.locate()
mini, told = forks.Mini(guarded=True), forks.Told()
stranger = forks.spawn(lambda: told.become({}))
told.pids(1)
while procfs.environ(stranger):
    os.sched_yield()
main = mini.child("a", lambda: forks.escape_and_stay(told.stay))
escaped, = told.pids(1)
os.kill(main, signal.SIGKILL)
mini.await_clear("a")
assert procfs.children_of_self() == [stranger], procfs.children_of_self()
mini.end()
assert procfs.children_of_self() == [stranger]
print("alone with a stranger")
"""


@pytest.mark.root
def test_as_pid_one_strangers_live_on() -> None:
    """As PID 1 of a container everybody's orphans come to us: only those with our marker are ended."""
    if os.geteuid() != 0:
        pytest.skip("needs root for a pid namespace")
    support = str(Path(forks.__file__).parent)
    argv = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", sys.executable, "-P", "-c", PID_ONE, support]
    env = identity.with_placeholder(dict(os.environ))
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (0, "alone with a stranger\n"), done.stderr


@pytest.mark.slow
def test_cost_with_many_children() -> None:
    """What one death costs while nothing is left behind; printed, not judged."""

    def body() -> None:
        mini = Mini()
        identity.mark(str(mini.own))
        for total in (10, 100, 1000):
            while len(mini.main) < total:
                mini.child(f"c{len(mini.main)}", forks.block)
            spent_s = sorted(_one_death(mini, number) for number in range(20))
            forks.measured(f"a death among {total} children", spent_s[10])
        mini.end()

    in_fork(body)


def _one_death(mini: Mini, number: int) -> float:
    """The time from a child's death to the knowledge that nothing is left of it, less the reaping itself."""
    pid = mini.child(f"one{number}", lambda: None)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    start_s = time.perf_counter()
    mini.left.before_reap(pid)
    before_s = time.perf_counter() - start_s
    batch = mini.reap()
    start_s = time.perf_counter()
    assert mini.left.dead(batch) == set()
    return before_s + time.perf_counter() - start_s


def test_without_free_descriptors() -> None:
    """A death is heard out when no descriptor is left to look with."""

    def body() -> None:
        mini = Mini()
        mini.child("a", lambda: None)
        forks.next_death()
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
        with pytest.raises(OSError):
            os.dup(0)
        assert mini.sweep() == {("a", 1)}
        assert mini.left.everything()
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    in_fork(body)


def test_unmarked_supervisor_does_not_guess() -> None:
    """Where the supervisor's own marker does not show, nothing follows from there being one child only."""

    def body() -> None:
        identity._areas.marker = None
        told = Told()
        left = Leftovers(identity.Marker(TOKEN, "app", 1))
        pid = forks.spawn(lambda: None)
        left.started("a", 1, pid)
        helper = forks.spawn(told.stay)
        told.pids(1)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        left.before_reap(pid)
        os.waitpid(pid, 0)
        left.reaped(pid)
        assert left.dead([("a", 1)]) == set()
        (who,) = forks.identities([helper])
        assert forks.alive(who)
        forks.kill_and_reap(helper)

    in_fork(body)
