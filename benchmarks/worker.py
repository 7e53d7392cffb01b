"""
The function that is supervised, and what the bare loops run in their forks; in both its first act is to be seen.
"""

from __future__ import annotations

import os
import signal


def announce(fifo: str) -> None:
    """Write the pid into `fifo`, and wait for the end."""
    os.write(os.open(fifo, os.O_WRONLY), os.getpid().to_bytes(8, "little"))
    wait()


def wait() -> None:
    """Wait for the end."""
    while True:
        signal.pause()
