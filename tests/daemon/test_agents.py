"""Agents as children of the daemon: born like functions, found by their names, watched, explained."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import Any

import procs
import pytest
from configs import Config
from farm import Farm, python
from tree import SUP, Tree
from wire import CallError, Wire

MODULE = """
import multiprocessing, os, signal, time

from regrow import workers
from regrow.workers import Agent, Ignore, handler

class Teller(Agent):
    def init(self, words: str = "ready") -> None:
        variables = ("NAME", "INCARNATION", "GROUP", "REPLICAS", "INDEX", "MAILBOX")
        told = " ".join(os.environ.get(f"REGROW_{name}", "-") for name in variables)
        workers.status(f"{words} {told} {os.getuid()} {multiprocessing.current_process().name}")

class Faulty(Agent):
    def init(self) -> None:
        raise RuntimeError("no rates today")

class Needless(Agent):
    def init(self) -> None:
        raise Ignore

class Slow(Agent):
    def init(self) -> None:
        self.dawdle()

    def dawdle(self) -> None:
        while True: signal.pause()

class Hanging(Agent):
    def init(self) -> None:
        pass

    def on_hello(self) -> None:
        pass

    @handler
    def hang(self) -> None:
        while True:
            pass

class Plain:
    pass

def function() -> None:
    pass
