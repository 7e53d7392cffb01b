"""
The storm of posts: a client posts to the first of three agents, each of which changes its state and posts on to the
next, while everybody is SIGKILLed: agents at named points and anywhere, the client, the keeper, supervisors, the root.

Afterwards the state of all three must be, byte for byte, that of a run in which nobody was killed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import select
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
from configs import Config
from siblings import Line, Sibling
from storm.lives import Lives
from storms import Wrong, from_command_line
from tree import short_directory
from wire import CallError

from regrow.ipc import Client
from regrow.ipc.errors import ControlError, MessageError, StoreError

PROGRAM = Path(__file__).parents[1] / "programs" / "chain_agent.py"
CHAIN = ("first", "second", "third")
BATCH = 20
"""Posts that the client is given to post at a time, some of them in one transaction."""

SETTLE_S = 60.0
WEIGHTS = {"agent": 60, "poster": 6, "regrow.keeper": 5, "supervisor": 5, "regrow.system": 1, "root": 2, "everybody": 1}
NO_DAEMON = (ControlError, CallError, EOFError, ConnectionError, OSError)


def text_of(number: int) -> str:
    """What the post of this number says."""
    return f"text {number * 7919 % 1000}" * (1 + number % 7)


def be_poster(run_dir: Path, line: Line) -> None:
    """Post what the other end says, and tell it when all of that is kept."""
    while True:
        first, end = line.hear(timeout_s=600.0)
        number = first
        while number < end:
            try:
                with Client(run_dir) as client:
                    while number < end:
                        number = _post_some(client, number, end)
            except (MessageError, ControlError, StoreError, OSError, lmdb.Error):
                select.select([line], [], [], 0.002)  # there is no daemon now
        line.say(end)


def _post_some(client: Client, number: int, end: int) -> int:
    """One, or several together: with ids, since nobody knows what became of the last ones of who was killed."""
    count = min(1 + number % 7, end - number)
    with client.transaction():
        for each in range(number, number + count):
            client.post(CHAIN[0], "take", each, text_of(each), list(CHAIN[1:]), id=f"post {each}")
    return number + count


class Report:
    """What a storm came to."""

    def __init__(self) -> None:
        self.posts = 0
        self.kills: Counter[str] = Counter()
        self.points: Counter[str] = Counter()
        self.seconds = 0.0
        self.starts = 0

    @property
    def killed(self) -> int:
        return self.kills.total() + self.points.total()

    def lines(self) -> list[str]:
        """For people."""
        return [
            f"{self.posts} posts through {len(CHAIN)} agents, {self.killed} kills in {self.seconds:.1f} s",
            f"the daemon was started again {self.starts} times",
            "anywhere: " + ", ".join(f"{count} {who}" for who, count in sorted(self.kills.items())),
            "at points: " + ", ".join(f"{count} {point}" for point, count in sorted(self.points.items())),
            "the states are those of a run without kills, byte for byte",
        ]


class Run:
    """One daemon with its chain, and a client; nobody is killed unless `deaths` names a file."""

    def __init__(self, directory: Path, durability: str, seed: int, deaths: str = "") -> None:
        self.directory = directory
        shutil.copy(PROGRAM, directory)
        config = Config(directory)
        config.daemon["durability"] = durability
        calm = {"first": "1ms", "max": "5ms", "jitter": 0.0}
        config.supervisor("top", intensity=100_000, period="1s", backoff=calm, escalate="never")
        config.supervisor("inner", intensity=100_000, period="1s", backoff=calm, escalate="never")
        config.supervisors["top"]["children"] = ["first", "inner"]
        config.supervisors["inner"]["children"] = ["second", "third"]
        for name in CHAIN:
            config.workers[name] = {"agent": "chain_agent:Chain", "args": {"deaths": deaths, "seed": seed}}
        config.write()
        self.lives = Lives(directory, f"posts-{seed}-{os.getpid()}")
        self.poster = self._new_poster()
        self._asked = (0, 0)

    def _new_poster(self) -> Sibling:
        return Sibling(lambda line: be_poster(self.lives.run_dir, line))

    def start(self) -> None:
        self.lives.launch()
        self.lives.until_ready(SETTLE_S)

    def ask(self, first: int, end: int) -> None:
        """Have these posted."""
        self._asked = (first, end)
        self.poster.say(self._asked)

    def await_posted(self) -> None:
        """Wait until the client has posted what it was asked to."""
        self.poster.hear(timeout_s=SETTLE_S)

    def replace_poster(self) -> None:
        """Kill the client, and have another post again what it may not have."""
        self.poster.close()
        self.poster = self._new_poster()
        self.poster.say(self._asked)

    def await_count(self, count: int) -> None:
        """Wait until the last of the chain has had so many."""
        deadline_s = time.monotonic() + SETTLE_S
        seen = -1
        while seen != count:
            try:
                with Client(self.lives.run_dir) as client:
                    while seen != count:
                        if time.monotonic() > deadline_s:
                            raise Wrong(f"{seen} of {count} posts have come through\n{self.story()}")
                        seen = client.call(CHAIN[-1], "count", timeout=5.0)
            except (MessageError, ControlError, OSError):
                if time.monotonic() > deadline_s:
                    raise

    def story(self) -> str:
        """What may explain it: the boxes, and what the agents printed."""
        logs = [path.read_text(errors="replace")[-2000:] for path in sorted((self.directory / "log").glob("*.log"))]
        return "\n".join(logs)

    def stop(self) -> None:
        """An orderly end."""
        self.poster.close()
        if self.lives.down(SETTLE_S) != 0:
            raise Wrong(f"regrow down has failed:\n{self.lives.said()}")

    def rows(self) -> dict[bytes, bytes]:
        """All of the state, as it is in the store of a daemon that has ended."""
        with lmdb.open(str(self.directory / "state" / "state"), max_dbs=8, readonly=True) as env:
            state = env.open_db(b"state", create=False)
            with env.begin(db=state) as txn:
                return {bytes(key): bytes(value) for key, value in txn.cursor()}

    def dispose(self) -> None:
        self.poster.close()
        self.lives.dispose()


class Killing:
    """Who is killed next, and how."""

    def __init__(self, run: Run, report: Report, dice: random.Random) -> None:
        self._run = run
        self._report = report
        self._dice = dice

    def kill_one(self) -> None:
        """Somebody, weighted by what he is."""
        (who,) = self._dice.choices([*WEIGHTS], [*WEIGHTS.values()])
        if who == "poster":
            self._run.replace_poster()
        elif who in ("root", "everybody"):
            self._end_daemon(who)
        elif not self._kill_child(who):
            return
        self._report.kills[who] += 1

    def _kill_child(self, who: str) -> bool:
        try:
            entries = self._run.lives.status()
        except NO_DAEMON:
            return False
        kinds = {"agent": "agent", "supervisor": "supervisor"}
        wanted = [
            entry["pid"]
            for entry in entries
            if entry["pid"] is not None
            and (entry["name"] == who or (entry["kind"] == kinds.get(who) and not entry["name"].startswith("regrow")))
            and entry["pid"] != self._run.lives.pid
        ]
        return bool(wanted) and _kill(self._dice.choice(wanted))

    def _end_daemon(self, who: str) -> None:
        lives = self._run.lives
        if who == "everybody":
            with contextlib.suppress(*NO_DAEMON):
                for entry in lives.status():
                    if entry["pid"] is not None:
                        _kill(entry["pid"])
        lives.die()
        self._run.start()
        self._report.starts += 1


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def undisturbed(directory: Path, posts: int, durability: str, seed: int) -> dict[bytes, bytes]:
    """The state that these posts lead to when nobody is killed."""
    run = Run(directory, durability, seed)
    try:
        run.start()
        run.ask(0, posts)
        run.await_posted()
        run.await_count(posts)
        run.stop()
        return run.rows()
    finally:
        run.dispose()


def storm(directory: Path, posts: int, kills: int, durability: str, seed: int, say: Callable[[str], Any]) -> Report:
    """
    Both runs.

    Raises:
        Wrong: they have not come to the same.
    """
    (directory / "calm").mkdir()
    (directory / "storm").mkdir()
    expected = undisturbed(directory / "calm", posts, durability, seed)
    report = Report()
    deaths = directory / "deaths"
    deaths.touch()
    run = Run(directory / "storm", durability, seed, str(deaths))
    dice = random.Random(seed)
    begun_s = time.monotonic()
    try:
        run.start()
        killing = Killing(run, report, dice)
        posted = 0
        while posted < posts or report.killed < kills:
            step = min(BATCH, posts - posted)
            if step:
                run.ask(posted, posted + step)
            for _ in range(max(1, round(kills * step / posts / 2))):  # as many, or more, die at points
                run.lives.ended_within(dice.uniform(0.0, 0.015))
                killing.kill_one()
            if step:
                run.await_posted()
            posted += step
            report.points = Counter(deaths.read_text().split())
            say(f"{posted} posts, {report.killed} kills")
        run.await_count(posts)
        report.points = Counter(deaths.read_text().split())
        run.stop()
        found = run.rows()
    finally:
        run.dispose()
    report.posts, report.seconds = posts, time.monotonic() - begun_s
    if found != expected:
        differ = sorted(key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key))
        raise Wrong(f"{len(differ)} rows differ, such as {[(k, expected.get(k), found.get(k)) for k in differ[:5]]}")
    return report


def told(options: argparse.Namespace) -> Iterator[str]:
    """A storm at each level, for people."""
    levels = ("process", "system", "full") if options.durability == "all" else (options.durability,)
    for level in levels:
        yield f"durability {level}"
        with short_directory() as directory:
            report = storm(directory, options.posts, options.kills, level, options.seed, lambda _: None)
        yield from report.lines()


def main(arguments: list[str] | None = None) -> int:
    """From a command line; the exit status is 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm.posts", description=__doc__)
    parser.add_argument("--posts", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=2_000)
    parser.add_argument("--durability", choices=("process", "system", "full", "all"), default="all")
    return from_command_line(parser, told, arguments)
