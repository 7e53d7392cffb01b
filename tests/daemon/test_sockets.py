"""Listening sockets of the file: who gets them, and who holds them."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import processes
import procs
import pytest
from configs import Config
from farm import FOREVER, shell
from harness import REGROW
from listening import COMMAND, FUNCTION, ask, connect, free_port, refused, sockets_of
from tree import Tree
from wire import TIMEOUT_S

from regrow.ipc import Client

KILLS = 100


def test_every_kind_gets_them(tree: Tree, config: Config, web: str) -> None:
    """In the order of its list, from 3 on, with names, meant for itself alone: commands, functions and agents."""
    port = free_port()
    config.sections |= {"socket.api": {"tcp": port}, "socket.none": {"unix": f"@{web}"}}
    first = dict.fromkeys(("serve", "ask", "run"), "")
    for name in first:
        first[name] = f"{web}.{name}"
        config.sections[f"socket.own-{name}"] = {"unix": first[name]}
    both = ["none", "web", "api"]
    config.workers["serve"]["sockets"] = ["own-serve", *both]
    config.workers["ask"] = {"agent": "listeners:Server", "sockets": ["own-ask", *both]}
    config.workers["run"] = {"command": COMMAND, "ready": "notify", "sockets": ["own-run", *both]}
    config.supervisor("sup", "serve run ask")
    tree.grow()
    with Client(tree.run_dir) as client:
        client.send("ask", "answer", name="own-ask")
        told = {name: ask(path) for name, path in first.items()}
    for name, one in told.items():
        assert one["name"] == name
        assert one["pid"] == int(one["listen_pid"]) == tree.pid(name)
        assert one["sockets"] == {f"own-{name}": 3, "none": 4, "web": 5, "api": 6}
        assert not any(one["inheritable"])
    assert {ask(port)["name"], ask(web)["name"]} <= {"serve", "run"}


def test_bare_protocol(tree: Tree, config: Config, web: str) -> None:
    """A program finds what sd_listen_fds(3) says, and no other socket; one that has none finds nothing."""
    says = 'echo "$LISTEN_FDS $LISTEN_FDNAMES $((LISTEN_PID - $$))" $(readlink /proc/$$/fd/* | grep -c socket)'
    config.workers["serve"] = {"command": shell(f"{says}; exec tail -f /dev/null"), "sockets": ["web"]}
    config.workers["other"] = {"command": shell('echo "[$LISTEN_FDS$LISTEN_PID]"; exec tail -f /dev/null')}
    config.workers["serve"]["ready"] = {"line": "."}
    if os.geteuid() == 0:
        config.workers["serve"]["user"] = "nobody"
    config.workers["other"]["ready"] = {"line": "."}
    config.supervisor("sup", "serve other")
    tree.grow()
    log = tree.directory / "log"
    assert (log / "serve.log").read_text() == "1 web 0 1\n"
    assert (log / "other.log").read_text() == "[]\n"


def test_under_limits(tree: Tree, config: Config, web: str) -> None:
    """Few descriptors allowed, and a group of processes: the sockets come all the same, and are shared."""
    names = [f"s{number}" for number in range(8)]
    config.sections |= {f"socket.{name}": {"unix": f"@{web}.{name}"} for name in names}
    config.workers["serve"] |= {"sockets": ["web", *names], "limits": {"open_files": 32}, "replicas": 2}
    tree.grow()
    while ask(web)["name"] != "serve.1":
        tree.crash_until_new("serve.0")
    assert ask(web)["sockets"] == {"web": 3} | {name: number for number, name in enumerate(names, 4)}


def test_nobody_is_refused_while_the_worker_is_killed(tree: Tree, config: Config, web: str) -> None:
    """A client that connects without pause, while the worker is killed a hundred times: no connection is refused."""
    port = free_port()
    config.sections["socket.api"] = {"tcp": port}
    config.workers["serve"] |= {"sockets": ["web", "api"]}
    tree.grow()
    over = threading.Event()
    answered: list[int] = []
    wrong: list[str] = []

    def client(address: str | int) -> None:
        while not over.is_set():
            try:
                answered.append(ask(address)["pid"])
            except (ConnectionResetError, BrokenPipeError, ValueError):
                pass  # it was killed after it had taken this connection
            except OSError as error:
                wrong.append(repr(error))

    clients = [threading.Thread(target=client, args=(address,)) for address in (web, port)]
    for thread in clients:
        thread.start()
    pids = {tree.crash_until_new("serve") for _ in range(KILLS)}
    over.set()
    for thread in clients:
        thread.join(TIMEOUT_S)
    assert wrong == []
    assert len(pids) == KILLS
    assert len(set(answered) & pids) > KILLS / 4
    assert ask(port)["pid"] == tree.pid("serve")


def test_connections_wait_for_the_next(tree: Tree, config: Config, web: str) -> None:
    """Who connects while there is no worker, or no supervisor, is answered by the one that comes."""
    config.supervisor("sup", "serve", backoff={"first": "60s", "max": "60s", "jitter": 0.0}, escalate="never")
    tree.grow()
    tree.crash("serve")
    tree.wait("waiting", "serve")
    tree.terminate_child("serve")
    with connect(web) as waiting:
        tree.restart_child("serve")
        assert json.loads(waiting.recv(4096))["pid"] == tree.pid("serve")
    tree.terminate_child("serve")
    with connect(web) as waiting:
        tree.crash("sup")
        assert json.loads(waiting.recv(4096))["name"] == "serve"


def test_path_and_its_permissions(tree: Tree, config: Config, web: str) -> None:
    """The path has the mode of the file, systemd's unless written, and goes with the daemon."""
    config.sections["socket.web"] |= {"mode": "0640"}
    config.sections["socket.open"] = {"unix": f"{web}.open"}
    config.workers["serve"]["sockets"] = ["web", "open"]
    if os.geteuid() == 0:
        config.sections["socket.web"] |= {"user": "nobody", "group": 7}
    tree.grow()
    found = os.stat(web)
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert os.geteuid() != 0 or (found.st_uid, found.st_gid) == (65534, 7)
    assert stat.S_IMODE(os.stat(f"{web}.open").st_mode) == 0o666
    assert tree.down() == 0
    assert not os.path.lexists(web)


