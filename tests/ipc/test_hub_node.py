"""A client that is not Python: Node.js with its own ZeroMQ binding calls, publishes, follows events and monitors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from fake_daemon import FakeDaemon, event, last_exit
from hub_host import HubHost

CLIENT = Path(__file__).parents[1] / "programs" / "hub_client.mjs"
MODULES = ("zeromq@6", "@msgpack/msgpack@3")
INSTALL_S = 60


@pytest.fixture(scope="session")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the modules that the client needs; `REGROW_NODE_MODULES` names one that is there already."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no Node.js here")
    given = os.environ.get("REGROW_NODE_MODULES")
    if given:
        return Path(given)
    folder = tmp_path_factory.mktemp("node")
    (folder / "package.json").write_text("{}")
    argv = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", "--fetch-retries=0", *MODULES]
    try:
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip(f"npm did not bring {' and '.join(MODULES)} within {INSTALL_S} s")
    if done.returncode != 0:
        pytest.skip(f"npm cannot bring {' and '.join(MODULES)}: {done.stderr.strip()[-200:]}")
    probe = ["node", "-e", "require('zeromq'); require('@msgpack/msgpack')"]
    if subprocess.run(probe, cwd=folder, capture_output=True, check=False).returncode != 0:
        pytest.skip("the zeromq module of npm does not run here")
    return folder


@pytest.mark.timeout(120)
def test_client_in_another_language(modules: Path, tmp_path: Path) -> None:
    """It is answered, refused, sent events from the first on, and told of the death of the agent that it called."""
    root = FakeDaemon(tmp_path / "run")
    root.events = [event(1, "ready", "redis")]
    root.handlers["exit_reason"] = lambda _request: last_exit("signal", None, "SIGKILL")
    host = HubHost(tmp_path)
    try:
        host.start()
        root.await_request("events")
        actor = host.actor("actor")
        endpoint = f"ipc://{host.run_dir}/hub.api"
        client = host.run("node", str(CLIENT), endpoint, "actor", env={"MODULES": str(modules)})
        expected: list[list[object]] = [
            ["welcome", 1],
            ["called", [[1, "zwei"], {"three": 3.5}]],
            ["refused", "noproc"],
            ["signal", "regrow.event.redis.ready", event(1, "ready", "redis"), 1],
            ["oldest", 1],
            ["signal", "node.js", {"bytes": 3}, None],
            ["published", 1],
        ]
        assert [json.loads(client.line()) for _ in expected] == expected
        assert json.loads(actor.line()) == [["from node"], {}]
        root.emit(event(2, "stopping", "actor"))
        assert json.loads(client.line())[1] == "regrow.event.actor.stopping"
        actor.kill()
        assert json.loads(client.line()) == ["down", "actor", 1, "killed"]
        assert client.wait() == 0
    finally:
        host.close()
        root.close()
