"""
One running tree as the scenarios see it: children, their trace, their deaths, the management calls.

`Tree` adds the scenarios' words to a Daemon: crash, exit with a code, counts, starts and stops since the
tree was ready. It asks the daemon only through the control socket and the kernel through pidfds.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import procs
from configs import Config
from harness import Daemon
from wire import TIMEOUT_S, CallError, Event, Wire

SUP = "sup"
"""The supervisor that most scenarios are about."""

Grow = Callable[..., "Tree"]
"""The fixture that starts the usual tree: children in the scenarios' notation, keys of `sup`."""


class Gate:
    """Holds children at a point of their life until the test decides; see `gate` in tests/programs/actor.py."""

    def __init__(self, directory: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(directory / "gate.sock"))
        self._listener.listen(64)
        self._askers: list[socket.socket] = []

    def next(self, timeout_s: float = TIMEOUT_S) -> Held:
        """The next child that asks. Raises TimeoutError."""
        if not select.select([self._listener], [], [], timeout_s)[0]:
            raise TimeoutError(f"no child at the gate within {timeout_s} s")
        asker = self._listener.accept()[0]
        self._askers.append(asker)
        question, name, pid = asker.recv(200).decode().split()
        return Held(asker, question, name, int(pid))

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        """Whoever is held or still to come is told to fail."""
        for asker in (self._listener, *self._askers):
            asker.close()