def test_address_in_use(tree: Tree, config: Config, web: str) -> None:
    """A port that somebody has: one clear line, exit 1, nothing has been started, and no path is left."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config.sections["socket.api"] = {"tcp": port}
        config.workers["serve"]["sockets"] = ["web", "api"]
        said = refused(tree, config)
    assert said == f"regrow: cannot listen at 127.0.0.1:{port}: address already in use (socket.api)"
    assert not os.path.lexists(web)


@pytest.mark.parametrize("there", ["listener", "file", "no folder"])
def test_path_in_use(tree: Tree, config: Config, web: str, there: str) -> None:
    """A path where another program listens, or that is something else, is left alone."""
    with socket.socket(socket.AF_UNIX) as other:
        if there == "listener":
            other.bind(web)
            other.listen()
        elif there == "file":
            Path(web).write_text("precious")
        else:
            config.sections["socket.web"]["unix"] = web = f"{web}.d/web.sock"
        said = refused(tree, config)
    why = "no such" if there == "no folder" else "address already"
    assert said.startswith(f"regrow: cannot listen at {web}: {why}")
    assert there != "file" or Path(web).read_text() == "precious"


def test_path_that_a_killed_daemon_left(tree: Tree, config: Config, web: str) -> None:
    """A socket that nobody listens at any more is no obstacle."""
    with socket.socket(socket.AF_UNIX) as earlier:
        earlier.bind(web)
    tree.grow()
    assert ask(web)["name"] == "serve"


def test_next_daemon_listens_where_a_killed_one_did(
    tree: Tree, config: Config, web: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nobody who escaped goes on to hold a port: the next daemon ends them before it binds."""
    port = free_port()
    config.sections["socket.api"] = {"tcp": port}
    escape = f"{sys.executable} -c 'import os, signal; os.setsid(); signal.pause()' & exec tail -f /dev/null"
    config.workers["serve"] = {"command": shell(escape), "sockets": ["web", "api"]}
    tree.grow()
    root = tree.call("ping")["pid"]
    procs.kill(root)
    assert procs.wait_dead(root, TIMEOUT_S)
    tree.wait_exit()
    config.workers["serve"] = {"function": FUNCTION, "ready": "notify", "sockets": ["web", "api"]}
    config.write()
    up = [REGROW, "up", "--detach", str(tree.file)]
    assert subprocess.run(up, check=False, timeout=TIMEOUT_S).returncode == 0
    try:
        assert ask(port)["name"] == ask(web)["name"] == "serve"
    finally:
        down = [REGROW, "down", "--run-dir", str(tree.run_dir)]
        subprocess.run(down, check=True, timeout=TIMEOUT_S)
    processes.await_no_children(keep=tree._others)  # orphans of a killed root fall to us
    assert "test is ready" in capfd.readouterr().out


def test_strangers_do_not_hold_it(tree: Tree, config: Config, web: str) -> None:
    """Neither regrow's own workers nor workers that do not name it have the socket."""
    config.workers["other"] = {"command": list(FOREVER)}
    config.supervisor("sup", "serve other")
    tree.grow()
    inode = sockets_of(tree.pid("serve")) & sockets_of(tree.pid("sup"))
    assert len(inode) >= 1
    for pid in (tree.pid("other"), tree.pid("regrow.logger"), tree.pid("regrow.system")):
        assert not sockets_of(pid) & inode


@pytest.mark.parametrize("how", ["http", "exec"])
def test_probes_that_ask_the_worker(tree: Tree, config: Config, directory: Path, how: str) -> None:
    """A readiness that must be answered, and a liveness, see a worker through the socket that the daemon holds."""
    (directory / "web.py").symlink_to(Path(__file__).parents[2] / "examples" / "web" / "web.py")
    port = free_port()
    url = f"http://127.0.0.1:{port}/"
    program = [sys.executable, "-c", f"import urllib.request; urllib.request.urlopen('{url}', timeout=20)"]
    probe = {"http": url} if how == "http" else {"exec": program}
    config.sections["socket.web"] = {"tcp": port}
    liveness = {**probe, "every": "50ms", "timeout": "1s", "failures": 1}
    config.workers["web"] = {"function": "web:serve", "sockets": ["web"], "ready": probe, "liveness": liveness}
    config.supervisor("top", "web", intensity=1000)
    tree.grow()
    pid = tree.pid("web")
    procs.kill(pid, signal.SIGSTOP)
    assert tree.wait("exited", "web")["reason"]["reason"] == "liveness"
    assert tree.wait("ready", "web", count=2)["pid"] != pid
