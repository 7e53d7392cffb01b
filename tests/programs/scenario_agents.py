"""Agents for the scenarios of calls, monitors and names."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

from regrow.ipc import CallingSelf, Down, MessageError, Refused
from regrow.workers import Agent, handler


class Server(Agent):
    """Answers, late or never; ends in every way."""

    def init(self) -> None:
        self.done: list[Any] = []
        self.stopped = False

    @handler
    def whoami(self) -> tuple[str, int, int]:
        return self.name, self.incarnation, os.getpid()

    @handler
    def work(self, seconds: float, what: str) -> str:
        threading.Event().wait(seconds)
        self.done.append(what)
        return what

    @handler
    def what_was_done(self) -> list[Any]:
        return self.done

    @handler
    def crash(self) -> None:
        raise RuntimeError("the server is wrong")

    @handler
    def leave(self, code: int) -> None:
        sys.exit(code)

    @handler
    def hold(self, fifo: str) -> None:
        with open(fifo) as gate:
            gate.read()

    @handler
    def reply_and_stop(self, file: str) -> str:
        self.file = file
        self.stop("normal")
        return "the reply"

    def terminate(self, reason: str) -> None:
        if hasattr(self, "file"):
            with open(self.file, "w") as told:
                told.write(reason)

    @handler
    def call_self(self) -> str:
        try:
            self.call(self.name, "whoami")
        except CallingSelf:
            return "calling_self"
        return "answered"

    @handler
    def ask(self, to: str, handler: str, args: list[Any]) -> Any:
        try:
            return self.call(to, handler, *args)
        except MessageError as error:
            return type(error).__name__

    @handler
    def tell_and_end(self, to: str, messages: list[str]) -> None:
        for message in messages:
            self.cast(to, "note", message)
        sys.exit(0)

    @handler
    def take(self, names: list[str]) -> list[Any]:
        """What came of registering each: None, or the code of the refusal and the pid of the holder."""
        results: list[Any] = []
        for name in names:
            try:
                self.register(name)
                results.append(None)
            except Refused as refused:
                results.append([refused.code, refused.details.get("pid")])
        return results

    @handler
    def give_back(self, name: str) -> None:
        self.unregister(name)


class Observer(Server):
    """Remembers in which order messages and deaths came."""

    takes = ""

    @handler
    def watch(self, name: str, then_take: str = "") -> None:
        self.takes = then_take
        self.monitor(name)

    @handler
    def note(self, what: str) -> None:
        self.done.append(what)

    def on_down(self, down: Down) -> None:
        if self.takes:
            self.register(self.takes)
        self.done.append(["DOWN", down.name, down.reason, down.code])
