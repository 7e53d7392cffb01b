"""
The storm of calls: clients that call and send to agents under a real daemon, while the agents are SIGKILLed.

Each client writes down one outcome for each message; each handler writes down by itself what it really did. Afterwards
both must fit: nothing is missing, nothing is double, nothing was done by another incarnation than the one that it was
sent to, no answer went to a wrong caller, and none came late.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from configs import Config
from harness import Daemon
from siblings import Line
from storms import Callers, Meanwhile, Wrong, from_command_line
from tree import short_directory

from regrow.ipc import Client
from regrow.ipc.errors import Backpressure, CallTimeout, DeliveryTimeout, MessageError, NoProcess, ProcessDown
from regrow.ipc.names import Names
from regrow.ipc.verbs import Delivery, Request

PROGRAM = Path(__file__).parents[1] / "programs" / "storm_agent.py"
GROUP = "target"
RECORD = struct.Struct("<II")
TIMEOUT_S = 3.0
SLACK_S = 1.0
"""How much later than its time limit an outcome may come: the machine is shared, and busier than it can be."""

BUNCHES = (1, 1, 1, 1, 4, 16, 150)
"""How many messages of one client are under way at once: many, and some die unhandled in mailboxes."""


class Said(NamedTuple):
    """What a client knows of one message. `incarnation` is that of the receiver, 0 where nothing was sent."""

    number: int
    verb: str
    to: str
    incarnation: int
    outcome: str
    took_s: float


class Ears:
    """One client's messages under way."""

    def __init__(self, client: Client, index: int, said: list[Said]) -> None:
        self.client = client
        self.index = index
        self.said = said
        self.under_way: list[tuple[int, str, Delivery | Request, int, float]] = []

    def begin(self, number: int, verb: str, to: str) -> None:
        """Send one message."""
        begun_s = time.monotonic()
        ask = self.client.send if verb == "send" else self.client.send_request
        thing = ask(to, "work", self.index, number)
        pending = thing._pending
        incarnation = 0
        if pending is not None:
            to = pending.to
            incarnation = self.client._node.peers.by_name[to].record.incarnation
        self.under_way.append((number, to, thing, incarnation, begun_s))

    def finish(self) -> None:
        """Wait for the outcomes of all that is under way."""
        for number, to, thing, incarnation, begun_s in self.under_way:
            left_s = max(begun_s + TIMEOUT_S - time.monotonic(), 0.0)
            verb = "send" if isinstance(thing, Delivery) else "call"
            word = self.outcome(thing, left_s, (self.index, number, to, incarnation))
            self.said.append(Said(number, verb, to, incarnation, word, time.monotonic() - begun_s))
        self.under_way.clear()

    def outcome(self, thing: Delivery | Request, left_s: float, expected: tuple[int, int, str, int]) -> str:
        """In one word; `wrong` and what came is the word for an answer to somebody else."""
        try:
            if isinstance(thing, Delivery):
                thing.wait(left_s)
                return "accepted"
            reply = thing.receive_response(left_s)
        except ProcessDown as error:
            return "down" if (error.down.name, error.down.incarnation) == expected[2:] else f"wrong {error.down!r}"
        except (NoProcess, Backpressure, CallTimeout, DeliveryTimeout) as error:
            return type(error).__name__
        except MessageError as error:
            return f"wrong {error!r}"
        return "reply" if tuple(reply) == expected else f"wrong {reply}"


def be_client(run_dir: Path, index: int, agents: int, seed: int, line: Line) -> None:
    """Send as many messages as it is told to, one at a time and in bunches, by name and by group; then tell."""
    dice = random.Random(seed * 1000 + index)
    said: list[Said] = []
    messages = line.hear()
    line.hear(timeout_s=60.0)  # "go"
    with Client(run_dir) as client:
        ears = Ears(client, index, said)
        number = 0
        while number < messages:
            verb = dice.choice(("call", "send"))
            for _ in range(min(dice.choice(BUNCHES), messages - number)):
                number += 1
                to = GROUP if dice.randrange(5) == 0 else f"{GROUP}.{dice.randrange(agents)}"
                ears.begin(number, verb, to)
            ears.finish()
    for at in range(0, len(said), 500):
        line.say(said[at : at + 500])
    line.say([])


