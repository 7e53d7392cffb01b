"""
OTP's static supervisor, told naively: it blocks, it reads its mailbox in order, and it knows no delay.

Written from otp-rules alone, in the style of supervisor.erl, to be compared with the core. It shares nothing
with the core but the words of the log.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Child:
    """A slot: `pid` is a number, "undefined" or "restarting"."""

    name: str
    restart: str
    significant: bool = False
    pid: int | str = "undefined"


@dataclass
class Otp:
    """A supervisor. `fate(name)` says how the next start of a child goes: ready, fail or ignore."""

    strategy: str
    intensity: int
    period: float
    auto_shutdown: str
    children: list[Child]
    fate: Callable[[str], str]
    now: float = 100.0
    stamps: list[float] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    answers: dict[int, Any] = field(default_factory=dict)
    ended: str = ""
    mailbox: deque[tuple[Any, ...]] = field(default_factory=deque)
    pids: int = 0

    # S26-S36: starting

    def init(self) -> None:
        """Start the list; one failure takes back everything (S32)."""
        for child in list(self.children):
            if self.start(child) == "fail":
                self.terminate_all()
                self.ended = "start_failed"
                return

    def start(self, child: Child) -> str:
        outcome = self.fate(child.name)
        if outcome == "ready":
            self.pids += 1
            child.pid = self.pids
            self.log.append(f"start {child.name}")
        elif outcome == "ignore":
            child.pid = "undefined"
            if child.restart == "temporary":
                self.children.remove(child)
        else:
            self.log.append(f"fail {child.name}")
        return outcome

    # the mailbox

    def receive(self) -> None:
        """Serve the mailbox until it is empty or the supervisor has ended."""
        while self.mailbox and not self.ended:
            kind, *arguments = self.mailbox.popleft()
            getattr(self, f"on_{kind}")(*arguments)
        for kind, *arguments in self.mailbox:
            if kind == "call":
                self.answers[arguments[0]] = "shutdown"
        self.mailbox.clear()

    def on_exit(self, name: str, pid: int, reason: str) -> None:
        """The supervisor's restart_child/2: an exit of a current child (S43-S50)."""
        child = self.find(name)
        if child is None or child.pid != pid:
            return
        if child.restart == "permanent" or (child.restart == "transient" and reason == "abnormal"):
            self.restart(child)
            return
        child.pid = "undefined"
        if child.restart == "temporary":
            self.children.remove(child)
        if child.significant:
            self.do_auto_shutdown()

    def on_retry(self, name: str) -> None:
        """The queued try_again_restart: acted on only if the slot is still restarting (S83)."""
        child = self.find(name)
        if child is not None and child.pid == "restarting":
            self.restart(child)

    def find(self, name: str) -> Child | None:
        return next((child for child in self.children if child.name == name), None)

    # S51-S89: restarting

    def restart(self, child: Child) -> None:
        self.stamps = [stamp for stamp in [*self.stamps, self.now] if stamp >= self.now - self.period]
        if len(self.stamps) > self.intensity:
            child.pid = "undefined"
            self.terminate_all()
            self.ended = "gave_up"
            return
        first = self.children.index(child)
        if self.strategy == "one_for_one":
            if self.start(child) == "fail":
                self.try_again(child)
            return
        child.pid = "undefined"
        group = self.children[first:] if self.strategy == "rest_for_one" else list(self.children)
        for sibling in reversed(group):
            self.terminate(sibling)
            if sibling.restart == "temporary":
                self.children.remove(sibling)
        for sibling in [sibling for sibling in group if sibling in self.children]:
            if self.start(sibling) == "fail":
                self.try_again(sibling)
                return

    def try_again(self, child: Child) -> None:
        child.pid = "restarting"
        self.mailbox.append(("retry", child.name))

    # S90-S103: stopping

    def terminate(self, child: Child) -> None:
        """Stop one child; if it is dead already, its exit is taken out of the mailbox instead (S59, S100)."""
        if isinstance(child.pid, int):
            dead = [message for message in self.mailbox if message[0] == "exit" and message[2] == child.pid]
            if dead:
                self.mailbox.remove(dead[0])
            else:
                self.log.append(f"stop {child.name}")
        child.pid = "undefined"

    def terminate_all(self) -> None:
        for child in reversed(self.children):
            self.terminate(child)

    def do_auto_shutdown(self) -> None:
        """Follow S117-S119."""
        others = any(child.significant and child.pid != "undefined" for child in self.children)
        if self.auto_shutdown == "any_significant" or (self.auto_shutdown == "all_significant" and not others):
            self.terminate_all()
            self.ended = "auto_shutdown"

    # S129-S143: calls

    def on_call(self, number: int, verb: str, name: str, new: Child | None) -> None:
        child = self.find(name)
        if verb == "start":
            assert new is not None
            self.answers[number] = self.start_child(child, new)
        elif child is None:
            self.answers[number] = "not_found"
        elif verb == "terminate":
            self.terminate(child)
            if child.restart == "temporary":
                self.children.remove(child)
            self.answers[number] = "ok"
        elif child.pid == "restarting":
            self.answers[number] = "restarting"
        elif child.pid != "undefined":
            self.answers[number] = "running"
        elif verb == "restart":
            self.answers[number] = "start_failed" if self.start(child) == "fail" else "ok"
        else:
            self.children.remove(child)
            self.answers[number] = "ok"

    def start_child(self, known: Child | None, new: Child) -> str:
        if known is not None:
            return "already_started" if isinstance(known.pid, int) else "already_present"
        self.children.append(new)
        if self.start(new) == "fail":
            self.children.remove(new)
            return "start_failed"
        return "ok"

    def which_children(self) -> list[tuple[str, str]]:
        """Newest first."""
        newest = reversed(self.children)
        return [(child.name, child.pid if isinstance(child.pid, str) else "running") for child in newest]
