"""
What a worker tells its supervisor: ready, status, progress, not needed.

Works from any process that regrow started, in Python; other programs speak sd_notify(3) themselves. Outside of
a supervised process all of it does nothing.

Source: sd_notify(3).
"""

from __future__ import annotations

import os
import socket

from regrow.config.readable import readable


def notify(text: str) -> bool:
    """Send `text` (lines of `NAME=value`) to the supervisor; False when there is none to tell."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    data = readable(text).encode()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto(data, "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return False
    return True


def ready(status: str = "") -> bool:
    """Say that the worker serves from now on (with `ready = "notify"` its start ends here)."""
    return notify(f"READY=1\nSTATUS={_line(status)}" if status else "READY=1")


def status(text: str) -> bool:
    """Say in one line what the worker is doing; `regrow status` shows it as `detail`."""
    return notify(f"STATUS={_line(text)}")


def progress() -> bool:
    """Say that work goes forward; with `watchdog` this is due at least that often."""
    return notify("WATCHDOG=1")


def stopping(text: str = "") -> bool:
    """Say that an orderly stop has begun."""
    return notify(f"STOPPING=1\nSTATUS={_line(text)}" if text else "STOPPING=1")


def _line(text: str) -> str:
    return " ".join(text.splitlines())
