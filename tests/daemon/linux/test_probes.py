"""Waiting for a child to be ready, watching that it stays alive, and the processes that takes."""

from __future__ import annotations

import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from probing import ENV, World, file, free_port, http, program, shell, tcp

from regrow.config.spec import Liveness, Probe, Ready, ReadyKind
from regrow.daemon.linux import probe_process, probes
from regrow.daemon.linux.probe_process import ProbeProcess
from regrow.daemon.linux.probes import LivenessWatch, ProbeProcesses, ReadyWait, Surroundings, make_attempt, next_due_s
from regrow.daemon.loop import Loop

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BAD = b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
def world() -> Iterator[World]:
    """A loop with peers."""
    made = World()
    yield made
    made.close()


def wait_for(world: World, probe: Probe, on_ready: Callable[[], None] | None = None) -> ReadyWait:
    """A ReadyWait that stops the loop when ready."""
    return ReadyWait(world.loop, Ready(probe), world.around, on_ready or world.loop.stop)


def watch(world: World, probe: Probe, on_failed: Callable[[str], None], failures: int = 3) -> LivenessWatch:
    """A fast LivenessWatch."""
    liveness = Liveness(probe, every_s=0.005, timeout_s=5.0, failures=failures)
    return LivenessWatch(world.loop, liveness, world.around, on_failed)


def after_failures(monkeypatch: pytest.MonkeyPatch, count: int, action: Callable[[], None]) -> None:
    """Do something when a ReadyWait has failed `count` times."""
    failed: list[str] = []
    original = ReadyWait._again

    def again(self: ReadyWait, failure: str) -> None:
        original(self, failure)
        failed.append(failure)
        if len(failed) == count:
            action()

    monkeypatch.setattr(ReadyWait, "_again", again)


def test_ready_is_told_once_and_never_from_the_constructor(world: World) -> None:
    """A port that is open already is ready in the first turn, once."""
    calls: list[int] = []
    wait_for(world, tcp(world.listen()), lambda: calls.append(1))
    assert calls == []
    world.loop.call_later(0.05, world.loop.stop)
    world.run()
    assert calls == [1]


