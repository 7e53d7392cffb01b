"""
Following what happens: over the hub while it serves, else over the control socket.

The hub spares the root the work of telling every onlooker. Where it ends, or was never there, the root is asked for all
that came after the last event seen: events are numbered, so that none is missed at a change-over and none shown twice.

Source: docs/protocol.md; contract section 3.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from regrow.config.internal import HUB
from regrow.ipc.control import FOREVER

if TYPE_CHECKING:
    from regrow.daemon.cli.shapes import Event
    from regrow.ipc.client import Client
    from regrow.ipc.control import ControlClient
    from regrow.ipc.mailbox import Signal

EVENTS = "regrow.event.>"
SOCKET = "hub.api"

CONFIRM_S = 0.5
"""A hub that has not confirmed a subscription by then is not waited for."""

ENDS = frozenset({"exited", "stopped", "child_deleted"})


def follow(control: ControlClient, names: Sequence[str], **fields: Any) -> Iterator[Event]:
    """
    What the verb `events` answers, then every event as it happens, until the daemon ends.

    Args:
        names: only events of these and of what is below them; of all when empty.
        fields: `since` and `limit`, for the past.
    Raises:
        Unreachable: the daemon is gone.
    """
    client = hub_client(control)
    if client is None:
        if names:
            fields["names"] = list(names)
        stream: Iterator[Any] = control.follow("events", within_s=FOREVER, **fields)
        yield from stream
        return
    with client:
        yield from Follower(control, client, names).events(fields)


def hub_client(control: ControlClient) -> Client | None:
    """A client that is subscribed to all events; None where there is no hub to say so."""
    if not os.path.exists(os.path.join(control.run_dir, SOCKET)):
        return None
    from regrow.ipc.client import Client
    from regrow.ipc.errors import MessageError

    client = Client(control.run_dir)
    try:
        if client.subscribe(EVENTS, timeout=CONFIRM_S):
            return client
    except MessageError:
        pass
    client.close()
    return None


class Follower:
    """
    Events in their order, each once.

    `_seen` is the number up to which all events are known here, shown or not; `_shown` that of the last one shown.
    """

    def __init__(self, control: ControlClient, client: Client, names: Sequence[str]) -> None:
        self._control = control
        self._client = client
        self._names = list(names)
        self._seen: int = client.signals.last_seq or 0
        self._shown = 0

    def events(self, fields: dict[str, Any]) -> Iterator[Event]:
        """As `follow` does it."""
        # First subscribed, then asked: what happens between the two comes twice rather than never.
        ends = self._control.submit("events", names=[HUB], follow=True, limit=0)
        self._control.answer(ends)
        yield from self._asked(**fields)
        for signal in signals(self._client, self._control, self._hub_lives):
            event: Event = signal.message
            if event["seq"] > self._seen + 1:
                yield from self._asked(since=self._seen, before=event["seq"])
            self._seen = max(self._seen, event["seq"])
            if event["seq"] > self._shown and concerns(event, self._names):
                self._shown = event["seq"]
                yield event
        yield from self._without_hub()

    def _asked(self, *, before: int | None = None, **fields: Any) -> Iterator[Event]:
        """The past, from the root."""
        for event in self._control.request("events", names=self._names, **fields):
            if event["seq"] > self._shown and (before is None or event["seq"] < before):
                self._shown = event["seq"]
                yield event

    def _without_hub(self) -> Iterator[Event]:
        after = max(self._seen, self._shown)
        rest: Iterator[Any] = self._control.follow("events", names=self._names, since=after, within_s=FOREVER)
        yield from rest

    def _hub_lives(self) -> bool:
        """Whether nothing has been heard of the hub's end."""
        while (message := self._control.receive(0)) is not None:
            if message.get("event", {}).get("event") in ENDS:
                return False
        return True


def signals(client: Client, control: ControlClient, goes_on: Callable[[], bool]) -> Iterator[Signal]:
    """
    What the client is subscribed to, as it comes; `goes_on` is asked whenever the daemon says something.

    Raises:
        Unreachable: the daemon is gone.
    """
    node = client._node
    poll = select.poll()
    poll.register(node.fileno(), select.POLLIN)
    poll.register(control.fileno(), select.POLLIN)
    while True:
        due_s = node.on_readable()
        while (signal := client.next_signal(0)) is not None:
            yield signal
        # Now and no earlier: whoever took the signals may have read on the daemon's connection, which is quiet then.
        if not goes_on():
            return
        wait_s = due_s - time.monotonic()
        poll.poll(None if wait_s == float("inf") else max(wait_s, 0) * 1000)


def concerns(event: Event, names: Sequence[str]) -> bool:
    """Whether an event is about one of the names, something below it, or one of its replicas."""
    if not names:
        return True
    group, _, index = event["name"].rpartition(".")
    above = {event["name"], *event["path"].split("/"), *([group] if index.isdigit() else [])}
    return not above.isdisjoint(names)
