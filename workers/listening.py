"""
The listening sockets that a worker was given: `sockets = ["web"]` in its table.

Works in functions, agents and Python commands alike; in any process that was given sockets by this protocol, by
systemd too.

Source: sd_listen_fds(3).
"""

from __future__ import annotations

import os
import socket

_FIRST_FD = 3

_given: tuple[int, dict[str, socket.socket]] = (0, {})
"""Of which process, and what: a socket is wrapped once, for whoever forgets a wrapper closes the socket."""


def sockets() -> dict[str, socket.socket]:
    """
    The listening sockets of this process by name, in the order of the file; empty if it was given none.

    They are the same objects at every call. A process that this one forks was given none, whatever it has inherited.
    """
    global _given
    if _given[0] != os.getpid():
        _given = (os.getpid(), _wrapped())
    return dict(_given[1])


def _wrapped() -> dict[str, socket.socket]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return {}
    count = os.environ.get("LISTEN_FDS", "")
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found = {}
    for index in range(int(count) if count.isdecimal() else 0):
        os.set_inheritable(_FIRST_FD + index, False)  # what this process runs is to have it only if it passes it on
        name = names[index] if index < len(names) else ""
        name = name if name and name not in found else f"{name or 'unknown'}{index}"
        found[name] = socket.socket(fileno=_FIRST_FD + index)
    return found
