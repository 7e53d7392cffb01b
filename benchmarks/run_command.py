"""
A system command: from asking for it to knowing how it ended, and that nothing of it is left.

Floor: a bare process makes the same program by `posix_spawn` and waits for it on a pidfd. Through regrow it is asked
for over a socket, gets a runner, a session, a directory and limits, and, where the daemon is root, namespaces of its
own. `input` feeds and reads a mebibyte; its floor does so through two pipes.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable
from typing import Any

from benchmarks.contenders import Daemon, workspace
from benchmarks.measure import Row, Sample, Size, interleave
from regrow.ipc import Client

PROGRAM = "/usr/bin/true"
FED = bytes(1 << 20)
TABLES = "[commands]\n[supervisor.app]\n"


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    with workspace() as directory, Daemon(directory, TABLES) as daemon, Client(daemon.run_dir) as client:
        contenders = {
            "floor": timed(spawn),
            "own": timed(command(client)),
            "shared": timed(command(client, share_processes=True)),
            "isolated": timed(command(client, isolate=["network", "tmp", "root"])),
            "fed floor": timed(feed),
            "fed": timed(command(client, ["cat"], input=FED, stdout_limit=len(FED))),
        }
        found = interleave(contenders, size.of(100, 5), warm_up=size.of(10, 2))
    texts = {
        "own": "command: asked for → ended",
        "shared": "… sharing the host's processes",
        "isolated": "… without network, own /tmp, read-only root",
    }
    rows = [Row(text, "µs", found["floor"], found[name], "", None) for name, text in texts.items()]
    return [*rows, Row("… 1 MiB in and out", "µs", found["fed floor"], found["fed"], "", None)]


def timed(run: Callable[[], None]) -> Sample:
    """Microseconds."""

    def sample() -> float:
        began_s = time.perf_counter()
        run()
        return (time.perf_counter() - began_s) * 1e6

    return sample


def spawn() -> None:
    """The floor."""
    pid = os.posix_spawn(PROGRAM, [PROGRAM], {})
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    os.waitpid(pid, 0)
    os.close(pidfd)


def feed() -> None:
    """The floor of what is fed."""
    done = subprocess.run(["cat"], input=FED, stdout=subprocess.PIPE, check=True)
    assert len(done.stdout) == len(FED)


def command(client: Client, argv: list[str] | None = None, **options: Any) -> Callable[[], None]:
    """The same through regrow."""

    def run() -> None:
        assert client.run_command(argv or [PROGRAM], **options).ok

    return run