"""


def write(folder: Path) -> None:
    """Put the module beside the file."""
    file = folder / "tellers.py"
    if not file.exists():
        file.write_text(MODULE)


@pytest.fixture
def module(farm: Farm) -> Farm:
    """The farm with a module `tellers` next to its file."""
    write(farm.directory)
    return farm


def add(farm: Farm, name: str, agent: str, *, under: str = SUP, **keys: Any) -> int | None:
    """Start an agent of the module."""
    spec = {"id": name, "agent": f"tellers:{agent}", **keys}
    pid: int | None = farm.call("start_child", supervisor=under, spec=spec)["pid"]
    return pid


def test_arguments_name_and_environment(module: Farm) -> None:
    """What the agent's `init` gets, what is in its environment, its process's name; it is an agent in status."""
    add(module, "teller", "Teller", args={"words": "hello"})
    told = module.eventually(lambda: module.entry("teller")["detail"])
    uids = ",".join(f"u{uid}" for uid in sorted({0, os.geteuid()}))
    assert told == f"hello teller 1 - - - {uids} {os.geteuid()} teller"
    entry = module.entry("teller")
    assert (entry["kind"], entry["state"], entry["ready"]) == ("agent", "running", True)
    assert list((module.run_dir / "mbox").glob("teller.1.*"))
    module.remove("teller")


def test_killed_and_stopped(module: Farm) -> None:
    """A killed agent has a successor; one that is stopped ends in order, with status 0."""
    add(module, "mortal", "Teller", under="quick")
    module.crash_until_new("mortal")
    assert module.call("exit_reason", name="mortal", incarnation=1)["signal"] == "SIGKILL"
    assert module.call("stop", names=["mortal"])[0]["result"] == "stopped"
    last = module.entry("mortal")["last_exit"]
    assert (last["reason"], last["code"]) == ("stopped", 0)
    module.remove("mortal", under="quick")


def test_init_that_fails(module: Farm) -> None:
    """The start fails, with the traceback."""
    with pytest.raises(CallError) as refused:
        add(module, "faulty", "Faulty")
    assert refused.value.code == "start_failed"
    assert "RuntimeError: no rates today" in refused.value.message


def test_init_that_ignores(module: Farm) -> None:
    """An agent that is not needed leaves a child without a process."""
    assert add(module, "needless", "Needless") is None
    assert module.entry("needless")["state"] == "stopped"
    module.call("delete_child", supervisor=SUP, child="needless")


def test_init_that_hangs(module: Farm) -> None:
    """A start that takes too long says where it was."""
    with pytest.raises(CallError) as refused:
        add(module, "slow", "Slow", ready={"notify": True, "timeout": "500ms"})
    assert "in dawdle" in refused.value.message


@pytest.mark.parametrize("agent", ["Plain", "function", "Telle"])
def test_what_is_no_agent(module: Farm, agent: str) -> None:
    """Refused before anything is started."""
    with pytest.raises(CallError) as refused:
        add(module, "wrong", agent)
    assert refused.value.code == "bad_request"


def test_idle_agent_lives_with_its_watchdog(module: Farm) -> None:
    """An agent with nothing to do feeds its watchdog."""
    add(module, "idler", "Teller", watchdog="200ms")
    code = "import select; notify('READY=1'); select.select([], [], [])"
    module.add("clock", python(code), ready="notify", watchdog="1s")  # several times of the other's watchdog
    assert module.exited("clock")["reason"] == "watchdog"
    assert module.entry("idler")["incarnation"] == 1
    module.remove("idler")
    module.remove("clock")


def test_hanging_handler(module: Farm) -> None:
    """An agent stuck in a handler is killed by its watchdog; where it was is in why."""
    from regrow.ipc import Client

    add(module, "hanging", "Hanging", watchdog="300ms")
    with Client(str(module.run_dir)) as client:
        client.cast("hanging", "hang")
        reason = module.exited("hanging")
    assert reason["reason"] == "watchdog"
    stack = reason["text"].split("its Python stacks:\n")[1].splitlines()
    assert stack[1].endswith(" in hang"), reason["text"]
    assert "doorkeeper" not in reason["text"]
    assert " in hang" in module.why("hanging")
    module.remove("hanging")


def test_replicas(config: Config, tree: Tree) -> None:
    """Each replica knows its group, its place in it, and how many there are."""
    write(config.directory)
    config.workers["teller"] = {"agent": "tellers:Teller", "replicas": 2}
    config.supervisor(SUP, "teller")
    tree.grow()
    told = [tree.entry(f"teller.{index}")["detail"].split()[1:6] for index in range(2)]
    assert told == [["teller.0", "1", "teller", "2", "0"], ["teller.1", "1", "teller", "2", "1"]]


def test_agents_of_a_template(config: Config, tree: Tree) -> None:
    """A dynamic supervisor makes agents of its template."""
    write(config.directory)
    config.workers["teller"] = {"agent": "tellers:Teller", "args": {"words": "template"}}
    config.supervisor("pool", strategy="dynamic", template="teller")
    config.supervisor(SUP, "pool")
    tree.grow()
    tree.call("start_child", supervisor="pool", spec={"id": "one", "args": {"words": "mine"}})
    assert tree.entry("one")["detail"].startswith("mine one 1")


def test_module_that_cannot_be_imported(module: Farm) -> None:
    """The traceback of a broken module is in the refusal."""
    (module.directory / "broken.py").write_text("import no_such_module_anywhere\nfrom x import *\n")
    spec = {"id": "broken", "agent": "broken:Any"}
    error = module.refused("start_child", supervisor=SUP, spec=spec)
    assert error.code == "start_failed"
    assert "No module named 'no_such_module_anywhere'" in error.message


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")
def test_agent_of_another_user(config: Config, tree: Tree) -> None:
    """It makes its mailbox, writes its record, and may ask how others ended, and nothing else."""
    write(config.directory)
    user = pwd.getpwnam("daemon")
    config.workers["own"] = {"agent": "tellers:Teller"}
    config.workers["other"] = {"agent": "tellers:Teller", "user": "daemon"}
    config.supervisor(SUP, "own other")
    tree.grow()
    assert tree.entry("other")["detail"] == f"ready other 1 - - - u0,u{user.pw_uid} {user.pw_uid} other"
    mailbox, bell = sorted((tree.run_dir / "mbox").glob("other.1.*"))
    assert bell.name == f"{mailbox.name}.bell"
    assert mailbox.stat().st_uid == user.pw_uid
    asked = as_user(user.pw_uid, tree.run_dir / "control.sock")
    assert asked == {"ping": "ok", "exit_reason": "timeout", "status": "forbidden", "stop": "forbidden"}


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users")
def test_reload_tells_new_agents_whom_to_admit(config: Config, tree: Tree) -> None:
    """Agents that start after a reload admit the operators of the new file, below every supervisor."""
    write(config.directory)
    config.workers["teller"] = {"agent": "tellers:Teller"}
    config.supervisor("inner", "teller")
    config.supervisor(SUP, "inner")
    tree.grow()
    assert tree.entry("teller")["detail"].split()[6] == "u0"
    config.sections["access"] = {"operators": ["user:daemon"]}
    tree.reload()
    tree.crash_until_new("teller")
    uid = pwd.getpwnam("daemon").pw_uid
    assert tree.entry("teller")["detail"].split()[6] == f"u0,u{uid}"
    assert as_user(uid, tree.run_dir / "control.sock")["status"] == "ok"


def as_user(uid: int, socket: Path) -> dict[str, str]:
    """What a process of that user is answered, by verb: `ok`, or the code of the refusal."""
    verbs: dict[str, dict[str, Any]] = {
        "ping": {},
        "exit_reason": {"name": "own", "incarnation": 1, "within_s": 0},
        "status": {},
        "stop": {"names": ["own"]},
    }
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            wire = Wire(socket)
            for verb, arguments in verbs.items():
                os.write(writer, f"{verb} {answer(wire, verb, arguments)}\n".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as said:
        answers = dict(line.split() for line in said)
    os.waitpid(pid, 0)
    return answers


def answer(wire: Wire, verb: str, arguments: dict[str, Any]) -> str:
    """`ok`, or the code of the refusal."""
    try:
        wire.call(verb, **arguments)
    except CallError as error:
        return error.code
    return "ok"


def test_supervisor_of_agents_opens_nothing(module: Farm) -> None:
    """The supervisor has ZeroMQ and LMDB as modules only: no thread, no socket, no map of the names table."""
    add(module, "resident", "Teller", under="quick")
    pid = module.pid("quick")
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "libzmq" in maps
    assert "data.mdb" not in maps
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    assert procs.state(pid) in "SR"
    module.remove("resident", under="quick")