class Report:
    """What a storm came to."""

    def __init__(self) -> None:
        self.messages = self.kills = self.handled = self.unhandled = 0
        self.outcomes: Counter[str] = Counter()
        self.incarnations = 0
        self.seconds = self.slowest_s = 0.0
        self.slowest: dict[str, float] = {}

    def lines(self) -> list[str]:
        """For people."""
        slow = ", ".join(f"{word} {seconds:.3f} s" for word, seconds in sorted(self.slowest.items()))
        return [
            f"{self.messages} messages in {self.seconds:.1f} s, {self.kills} kills, {self.incarnations} incarnations",
            "outcomes: " + ", ".join(f"{count} {word}" for word, count in sorted(self.outcomes.items())),
            f"handled: {self.handled}; of those accepted, {self.unhandled} died with their receiver",
            f"slowest: {slow}",
            "everything held",
        ]


class Storm:
    """
    A daemon with `agents` agents in one group, and `clients` processes that call them.

    Raises:
        Wrong: something did not hold.
    """

    def __init__(self, directory: Path, seed: int, *, agents: int = 20, clients: int = 8) -> None:
        self.directory = directory
        self.seed = seed
        self.agents = agents
        self.clients = clients
        self.records = directory / "records"
        self.records.mkdir()
        shutil.copy(PROGRAM, directory)
        self.report = Report()
        config = Config(directory)
        calm = {"first": "1ms", "max": "5ms", "jitter": 0.0}
        config.supervisor("top", intensity=100_000, period="1s", backoff=calm, escalate="never", start="parallel")
        config.supervisors["top"]["children"] = [GROUP]
        config.workers[GROUP] = {
            "agent": "storm_agent:Target",
            "args": {"folder": str(self.records)},
            "replicas": agents,
        }
        config.write()
        self.daemon = Daemon(directory)

        def body(index: int, line: Line) -> None:
            be_client(self.daemon.run_dir, index, agents, seed, line)

        self._callers = Callers(clients, body)

    def run(self, messages: int, kills_per_s: float) -> Report:
        """All of it."""
        share = messages // self.clients
        self._callers.say(share)
        self.daemon.start(timeout_s=60.0)
        begun_s = time.monotonic()
        self._callers.say("go")
        killer = Killer(self.daemon.run_dir, self.agents, kills_per_s, random.Random(self.seed))
        try:
            said = [list(hear_out(caller)) for caller in self._callers]
        finally:
            self.report.kills = killer.end()
        self.report.seconds = time.monotonic() - begun_s
        self.report.messages = share * self.clients
        last = self._flush()
        self._judge(said, share, last)
        return self.report

    def _flush(self) -> dict[str, int]:
        """Let the last incarnations handle what they have accepted; which they are."""
        last = {}
        with Client(self.daemon.run_dir) as client:
            for index in range(self.agents):
                name = f"{GROUP}.{index}"
                last[name] = self._flushed(client, name)
        return last

    def _flushed(self, client: Client, name: str) -> int:
        deadline_s = time.monotonic() + 30.0
        while True:
            try:
                client.call(name, "seen", timeout=30.0)
                where = client.whereis(name)
                assert where is not None
                return where.incarnation
            except MessageError:
                if time.monotonic() > deadline_s:
                    raise

    def _judge(self, said: list[list[Said]], share: int, last: dict[str, int]) -> None:
        done = self._done()
        slowest: dict[str, float] = {}
        for index, mine in enumerate(said):
            numbers = [one.number for one in mine]
            if numbers != list(range(1, share + 1)):
                raise Wrong(f"client {index} has {len(mine)} outcomes for {share} messages")
            for one in mine:
                self.report.outcomes[f"{one.verb} {one.outcome}"] += 1
                slowest[one.outcome] = max(slowest.get(one.outcome, 0.0), one.took_s)
                self._judge_one(index, one, done.pop((index, one.number), []), last)
        if done:
            raise Wrong(f"handled, but never sent: {sorted(done)[:10]}")
        self.report.slowest = slowest

    def _judge_one(self, client: int, one: Said, where: list[tuple[str, int]], last: dict[str, int]) -> None:
        self.report.handled += len(where)
        self.report.unhandled += one.outcome == "accepted" and not where
        if found := faults(one, where, last):
            raise Wrong(f"{', '.join(found)}: {one} of client {client}, handled at {where}")

    def _done(self) -> dict[tuple[int, int], list[tuple[str, int]]]:
        """What handlers wrote down: where each message was handled."""
        done: dict[tuple[int, int], list[tuple[str, int]]] = {}
        files = sorted(self.records.iterdir())
        self.report.incarnations = len(files)
        for file in files:
            name, _, incarnation = file.name.rpartition(".")
            for client, number in RECORD.iter_unpack(file.read_bytes()):
                done.setdefault((client, number), []).append((name, int(incarnation)))
        return done

    def dispose(self) -> None:
        """End all that is left."""
        self._callers.close()
        try:
            if self.daemon.ready and not self.daemon.ended:
                status = self.daemon.down()
                if status != 0:
                    raise Wrong(f"regrow down ended with status {status}:\n{self.daemon.said()}")
        finally:
            self.daemon.dispose()


