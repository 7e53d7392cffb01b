"""
Calls, posts and output of a tree whose root and supervisors re-execute themselves, again and again.

Several clients call a group and single agents and post to another; commands print numbered lines. Afterwards no call
may have failed, no post be missing or double, no line be missing, and every process have the pid that it had.
"""

from __future__ import annotations

import argparse
import random
import select
import shutil
import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from configs import Config
from farm import python
from harness import Daemon
from msgspec import Struct
from siblings import Line
from storms import Callers, Meanwhile, Wrong, from_command_line
from tree import short_directory

from regrow.ipc import Client
from regrow.ipc.errors import MessageError

PROGRAM = Path(__file__).parents[1] / "programs" / "reexec_agents.py"
TARGETS = ("quoter", "quoter", "quoter", "one", "two")
SLICE = 50
POST_EVERY = 10
CALL_S = 30.0
REEXEC_S = 120.0
SETTLE_S = 60.0
TELLERS = ("teller-1", "teller-2")
TELL = python(
    "import os, select\nn = 0\nnotify('READY=1')\nwhile True:\n"
    "    n += 1\n    os.write(1, b'line %d\\n' % n)\n    select.select([], [], [], 0.002)"
)


class Slice(Struct, array_like=True):
    """What came of some calls of one client."""

    took_s: list[float]
    failed: list[str]
    posted: list[int]


def be_caller(run_dir: Path, index: int, seed: int, line: Line) -> None:
    """Call as often as the other end says, and tell it what came of it."""
    dice = random.Random(seed * 1000 + index)
    number = index * 1_000_000
    count = line.hear(timeout_s=600.0)
    with Client(run_dir) as client:
        while count:
            done = Slice([], [], [])
            for _ in range(count):
                number += 1
                begun_s = time.monotonic()
                try:
                    if client.call(dice.choice(TARGETS), "work", number=number, timeout=CALL_S) != number + 1:
                        done.failed.append(f"wrong answer to {number}")
                except MessageError as error:
                    done.failed.append(repr(error))
                done.took_s.append(time.monotonic() - begun_s)
                if number % POST_EVERY == 0:
                    client.post("sink", "take", number, id=f"post {number}")
                    done.posted.append(number)
            line.say(done)
            count = line.hear(timeout_s=600.0)


class Report:
    """What came of it; `quiet_s` and `busy_s` are how long calls took without and with re-executions."""

    def __init__(self) -> None:
        self.quiet_s: list[float] = []
        self.busy_s: list[float] = []
        self.failed: list[str] = []
        self.posted: list[int] = []
        self.answers: list[dict[str, Any]] = []
        self.seconds = 0.0
        self.lines = 0

    def told(self) -> list[str]:
        """For people."""
        took_s = [answer["took_s"] for answer in self.answers]
        count = len(self.answers[0]["supervisors"])
        deaf_ms = [ms for answer in self.answers for name, ms in answer["deaf_ms"].items() if name != "regrow"]
        root_ms = [answer["deaf_ms"]["regrow"] for answer in self.answers]
        return [
            f"{len(self.busy_s)} calls in {self.seconds:.1f} s, none failed",
            f"{len(self.answers)} re-executions of root and {count} supervisors meanwhile",
            f"{len(self.posted)} posts took effect once, {self.lines} lines are in the logs, no pid has changed",
            f"calls without: {_times(self.quiet_s)}",
            f"calls with:    {_times(self.busy_s)}",
            f"a re-execution: {_spread(took_s, 's', 2)}",
            f"deaf, the root: {_spread(root_ms, 'ms', 0)}",
            f"deaf, each supervisor: {_spread(deaf_ms, 'ms', 0)}",
            "everything held",
        ]


def _times(seconds: list[float]) -> str:
    ordered = sorted(each * 1000 for each in seconds)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, max {ordered[-1]:.1f} ms"


def _spread(values: list[float], unit: str, digits: int) -> str:
    return f"median {statistics.median(values):.{digits}f} {unit}, max {max(values):.{digits}f} {unit}"


