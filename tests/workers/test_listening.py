"""`workers.sockets()`: what a process was given, and what it was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

TELL = """
import json, os, sys
from regrow.workers import sockets
given = sockets()
again = sockets()
reader, writer = os.pipe()
if os.fork() == 0:
    os.write(writer, json.dumps(list(sockets())).encode())
    os._exit(0)
os.wait()
print(json.dumps({
    "names": list(given),
    "fds": [each.fileno() for each in given.values()],
    "same": all(again[name] is each for name, each in given.items()),
    "forked": json.loads(os.read(reader, 1000)),
    "inheritable": [os.get_inheritable(each.fileno()) for each in given.values()],
}))
"""

GIVE = """
import os, socket, sys
made = [socket.socket() for _ in range(3)]
for at, each in enumerate(made, 3):
    each.bind(("127.0.0.1", 0))
    each.listen()
    os.set_inheritable(each.fileno(), True)
    assert each.fileno() == at
os.environ |= {"LISTEN_PID": sys.argv[2] or str(os.getpid()), "LISTEN_FDS": sys.argv[3], "LISTEN_FDNAMES": sys.argv[4]}
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""


def told(count: str, names: str, pid: str = "") -> dict[str, Any]:
    """What a process finds that has three sockets and is told so."""
    argv = [sys.executable, "-c", GIVE, TELL, pid, count, names]
    return dict(json.loads(subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=30).stdout))


@pytest.mark.parametrize(
    ("count", "names", "found"),
    [
        ("3", "web:api:admin", ["web", "api", "admin"]),
        ("2", "web:api:admin", ["web", "api"]),
        ("3", "web", ["web", "unknown1", "unknown2"]),
        ("3", "web:web:", ["web", "web1", "unknown2"]),
        ("0", "", []),
        ("many", "web", []),
    ],
)
def test_names(count: str, names: str, found: list[str]) -> None:
    """Each descriptor has one name, be it not told or told twice; nobody else inherits any of them."""
    one = told(count, names)
    assert (one["names"], one["fds"]) == (found, list(range(3, 3 + len(found))))
    assert (one["same"], one["forked"]) == (True, [])
    assert not any(one["inheritable"])


def test_meant_for_another() -> None:
    """A process that inherits the environment of one that was given sockets has none."""
    assert told("3", "web", pid=str(os.getppid()))["names"] == []