class Held:
    """A child at the gate: `question` is `start` or `stop`."""

    def __init__(self, asker: socket.socket, question: str, name: str, pid: int) -> None:
        self._asker = asker
        self.question, self.name, self.pid = question, name, pid

    def release(self, step: str) -> None:
        """Let it go on with `step`; a child that was killed meanwhile does not mind."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._asker.send(step.encode() + b"\n")
        self._asker.close()


class Tree(Daemon):
    """A daemon with the vocabulary of the scenarios. `names` default to children of the supervisor `sup`."""

    def __init__(self, directory: Path, config: Config) -> None:
        super().__init__(directory)
        self.config = config
        self.gate = Gate(directory)
        self._traced = 0

    def grow(self) -> Tree:
        """Write the file, start the daemon, wait until the tree is ready."""
        self.config.write()
        self.start()
        return self

    def reload(self) -> None:
        """Write the changed configuration and let the daemon read it. Raises CallError when it is refused."""
        self.config.write()
        self.call("reload")

    # -- what happened --------------------------------------------------------------------------------------

    def trace(self, *words: str) -> list[str]:
        """Lines `word name` of the children since the tree was ready, in order; of these words only, if given."""
        lines = [line.split() for line in self._trace_lines()[self._traced :]]
        return [f"{line[0]} {line[1]}" for line in lines if not words or line[0] in words]

    def starts(self) -> str:
        """Names in the order they became ready, since the last `forget`."""
        return " ".join(line.split()[1] for line in self.trace("start"))

    def stops(self) -> str:
        """Names in the order they ended because they were asked to, since the last `forget`."""
        return " ".join(line.split()[1] for line in self.trace("stop"))

    def tries(self, name: str) -> int:
        """How many processes ran under that name since the last `forget`, ready or not."""
        return self.trace("try").count(f"try {name}")

    def forget(self) -> None:
        """Let `trace`, `starts`, `stops` and `tries` begin here."""
        self._traced = len(self._trace_lines())

    def _trace_lines(self) -> list[str]:
        file = self.directory / "trace"
        return file.read_text().splitlines() if file.exists() else []

    def wait(self, event: str, name: str, *, count: int = 1, **fields: object) -> Event:
        """The `count`-th event of that kind about that name, waiting for it."""

        def wanted(seen: Event) -> bool:
            return seen["event"] == event and seen["name"] == name and fields.items() <= seen.items()

        what = f"event {event} of {name} ({count})"
        return self.stream.wait_events(wanted, count=count, what=what)[count - 1]

    def wait_new(self, **before: int) -> dict[str, int]:
        """Wait until each name is ready with a later process than the given pid; the new pids."""

        def later(name: str, pid: int) -> list[int]:
            pids = [e["pid"] for e in self.stream.events if e["event"] == "ready" and e["name"] == name]
            return pids[pids.index(pid) + 1 :] if pid in pids else []

        def all_later(_event: Event) -> bool:
            return all(later(name, pid) for name, pid in before.items())

        self.stream.wait_events(all_later, what=f"later incarnations than {before}")
        return {name: later(name, pid)[-1] for name, pid in before.items()}

    def wait_ended(self, name: str, *, count: int = 1) -> Event:
        """Wait for the spontaneous end of a supervisor; it has to be *shutdown* (S50)."""
        event = self.wait("exited", name, count=count)
        assert event["reason"]["reason"] == "shutdown", event
        return event

    # -- what is --------------------------------------------------------------------------------------------

    def call(self, verb: str, **arguments: object) -> Any:
        return self.control.answer(self.control.send(verb, **arguments))

    def entry(self, name: str) -> dict[str, Any]:
        """The status entry of one name."""
        entries: list[dict[str, Any]] = self.call("status", names=[name])
        return next(entry for entry in entries if entry["name"] == name)

    def pid(self, name: str) -> int:
        """The pid of a running child."""
        pid = self.entry(name)["pid"]
        assert isinstance(pid, int), f"{name} has no process: {self.entry(name)}"
        return pid

    def pids(self, names: str) -> dict[str, int]:
        return {name: self.pid(name) for name in names.split()}

    def children(self, supervisor: str = SUP) -> list[tuple[str, str]]:
        """(id, state) as which_children answers; a running child's process is checked to be alive."""
        children = self.call("which_children", supervisor=supervisor)
        for child in children:
            assert (child["state"] == "running") == (child["pid"] is not None), child
        return [(child["id"], child["state"]) for child in children]

    def counts(self, supervisor: str = SUP) -> list[int]:
        """[specs, active, supervisors, workers]."""
        counts = self.call("count_children", supervisor=supervisor)
        return [counts[key] for key in ("specs", "active", "supervisors", "workers")]

    # -- what is done ---------------------------------------------------------------------------------------

    def start_child(self, name: str, *, supervisor: str = SUP, **options: Any) -> int | None:
        """start_child of a scripted worker (options as for Config.actor); its pid, None when it ignored."""
        spec = {"id": name, **self.config.actor(name, **options)}
        pid: int | None = self.call("start_child", supervisor=supervisor, spec=spec)["pid"]
        return pid

    def restart_child(self, name: str, *, supervisor: str = SUP) -> int | None:
        pid: int | None = self.call("restart_child", supervisor=supervisor, child=name)["pid"]
        return pid

    def terminate_child(self, name: str, *, supervisor: str = SUP) -> None:
        self.call("terminate_child", supervisor=supervisor, child=name)

    def delete_child(self, name: str, *, supervisor: str = SUP) -> None:
        self.call("delete_child", supervisor=supervisor, child=name)

    def refusal(self, verb: str, child: str | None = None, *, supervisor: str = SUP, **arguments: object) -> str:
        """The code with which that management call is refused."""
        return self.refused(verb, supervisor=supervisor, child=child, **arguments).code

    def refused(self, verb: str, **arguments: object) -> CallError:
        try:
            answer = self.call(verb, **arguments)
        except CallError as error:
            return error
        raise AssertionError(f"{verb} {arguments} was not refused but answered {answer}")

    def start_refused(self, name: str, *, supervisor: str = SUP, **options: Any) -> CallError:
        """The refusal of a start_child of a scripted worker."""
        spec = {"id": name, **self.config.actor(name, **options)}
        return self.refused("start_child", supervisor=supervisor, spec=spec)

    def plan(self, name: str, plan: str) -> None:
        """From the next start of `name` on, follow this plan; see tests/programs/actor.py."""
        fresh = self.directory / f"{name}.plan.new"
        fresh.write_text(plan)
        fresh.rename(self.directory / f"{name}.plan")
        (self.directory / f"{name}.attempts").unlink(missing_ok=True)

    def crash(self, name: str) -> int:
        """SIGKILL from outside; returns the dead pid."""
        pid = self.pid(name)
        procs.kill(pid)
        return pid

    def exit(self, name: str, code: int) -> int:
        """Let it exit with that code; returns the dead pid once it is dead."""
        pid = self.pid(name)
        self.tell(name, f"exit {code}")
        assert procs.wait_dead(pid, TIMEOUT_S)
        return pid

    def crash_until_new(self, name: str) -> int:
        """Crash it and wait for the successor; returns the new pid."""
        return self.wait_new(**{name: self.crash(name)})[name]

    def tell(self, name: str, order: str, suffix: str = "sock") -> None:
        """Send one order to a scripted child."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(order.encode(), str(self.directory / f"{name}.{suffix}"))

    def ask(self, name: str, order: str) -> str:
        """Send one order and wait for the answer."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(TIMEOUT_S)
            sender.bind(str(self.directory / f"ask-{os.urandom(4).hex()}"))
            sender.sendto(order.encode(), str(self.directory / f"{name}.sock"))
            return sender.recv(200).decode()

    @contextlib.contextmanager
    def frozen(self, supervisor: str = SUP) -> Iterator[None]:
        """
        Stop a supervisor's process for the block, so that what happens meanwhile reaches it all at once.

        Its ancestors are stopped before it, because a supervisor continues its child supervisors.
        """
        chain = [supervisor]
        while above := self.entry(chain[0])["supervisor"]:
            chain.insert(0, above)
        pids = [self.call("ping")["pid"], *(self.pid(name) for name in chain)]
        for pid in pids:
            procs.freeze(pid, TIMEOUT_S)
        try:
            yield
        finally:
            for pid in reversed(pids):
                procs.kill(pid, signal.SIGCONT)

    def crash_together(self, names: str, supervisor: str = SUP) -> dict[str, int]:
        """Kill several children while their supervisor cannot look; returns their pids."""
        before = self.pids(names)
        with self.frozen(supervisor):
            for pid in before.values():
                procs.kill(pid)
                assert procs.wait_dead(pid, TIMEOUT_S)
        return before

    def between_attempts(self, verb: str, *, answer: str = "fail", **arguments: object) -> Any:
        """
        Make a call while a child's start attempts are held at the gate, one after the other, and failed.

        The call may be answered during or between attempts; `answer` is what each held attempt is told.
        Returns the code when the call is refused.
        """
        number = self.control.send(verb, **arguments)
        asking: list[Gate | Wire] = [self.gate, self.control]
        while not self.control.answered(number):
            readable = select.select(asking, [], [], TIMEOUT_S)[0]
            assert readable, f"{verb} is not answered and no attempt is made\n{self.stream.recent()}"
            if self.gate in readable and not self.control.answered(number):
                self.gate.next().release(answer)
        try:
            return self.control.answer(number)
        except CallError as error:
            return error.code

    # -- the end --------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Every test ends so: an orderly stop (unless the tree ended by itself), and nothing is left."""
        try:
            if not self.ended and self.ready:
                status = self.down()
                assert status == 0, (status, self.said())
            left = self.leftovers()
            assert not left, left
            assert "Traceback" not in self.said(), self.said()
        finally:
            self.dispose()

    def dispose(self) -> None:
        super().dispose()
        self.gate.close()


@contextlib.contextmanager
def short_directory() -> Iterator[Path]:
    """A directory with a name short enough for socket addresses (unix(7): 108 bytes)."""
    with tempfile.TemporaryDirectory(prefix="regrow-", dir="/tmp") as name:
        yield Path(name)
