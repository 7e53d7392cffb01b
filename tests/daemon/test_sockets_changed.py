"""A file that changes: what becomes of its listening sockets, and of those who use them."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from pathlib import Path

import pytest
from configs import Config
from listening import FUNCTION, ask, connect, free_port, listens, sockets_of
from tree import Tree
from wire import TIMEOUT_S, CallError


def events(tree: Tree, kind: str) -> list[str]:
    """The texts of the events of one kind."""
    return [event["text"] for event in tree.stream.events if event["event"] == kind]


def test_new_socket_reaches_supervisors_that_run(tree: Tree, config: Config, web: str) -> None:
    """After a reload the next incarnation has it, under supervisors that live on, whatever touches the disk."""
    tree.grow()
    port, path = free_port(), f"{web}.new"
    supervisor = tree.pid("sup")
    config.sections |= {"socket.api": {"tcp": port}, "socket.new": {"unix": path, "mode": "0600"}}
    config.workers["serve"]["sockets"] = ["new", "web", "api"]
    config.write()
    assert tree.call("reload") == {"supervisors": ["top", "sup"], "sockets": ["api", "new"]}
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with connect(port) as early:
        tree.crash_until_new("serve")
        assert json.loads(early.recv(4096))["sockets"] == {"new": 3, "web": 4, "api": 5}
    assert tree.pid("sup") == supervisor
    assert ask(path)["pid"] == ask(web)["pid"] == tree.pid("serve")


def test_same_socket_stays_the_same(tree: Tree, config: Config, web: str) -> None:
    """A reload that changes name, mode and backlog keeps the socket, and who waits in it."""
    config.supervisor("sup", "serve", backoff={"first": "60s", "max": "60s", "jitter": 0.0}, escalate="never")
    tree.grow()
    tree.crash("serve")
    tree.wait("waiting", "serve")
    tree.terminate_child("serve")
    with connect(web) as waiting:
        config.sections = {"socket.front": {"unix": web, "mode": "0600", "backlog": 5}}
        config.workers["serve"]["sockets"] = ["front"]
        tree.reload()
        tree.restart_child("serve")
        assert json.loads(waiting.recv(4096))["sockets"] == {"front": 3}
    assert stat.S_IMODE(os.stat(web).st_mode) == 0o600
    assert events(tree, "listening_ended") == []


def test_nobody_is_refused_during_an_apply(tree: Tree, config: Config, web: str) -> None:
    """A new version of the workers comes, and one of their sockets moves, while somebody connects without pause."""
    config.sections["socket.api"] = {"unix": f"{web}.api"}
    config.workers["serve"] |= {"sockets": ["web", "api"], "replicas": 2}
    tree.grow()
    before = {tree.pid("serve.0"), tree.pid("serve.1")}
    over = threading.Event()
    answered: set[int] = set()
    wrong: list[str] = []

    def client() -> None:
        while not over.is_set():
            try:
                answered.add(ask(web)["pid"])
            except (ConnectionResetError, BrokenPipeError, ValueError):
                pass  # it was stopped after it had taken this connection
            except OSError as error:
                wrong.append(repr(error))

    visitor = threading.Thread(target=client)
    visitor.start()
    try:
        config.sections["socket.api"] = {"unix": f"{web}.moved"}
        config.workers["serve"]["env"] = {"VERSION": "2"}
        config.write()
        tree.call("apply")
        tree.wait("apply_done", "")
    finally:
        over.set()
        visitor.join(TIMEOUT_S)
    assert wrong == []
    after = {tree.pid("serve.0"), tree.pid("serve.1")}
    assert not before & after
    assert ask(f"{web}.moved")["pid"] in after
    tree.wait("listening_ended", "", text=f"api: {web}.api")


def identity_of(path: str) -> tuple[int, int]:
    """What tells a file from the next one of its name: a file system may use its number at once again."""
    found = os.stat(path)
    return found.st_ino, found.st_ctime_ns


@pytest.mark.parametrize("change", ["gone", "moved"])
def test_sockets_of_a_plan_that_comes_back(tree: Tree, config: Config, web: str, change: str) -> None:
    """One that leaves the file is held until the apply is done; one that has moved is back before its worker is."""
    tree.grow()
    before = identity_of(web)
    config.sections["socket.web"] = {"unix": f"{web}.2"}
    config.workers["serve"] = {"command": ["/bin/false"], "ready": "notify", "sockets": ["web"]}
    if change == "gone":
        del config.sections["socket.web"], config.workers["serve"]["sockets"]
    config.write()
    assert tree.call("apply")["outcome"] == "rolled_back"
    assert ask(web) == {**ask(web), "name": "serve", "pid": tree.pid("serve")}
    assert (identity_of(web) == before) is (change == "gone")
    assert events(tree, "fault") == []


def test_rollback_to_other_sockets(tree: Tree, config: Config, web: str) -> None:
    """A plan that differs in nothing but where it listens is another one, to which there is a way back."""
    tree.grow()
    config.sections["socket.web"] = {"unix": f"{web}.2"}
    config.write()
    assert tree.call("apply")["outcome"] == "done"
    assert tree.call("rollback")["outcome"] == "done"
    assert ask(web)["pid"] == tree.pid("serve")


def test_names_that_change_places(tree: Tree, config: Config, web: str) -> None:
    """Two sockets swap their names, twice: each name is the other address."""
    one, two = web, f"{web}.2"
    config.sections["socket.api"] = {"unix": two}
    config.workers["serve"]["sockets"] = ["web", "api"]
    tree.grow()
    for first, second in ((two, one), (one, two)):
        config.sections = {"socket.web": {"unix": first}, "socket.api": {"unix": second}}
        tree.reload()
        tree.crash_until_new("serve")
        assert listening_at(tree.pid("serve"), 3) == first
        assert listening_at(tree.pid("serve"), 4) == second


def listening_at(pid: int, fd: int) -> str:
    """The path of a listening socket of another process."""
    inode = os.readlink(f"/proc/{pid}/fd/{fd}").removeprefix("socket:[").removesuffix("]")
    lines = Path("/proc/net/unix").read_text().splitlines()
    return next(line.split()[7] for line in lines if line.split()[6] == inode)


def test_socket_that_leaves_the_file(tree: Tree, config: Config, web: str) -> None:
    """It is closed when nobody needs it: at once if its worker has changed its mind, with its last user otherwise."""
    path = f"{web}.old"
    config.sections["socket.old"] = {"unix": path}
    config.workers["serve"]["sockets"] = ["web", "old"]
    config.workers["late"] = {"function": FUNCTION, "ready": "notify", "sockets": ["old"]}
    config.supervisor("sup", "serve late")
    tree.grow()
    del config.sections["socket.old"], config.workers["late"]
    config.workers["serve"]["sockets"] = ["web"]
    config.supervisor("sup", "serve")
    tree.reload()
    tree.crash_until_new("late")  # its spec stays until it is deleted, S178
    tree.crash_until_new("serve")
    assert ask(path)["name"] == "late"
    tree.terminate_child("late")
    tree.wait("listening_ended", "", text=f"old: {path}")
    tree.children("top"), tree.children("sup")  # they have been told by now
    assert not any(listens(tree.pid(name), path) for name in ("top", "sup", "serve"))
    assert ask(web)["sockets"] == {"web": 3}


def test_another_address_under_the_same_name(tree: Tree, config: Config, web: str) -> None:
    """The path of the old address goes at once; the next incarnation listens at the new one."""
    tree.grow()
    config.sections["socket.web"] = {"unix": f"{web}.2"}
    tree.reload()
    tree.crash_until_new("serve")
    assert ask(f"{web}.2")["name"] == "serve"
    tree.wait("listening_ended", "", text=f"web: {web}")


def test_reload_that_cannot_listen_changes_nothing(tree: Tree, config: Config, web: str) -> None:
    """An address in use refuses the whole reload with one line; everything that was new is closed again."""
    tree.grow()
    path = f"{web}.new"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config.sections |= {"socket.new": {"unix": path}, "socket.api": {"tcp": port}}
        config.workers["serve"]["sockets"] = ["web", "new", "api"]
        before = sockets_of(tree.call("ping")["pid"])
        with pytest.raises(CallError, match=f"cannot listen at 127.0.0.1:{port}: address already in use"):
            tree.reload()
    assert sockets_of(tree.call("ping")["pid"]) == before
    assert not os.path.lexists(path)
    tree.crash_until_new("serve")
    assert ask(web)["sockets"] == {"web": 3}


def test_child_that_comes_at_run_time(tree: Tree, config: Config, web: str) -> None:
    """It may have sockets of the file, and no others."""
    config.supervisor("pool", strategy="dynamic").supervisor("top", "sup pool")
    tree.grow()
    spec = {"id": "more", "function": FUNCTION, "ready": "notify", "sockets": ["web"], "cwd": str(tree.directory)}
    pid = tree.call("start_child", supervisor="pool", spec=spec)["pid"]
    tree.terminate_child("serve")
    assert ask(web)["pid"] == pid
    with pytest.raises(CallError, match="there is no socket `wbe`"):
        tree.call("start_child", supervisor="pool", spec={**spec, "id": "less", "sockets": ["wbe"]})


def test_fault_of_a_start_names_the_socket(tree: Tree, config: Config, web: str) -> None:
    """A worker of an older file whose socket is closed by now cannot be started again, and the reason is told."""
    config.sections["socket.old"] = {"unix": f"{web}.old"}
    config.workers["late"] = {"function": FUNCTION, "ready": "notify", "sockets": ["old"]}
    config.supervisor("sup", "serve late")
    tree.grow()
    tree.terminate_child("late")
    del config.sections["socket.old"], config.workers["late"]
    config.supervisor("sup", "serve")
    tree.reload()
    tree.wait("listening_ended", "", text=f"old: {web}.old")
    with pytest.raises(CallError, match="cannot pass on the socket old"):
        tree.restart_child("late")


def test_daemon_that_goes_on_in_a_new_program(tree: Tree, config: Config, web: str) -> None:
    """After a re-execution the sockets are the same, for new incarnations, for the next reload, and at the end."""
    config.sections["socket.old"] = {"unix": f"{web}.old"}
    config.workers["serve"]["sockets"] = ["web", "old"]
    tree.grow()
    before = listening_inodes(tree)
    assert tree.call("reexec")["refused"] == []
    assert listening_inodes(tree) == before
    tree.crash_until_new("serve")
    assert ask(web)["sockets"] == {"web": 3, "old": 4}
    del config.sections["socket.old"]
    config.workers["serve"]["sockets"] = ["web"]
    tree.reload()
    tree.crash_until_new("serve")
    tree.crash_until_new("sup")
    assert ask(web)["sockets"] == {"web": 3}
    assert tree.down() == 0
    assert not os.path.lexists(web)


def listening_inodes(tree: Tree) -> set[str]:
    """The sockets of the file as the daemon has them."""
    own = sockets_of(tree.call("ping")["pid"])
    lines = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]
    named = {f"socket:[{line[6]}]" for line in lines if line[-1].startswith(str(tree.directory / "web.sock"))}
    return own & named
