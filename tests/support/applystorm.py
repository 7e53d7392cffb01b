"""
Calls to a group of four while it is replaced again and again, and while versions that are no good are rolled back.

Every call must have exactly one correct answer. A member that a bad version had replaced may have been in the middle of
a call when it was killed: these, and no others, may fail, and each is told.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import processes
from cli import regrow
from tree import short_directory

from regrow.ipc.client import Client
from regrow.ipc.control import ControlClient
from regrow.ipc.errors import MessageError

CALLERS = 4
LIMIT_S = 60.0

AGENT = """
import os, threading
from regrow.workers import Agent, handler

VERSION, FAULT = os.environ["VERSION"], os.environ.get("FAULT", "")

class Pricer(Agent):
    def init(self):
        if FAULT == "init":
            raise RuntimeError("a bad version")
        if FAULT == "never":
            threading.Event().wait()
        if FAULT == "later":
            threading.Timer(1.0, os._exit, (3,)).start()

    @handler
    def price(self, number: int) -> list:
        return [number, VERSION]
"""

TABLE = """
[daemon]
name = "storm"
run_dir = "{directory}/run"
state_dir = "{directory}/state"
log_dir = "{directory}/log"

[supervisor.app]
children = ["pricer"]

[worker.pricer]
agent = "pricing:Pricer"
replicas = 4
update = {{ canary = {canary}, {hold} rolling = 1 }}
env = {{ VERSION = "{version}", FAULT = "{fault}" }}
{more}
"""

BAD = {
    "fails in init": {"fault": "init"},
    "crashes after 1 s": {"fault": "later"},
    "never ready": {"fault": "never", "more": 'ready = { notify = true, timeout = "500ms" }'},
    "fails its liveness checks": {
        "more": 'liveness = { exec = ["false"], every = "200ms", timeout = "5s", failures = 2 }'
    },
}
"""How a version can be no good."""


class Calls(NamedTuple):
    """What one caller has seen: how many were answered, rightly, and when and how the others have failed."""

    answered: int
    wrong: int
    slowest_s: float
    failures: list[tuple[float, str]]
    versions: dict[str, int]


def be_caller(run_dir: str, calls: int) -> Calls:
    """Call the group so often, and until standard input is closed, whatever comes of it."""
    import select

    failures: list[tuple[float, str]] = []
    versions: Counter[str] = Counter()
    answered = wrong = number = 0
    slowest_s = 0.0
    with Client(run_dir) as client:
        while number < calls or not select.select([sys.stdin], [], [], 0)[0]:
            number += 1
            began_s = time.monotonic()
            try:
                said, version = client.call("pricer", "price", number, timeout=30.0)
            except MessageError as error:
                failures.append((time.monotonic(), f"{type(error).__name__}: {error}"))
                continue
            slowest_s = max(slowest_s, time.monotonic() - began_s)
            answered += 1
            wrong += said != number
            versions[version] += 1
    return Calls(answered, wrong, slowest_s, failures, dict(versions))


class Storm:
    """One daemon with its group of four."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "storm.toml"
        (directory / "pricing.py").write_text(AGENT)
        self.version = 0
        self.write()
        done = regrow("up", "--detach", self.file)
        assert done.returncode == 0, done.stderr
        self.control = ControlClient(str(directory / "run"), timeout_s=LIMIT_S)

    def write(self, *, fault: str = "", more: str = "", canary: int = 0) -> str:
        """Write the next version."""
        self.version += 1
        version, hold = f"v{self.version}", 'hold = "3s",' if canary else ""
        keys = {"directory": self.directory, "version": version, "fault": fault, "more": more}
        self.file.write_text(TABLE.format(canary=canary, hold=hold, **keys))
        return version

    def apply(self) -> dict[str, Any]:
        """Apply the file; what came of it."""
        told: dict[str, Any] = self.control.request("apply", within_s=LIMIT_S)
        return told

    def called(self, calls: int, meanwhile: Callable[[], None]) -> list[Calls]:
        """Have so many calls made, and as many more as there is time for, while something is done."""
        each = ["--be-caller", str(self.directory / "run"), "--calls", str(calls // CALLERS)]
        command = [sys.executable, __file__, *each]
        callers = [
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(CALLERS)
        ]
        meanwhile()
        return [Calls(*json.loads(caller.communicate(timeout=300)[0])) for caller in callers]

    def stop(self) -> None:
        """End the daemon."""
        self.control.close()
        regrow("down", "--run-dir", self.directory / "run")
        processes.await_no_children()


class Seen(NamedTuple):
    """All callers together."""

    answered: int
    wrong: int
    slowest_s: float
    failures: list[tuple[float, str]]
    versions: Counter[str]

    def line(self) -> str:
        """For people."""
        times = [at_s for at_s, _ in self.failures]
        span = f" within {max(times) - min(times):.3f} s" if times else ""
        kinds = Counter(text.partition(":")[0] for _, text in self.failures)
        failed = f"{len(self.failures)} failed{span} {dict(kinds) if kinds else ''}".strip()
        return f"{self.answered} answered, {failed}, {self.wrong} wrong, slowest {1000 * self.slowest_s:.0f} ms"


def together(all: list[Calls]) -> Seen:
    """What all have seen."""
    versions: Counter[str] = Counter()
    for each in all:
        versions.update(each.versions)
    failures = sorted((at_s, text) for each in all for at_s, text in each.failures)
    slowest_s = max(each.slowest_s for each in all)
    return Seen(sum(each.answered for each in all), sum(each.wrong for each in all), slowest_s, failures, versions)


def rolling(storm: Storm, calls: int, applies: int) -> Seen:
    """Good versions, one after the other."""
    outcomes = []

    def meanwhile() -> None:
        for _ in range(applies):
            storm.write()
            outcomes.append(storm.apply()["outcome"])

    seen = together(storm.called(calls, meanwhile))
    assert outcomes == ["done"] * applies, outcomes
    return seen


def bad(storm: Storm, calls: int, kind: str) -> tuple[Seen, dict[str, Any]]:
    """A version that is no good: it must be rolled back by itself."""
    answers = []

    def meanwhile() -> None:
        storm.write(**BAD[kind], canary=1)
        answers.append(storm.apply())

    seen = together(storm.called(calls, meanwhile))
    (told,) = answers
    assert told["outcome"] == "rolled_back", told
    return seen, told


def report(calls: int, applies: int) -> Iterator[str]:
    """All of it, a line for each."""
    with short_directory() as directory:
        storm = Storm(directory)
        try:
            seen = rolling(storm, calls, applies)
            yield f"{applies} rolling applies of four: {seen.line()}; versions {len(seen.versions)}"
            yield from (f"   {text}" for _, text in seen.failures[:10])
            for kind in BAD:
                seen, told = bad(storm, calls, kind)
                yield f"{kind}: {seen.line()}; rolled back after {told['seconds']:.2f} s: {told['reason'][:100]}"
                yield from (f"   {text}" for _, text in seen.failures[:10])
        finally:
            storm.stop()


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--applies", type=int, default=5)
    parser.add_argument("--be-caller", metavar="RUN_DIR")
    chosen = parser.parse_args(arguments)
    if chosen.be_caller:
        sys.stdout.write(json.dumps(be_caller(chosen.be_caller, chosen.calls)))
        return 0
    for line in report(chosen.calls, chosen.applies):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
