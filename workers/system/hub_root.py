"""
The hub's connection to the root: its events as they happen, and its verbs on behalf of clients.

Nothing here waits. When the connection ends, it is made again, and no event that the root still keeps is missed.

Source: contract section 3 (control protocol).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from regrow.ipc.control import ControlClient, result_of
from regrow.ipc.errors import ControlError, ControlTimeout, Refused, Unreachable
from regrow.ipc.hub_wire import NOCONNECTION, Event, pack
from regrow.ipc.topics import topic_part
from regrow.ipc.wire import BACKPRESSURE, BAD_REQUEST
from regrow.workers.system.hub_gateway import Answered, NotAnswered
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.hub_watch import Watch

CONNECT_S = 1.0
SEND_S = 0.2
"""The root reads at once; if it does not, its socket's buffer holds some hundred requests before this matters."""

RETRY_S, MAX_RETRY_S = 0.1, 5.0
MAX_UNDERWAY = 1_000
MAX_FIELDS_BYTES = 512 * 1024
"""Half of what the root takes in one request."""

OURS = frozenset({"self", "id", "verb", "follow"})
EVENTS = "regrow.event"


class Asked:
    """A request to the root. `cancel` only stops listening: the root goes on with it."""

    __slots__ = ("_link", "done", "failed", "id")

    def __init__(self, link: RootLink, id: int, done: Callable[[Any], None], failed: NotAnswered) -> None:
        self._link = link
        self.id = id
        self.done = done
        self.failed = failed

    def cancel(self) -> bool:
        return self._link.forget(self.id)


class RootLink:
    """`on_event` gets every event once, in order; `last_seq` says which was the last."""

    def __init__(self, run_dir: str, watch: Watch, timers: Timers, on_event: Callable[[Event], None]) -> None:
        self._run_dir = run_dir
        self._watch = watch
        self._timers = timers
        self._on_event = on_event
        self._client: ControlClient | None = None
        self._events_id = 0
        self._underway: dict[int, Asked] = {}
        self._retry_s = RETRY_S
        self._closed = False
        self.last_seq = 0

    def connect(self) -> None:
        """Connect and ask for all events since the last one; try again later when the root cannot be reached."""
        if self._closed:
            return
        try:
            self._client = ControlClient(self._run_dir, timeout_s=CONNECT_S)
            self._events_id = self._client.submit("events", follow=True, since=self.last_seq)
        except ControlError:
            self._lose()
            return
        self._client.timeout_s = SEND_S
        self._watch.add(self._client.fileno(), self._receive)

    def request(self, verb: str, fields: Mapping[str, Any], done: Answered, failed: NotAnswered) -> Asked:
        """Ask for a client, whose fields may be anything; the answer is encoded."""

        def encode(ok: Any) -> None:
            try:
                done(pack(ok))
            except (TypeError, ValueError, OverflowError) as error:
                failed("internal", f"cannot encode the answer to {verb}: {error}", {})

        return self.ask(verb, fields, encode, failed)

    def ask(
        self, verb: str, fields: Mapping[str, Any], done: Callable[[Any], None], failed: NotAnswered
    ) -> Asked:
        """Ask; `done` or `failed` is called once, maybe before this returns."""
        asked = Asked(self, 0, done, failed)
        problem = _problem_with(fields)
        if problem:
            failed(BAD_REQUEST, problem, {"path": "$[3]"})
        elif self._client is None:
            failed(NOCONNECTION, "the hub has no connection to the daemon just now", {})
        elif len(self._underway) >= MAX_UNDERWAY:
            details = {"length": len(self._underway), "limit": MAX_UNDERWAY}
            failed(BACKPRESSURE, "the daemon has many requests of the hub to answer", details)
        else:
            try:
                asked.id = self._client.submit(verb, **fields)
                self._underway[asked.id] = asked
            except (ControlTimeout, Unreachable):
                self._lose()
                failed(NOCONNECTION, "the daemon does not listen", {})
        return asked

    def forget(self, id: int) -> bool:
        """Nobody wants this answer any more."""
        return self._underway.pop(id, None) is not None

    def _receive(self) -> None:
        try:
            while self._client is not None and (message := self._client.receive(0)) is not None:
                self._take(message)
        except Unreachable:
            self._lose()

    def _take(self, message: dict[str, Any]) -> None:
        id = message.get("id")
        if id == self._events_id:
            self._retry_s = RETRY_S
            for event in [message["event"]] if "event" in message else _list(message.get("ok")):
                self._event(event)
            return
        asked = self._underway.pop(id, None) if isinstance(id, int) else None
        if asked is None:
            return
        try:
            ok = result_of(message)
        except Refused as refused:
            asked.failed(refused.code, refused.message, refused.details)
        else:
            asked.done(ok)

    def _event(self, event: dict[str, Any]) -> None:
        seq = int(event["seq"])
        if seq > self.last_seq:
            self.last_seq = seq
            self._on_event(Event(topic_of(str(event["name"]), str(event["event"])), pack(event), seq))

    def _lose(self) -> None:
        """There is no connection; see again later."""
        if self._client is not None:
            self._watch.remove(self._client.fileno())
            self._client.close()
            self._client = None
        underway, self._underway = self._underway, {}
        for asked in underway.values():
            asked.failed(NOCONNECTION, "the connection to the daemon was lost; whether it was done is not known", {})
        if not self._closed:
            self._timers.after(self._retry_s, self.connect)
            self._retry_s = min(self._retry_s * 2, MAX_RETRY_S)

    def close(self) -> None:
        self._closed = True
        self._lose()


def topic_of(name: str, event: str) -> str:
    """Where an event is published; those about the daemon itself have no name, and are about `regrow`."""
    about = ".".join(topic_part(part) for part in name.split(".")) if name else "regrow"
    return f"{EVENTS}.{about}.{topic_part(event)}"


def _list(ok: Any) -> list[dict[str, Any]]:
    return ok if isinstance(ok, list) else []


def _problem_with(fields: Mapping[str, Any]) -> str:
    """Why these cannot be asked in JSON on the hub's own connection; "" when they can."""
    taken = sorted(OURS & fields.keys())
    if taken:
        return f"{', '.join(taken)} cannot be said here"
    try:
        size = len(json.dumps(fields, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        return f"the daemon speaks JSON: {error}"
    return "" if size <= MAX_FIELDS_BYTES else f"{size} bytes are too many; {MAX_FIELDS_BYTES} are the limit"
