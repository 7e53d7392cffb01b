"""
An agent is killed: how long until a process that monitors it is told?

Floor: a bare process that waits on the pidfd of the same agent, which is killed in the same way. What it takes the
kernel to end a process of that size is in both.
"""

from __future__ import annotations

import os
import select
import signal
import time

from benchmarks.contenders import UNLIMITED, Daemon, agent, supervisor, workspace
from benchmarks.measure import Row, Sample, Size, interleave, ratio_row
from regrow.ipc import Client, ProcessDown


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    tables = supervisor("app", ["echo"], UNLIMITED) + agent("echo", "agents:Echo")
    with workspace() as directory, Daemon(directory, tables) as daemon, Client(daemon.run_dir) as client:
        contenders = {
            "floor": bare(client),
            "monitor": monitored(client),
            "call": pending(client),
        }
        found = interleave(contenders, size.of(200, 10), warm_up=size.of(10, 2))
    return [
        ratio_row("agent killed → DOWN of its monitor", "µs", found["floor"], found["monitor"], 2),
        ratio_row("… → a call to it that was pending fails", "µs", found["floor"], found["call"], 2),
    ]


def living(client: Client) -> int:
    """The pid of the agent, once it has been started again."""
    while True:
        found = client.whereis("echo")
        if found is not None:
            return found.pid
        time.sleep(0.001)


def bare(client: Client) -> Sample:
    """Wait for the pidfd, and nothing else."""

    def sample() -> float:
        fd = os.pidfd_open(living(client))
        epoll = select.epoll()
        epoll.register(fd, select.EPOLLIN)
        began_s = time.perf_counter()
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        epoll.poll(10.0)
        taken_s = time.perf_counter() - began_s
        epoll.close()
        os.close(fd)
        return taken_s * 1e6

    return sample


def monitored(client: Client) -> Sample:
    """Wait for the Down."""

    def sample() -> float:
        pid = living(client)
        with client.monitor("echo") as monitor:
            began_s = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            assert monitor.wait(10.0) is not None
            return (time.perf_counter() - began_s) * 1e6

    return sample


def pending(client: Client) -> Sample:
    """Wait for the answer that does not come."""

    def sample() -> float:
        pid = living(client)
        client.call("echo", "echo", "connected")
        request = client.send_request("echo", "hold")
        began_s = time.perf_counter()
        os.kill(pid, signal.SIGKILL)
        try:
            request.wait_response(10.0)
        except ProcessDown:
            return (time.perf_counter() - began_s) * 1e6
        raise AssertionError("a dead agent answered")

    return sample