def test_ready_when_the_port_opens(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are repeated until the port opens; the last one is kept in words."""
    port = free_port()

    def open_port() -> None:
        world.listen(address=("127.0.0.1", port))

    after_failures(monkeypatch, 3, open_port)
    wait = wait_for(world, tcp(port))
    world.run()
    assert wait.last_failure == f"connection refused by 127.0.0.1:{port}"


def test_ready_when_the_file_appears(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that appears later makes the child ready."""
    after_failures(monkeypatch, 3, (tmp_path / "f").touch)
    wait = wait_for(world, file(tmp_path / "f"))
    world.run()
    assert wait.last_failure == f"{tmp_path / 'f'} does not exist"


def test_ready_when_the_program_succeeds(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that fails at first and then succeeds makes the child ready."""
    after_failures(monkeypatch, 2, (tmp_path / "f").touch)
    wait = wait_for(world, shell(f"test -e {tmp_path}/f"))
    world.run()
    assert wait.last_failure == "/bin/sh exited with status 1"


def test_ready_when_the_server_stops_answering_errors(world: World) -> None:
    """Bad statuses are retried."""
    port = world.answer(BAD, BAD, OK, close=True)
    wait = wait_for(world, http(port))
    world.run()
    assert wait.last_failure == f"HTTP status 500 from 127.0.0.1:{port}"


def test_delays_grow_to_their_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """10 ms, then half as much again each time, never above 250 ms."""
    delays: list[float] = []
    clock = [1000.0]
    monkeypatch.setattr(world.loop, "now", lambda: clock[0])
    wait = wait_for(world, Probe(ReadyKind.TCP, host="nobody", port=1))
    for _ in range(12):
        wait._again("no")
        assert wait._timer is not None
        delays.append(wait._timer.when_s - clock[0])
        wait._timer.cancel()
    wait.cancel()
    assert delays[:3] == pytest.approx([0.01, 0.015, 0.0225])
    assert max(delays) == delays[-1] == pytest.approx(0.25)


@pytest.mark.parametrize("kind", [ReadyKind.NOTIFY, ReadyKind.STARTED, ReadyKind.LINE])
def test_kinds_that_are_told_are_refused(world: World, kind: ReadyKind) -> None:
    """Notify, started and line are nobody's attempt."""
    with pytest.raises(ValueError, match="is not a probe"):
        make_attempt(world.loop, Probe(kind), 1.0, world.around, lambda _text: None)


def test_ready_cancelled_between_attempts_is_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled while waiting for the next attempt: nothing more happens, also when the port opens."""
    port = free_port()
    waits: list[ReadyWait] = []

    def cancel_and_open() -> None:
        waits[0].cancel()
        waits[0].cancel()
        world.listen(address=("127.0.0.1", port))
        world.loop.call_later(0.1, world.loop.stop)

    after_failures(monkeypatch, 2, cancel_and_open)
    waits.append(wait_for(world, tcp(port), unwanted))
    world.run()


def test_ready_cancelled_at_once_is_silent(world: World) -> None:
    """Cancelled with its outcome on the way, a connection pending, or a program running."""
    for probe in (tcp(world.listen()), tcp(world.full_port()), http(world.listen()), program("true")):
        wait_for(world, probe, unwanted).cancel()
    world.loop.call_later(0.02, world.loop.stop)
    world.run()


def test_ready_cancelled_in_an_attempt_is_silent(world: World) -> None:
    """Cancelled while a connection is pending, an answer awaited, or a program runs."""
    for probe in (tcp(world.full_port()), http(world.listen()), program("tail", "-f", "/dev/null")):
        world.loop.call_later(0.01, wait_for(world, probe, unwanted).cancel)
    world.loop.call_later(0.03, world.loop.stop)
    world.run()


def test_late_program_after_cancel_changes_nothing(world: World) -> None:
    """A program that ended before the cancel, but was not reaped yet, is reaped and not told."""
    wait = wait_for(world, program("true"), unwanted)
    (pid,) = world.processes.owned_pids()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    wait.cancel()
    assert world.processes.reaped(*os.waitpid(pid, 0))
    assert world.processes.owned_pids() == set()


def test_liveness_fails_after_failures_in_a_row(world: World) -> None:
    """A pass in between begins the count anew; the last reason is told, once."""
    port = world.answer(BAD, BAD, OK, BAD, BAD, OK, OK, BAD, BAD, BAD, close=True)
    told: list[str] = []

    def failed(text: str) -> None:
        told.append(text)
        world.loop.call_later(0.05, world.loop.stop)

    begun_s = world.loop.now()
    watch(world, http(port), failed)
    world.run()
    assert told == [f"HTTP status 500 from 127.0.0.1:{port}"]
    assert len(world.sockets) == 11  # the server and one connection for each of ten attempts
    assert world.loop.now() - begun_s >= 10 * 0.005


def test_liveness_timeout_is_a_failure(world: World) -> None:
    """An attempt without an answer fails at its own limit."""
    told: list[str] = []

    def failed(text: str) -> None:
        told.append(text)
        world.loop.stop()

    port = world.listen()
    liveness = Liveness(http(port), every_s=0.005, timeout_s=0.02, failures=2)
    LivenessWatch(world.loop, liveness, world.around, failed)
    world.run()
    assert told == [f"no HTTP status from 127.0.0.1:{port} within 0.02 s, nothing came"]


def test_liveness_attempts_never_overlap(world: World) -> None:
    """A server that answers slower than the period has one connection at a time, and what was missed is left out."""
    open_now: list[int] = []
    seen: list[int] = []

    def on_accept(peer: socket.socket) -> None:
        open_now.append(1)
        seen.append(len(open_now))

        def answer() -> None:
            open_now.pop()
            peer.send(OK)
            if len(seen) == 4:
                world.loop.stop()

        world.loop.call_later(0.023, answer)  # several periods of 5 ms

    live = watch(world, http(world.serve(on_accept)), unwanted)
    world.run()
    live.cancel()
    assert seen == [1, 1, 1, 1]


def test_liveness_cancel_at_each_stage_is_silent(world: World) -> None:
    """Cancelled before the first attempt, and in the middle of one."""
    watch(world, tcp(free_port()), unwanted, failures=1).cancel()
    for probe in (tcp(world.full_port()), http(world.listen()), program("tail", "-f", "/dev/null")):
        live = watch(world, probe, unwanted, failures=1)
        world.loop.call_later(0.02, live.cancel)
        world.loop.call_later(0.03, world.loop.stop)
        world.run()


@given(
    due_s=st.floats(0, 1e7),
    every_s=st.floats(0.001, 1e5),
    late_s=st.floats(-10, 1e8),
)
def test_next_attempt_is_ahead_but_never_far(due_s: float, every_s: float, late_s: float) -> None:
    """However long the supervisor was stopped, the next attempt lies ahead by at most one period (plus earliness)."""
    now_s = due_s + late_s
    following_s = next_due_s(due_s, every_s, now_s)
    assert following_s > now_s
    assert following_s <= max(now_s, due_s) + every_s * (1 + 1e-6) + 1e-6


@pytest.mark.parametrize(("now_s", "following_s"), [(9, 15), (10, 15), (11, 15), (15, 20), (93, 95)])
def test_attempts_stay_on_their_grid(now_s: float, following_s: float) -> None:
    """Periods do not drift with the time attempts take."""
    assert next_due_s(10.0, 5.0, now_s) == following_s


def test_sweep_may_come_first(world: World) -> None:
    """A process that the runtime's sweep reaps is told like one reaped here; a stranger is left to the runtime."""
    outcomes: list[str] = []
    attempt = make_attempt(world.loop, shell("exit 3"), 10.0, world.around, outcomes.append)
    attempt.begin()
    world.sweep()
    assert outcomes == ["/bin/sh exited with status 3"]
    assert not world.processes.reaped(1, 0)


def test_reaped_by_a_stranger_is_a_failure(world: World) -> None:
    """When somebody reaps a process and does not say so, the attempt fails instead of waiting for ever."""
    outcomes: list[str] = []

    def done(outcome: str) -> None:
        outcomes.append(outcome)
        world.loop.stop()

    make_attempt(world.loop, program("true"), 10.0, world.around, done).begin()
    (pid,) = world.processes.owned_pids()
    os.waitpid(pid, 0)
    world.run()
    assert outcomes == ["true was killed by SIGKILL"]


def test_program_that_cannot_be_killed_is_not_piled_upon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the process of an earlier attempt lives on, no second one is started, and that is the reason given."""

    def forget(_self: ProbeProcesses, process: ProbeProcess) -> None:
        process.on_exit = None

    monkeypatch.setattr(probes, "EXEC_ATTEMPT_S", 0.02)
    with monkeypatch.context() as broken:
        broken.setattr(ProbeProcesses, "kill", forget)
        after_failures(broken, 3, world.loop.stop)
        wait = wait_for(world, program("tail", "-f", "/dev/null"))
        world.run()
        assert len(world.processes.owned_pids()) == 1
        assert wait.last_failure == "the check before this one cannot be killed"
        wait.cancel()


def test_abandoned_processes_are_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed processes that have not gone yet are counted, and too many of them hold up new ones."""
    monkeypatch.setattr(probe_process, "MAX_ABANDONED", 2)
    for _ in range(2):
        wait_for(world, program("tail", "-f", "/dev/null"), unwanted).cancel()
    assert world.outcome(program("true")).endswith("too many earlier checks cannot be killed")
    world.sweep()
    assert world.outcome(program("true")) == ""


def test_without_a_pidfd_the_process_is_killed_and_reaped_later(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the kernel gives no pidfd the attempt fails, and the process does not stay."""

    def no_pidfd(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as broken:
        broken.setattr(os, "pidfd_open", no_pidfd)
        assert world.outcome(program("tail", "-f", "/dev/null")) == "no free descriptors"
    (pid,) = world.processes.owned_pids()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert world.outcome(program("true")) == ""
    assert world.processes.owned_pids() == set()


def test_no_process_is_a_failure_that_is_retried(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """When fork fails the wait goes on, and recovers by itself."""

    def no_fork() -> int:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    original = os.fork
    monkeypatch.setattr(os, "fork", no_fork)
    after_failures(monkeypatch, 2, lambda: monkeypatch.setattr(os, "fork", original))
    wait = wait_for(world, program("true"))
    world.run()
    assert wait.last_failure == "cannot probe: Resource temporarily unavailable"


def test_program_dies_with_its_supervisor(tmp_path: Path) -> None:
    """SIGKILL of the supervisor ends its checks: the pipe a check holds closes."""
    os.mkfifo(tmp_path / "alive")
    os.mkfifo(tmp_path / "never")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    line = f"exec 3>{tmp_path}/alive; echo up >&3; read x <{tmp_path}/never"
    pid = os.fork()
    if pid == 0:
        supervise(line)
    ends = select.poll()
    ends.register(alive, select.POLLIN)
    assert ends.poll(10_000)
    assert os.read(alive, 100) == b"up\n"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert ends.poll(10_000)
    assert os.read(alive, 100) == b""
    os.close(alive)
    os.waitpid(-1, 0)


def supervise(line: str) -> None:
    """Be a supervisor that runs one check for ever."""
    try:
        loop = Loop()
        ReadyWait(loop, Ready(shell(line)), Surroundings(ProbeProcesses(loop), ENV), loop.stop)
        loop.run()
    finally:
        os._exit(1)


def unwanted(*what: object) -> None:
    """Fail: nobody wants to hear this."""
    raise AssertionError(f"told {what} after cancel")
