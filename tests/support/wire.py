"""
The control protocol as a stranger would speak it: JSON lines over a Unix socket.

Written from the contract (docs) and not with `regrow.ipc`, so that what is tested is what is promised.
Every wait is on the socket and has a limit that only ever fails a test.
"""

from __future__ import annotations

import itertools
import json
import select
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TIMEOUT_S = 20.0
"""Long enough for a loaded machine; a passing test never waits for it."""

Event = dict[str, Any]


class CallError(Exception):
    """The daemon refused: `code` and `message` as it sent them, `error` the whole object."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error.get('code')}: {error.get('message')}")
        self.error = error
        self.code = str(error.get("code"))
        self.message = str(error.get("message"))


class Wire:
    """One connection. Requests may overlap: `send` returns an id and `answer` waits for its answer."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.connect(str(path))
        self._buffer = b""
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self.events: list[Event] = []
        self.ended = False

    def close(self) -> None:
        self._socket.close()

    def send(self, verb: str, **arguments: object) -> int:
        """Send one request; `None` arguments are left out."""
        number = next(self._ids)
        request = {"id": number, "verb": verb, **{k: v for k, v in arguments.items() if v is not None}}
        self._socket.sendall(json.dumps(request).encode() + b"\n")
        return number

    def call(self, verb: str, *, timeout_s: float = TIMEOUT_S, **arguments: object) -> Any:
        """Send and wait. Raises CallError when refused."""
        return self.answer(self.send(verb, **arguments), timeout_s)

    def answer(self, number: int, timeout_s: float = TIMEOUT_S) -> Any:
        self._until(lambda: number in self._answers, timeout_s, f"answer to request {number}")
        answer = self._answers.pop(number)
        if "error" in answer:
            raise CallError(answer["error"])
        return answer["ok"]

    def answered(self, number: int) -> bool:
        """Whether the answer is here already, without waiting."""
        while number not in self._answers and self._readable(0):
            self._read()
        return number in self._answers

    def follow(self) -> None:
        """Turn this connection into the event stream, from the first event kept."""
        self.events.extend(self.call("events", since=0, follow=True))

    def wait_events(
        self, wanted: Callable[[Event], bool], *, count: int = 1, timeout_s: float = TIMEOUT_S, what: str = "event"
    ) -> list[Event]:
        """The events that match, once there are `count` of them, in order of arrival."""

        def found() -> list[Event]:
            return [event for event in self.events if wanted(event)]

        self._until(lambda: len(found()) >= count, timeout_s, what)
        return found()

    def drain(self) -> list[Event]:
        """Every event up to the end of the stream; for a daemon that is ending."""
        try:
            self._until(lambda: False, TIMEOUT_S, "end of the event stream")
        except EOFError:
            pass  # the end is what was waited for
        return self.events

    def fileno(self) -> int:
        return self._socket.fileno()

    def _until(self, done: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if self.ended:
                raise EOFError(f"the daemon closed the connection; no {what}")
            if not self._readable(deadline - time.monotonic()):
                raise TimeoutError(f"no {what} within {timeout_s} s; last events:\n{self.recent()}")
            self._read()

    def recent(self, count: int = 40) -> str:
        """The last events, one a line, for a failure message."""
        keys = ("seq", "event", "name", "incarnation", "pid", "cause", "reason", "text", "used", "intensity")
        lines = [{k: event[k] for k in keys if event.get(k) is not None} for event in self.events[-count:]]
        return "\n".join(map(str, lines))

    def _readable(self, timeout_s: float) -> bool:
        return bool(select.select([self._socket], [], [], max(0.0, timeout_s))[0])

    def _read(self) -> None:
        try:
            received = self._socket.recv(1 << 16)
        except ConnectionResetError:
            received = b""
        self.ended = not received
        self._buffer += received
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            message = json.loads(line)
            if "event" in message:
                self.events.append(message["event"])
            else:
                self._answers[message["id"]] = message
