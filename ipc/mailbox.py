"""
What has come to a process and waits to be handled: bounded, in the order of arrival.

Pure: no clock and no socket. `take` decides about each message at once; what it answers is for the sender.

Source: architecture section 6; otp-rules S195, S219.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from types import FunctionType
from typing import Any, TypeAlias

from msgspec import Raw, Struct

from regrow.ipc.down import Down
from regrow.ipc.wire import BACKPRESSURE, BAD_REQUEST, SHUTDOWN, Call, Cast, Refusal, Request, Send

LIMIT = 10_000
"""Messages that wait; one more is refused with Backpressure."""

LIMIT_BYTES = 256 * 1024 * 1024
"""All messages that wait together; a single one may have 16 MiB."""

NO_ID = -1
"""The id of a refusal that is not sent: a cast waits for none."""


class Envelope:
    """
    One message to be handled, and whom to answer.

    `id` is None for a cast, `is_call` says whether an answer is awaited. `args` is an encoded array, `kwargs` an
    encoded map; both are emptied when they have been read. `routing` is the transport's name for the connection that it
    came by.
    """

    __slots__ = ("args", "chain", "handler", "id", "is_call", "kwargs", "routing", "size")

    def __init__(self, routing: bytes, request: Request, size: int) -> None:
        self.routing = routing
        self.handler = request.handler
        self.args: Raw = request.args
        self.kwargs: Raw = request.kwargs
        self.size = size
        if type(request) is Call:
            self.id: int | None = request.id
            self.is_call = True
            self.chain: tuple[str, ...] = request.chain
        else:
            self.id = request.id if type(request) is Send else None
            self.is_call = False
            self.chain = ()


class Signal(Struct, frozen=True):
    """What was published under a topic that this process subscribed to; `lost` came before it and is gone."""

    topic: str
    message: Any
    lost: int = 0


Item: TypeAlias = Envelope | Down | Signal


class Mailbox:
    """
    The queue and its counters. News (deaths, signals) stands in the same order and takes no room.

    `refused_in_a_row` counts refusals since the mailbox last had room: at 1 it has just filled up.
    """

    __slots__ = (
        "accepted", "closed", "handlers", "limit", "limit_bytes", "news", "owner", "refused", "refused_in_a_row",
        "size", "waiting",
    )  # fmt: skip

    def __init__(self, limit: int = LIMIT, limit_bytes: int = LIMIT_BYTES) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.waiting: deque[Item] = deque()
        self.news = 0
        self.size = 0
        self.accepted = 0
        self.refused = 0
        self.refused_in_a_row = 0
        self.closed: tuple[str, str] | None = None
        self.handlers: Mapping[str, object] | None = None
        self.owner: type = object
        """What messages to `owner` may ask for; None: anything. Other casts are taken, to be complained of."""

    def take(self, routing: bytes, request: Request, size: int) -> Refusal | None:
        """Queue a message of `size` bytes, or say why not; a cast is refused in silence (`NO_ID`)."""
        full = len(self.waiting) - self.news >= self.limit or self.size + size > self.limit_bytes
        if full or self.closed is not None:
            return self._refuse(request, size)
        if self.handlers is not None and request.handler not in self.handlers and not isinstance(request, Cast):
            self.refused += 1
            return Refusal(request.id, BAD_REQUEST, unknown_handler(request.handler, self.owner, self.handlers))
        self.waiting.append(Envelope(routing, request, size))
        self.size += size
        self.accepted += 1
        self.refused_in_a_row = 0
        return None

    def tell(self, item: Down | Signal) -> None:
        """Queue a piece of news."""
        self.waiting.append(item)
        self.news += 1

    def untell(self, down: Down) -> bool:
        """Take a death back that nobody wants to hear of any more (S206); False when it is not there."""
        try:
            self.waiting.remove(down)
        except ValueError:
            return False
        self.news -= 1
        return True

    def next(self) -> Item | None:
        """The oldest item, taken out."""
        if not self.waiting:
            return None
        item = self.waiting.popleft()
        if isinstance(item, Envelope):
            self.size -= item.size
        else:
            self.news -= 1
        return item

    def close(self, code: str, text: str) -> list[Envelope]:
        """From now on everything is refused with this; returns what waited, for the same answer."""
        self.closed = (code, text)
        left = [item for item in self.waiting if isinstance(item, Envelope)]
        self.waiting.clear()
        self.size = self.news = 0
        return left

    def _refuse(self, request: Request, size: int) -> Refusal:
        self.refused += 1
        self.refused_in_a_row += 1
        id = NO_ID if isinstance(request, Cast) else request.id
        if self.closed is not None:
            return Refusal(id, *self.closed)
        length = len(self.waiting) - self.news
        details: dict[str, Any] = {"length": length, "limit": self.limit}
        text = f"{length} messages wait already"
        if length < self.limit:
            text += f", of {self.size} bytes; this one has {size} and {self.limit_bytes} are the limit"
            details |= {"size": self.size, "limit_bytes": self.limit_bytes}
        return Refusal(id, BACKPRESSURE, text, details)


def unknown_handler(name: str, owner: type, handlers: Mapping[str, object]) -> str:
    """What is said to who asks for a handler that the class `owner` has not."""
    said = f"no handler {name}; {owner.__name__} has {', '.join(handlers) or 'none'}"
    of = next((each for each in owner.__mro__ if name in vars(each)), object)  # without running what is found there
    is_method = isinstance(vars(of).get(name), FunctionType) and not name.startswith("_")
    is_ours = any(name in vars(each) for each in owner.__mro__ if each.__module__.startswith("regrow."))
    return f"{said}; its method {name} lacks @handler" if is_method and not is_ours else said


def closing(envelope: Envelope, code: str = SHUTDOWN, text: str = "") -> Refusal | None:
    """What tells the sender of a queued message that it will not be handled; None for a cast."""
    return None if envelope.id is None else Refusal(envelope.id, code, text)
