"""Sockets of a tree that is a service: they outlive its daemon, and are there before it."""

from __future__ import annotations

import json
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from booted import REGROW, SHARE, TIMEOUT_S, Machine
from services import Tree

pytestmark = pytest.mark.root

PROGRAM = Path(__file__).parents[1] / "programs" / "listeners.py"


@pytest.fixture
def web(machine: Machine, tree: Tree) -> str:
    """What stands above the supervisors: a socket `web`, and its worker `serve`; the file is not installed yet."""
    shutil.copy(PROGRAM, machine.share)
    path(tree).unlink(missing_ok=True)
    return socket_table(tree, "web")


SERVE = '[worker.serve]\nfunction = "listeners:serve"\nready = "notify"\nsockets = ["web"]\n'


def socket_table(tree: Tree, name: str) -> str:
    """The table of a socket in the shared directory."""
    return f'[socket.{name}]\nunix = "{SHARE}/{path(tree, name).name}"\n'


def path(tree: Tree, name: str = "web") -> Path:
    """Where that socket is for us."""
    return tree.machine.share / f"{tree.name}-{name}.sock"


def ask(tree: Tree, name: str = "web") -> dict[str, Any]:
    """What the worker that takes this connection says of itself."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(TIMEOUT_S)
        asking.connect(str(path(tree, name)))
        return dict(json.loads(b"".join(iter(lambda: asking.recv(4096), b""))))


@contextmanager
def visited(tree: Tree) -> Iterator[list[int]]:
    """
    Somebody connects without pause during the block; the list grows with the workers that have answered.

    Afterwards nobody may have been refused. What was cut off was with a worker that ended.
    """
    answered: list[int] = []
    refused: list[str] = []
    over = threading.Event()

    def visit() -> None:
        while not over.is_set():
            try:
                answered.append(ask(tree)["pid"])
            except (ConnectionResetError, BrokenPipeError, ValueError):
                pass
            except OSError as error:
                refused.append(repr(error))

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        yield answered
    finally:
        over.set()
        visitor.join(TIMEOUT_S)
    assert refused == []


def stored(tree: Tree) -> int:
    """How many descriptors systemd keeps for it."""
    return int(tree.show("NFileDescriptorStore"))


def test_nobody_is_refused_during_restarts(tree: Tree, web: str) -> None:
    """`systemctl restart`, and SIGKILL of the main process: who connects meanwhile is answered by the next daemon."""
    tree.install(SERVE, top=web)
    tree.start()
    assert stored(tree) == 1
    first = ask(tree)["pid"]
    with visited(tree) as answered:
        tree.machine.systemctl("restart", tree.unit)
        second = ask(tree)["pid"]
        tree.machine.heard()
        tree.machine.systemctl("kill", "-s", "KILL", "--kill-who=main", tree.unit)
        tree.machine.await_bell(f"ended {tree.name} signal killed KILL")
        third = ask(tree)["pid"]
    assert len({first, second, third}) == 3
    assert third in {*answered, third}
    assert stored(tree) == 1
    tree.start()
    tree.machine.systemctl("stop", tree.unit)
    assert stored(tree) == 0


def test_file_that_changes_while_systemd_keeps_its_sockets(tree: Tree, web: str) -> None:
    """What leaves the file leaves the store, on a reload and on a restart; what is new is kept."""
    tree.install(SERVE.replace('"web"', '"web", "api"'), top=web + socket_table(tree, "api"))
    tree.start()
    assert stored(tree) == 2
    tree.write(SERVE, top=web)
    tree.machine.regrow("reload", "--name", tree.name)
    tree.machine.regrow("restart", "--name", tree.name, "serve")
    assert stored(tree) == 1
    tree.write(SERVE, top=web.replace("-web.sock", "-new.sock"))
    tree.machine.systemctl("restart", tree.unit)
    assert ask(tree, "new")["sockets"] == {"web": 3}
    assert stored(tree) == 1
    assert "no [socket] is at" in tree.machine.regrow("events", "--name", tree.name)


def test_socket_activation(tree: Tree, web: str) -> None:
    """The first connection starts the tree and is answered; afterwards systemd listens on, and starts it again."""
    said = tree.install(SERVE, top=web, options=("--sockets",)).splitlines()
    unit = f"{tree.unit}.web.socket"
    assert said[-2:] == [
        f"wrote /etc/systemd/system/{unit}",
        f"now type: systemctl enable --now {unit} {tree.unit}",
    ]
    verified = tree.machine.run("systemd-analyze", "verify", unit)
    assert (verified.returncode, verified.stderr) == (0, "")
    tree.machine.systemctl("start", unit)
    assert tree.state() == ("inactive", "dead")
    first = ask(tree)
    assert (first["name"], first["sockets"]) == ("serve", {"web": 3})
    tree.start()
    assert stored(tree) == 0
    assert "the service manager's" in tree.machine.regrow("events", "--name", tree.name)
    with visited(tree):
        tree.machine.systemctl("restart", tree.unit)
        second = ask(tree)
        tree.machine.systemctl("stop", tree.unit)
        third = ask(tree)
    assert len({first["pid"], second["pid"], third["pid"]}) == 3
    tree.start()
    refused = tree.machine.run("systemctl", "is-active", unit)
    assert refused.stdout.strip() == "active"


def test_uninstall_takes_the_socket_units_along(tree: Tree, web: str) -> None:
    """As printed, enabling works; a unit whose socket has left the file goes at the next install; nothing is left."""
    both = SERVE.replace('"web"', '"web", "api"')
    said = tree.install(both, top=web + socket_table(tree, "api"), options=("--sockets",)).splitlines()
    tree.machine.do("sh", "-c", said[-1].removeprefix("now type: "))
    assert tree.state() == ("active", "running")
    api = f"{tree.unit}.api.socket"
    tree.write(SERVE, top=web)
    command = ("systemd", "install", "--sockets", f"{SHARE}/{tree.file.name}")
    refused = tree.machine.run(*REGROW, *command)
    assert (refused.returncode, f"systemctl disable --now {api}" in refused.stderr) == (1, True)
    tree.machine.systemctl("stop", tree.unit)
    tree.machine.systemctl("disable", "--now", api)
    assert f"removed /etc/systemd/system/{api}" in tree.machine.regrow(*command)
    refused = tree.machine.run(*REGROW, "systemd", "uninstall", tree.name)
    assert (refused.returncode, f"{tree.unit}.web.socket: it listens" in refused.stderr) == (1, True)
    tree.machine.systemctl("stop", f"{tree.unit}.web.socket")
    tree.machine.regrow("systemd", "uninstall", tree.name)
    left = tree.machine.do("find", "/etc/systemd/system", "-name", f"{tree.unit}*", "-not", "-name", "*.d")
    assert left == ""


def test_unit_and_file_that_disagree(tree: Tree, web: str) -> None:
    """The unit listens elsewhere than the file says by now: the start fails, and the journal says what to do."""
    tree.install(SERVE, top=web, options=("--sockets",))
    tree.write(SERVE, top=web.replace("-web.sock", "-new.sock"))
    tree.machine.systemctl("start", f"{tree.unit}.web.socket")
    assert tree.machine.run("systemctl", "start", tree.unit).returncode != 0
    tree.machine.systemctl("stop", f"{tree.unit}.web.socket", tree.unit)
    assert "says /srv/share/unit-and-file-that-disagree-new.sock; make them agree" in tree.machine.journal(tree.unit)
