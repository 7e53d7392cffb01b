"""Programs with listening sockets of the file, and who has them."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from configs import Config
from harness import DaemonEnded
from tree import Tree
from wire import TIMEOUT_S

PROGRAM = Path(__file__).parents[1] / "programs" / "listeners.py"
COMMAND = [sys.executable, str(PROGRAM)]
FUNCTION = "listeners:serve"


def free_port() -> int:
    """A port that nobody has, just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def connect(address: str | int) -> socket.socket:
    """A connection to a port of this host, or to a path."""
    if isinstance(address, int):
        return socket.create_connection(("127.0.0.1", address), timeout=TIMEOUT_S)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(TIMEOUT_S)
    made.connect(address)
    return made


def ask(address: str | int) -> dict[str, Any]:
    """What the worker that takes this connection tells of itself."""
    with connect(address) as asking:
        told = b"".join(iter(lambda: asking.recv(4096), b""))
    return dict(json.loads(told))


def refused(tree: Tree, config: Config) -> str:
    """What is said at a start that fails with 1; nothing was started, nothing is left."""
    config.write()
    with pytest.raises(DaemonEnded) as ended:
        tree.start()
    assert ended.value.status == 1
    assert not list((tree.directory / "run").glob("i*"))
    assert not (tree.directory / "log").exists() or not list((tree.directory / "log").iterdir())
    (line,) = ended.value.output.splitlines()
    return line


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has, as the kernel numbers them."""
    folder = Path(f"/proc/{pid}/fd")
    return {link for fd in folder.iterdir() if (link := os.readlink(fd)).startswith("socket:")}


def is_listening(path: str) -> bool:
    """Whether anybody does at this path."""
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(path) == 0


def listens(pid: int, path: str) -> bool:
    """Whether a process holds a socket of that path."""
    inodes = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(f" {path}")}
    return any(f"socket:[{inode}]" in sockets_of(pid) for inode in inodes)
