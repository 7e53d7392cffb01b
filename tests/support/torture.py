"""
Commands that misbehave in every way, beside agents that answer calls: what does it do to those, and what is left?

For each torment in turn a few copies run while a client calls twenty agents without pause. The latency of the calls is
set beside that of the same calls with nothing else. A torment passes when each copy ended as it had to, every call was
answered, and neither processes nor directories are left.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import procs
from commanding import Desk
from configs import Config
from tree import SUP, Tree, short_directory

from regrow.ipc.commands_result import CommandResult

AGENTS = 20
AGENT = """
from regrow.workers import Agent, handler


class Echo(Agent):
    @handler
    def echo(self, n: int) -> int:
        return n
"""

CALLER = """
import itertools, json, sys, threading, time
from regrow.ipc import Client

over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set())).start()
taken_s, failed = [], 0
with Client(sys.argv[1]) as client:
    print("began", flush=True)
    for number in itertools.count():
        if over.is_set():
            break
        began_s = time.perf_counter()
        try:
            failed += client.call(f"echo.{number % int(sys.argv[2])}", "echo", number, timeout=20.0) != number
        except Exception:
            failed += 1
        taken_s.append(time.perf_counter() - began_s)
json.dump([taken_s, failed], sys.stdout)
"""
BOMB = """
import os
while True:
    try:
        if os.fork() == 0:
            os.setsid()
    except OSError:
        pass
"""
HOG = "held = []\nwhile True: held.append(bytearray(1 << 24))"
DAEMON = """
import os, select
os.environ.clear()
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
os.chdir("/")
os.closerange(0, 64)
select.select([], [], [])
"""
DEAF = """
import select, signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: select.select([], [], [])
"""
SPAWNS = """
import os
while True:
    started = [os.posix_spawn("/bin/true", ["true"], {}) for _ in range(5)]
    for pid in started: os.waitpid(pid, 0)
