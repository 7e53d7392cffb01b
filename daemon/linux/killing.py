"""
Ending many processes at once, each of them exactly the one that was meant.

Source: pidfd_open(2), pidfd_send_signal(2), poll(2).
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack

from regrow.daemon.linux import identity, kernel
from regrow.daemon.linux.identity import ProcessId


def kill_all(
    targets: Iterable[ProcessId], deadline_s: float, is_meant: Callable[[int], bool] = lambda pid: True
) -> bool:
    """
    SIGKILL to these processes; whether all of them were dead by `deadline_s` (monotonic), zombies included.

    Whoever may not be signalled is waited for as well. `is_meant` is asked of each pid once nobody else can have it.
    """
    with ExitStack() as opened:
        pidfds = []
        for who in targets:
            pidfd = identity.pidfd_of(who)
            if pidfd is None:
                continue
            opened.callback(os.close, pidfd)
            if not is_meant(who.pid):
                continue
            pidfds.append(pidfd)
            try:
                kernel.pidfd_send_signal(pidfd, signal.SIGKILL)
            except PermissionError:
                pass  # shows in the wait
        return all_dead(pidfds, deadline_s - time.monotonic())


def all_dead(pidfds: Iterable[int], timeout_s: float) -> bool:
    """Wait for up to `timeout_s` until all of these processes are dead, zombies included; whether they are."""
    poller, living = select.poll(), 0
    for pidfd in pidfds:
        poller.register(pidfd, select.POLLIN)
        living += 1
    deadline_s = time.monotonic() + timeout_s
    while living:
        ready = poller.poll(max(0.0, deadline_s - time.monotonic()) * 1000)
        if not ready:
            return False
        for pidfd, _ in ready:
            poller.unregister(pidfd)
            living -= 1
    return True
