"""Workflows that note in a file what they do, and die or fail where they are told to."""

from __future__ import annotations

import os
import signal
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regrow.workers import Agent, StepFailed, Workflow, handler, step


class Refusal(Exception):
    """What a step may raise."""


class Noting(Workflow):
    """`self.note` adds a line to the journal, whose path is in the environment."""

    def note(self, *words: object) -> None:
        fd = os.open(os.environ["JOURNAL"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{' '.join(map(str, words))}\n".encode())
        os.close(fd)

    def once_upon(self, sign: str) -> bool:
        """Whether this is asked for the first time in the life of the journal."""
        path = Path(f"{os.environ['JOURNAL']}.{sign}")
        if path.exists():
            return False
        path.touch()
        return True


class Order(Noting):
    """Three steps, two of which can be undone."""

    def run(self, sku: str, fail: str = "", die: str = "") -> str:
        self.fail, self.die = fail, die
        reserved = self.reserve(sku)
        charged = self.charge(reserved, 10)
        return self.ship(charged)

    @step(undo="release")
    def reserve(self, sku: str) -> dict[str, str]:
        self.meet("reserve")
        return {"sku": sku}

    @step(retries=2, backoff=0.01, undo="refund")
    def charge(self, reserved: dict[str, str], amount: int) -> tuple[str, int]:
        self.meet("charge")
        return self.key, amount

    @step
    def ship(self, charged: tuple[str, int]) -> str:
        self.meet("ship")
        assert isinstance(charged, tuple)
        return f"shipped for {charged[1]}"

    def release(self, reserved: dict[str, str]) -> None:
        self.note("release", reserved["sku"])

    @step
    def refund(self, charged: tuple[str, int], reserved: dict[str, str], amount: int) -> None:
        assert isinstance(charged, tuple)
        self.note("refund", charged[0], amount, self.key)

    def meet(self, name: str) -> None:
        self.note(name, self.key)
        if self.die == name and self.once_upon(f"died-{name}"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fail == name:
            raise Refusal(name)
        if self.fail == f"once {name}" and self.once_upon(f"failed-{name}"):
            raise Refusal(name)


class Waits(Noting):
    """Waits for time and for messages."""

    doze = Workflow.sleep

    def run(self, seconds: float, timeout: float) -> list[Any]:
        self.doze(seconds)
        self.tell("slept")
        first = self.receive("paid", timeout=timeout)
        second = self.receive("paid", timeout=timeout)
        return [first, second]

    @step
    def tell(self, word: str) -> None:
        self.note(word)


class Late(Noting):
    """A step that takes too long, the first time or each time."""

    def run(self, always: bool) -> str:
        try:
            self.hang(always)
        except StepFailed as error:
            return f"{error.type}: {error.text}"
        return "done"

    @step(timeout=0.2, retries=1, backoff=0.01)
    def hang(self, always: bool) -> None:
        self.note("hang")
        while always or self.once_upon("hung"):
            threading.Event().wait()


class Fickle(Noting):
    """Calls another step in each process."""

    def run(self) -> None:
        if self.once_upon("first"):
            self.one()
        else:
            self.other()
        self.last()

    @step
    def one(self) -> None:
        self.note("one")

    @step
    def other(self) -> None:
        self.note("other")

    @step
    def last(self) -> None:
        self.note("last")
        if self.once_upon("last"):
            os.kill(os.getpid(), signal.SIGKILL)


class Posts(Noting):
    """A step whose effects are in the store."""

    def run(self, to: str) -> int:
        for number in range(3):
            self.tell(to, number)
        return 3

    @step
    def tell(self, to: str, number: int) -> None:
        self.post(to, "count", 1)
        self.state["told"] = number


class Unkept(Noting):
    """Returns what cannot be kept."""

    def run(self) -> None:
        self.make()

    @step(retries=5)
    def make(self) -> Any:
        return {1, 2}


class Starter(Agent):
    """Starts runs, sends to them and cancels them, in handlers."""

    replies = (Refusal,)

    @handler
    def start(self, id: str, fail: bool = False) -> str:
        own = self.start_workflow("waits", 0.0, 3600.0, id=id)
        if fail:
            raise Refusal(id)
        return own

    @handler
    def answer(self, id: str, value: int, fail: bool = False) -> None:
        self.send_to_run(id, "paid", value)
        self.send_to_run(id, "paid", value)
        if fail:
            raise Refusal(id)

    @handler
    def give_up(self, id: str) -> bool:
        return self.cancel_workflow(id)


class Stubborn(Noting):
    """Three steps of which the last fails; the second cannot be undone until the sign `healed` is there."""

    def run(self, healed: str) -> None:
        self.healed = healed
        for make in (self.one, self.two, self.three):
            make(healed)

    @step(undo="not_one")
    def one(self, healed: str) -> None:
        self.note("one")

    @step(undo="not_two")
    def two(self, healed: str) -> None:
        self.note("two")

    @step(retries=5, final=(Refusal,))
    def three(self, healed: str) -> None:
        self.note("three")
        raise Refusal("three")

    def not_one(self, result: None) -> None:
        self.note("not one")

    @step(retries=1, backoff=0.01)
    def not_two(self, result: None, healed: str) -> None:
        self.note("not two")
        if not Path(healed).exists():
            raise LookupError("the second stays")


class Until(Noting):
    """Waits for moments, one of which has passed."""

    def run(self, when: datetime) -> str:
        self.wait_until(datetime(2001, 1, 1, tzinfo=UTC))
        self.tell("begun")
        self.wait_until(when)
        self.tell("over")
        return when.isoformat()

    @step
    def tell(self, word: str) -> None:
        self.note(word)