class Killer:
    """Kills agents meanwhile, one after the other, at a steady pace; it finds them in the names table."""

    def __init__(self, run_dir: Path, agents: int, per_s: float, dice: random.Random) -> None:
        self._names = Names(str(run_dir))
        self._agents = agents
        self._per_s = per_s
        self._dice = dice
        self._begun_s = time.monotonic()
        self._turns = self._kills = 0
        self._meanwhile = Meanwhile(self._turn)

    def end(self) -> int:
        """Kill no more; how many there were."""
        self._meanwhile.end()
        self._names.close()
        if self._meanwhile.failed:
            raise Wrong(f"cannot kill: {self._meanwhile.failed}")
        return self._kills

    def _turn(self, end: threading.Event) -> None:
        self._turns += 1
        due_s = self._begun_s + self._turns / self._per_s if self._per_s else None
        if not end.wait(None if due_s is None else max(due_s - time.monotonic(), 0.0)):
            self._kill(f"{GROUP}.{self._dice.randrange(self._agents)}")

    def _kill(self, name: str) -> None:
        import os

        record = self._names.get(name)
        fd = record.open_pidfd() if record is not None else -1
        if fd >= 0:
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
                self._kills += 1
            except ProcessLookupError:
                pass  # it is a zombie
            finally:
                os.close(fd)


def faults(one: Said, where: list[tuple[str, int]], last: dict[str, int]) -> list[str]:
    """
    What is wrong with one message.

    Args:
        where: each agent and incarnation that has written down that it handled it.
        last: the incarnations that were never killed, by name.
    """
    times = len(where)
    lost = one.outcome == "accepted" and not times
    found = {
        "an answer of, or to, somebody else": one.outcome.startswith("wrong"),
        "handled more than once": times > 1,
        "handled by another incarnation": times == 1 and where[0] != (one.to, one.incarnation),
        "replied to, but not handled": one.outcome == "reply" and not times,
        "refused, but handled": one.outcome in ("NoProcess", "Backpressure") and times != 0,
        "accepted by one that lived on, but not handled": lost and last[one.to] == one.incarnation,
        "late": one.took_s > TIMEOUT_S + SLACK_S,
    }
    return [fault for fault, holds in found.items() if holds]


def hear_out(line: Line) -> Iterator[Said]:
    """All that a client has to tell."""
    while part := line.hear(timeout_s=900.0):
        for fields in msgspec.convert(part, list[tuple[int, str, str, int, str, float]]):
            yield Said(*fields)


def told(options: argparse.Namespace) -> Iterator[str]:
    """A storm with these options, for people."""
    with short_directory() as directory:
        storm = Storm(directory, options.seed)
        try:
            report = storm.run(options.calls, options.kills_per_s)
        finally:
            storm.dispose()
    yield from report.lines()


def main(arguments: list[str] | None = None) -> int:
    """From a command line; the exit status is 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--calls", type=int, default=200_000, help="messages of all clients together (default 200,000)")
    parser.add_argument("--kills-per-s", type=float, default=20.0, help="how many agents are killed (default 20)")
    return from_command_line(parser, told, arguments)
