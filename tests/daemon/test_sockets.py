"""Listening sockets of the file: who gets them, who holds them, and what becomes of them when the file changes."""

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
from typing import Any

import processes
import procs
import pytest
from configs import Config
from farm import FOREVER, shell
from harness import REGROW, DaemonEnded
from tree import Tree
from wire import TIMEOUT_S, CallError

from regrow.ipc import Client

PROGRAM = Path(__file__).parents[1] / "programs" / "listeners.py"
COMMAND = [sys.executable, str(PROGRAM)]
FUNCTION = "listeners:serve"
KILLS = 100


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


@pytest.fixture
def web(tree: Tree, config: Config, directory: Path) -> str:
    """The path of a socket `web` for the function `serve` below two supervisors; not started yet."""
    (directory / "listeners.py").symlink_to(PROGRAM)
    path = str(directory / "web.sock")
    config.sections["socket.web"] = {"unix": path}
    config.workers["serve"] = {"function": FUNCTION, "ready": "notify", "sockets": ["web"]}
    config.supervisor("top", "sup").supervisor("sup", "serve", intensity=10_000)
    return path


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


def sockets_of(pid: int) -> set[str]:
    """The sockets that a process has, as the kernel numbers them."""
    folder = Path(f"/proc/{pid}/fd")
    return {link for fd in folder.iterdir() if (link := os.readlink(fd)).startswith("socket:")}


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


# a file that changes


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


def is_listening(path: str) -> bool:
    """Whether anybody does at this path."""
    with socket.socket(socket.AF_UNIX) as asking:
        return asking.connect_ex(path) == 0


def listens(pid: int, path: str) -> bool:
    """Whether a process holds a socket of that path."""
    inodes = {line.split()[6] for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(f" {path}")}
    return any(f"socket:[{inode}]" in sockets_of(pid) for inode in inodes)


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


# what a service manager passes

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
