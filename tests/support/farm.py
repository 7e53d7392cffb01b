"""
One daemon that many tests put bad children into, and that none of them may harm.

`sup` takes any child and waits a minute before it restarts one, so what a death left in `status` can be read in
peace; `quick` restarts at once; `many` is parallel. Each has a witness, which must live through everything.
"""

from __future__ import annotations

import select
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import procs
from configs import Config
from tree import SUP, Tree, short_directory
from wire import TIMEOUT_S, Event

T = TypeVar("T")

FOREVER = ("tail", "-f", "/dev/null")
PYTHON = (sys.executable, "-I", "-S", "-c")

NOTIFY = """
import os, socket
def notify(text, address=os.environ.get("NOTIFY_SOCKET", "")):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect("\\0" + address[1:] if address.startswith("@") else address)
        sender.send(text.encode())
"""
"""A sender of notices as anybody would write it, for programs of `python`."""

BUILT = ("top", SUP, "quick", "many", "witness", "quick-witness", "many-witness")


def python(code: str, *arguments: str) -> list[str]:
    """The argv of a small Python program, which may call `notify`."""
    return [*PYTHON, NOTIFY + code, *arguments]


def shell(script: str) -> list[str]:
    """The argv of a shell script."""
    return ["/bin/sh", "-c", script]


class Farm(Tree):
    """A running daemon with a place for children of every kind."""

    def __init__(self, directory: Path) -> None:
        config = Config(directory)
        config.supervisor("top", "sup quick many")
        patience = {"first": "60s", "max": "60s", "jitter": 0.0}
        for name in ("witness", "quick-witness", "many-witness"):
            config.workers[name] = {"command": FOREVER, "stdout": "null", "stderr": "null"}
        config.supervisor(SUP, "witness", backoff=patience, escalate="never")
        config.supervisor("quick", "quick-witness", intensity=1000, period="1s")
        config.supervisor("many", "many-witness", start="parallel", intensity=1000, period="1s")
        super().__init__(directory, config)
        self._built: dict[str, tuple[int, int]] = {}

    def grow(self) -> Farm:
        super().grow()
        self._built = self._state()
        return self

    def _state(self) -> dict[str, tuple[int, int]]:
        return {e["name"]: (e["pid"], e["incarnation"]) for e in self.call("status") if e["name"] in BUILT}

    def assert_unharmed(self) -> None:
        """Supervisors and witnesses are the processes that they were."""
        assert self._state() == self._built, self.stream.recent()

    def add(self, name: str, command: list[str] | tuple[str, ...] = FOREVER, *, under: str = SUP, **keys: Any) -> int:
        """Start a child, and wait until it is ready; its pid."""
        if "function" not in keys:
            keys["command"] = command
        pid = self.call("start_child", supervisor=under, spec={"id": name, **keys})["pid"]
        assert isinstance(pid, int)
        return pid

    def remove(self, name: str, *, under: str = SUP) -> None:
        """End a child and its spec."""
        self.call("terminate_child", supervisor=under, child=name)
        self.call("delete_child", supervisor=under, child=name)

    def why(self, name: str) -> str:
        return "\n".join(self.call("why", name=name)["text"])

    def exited(self, name: str, *, count: int = 1) -> Event:
        """The reason with which it ended by itself, waiting for it."""
        reason: Event = self.wait("exited", name, count=count)["reason"]
        return reason

    def eventually(self, look: Callable[[], T], wanted: Callable[[T], bool] = bool) -> T:
        """What `look` gives once it is `wanted`, looking anew with each event (for what no event announces)."""
        deadline = time.monotonic() + TIMEOUT_S
        while not wanted(seen := look()):
            assert time.monotonic() < deadline, (seen, self.stream.recent(15))
            select.select([self.stream], [], [], 0.02)
            self.stream.answered(-1)
        return seen

    def log(self, name: str) -> str:
        """What a child printed, as far as it is in its file."""
        file = self.directory / "log" / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def last_text(self, name: str, part: str) -> dict[str, Any]:
        """`last_exit`, once its text holds `part`: the last output may come after the death."""
        entry = self.eventually(lambda: self.entry(name), lambda e: part in ((e["last_exit"] or {}).get("text") or ""))
        last: dict[str, Any] = entry["last_exit"]
        return last

    def stop_refused_start(self, name: str, spoil: Callable[[], object]) -> dict[str, Any]:
        """Stop a child, spoil what it needs, start it again: the entry after the refusal."""
        assert self.call("stop", names=[name])[0]["result"] == "stopped"
        spoil()
        result = self.call("start", names=[name])[0]
        assert result["result"] == "refused", result
        assert result["error"]["code"] == "start_failed", result
        entry = self.entry(name)
        assert entry["last_exit"]["text"] in result["error"]["message"] or result["error"]["message"], result
        return entry


def running_farm() -> Iterator[Farm]:
    """The body of a fixture: a farm that runs, and afterwards has left nothing."""
    with short_directory() as directory:
        directory.chmod(0o755)
        farm = Farm(directory)
        try:
            farm.grow()
            yield farm
        finally:
            farm.finish()


def dead(pid: int) -> bool:
    """Wait for the end of a process."""
    return procs.wait_dead(pid, TIMEOUT_S)
