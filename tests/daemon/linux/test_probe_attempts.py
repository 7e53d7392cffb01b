"""What holds for attempts of every kind: no descriptors, and being cancelled."""

from __future__ import annotations

import os
import resource
import select
import socket
from pathlib import Path

import pytest
from probing import World, await_end, file, http, program, shell, tcp, unix, unwanted

from regrow.config.spec import Probe
from regrow.daemon.linux.probe_attempt import Attempt
from regrow.daemon.linux.probes import make_attempt

PROBES = ["tcp", "http", "unix", "file", "exec"]


def passing_probe(world: World, kind: str, folder: Path) -> Probe:
    """A probe of each kind that passes."""
    if kind == "unix":
        world.listen(socket.AF_UNIX, str(folder / "s"))
        return unix(folder / "s")
    answering = b"HTTP/1.1 200 OK\r\n\r\n"
    return {"tcp": lambda: tcp(world.listen()), "http": lambda: http(world.answer(answering)),
            "file": lambda: file(folder), "exec": lambda: program("true")}[kind]()  # fmt: skip


@pytest.mark.parametrize("spare", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", PROBES)
def test_no_free_descriptors_is_an_outcome(world: World, folder: Path, kind: str, spare: int) -> None:
    """With few or no descriptors left an attempt fails with that reason or passes, and leaks nothing."""
    probe = passing_probe(world, kind, folder)
    outcomes: list[str] = []

    def done(outcome: str) -> None:
        outcomes.append(outcome)
        world.loop.stop()

    attempt = make_attempt(world.loop, probe, 10.0, world.around, done)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = fill_descriptors(spare)
    try:
        attempt.begin()
    finally:
        for fd in fillers:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    world.run()
    assert outcomes in (["no free descriptors"], [""])
    assert spare > 0 or outcomes == ["no free descriptors"]
    assert spare < 3 or outcomes == [""]


def fill_descriptors(spare: int) -> list[int]:
    """Lower the limit and take every free descriptor but `spare`; those taken."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    for _ in range(spare):
        os.close(taken.pop())
    return taken


@pytest.mark.parametrize("kind", PROBES)
def test_cancel_before_the_outcome_is_told(world: World, folder: Path, kind: str) -> None:
    """An attempt cancelled right after its beginning tells nothing, even when its outcome was known already."""
    attempt = make_attempt(world.loop, passing_probe(world, kind, folder), 10.0, world.around, unwanted)
    attempt.begin()
    attempt.cancel()
    attempt.cancel()
    world.sweep()
    world.loop.call_later(0.0, world.loop.stop)
    world.run()


def test_cancel_a_pending_connection(world: World) -> None:
    """Cancelled while connecting: closed, silent."""
    cancel_in_the_middle(world, tcp(world.full_port()))


def test_cancel_http_before_and_within_the_answer(world: World) -> None:
    """Cancelled before a byte of the answer, and in the middle of its status line."""
    cancel_in_the_middle(world, http(world.listen()))
    seen: list[Attempt] = []

    def half(peer: socket.socket) -> None:
        peer.send(b"HTTP/1.1 2")
        world.loop.call_later(0.01, seen[0].cancel)
        world.loop.call_later(0.02, peer.close)
        world.loop.call_later(0.03, world.loop.stop)

    seen.append(make_attempt(world.loop, http(world.serve(half)), 10.0, world.around, unwanted))
    seen[0].begin()
    world.run()


def test_cancel_a_running_program(world: World, tmp_path: Path) -> None:
    """Cancelled while its program runs: the program is killed."""
    os.mkfifo(tmp_path / "alive")
    os.mkfifo(tmp_path / "never")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    attempt = make_attempt(
        world.loop,
        shell(f"exec 3>{tmp_path}/alive; echo >&3; read x <{tmp_path}/never"),
        10.0,
        world.around,
        unwanted,
    )
    attempt.begin()

    def on_running(_events: int) -> None:
        world.loop.unwatch(alive)
        attempt.cancel()
        world.loop.call_soon(world.loop.stop)

    world.loop.watch(alive, select.EPOLLIN, on_running)
    world.run()
    await_end(world, alive)


def cancel_in_the_middle(world: World, probe: Probe) -> None:
    """Begin, let the loop turn a few times, cancel, let it turn again."""
    attempt = make_attempt(world.loop, probe, 10.0, world.around, unwanted)
    attempt.begin()
    world.loop.call_later(0.01, attempt.cancel)
    world.loop.call_later(0.02, world.loop.stop)
    world.run()
