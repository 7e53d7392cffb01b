"""
A tree whose workers have spares: the module that they import, and waiting for who stands by.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import procs
from tree import SUP, Tree
from wire import TIMEOUT_S

T = TypeVar("T")

MODULE = """
import ctypes, multiprocessing, os, signal, subprocess, sys

from regrow import workers
from regrow.workers import Agent, handler

HERE = os.path.dirname(os.path.abspath(__file__))
VERSION = 1
SPARE = "REGROW_NAME" not in os.environ
SEEN = " ".join(os.environ.get(name, "-") for name in ("REGROW_NAME", "ALIKE", "OWN"))

def wished(word):
    return os.path.exists(os.path.join(HERE, word))

print("imported by", os.getpid())
if wished("broken") and SPARE:
    raise RuntimeError("no such luck")
if wished("held") and SPARE:
    print("held", os.getpid(), flush=True)
    open(os.path.join(HERE, "held")).read()
if wished("helped"):
    helper = subprocess.Popen(["tail", "-f", "/dev/null"], start_new_session=True)
if wished("immortal"):
    ctypes.CDLL(None).prctl(1, 0)

def serve():
    names = ("REGROW_NAME", "REGROW_INCARNATION", "REGROW_INDEX", "ALIKE", "OWN")
    told = " ".join(os.environ.get(name, "-") for name in names)
    print("serving", os.environ["REGROW_INCARNATION"], flush=True)
    listening = " ".join(os.environ.get(name, "-") for name in ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"))
    own = multiprocessing.current_process().name
    workers.status(f"{VERSION} | {SEEN} | {told} | {own} | {listening}")
    workers.ready()
    if wished("failing"):
        raise RuntimeError("not today")
    while True:
        signal.pause()

class Worker(Agent):
    def init(self, word="-"):
        self.word = word
        print("begun", os.environ["REGROW_INCARNATION"], flush=True)

    @handler
    def who(self) -> list[str]:
        return [self.name, self.word, str(os.getpid())]

    @handler
    def hang(self) -> None:
        while True:
            pass
"""


class Garden(Tree):
    """One supervisor, `sup`, with workers of the module; `wish(word)` says what its next import does."""

    def plant(
        self, *names: str, supervisor: dict[str, Any] | None = None, module: str = MODULE, **keys: Any
    ) -> Garden:
        """Functions with a spare each, unless `keys` say otherwise; they run when this returns."""
        self.write_module(module)
        for name in names:
            self.config.workers[name] = {"standby": 1, "shutdown": "1s", **keys}
            if "agent" not in keys:
                self.config.workers[name].setdefault("function", "spares_module:serve")
                self.config.workers[name].setdefault("ready", "notify")
        self.config.supervisor(SUP, " ".join(names), **(supervisor or {}))
        self.grow()
        return self

    def write_module(self, text: str = MODULE) -> None:
        """As a file that is newer than any compiled form of it."""
        file = self.directory / "spares_module.py"
        file.write_text(text)
        for compiled in self.directory.glob("__pycache__/spares_module*"):
            compiled.unlink()

    def wish(self, word: str) -> Path:
        """From now on, until the file is gone."""
        file = self.directory / word
        file.touch()
        return file

    def stands(self, name: str, count: int = 1) -> int:
        """The pid of the `count`-th spare that ever stood by for the group, waiting for it; `name` is its first."""
        text: str = self.wait("standby_ready", name, count=count)["text"]
        return int(text.rpartition("pid ")[2].rstrip(")"))

    def takes_over(self, name: str, count: int = 1) -> int:
        """The `count`-th spare stands by, the only member is killed, and the spare is its successor."""
        spare = self.stands(name, count)
        assert self.crash_until_new(name) == spare
        return spare

    def standby(self, name: str) -> dict[str, Any]:
        """What status says of the spares."""
        standby: dict[str, Any] = self.entry(name)["standby"]
        return standby

    def told(self, name: str) -> list[str]:
        """What the function says: version of the module, what that saw, its environment, its process, its sockets."""
        detail: str = self.entry(name)["detail"]
        return detail.split(" | ")

    def log(self, name: str) -> str:
        return (self.directory / "log" / f"{name}.log").read_text()

    def why(self, name: str) -> str:
        return "\n".join(self.call("why", name=name)["text"])

    def helpers(self) -> dict[int, int]:
        """The process that each import has started, by who imported."""
        found = {}
        for pid, arguments in procs.carrying(str(self.directory)).items():
            if arguments.startswith("tail"):
                found[int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])] = pid
        return found

    def until(self, look: Callable[[], T], wanted: Callable[[T], bool]) -> T:
        """What `look` gives once it is `wanted`, for what no event announces."""
        deadline = time.monotonic() + TIMEOUT_S
        while not wanted(seen := look()):
            assert time.monotonic() < deadline, seen
            select.select([self.stream], [], [], 0.02)
            self.stream.answered(-1)
        return seen


def dead(pid: int) -> bool:
    """Wait for its end."""
    return procs.wait_dead(pid, TIMEOUT_S)
