"""
What is said between the hub and those who are connected to it: one msgpack array a message, its kind first.

Requests have kinds 0x30-0x3f and 0x42-0x4f, what the hub says of itself 0x50-0x5f; a `Signal` goes both ways
unchanged. An `id` is the client's own, from 1 on, never used twice on one connection; 0 is nobody's.

Source: docs/protocol.md; the msgpack specification.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Raw, Struct

from regrow.ipc.wire import EMPTY_ARRAY, EMPTY_MAP, UNREADABLE, WireError, explain

VERSION = 1
ENDPOINT = "hub.api"
"""The hub's socket, a file in run_dir."""

DEFAULT_TIMEOUT_S = 5.0
MAX_TIMEOUT_S = 86_400.0
NOBODY = 0

Id: TypeAlias = Annotated[int, Meta(ge=1)]
Timeout: TypeAlias = Annotated[float, Meta(gt=0, le=MAX_TIMEOUT_S)]
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=500)]
"""A name, a handler, a verb."""


class Pick(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One member of a group, in place of a name: by `key`, or who owes the hub the fewest answers, or the next one."""

    way: Literal["by_key", "least_outstanding", "round_robin"]
    group: Text
    key: Any = None

    def __str__(self) -> str:
        return self.group


class Hello(Struct, frozen=True, array_like=True, tag=0x30, forbid_unknown_fields=True):
    """
    The first message of a connection, if the client has anything to say of itself; an empty message will do as well.

    `token` is under which a process of this host has recorded its subscriptions ("": it has not).
    """

    version: int
    token: Annotated[str, Meta(max_length=64)] = ""


class Ping(Struct, frozen=True, array_like=True, tag=0x31, forbid_unknown_fields=True):
    """Answered at once, after everything that was asked before and could be answered at once."""

    id: Id


class Call(Struct, frozen=True, array_like=True, tag=0x32, forbid_unknown_fields=True):
    """Call a handler; answered with what it returned."""

    id: Id
    to: Text | Pick
    handler: Text
    args: Raw = EMPTY_ARRAY
    kwargs: Raw = EMPTY_MAP
    timeout_s: Timeout = DEFAULT_TIMEOUT_S


class Send(Struct, frozen=True, array_like=True, tag=0x33, forbid_unknown_fields=True):
    """Send a message; answered with nil as soon as it is accepted."""

    id: Id
    to: Text | Pick
    handler: Text
    args: Raw = EMPTY_ARRAY
    kwargs: Raw = EMPTY_MAP
    timeout_s: Timeout = DEFAULT_TIMEOUT_S


class Cast(Struct, frozen=True, array_like=True, tag=0x34, forbid_unknown_fields=True):
    """Send a message and never hear of it again."""

    to: Text | Pick
    handler: Text
    args: Raw = EMPTY_ARRAY
    kwargs: Raw = EMPTY_MAP


class Cancel(Struct, frozen=True, array_like=True, tag=0x35, forbid_unknown_fields=True):
    """Give up a call, a send or a control request; not answered, and neither is what was given up."""

    id: Id


class Monitor(Struct, frozen=True, array_like=True, tag=0x36, forbid_unknown_fields=True):
    """Answered, once, with `Down` under the same id: when the process of that name is dead, or if there is none."""

    id: Id
    name: Text


class Demonitor(Struct, frozen=True, array_like=True, tag=0x37, forbid_unknown_fields=True):
    """End the monitor of that other id; answered with whether there was one. After that no `Down` of it follows."""

    id: Id
    monitor: Id


class Publish(Struct, frozen=True, array_like=True, tag=0x38, forbid_unknown_fields=True):
    """Publish and be answered with the number of subscribers it was for."""

    id: Id
    topic: str
    message: Raw


class Subscribe(Struct, frozen=True, array_like=True, tag=0x39, forbid_unknown_fields=True):
    """Answered with the last event's number; from then on signals of that pattern come here. Twice is once."""

    id: Id
    pattern: str


class Unsubscribe(Struct, frozen=True, array_like=True, tag=0x3A, forbid_unknown_fields=True):
    """Answered with whether there was such a subscription. What was on its way may still arrive before."""

    id: Id
    pattern: str


class Credit(Struct, frozen=True, array_like=True, tag=0x3B, forbid_unknown_fields=True):
    """So many more signals may be sent; a connection begins with 0. Not answered."""

    count: Id


class Replay(Struct, frozen=True, array_like=True, tag=0x3C, forbid_unknown_fields=True):
    """Send the events after `since` again that this client has subscribed to; answered with the oldest kept number."""

    id: Id
    since: Annotated[int, Meta(ge=0)]


class Control(Struct, frozen=True, array_like=True, tag=0x3D, forbid_unknown_fields=True):
    """A verb of the control socket; answered as there."""

    id: Id
    verb: Text
    fields: dict[str, Any] = {}
    timeout_s: Timeout = DEFAULT_TIMEOUT_S


class Whereis(Struct, frozen=True, array_like=True, tag=0x3E, forbid_unknown_fields=True):
    """Answered with a map of `name`, `incarnation` and `pid` of who has the name, or nil."""

    id: Id
    name: Text


class Bye(Struct, frozen=True, array_like=True, tag=0x3F, forbid_unknown_fields=True):
    """Forget this client: its calls, monitors and subscriptions, and those that it recorded. Not answered."""


class Signal(Struct, frozen=True, array_like=True, tag=0x40, forbid_unknown_fields=True):
    """To the hub: publish this. From the hub: it was published. The same bytes for all."""

    topic: str
    message: Raw


class Event(Struct, frozen=True, array_like=True, tag=0x41, forbid_unknown_fields=True):
    """An event of the daemon, in place of a signal. `seq` is its number, for `Replay`."""

    topic: str
    message: Raw
    seq: int


class Post(Struct, frozen=True, array_like=True, tag=0x42, forbid_unknown_fields=True):
    """
    Send what takes effect exactly once; answered with the post's id as soon as it is kept.

    `post` is that id: posts to one agent with the same one are one post; "": the hub makes one up. `expires_s` is 0 for
    a post that does not expire. It is due after `delay_s`, or `at` so many seconds since the epoch; both 0: at once. A
    post that was given up, or is not answered in time, may be kept all the same.
    """

    id: Id
    to: Text | Pick
    handler: Text
    args: Raw = EMPTY_ARRAY
    kwargs: Raw = EMPTY_MAP
    timeout_s: Timeout = DEFAULT_TIMEOUT_S
    post: Annotated[str, Meta(max_length=200)] = ""
    expires_s: Annotated[float, Meta(ge=0)] = 0.0
    delay_s: Annotated[float, Meta(ge=0)] = 0.0
    at: Annotated[float, Meta(ge=0, le=253_402_300_799)] = 0.0


class Welcome(Struct, frozen=True, array_like=True, tag=0x50):
    """
    The first message to a new connection: the hub knows nothing of what this client asked on an earlier one.

    `session` is different for each connection, `limits` are the numbers it is served within.
    """

    version: int
    session: str
    limits: dict[str, int]


class Done(Struct, frozen=True, array_like=True, tag=0x51):
    id: int
    value: Raw


class Refusal(Struct, frozen=True, array_like=True, tag=0x52):
    """Why there is no `Done`; the request has ended. `id` is 0 where it could not be told."""

    id: int
    code: str
    text: str = ""
    details: dict[str, Any] = {}


class Down(Struct, frozen=True, array_like=True, tag=0x53):
    """What was monitored is dead. `reason` is OTP's word for it, `exit` is as `last_exit` in a status where known."""

    id: int
    name: str
    incarnation: int
    reason: str
    exit: dict[str, Any]


class Lost(Struct, frozen=True, array_like=True, tag=0x54):
    """So many signals for this client were dropped, the oldest first, before the next one that it gets."""

    count: int


ToHub: TypeAlias = (
    Hello | Ping | Call | Send | Cast | Cancel | Monitor | Demonitor | Publish | Subscribe | Unsubscribe | Credit
    | Replay | Control | Whereis | Bye | Signal | Post
)  # fmt: skip
FromHub: TypeAlias = Welcome | Done | Refusal | Down | Signal | Event | Lost

NOT_KEPT = "not_kept"
"""Code of a `Refusal`: the store did not keep a post; `details` has the `type` of the StoreError."""

# Codes of a `Refusal` beside those of a mailbox (`wire`) and of the control socket.
DOWN, NOPROC, TIMEOUT, FORBIDDEN, NOCONNECTION = "down", "noproc", "timeout", "forbidden", "noconnection"

NIL = Raw(b"\xc0")
encode = msgspec.msgpack.Encoder().encode
_to_hub = msgspec.msgpack.Decoder(ToHub).decode
_from_hub = msgspec.msgpack.Decoder(FromHub).decode


def decode_to_hub(frame: bytes) -> ToHub:
    """
    Read what came to the hub.

    Raises:
        WireError.
    """
    try:
        return _to_hub(frame)  # type: ignore[no-any-return]
    except UNREADABLE as error:
        raise WireError(explain(frame, error), _claimed_id(frame)) from None


def decode_from_hub(frame: bytes) -> FromHub:
    """
    Read what the hub said.

    Raises:
        WireError.
    """
    try:
        return _from_hub(frame)  # type: ignore[no-any-return]
    except UNREADABLE as error:
        raise WireError(explain(frame, error)) from None


def pack(value: object) -> Raw:
    """
    Any value as it goes into a message.

    Raises:
        TypeError: msgpack has no such thing.
    """
    return Raw(encode(value))


def _claimed_id(frame: bytes) -> int | None:
    """The id that an unreadable request bears, so that its sender can be told; None where it has none."""
    if len(frame) < 3 or frame[0] & 0xF0 != 0x90 or frame[1] in _WITHOUT_ID:
        return None
    # Only the beginning is looked at: the frame may be broken off anywhere, or be 16 MiB of something else.
    head = frame[2:11]
    size = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8}.get(head[0], 0)
    if size == 0:
        return head[0] if 0 < head[0] < 0x80 else None
    return int.from_bytes(head[1 : 1 + size], "big") or None if len(head) > size else None


_WITHOUT_ID = frozenset({0x30, 0x34, 0x3B, 0x3F, 0x40})
