"""Listening sockets that a service manager passes, and those that it is to keep."""

from __future__ import annotations

import json
import os
import socket
import sys

from configs import Config
from listening import ask, connect, is_listening, refused
from tree import Tree

PASSING = """
import fcntl, os, sys
fds, names, argv = sys.argv[1].split(","), sys.argv[2], sys.argv[3:]
copies = [fcntl.fcntl(int(fd), fcntl.F_DUPFD_CLOEXEC, 100) for fd in fds]
for fd in fds:
    os.set_inheritable(int(fd), False)
for at, fd in enumerate(copies, 3):
    os.dup2(fd, at)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names}
os.execv(argv[0], argv)
"""


def listener(path: str) -> socket.socket:
    """Somebody who listens at a path."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(path)
    made.listen()
    return made


def passing(tree: Tree, **sockets: socket.socket) -> None:
    """Have the daemon start with these, as a service manager would pass them."""
    fds = [made.fileno() for made in sockets.values()]
    names = ":".join(name.replace("_", ".") for name in sockets)
    tree.wrapper = [sys.executable, "-c", PASSING, ",".join(map(str, fds)), names]
    tree.passed = fds


def test_passed_by_name_and_by_address(tree: Tree, config: Config, web: str) -> None:
    """What the manager passes is used, not bound; a stranger is closed with a fault; a path that is not ours stays."""
    paths = {name: f"{web}.{name}" for name in ("named", "found", "stranger")}
    made = {name: listener(path) for name, path in paths.items()}
    config.sections |= {f"socket.{name}": {"unix": paths[name]} for name in ("named", "found")}
    config.workers["serve"]["sockets"] = ["web", "named", "found"]
    passing(tree, named=made["named"], unknown=made["found"], other=made["stranger"])
    tree.grow()
    for one in made.values():
        one.close()
    assert ask(paths["named"])["pid"] == ask(paths["found"])["pid"] == ask(web)["pid"] == tree.pid("serve")
    assert not is_listening(paths["stranger"])
    faults = [event["text"] for event in tree.call("events") if event["event"] == "fault"]
    said = "the descriptor other, which the service manager has passed, was closed"
    assert faults == [f"{said}: no [socket] is at {web}.stranger"]
    assert tree.down() == 0
    assert os.path.exists(paths["named"])
    assert not os.path.exists(web)


def test_passed_with_another_address(tree: Tree, config: Config, web: str) -> None:
    """A unit's socket that has the name and listens elsewhere: somebody must decide, so nothing starts."""
    with listener(f"{web}.other") as made:
        passing(tree, web=made)
        said = refused(tree, config)
    assert f"listens at {web}.other, and [socket.web] says {web}; make them agree" in said


def test_passed_what_is_no_listener(tree: Tree, config: Config, web: str) -> None:
    """Something else under the name of a socket is refused too."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        passing(tree, web=made)
        assert "is no listening stream socket" in refused(tree, config)


def test_passed_what_an_earlier_daemon_stored(tree: Tree, config: Config, web: str) -> None:
    """What was stored is taken back with those who wait in it; what the file has elsewhere now is of no use."""
    with listener(web) as stored, connect(web) as waiting:
        old = listener(f"{web}.old")
        config.sections["socket.api"] = {"unix": f"{web}.api"}
        config.workers["serve"]["sockets"] = ["web", "api"]
        passing(tree, regrow_web=stored, regrow_api=old)
        tree.grow()
        old.close()
        assert json.loads(waiting.recv(4096))["pid"] == tree.pid("serve")
    assert ask(f"{web}.api")["pid"] == tree.pid("serve")
    assert not is_listening(f"{web}.old")
    assert kept(tree) == ["FDSTOREREMOVE regrow.api", "FDSTORE regrow.api"]


def kept(tree: Tree) -> list[str]:
    """What the service manager was told to keep, or not to keep any more, in order."""
    tree.notices += tree.heard()
    lines = [notice.split("\n") for notice in tree.notices if notice.startswith("FDSTORE")]
    return [f"{said.removesuffix('=1')} {name.removeprefix('FDNAME=')}" for said, name in lines]


def test_sockets_are_stored(tree: Tree, config: Config, web: str) -> None:
    """What the daemon has bound itself is given to the service manager; what leaves the file is taken back."""
    tree.grow()
    assert kept(tree) == ["FDSTORE regrow.web"]
    config.sections = {"socket.api": {"unix": f"{web}.api"}}
    config.workers["serve"]["sockets"] = ["api"]
    tree.reload()
    assert kept(tree)[1:] == ["FDSTOREREMOVE regrow.web", "FDSTORE regrow.api"]
