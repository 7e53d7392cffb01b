"""
What the commands worker has to tell the daemon: each run is an event.

The supervisor may be stopped, or busy: nothing here waits for it.

Source: sd_notify(3), unix(7).
"""

from __future__ import annotations

import os
import socket
from collections import deque

from regrow.config.readable import readable

MOST_WAITING = 10_000
AGAIN_S = 0.05


class News:
    """Events on their way to the supervisor, in their order; of too many, the oldest are lost and counted."""

    def __init__(self) -> None:
        address = os.environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._waiting: deque[bytes] = deque()
        self._lost = 0

    def tell(self, event: str, text: str) -> None:
        """Have an event written down."""
        if len(self._waiting) >= MOST_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(f"X_REGROW_EVENT={event}\nX_REGROW_TEXT={readable(text)}".encode())
        self.send()

    def send(self) -> float | None:
        """Send what can be sent; in how many seconds to try again, None when nothing waits."""
        while self._waiting and self._address:
            try:
                self._socket.sendto(self._waiting[0], self._address)
            except (BlockingIOError, InterruptedError):
                return AGAIN_S
            except OSError:
                pass  # there is no supervisor any more: nobody to tell
            self._waiting.popleft()
        self._waiting.clear()
        if self._lost and self._address:
            lost, self._lost = self._lost, 0
            self.tell("command_ended", f"{lost} events of commands were lost: the daemon did not take them")
        return AGAIN_S if self._waiting else None

    def close(self) -> None:
        self._socket.close()