class Storm:
    """
    A daemon with its agents and commands, and `callers` processes that call.

    Raises:
        Wrong: something did not hold.
    """

    def __init__(self, directory: Path, seed: int, *, callers: int = 4, branches: int = 1) -> None:
        self.directory = directory
        self.report = Report()
        shutil.copy(PROGRAM, directory)
        config = Config(directory)
        config.supervisor("top").supervisor("group").supervisor("singles").supervisor("tellers")
        config.supervisors["top"]["children"] = ["group", "singles", "tellers"]
        for number in range(branches - 1):
            config.supervisor(f"branch-{number}")
            config.workers[f"leaf-{number}"] = {"command": ["tail", "-f", "/dev/null"]}
            config.supervisors[f"branch-{number}"]["children"] = [f"leaf-{number}"]
            config.supervisors["top"]["children"].append(f"branch-{number}")
        config.supervisors["group"]["children"] = ["quoter"]
        config.supervisors["singles"]["children"] = ["one", "two", "sink"]
        config.supervisors["tellers"]["children"] = list(TELLERS)
        config.workers["quoter"] = {"agent": "reexec_agents:Quoter", "replicas": 4}
        for name in ("one", "two"):
            config.workers[name] = {"agent": "reexec_agents:Quoter"}
        config.workers["sink"] = {"agent": "reexec_agents:Sink"}
        for name in TELLERS:
            config.workers[name] = {"command": TELL, "ready": "notify"}
        config.write()
        self.daemon = Daemon(directory)

        def body(index: int, line: Line) -> None:
            be_caller(self.daemon.run_dir, index, seed, line)

        self._callers = Callers(callers, body)

    def run(self, calls: int, reexecs: int) -> Report:
        """At least so many calls, while there are at least so many re-executions; before it some in peace."""
        self.daemon.start(timeout_s=SETTLE_S)
        before = self._processes()
        self._call(self.report.quiet_s, lambda: len(self.report.quiet_s) >= max(calls // 4, 1))
        renewer = Renewer(self.daemon)
        begun_s = time.monotonic()
        try:
            self._call(
                self.report.busy_s,
                lambda: bool(renewer.failed) or (len(self.report.busy_s) >= calls and len(renewer.answers) >= reexecs),
            )
        finally:
            self.report.answers = renewer.end()
        self.report.seconds = time.monotonic() - begun_s
        if renewer.failed:
            raise Wrong(f"a re-execution failed: {renewer.failed}")
        if self.report.failed:
            raise Wrong(f"{len(self.report.failed)} calls failed: {self.report.failed[:5]}")
        if refused := [answer["refused"] for answer in self.report.answers if answer["refused"]]:
            raise Wrong(f"not followed: {refused}")
        if (after := self._processes()) != before:
            raise Wrong(f"not the processes of before:\n{before}\n{after}")
        self._judge_posts()
        self._judge_lines()
        return self.report

    def _processes(self) -> dict[str, tuple[int, int]]:
        entries = self.daemon.control.call("status", all=True)
        return {entry["name"]: (entry["pid"], entry["incarnation"]) for entry in entries}

    def _call(self, took_s: list[float], enough: Any) -> None:
        """Give every caller one slice after the other."""
        busy = set(self._callers)
        self._callers.say(SLICE)
        while busy:
            readable, _, _ = select.select(list(busy), [], [], SETTLE_S)
            if not readable:
                raise Wrong(f"no caller has done {SLICE} calls within {SETTLE_S:g} s")
            for caller in readable:
                done = Slice(*caller.hear())
                took_s += done.took_s
                self.report.failed += done.failed
                self.report.posted += done.posted
                if enough():
                    busy.discard(caller)
                else:
                    caller.say(SLICE)

    def _judge_posts(self) -> None:
        wanted = (len(self.report.posted), sum(self.report.posted))
        end_s = time.monotonic() + SETTLE_S
        with Client(self.daemon.run_dir) as client:
            while (found := tuple(client.call("sink", "total", timeout=CALL_S))) != wanted:
                if time.monotonic() > end_s or found[0] > wanted[0]:
                    raise Wrong(f"posts: {wanted} were made and {found} took effect")

    def _judge_lines(self) -> None:
        """What every teller has printed is in its log, each line once and in order."""
        status = self.daemon.down(SETTLE_S)
        if status != 0 or self.daemon.said():
            raise Wrong(f"regrow down ended with status {status}:\n{self.daemon.said()}")
        for name in TELLERS:
            lines = (self.directory / "log" / f"{name}.log").read_text().splitlines()
            if lines != [f"line {number}" for number in range(1, len(lines) + 1)]:
                raise Wrong(f"lines of {name} are missing or double")
            self.report.lines += len(lines)

    def dispose(self) -> None:
        """End all that is left."""
        self._callers.close()
        self.daemon.dispose()


class Renewer:
    """Asks for one re-execution after the other meanwhile; `failed` is why it has stopped doing so."""

    def __init__(self, daemon: Daemon) -> None:
        self._wire = daemon.connect()
        self.answers: list[dict[str, Any]] = []
        self._meanwhile = Meanwhile(self._turn)

    @property
    def failed(self) -> str:
        return self._meanwhile.failed

    def end(self) -> list[dict[str, Any]]:
        """Ask no more; all answers."""
        self._meanwhile.end()
        return self.answers

    def _turn(self, _end: threading.Event) -> None:
        self.answers.append(self._wire.call("reexec", timeout_s=REEXEC_S))


def told(options: argparse.Namespace) -> Iterator[str]:
    """A storm with these options, for people."""
    with short_directory() as directory:
        storm = Storm(directory, options.seed, branches=options.branches)
        try:
            report = storm.run(options.calls, options.reexecs)
        finally:
            storm.dispose()
    yield from report.told()


def main(arguments: list[str] | None = None) -> int:
    """From a command line; the exit status is 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm.reexec", description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000, help="calls of all clients together (default 20,000)")
    parser.add_argument("--reexecs", type=int, default=5, help="re-executions at least (default 5)")
    parser.add_argument("--branches", type=int, default=1, help="so many more supervisors, less one (default 1)")
    return from_command_line(parser, told, arguments)
