"""
The floors: the same work in bare loops, without any supervision, in a process that loads next to nothing.

    fork FIFO                  a forked child; when it dies, another
    spawn COUNT PROGRAM FIFO   COUNT programs; when one dies, another
    batch COUNT PROGRAM FIFO   on each line: `start` all, or `stop` and reap all; answers with a line
    fork_once                  on each line: a forked child writes a byte into a pipe; answers how many µs it took
    idle COUNT                 forked children that wait; their pids in a line

Each ends when its standard input is closed.

Source: architecture, section 10.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

from benchmarks import worker


def keep_alive(count: int, make: Callable[[], int]) -> None:
    """Make `count` children; make another for each one that dies. Single-threaded: pidfd, epoll, waitid."""
    epoll = select.epoll()
    epoll.register(0, select.EPOLLIN)
    pids: dict[int, int] = {}

    def one() -> None:
        pid = make()
        fd = os.pidfd_open(pid)
        pids[fd] = pid
        epoll.register(fd, select.EPOLLIN)

    for _ in range(count):
        one()
    while True:
        for fd, _events in epoll.poll():
            if fd == 0:
                end(pids)
            os.waitid(os.P_PIDFD, fd, os.WEXITED)
            del pids[fd]
            os.close(fd)
            one()


def forked(fifo: str) -> int:
    """A child that announces itself."""
    pid = os.fork()
    if pid == 0:
        worker.announce(fifo)
    return pid


def spawned(program: str, fifo: str) -> int:
    """The program, as plainly as it can be started."""
    return os.posix_spawn(program, (program, fifo), os.environ)


def batch(count: int, program: str, fifo: str) -> None:
    """Start and stop `count` programs, each when told so."""
    pids: dict[int, int] = {}
    for line in sys.stdin:
        if line == "start\n":
            started = [spawned(program, fifo) for _ in range(count)]
            print("started", flush=True)
            pids = {os.pidfd_open(pid): pid for pid in started}  # a floor needs them only to stop
        else:
            for fd in pids:
                signal.pidfd_send_signal(fd, signal.SIGTERM)
            for fd in pids:
                os.waitid(os.P_PIDFD, fd, os.WEXITED)
            print("stopped", flush=True)
            for fd in pids:
                os.close(fd)
            pids = {}
    end(pids)


def fork_once() -> None:
    """On each line: fork a child that writes a byte into a pipe; answers with the µs until that was read."""
    for _ in sys.stdin:
        began_s = time.perf_counter()
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(writer, b"x")
            os._exit(0)
        os.read(reader, 1)
        print((time.perf_counter() - began_s) * 1e6, flush=True)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)


def idle(count: int) -> None:
    """Children that do nothing."""
    pids = {}
    for number in range(count):
        pid = os.fork()
        if pid == 0:
            worker.wait()
        pids[-number] = pid
    print(*pids.values(), flush=True)
    sys.stdin.read()
    end(pids)


def end(pids: dict[int, int]) -> NoReturn:
    """Kill all children and exit."""
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    for pid in pids.values():
        os.waitpid(pid, 0)
    os._exit(0)


def main(mode: str, *arguments: str) -> None:
    """Be the floor `mode`."""
    if mode == "fork":
        keep_alive(1, lambda: forked(arguments[0]))
    elif mode == "spawn":
        keep_alive(int(arguments[0]), lambda: spawned(arguments[1], arguments[2]))
    elif mode == "batch":
        batch(int(arguments[0]), arguments[1], arguments[2])
    elif mode == "fork_once":
        fork_once()
    else:
        idle(int(arguments[0]))
