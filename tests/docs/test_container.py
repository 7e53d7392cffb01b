"""docs/operations.md, "In a container": the daemon as PID 1 of a pid namespace."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from harness import REGROW
from wire import TIMEOUT_S

from regrow.ipc.control import ControlClient

TREE = """
[daemon]
run_dir = "{here}/run"
state_dir = "{here}/state"
log_dir = "{here}/log"
[supervisor.app]
children = ["speaker"]
[worker.speaker]
command = ["sh", "-c", "(setsid true &); echo I speak; exec cat {here}/held"]
stdout = "inherit"
"""


def _ready(address: socket.socket, process: subprocess.Popen[str]) -> None:
    while b"READY=1" not in address.recv(65536).split(b"\n"):
        assert process.poll() is None


@pytest.mark.root
def test_pid_1_stops_in_order(tmp_path: Path) -> None:
    """As PID 1 the daemon brings up its tree, passes on what `inherit` prints, and ends with 0 on SIGTERM."""
    file = tmp_path / "tree.toml"
    file.write_text(TREE.format(here=tmp_path))
    os.mkfifo(tmp_path / "held")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as address:
        address.bind(str(tmp_path / "notify"))
        address.settimeout(TIMEOUT_S)
        process = subprocess.Popen(
            ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", REGROW, "up", str(file)],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify")}, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with process:
            _ready(address, process)
            with ControlClient(tmp_path / "run") as client:
                assert client.request("ping")["pid"] == 1
                assert [entry["state"] for entry in client.request("status")] == ["running", "running"]
                root = client.peer_pid()
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], TIMEOUT_S)[0]
            assert process.stdout.readline() == "I speak\n"
            os.kill(root, signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