"""
FILL = "cat /dev/zero > /tmp/full; exec tail -f /dev/null"
CHMOD = "mkdir -p a/b/c; touch a/b/c/f; chmod 000 a/b/c a/b a .; exec tail -f /dev/null"


ENDS_S = 20.0
"""More than enough for those that end by themselves."""


class Torment(NamedTuple):
    """
    `copies` of `argv` at once; `ended` says whether a result is as it must be.

    Those that end by themselves are started again after `pause_s`. `hears_end`: they are told that no input will come.
    """

    name: str
    argv: tuple[str, ...]
    ended: Callable[[CommandResult], bool]
    copies: int = 3
    options: Mapping[str, Any] = MappingProxyType({})
    pause_s: float = 0.25
    hears_end: bool = True


class Latency(NamedTuple):
    """Of the calls beside one torment, in ms; `failed` is how many had no answer."""

    calls: int
    p50: float
    p99: float
    worst: float
    failed: int


def python(code: str) -> tuple[str, ...]:
    """A program in this interpreter, without its packages."""
    return (sys.executable, "-I", "-S", "-c", code)


def late(result: CommandResult) -> bool:
    """It was killed at its deadline."""
    return result.reason == "timeout"


def ended(result: CommandResult) -> bool:
    """It came to its end by itself."""
    return result.ok


def flooded(result: CommandResult) -> bool:
    """Most of what it wrote was cut, and counted."""
    return (result.ok or late(result)) and result.stdout_cut > len(result.stdout)


def hogged(result: CommandResult) -> bool:
    """It did not get what it wanted."""
    return not result.ok


def torments() -> tuple[Torment, ...]:
    """All of them, each alone bad enough to take a machine down where nobody holds it."""
    return (
        Torment("sleepers", ("tail", "-f", "/dev/null"), late, 5),
        Torment("readers of their input", ("cat",), late, 5, hears_end=False),
        Torment("deaf to signals", python(DEAF), late),
        Torment("makes itself a daemon", python(DAEMON), ended),
        Torment("chmods its directory", ("sh", "-c", CHMOD), late),
        Torment("fills /tmp", ("sh", "-c", FILL), late, 2, {"isolate": ["tmp"]}),
        Torment("memory hog", python(HOG), hogged, 2, {"limits": {"memory": "200MiB"}}),
        Torment("flood of 10 GB", ("head", "-c", "10G", "/dev/zero"), flooded, 2),
        Torment("endless loops", ("sh", "-c", "while :; do :; done"), late),
        Torment("fork bomb", python(BOMB), late, 1, {"limits": {"processes": 400}}),
        Torment("as fast as they can be started", ("cat",), ended, 5, pause_s=0.0),
    )


class Torture:
    """A daemon with agents, commands, and somebody who calls all the time."""

    def __init__(self, directory: Path) -> None:
        (directory / "echo.py").write_text(AGENT)
        config = Config(directory)
        config.workers["echo"] = {"agent": "echo:Echo", "replicas": AGENTS}
        config.supervisors[SUP] = {"children": ["echo"]}
        self.desk = Desk(Tree(directory, config), config).open(max_parallel=8)

    def close(self) -> None:
        self.desk.close()
        self.desk.tree.finish()

    @contextmanager
    def calls(self) -> Iterator[Callable[[], Latency]]:
        """
        Call one agent after the other as long as the block lasts; then ask what that was like.

        Whoever calls is a process of its own: in this one it would wait for the interpreter, which starts commands.
        """
        code = [sys.executable, "-c", CALLER, str(self.desk.tree.run_dir), str(AGENTS)]
        with subprocess.Popen(code, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as caller:
            assert caller.stdin is not None
            assert caller.stdout is not None
            assert caller.stdout.readline() == b"began\n"
            found: list[Latency] = []
            try:
                yield lambda: found[0]
            finally:
                caller.stdin.close()
                taken_s, failed = json.load(caller.stdout)
                found.append(latency(taken_s, failed))

    def quiet(self, seconds: float) -> Latency:
        """The calls with nothing beside them."""
        with self.calls() as found:
            threading.Event().wait(seconds)
        return found()

    def bare(self, seconds: float, copies: int) -> Latency:
        """The calls beside so many loops that start programs without regrow: what the machine does by itself."""
        with ExitStack() as stack:
            for _ in range(copies):
                loop = stack.enter_context(subprocess.Popen(python(SPAWNS)))
                stack.callback(loop.kill)
            return self.quiet(seconds)

    def run(self, torment: Torment, seconds: float) -> tuple[Latency, list[CommandResult]]:
        """The calls beside a torment, again and again for so many seconds, and what its copies came to."""
        results: list[CommandResult] = []
        end_s = time.monotonic() + seconds
        with self.calls() as found:
            while (left_s := end_s - time.monotonic()) > 0 or not results:
                results += self._once(torment, max(left_s, 0.2) if torment.ended is late else ENDS_S)
                threading.Event().wait(min(torment.pause_s, max(0.0, end_s - time.monotonic())))
        self.desk.settle()
        code = torment.argv[-1]
        assert len(code) < 40 or not procs.carrying(code), f"{torment.name} has left {procs.carrying(code)}"
        return found(), results

    def _once(self, torment: Torment, seconds: float) -> list[CommandResult]:
        copies = [self.desk.start(*torment.argv, timeout=seconds, **torment.options) for _ in range(torment.copies)]
        for command in copies:
            if torment.hears_end:
                command.end_input()
        return [command.wait() for command in copies]


def latency(taken_s: list[float], failed: int) -> Latency:
    """Sum up."""
    ordered = sorted(taken_s)

    def at(part: float) -> float:
        return ordered[min(len(ordered) - 1, int(len(ordered) * part))] * 1000

    return Latency(len(ordered), at(0.5), at(0.99), at(1.0), failed)


def main() -> int:
    """Run all torments; prints a table, and returns 1 if one did not pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="how long each torment lasts")
    seconds = parser.parse_args().seconds
    bad = 0
    with short_directory() as directory:
        torture = Torture(directory)
        try:
            _say(f"{'beside':<28}{'calls':>8}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'failed':>8}  ended")
            _show("nothing", torture.quiet(seconds), "")
            for copies in (1, 2):
                _show(f"bare loops of posix_spawn: {copies}", torture.bare(seconds, copies), "")
            for torment in torments():
                found, results = torture.run(torment, seconds)
                right = all(torment.ended(result) for result in results)
                bad += not right or found.failed > 0
                ends = ", ".join(sorted({str(result) for result in results}))
                _show(torment.name, found, f"{'' if right else 'WRONG: '}{len(results)}: {ends}")
            _show("nothing", torture.quiet(seconds), "")
        finally:
            torture.close()
    return 1 if bad else 0


def _show(name: str, found: Latency, ends: str) -> None:
    figures = f"{found.calls:>8}{found.p50:>9.2f}{found.p99:>9.2f}{found.worst:>9.1f}{found.failed:>8}"
    _say(f"{name:<28}{figures}  {ends[:90]}")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
