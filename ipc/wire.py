"""
What is said between a mailbox and those who send to it: one msgpack array a message, its kind first.

Kinds of version 1 are below 0x60; a first element beyond that is another version's. Nothing received is ever
executed, and nothing but these types is ever made of it.

Source: docs/protocol.md; the msgpack specification.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import msgspec
from msgspec import Raw, Struct

MAX_MESSAGE_BYTES = 16 * 1024 * 1024
"""A longer message is refused by the sender and cut off by ZeroMQ at the receiver."""

UNSENDABLE = (TypeError, ValueError, AttributeError, OverflowError, RecursionError, msgspec.EncodeError)
"""What msgspec raises of a value that it has no form for; the last of one that is longer than any form."""

MAX_ID = (1 << 64) - 1
REPLY = 0x21
"""The kind of a `Reply`: whoever has its value encodes the whole message at once, and spares a copy of it."""

LAST_KIND = 0x5F
"""The highest kind of version 1."""

EMPTY_ARRAY = Raw(b"\x90")
EMPTY_MAP = Raw(b"\x80")


class Cast(Struct, frozen=True, array_like=True, tag=0x10):
    """Nobody waits: neither for acceptance nor for an answer (S196)."""

    handler: str
    args: Raw = EMPTY_ARRAY
    kwargs: Raw = EMPTY_MAP


class Send(Struct, frozen=True, array_like=True, tag=0x11):
    """To be accepted or refused; `id` is the sender's, never used twice on one connection."""

    id: int
    handler: str
    args: Raw = EMPTY_ARRAY
    kwargs: Raw = EMPTY_MAP


class Call(Struct, frozen=True, array_like=True, tag=0x12):
    """To be answered. `chain` names the agents that wait for this answer, the first caller first."""

    id: int
    handler: str
    args: Raw = EMPTY_ARRAY
    kwargs: Raw = EMPTY_MAP
    chain: tuple[str, ...] = ()


class Accepted(Struct, frozen=True, array_like=True, tag=0x20):
    """The sends of these ids are in the mailbox: first and last of each run, one run after the other."""

    runs: tuple[int, ...]


class Reply(Struct, frozen=True, array_like=True, tag=REPLY):
    """What the handler returned."""

    id: int
    value: Raw


class Refusal(Struct, frozen=True, array_like=True, tag=0x22):
    """Why there is no acceptance, or no answer. `code` is one of those below, `details` are what that code needs."""

    id: int
    code: str
    text: str = ""
    details: dict[str, Any] = {}


class Waiting(Struct, frozen=True, array_like=True, tag=0x23):
    """The call cannot be answered before its caller is: `chain` closes upon itself."""

    id: int
    chain: tuple[str, ...]


class Closing(Struct, frozen=True, array_like=True, tag=0x24):
    """The last word of a mailbox on one connection: what came there after `last` was never taken, and never will be."""

    last: int


Request: TypeAlias = Cast | Send | Call
Answer: TypeAlias = Accepted | Reply | Refusal | Waiting | Closing

BACKPRESSURE, BAD_REQUEST, REMOTE_ERROR, SHUTDOWN = "backpressure", "bad_request", "remote_error", "shutdown"
"""Codes of a `Refusal`."""

encode = msgspec.msgpack.Encoder().encode
_request = msgspec.msgpack.Decoder(Request).decode
_answer = msgspec.msgpack.Decoder(Answer).decode

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises of what it cannot read."""


def value_in(reply: bytes, id: int | None) -> memoryview:
    """The encoded value in a `Reply` of this id."""
    return memoryview(reply)[len(encode((REPLY, id))) :]


class WireError(Exception):
    """
    The peer's message is none of this protocol. `id` is what it seems to be about, None where it cannot be told.
    """

    def __init__(self, text: str, id: int | None = None) -> None:
        super().__init__(text)
        self.id = id


def decode_request(frame: bytes | memoryview) -> Request:
    """
    Read what came to a mailbox.

    Raises:
        WireError.
    """
    try:
        return _request(frame)  # type: ignore[no-any-return]
    except UNREADABLE as error:
        raise WireError(explain(frame, error), _claimed_id(frame)) from None


def decode_answer(frame: bytes | memoryview) -> Answer:
    """
    Read what a mailbox answered.

    Raises:
        WireError.
    """
    try:
        return _answer(frame)  # type: ignore[no-any-return]
    except UNREADABLE as error:
        raise WireError(explain(frame, error)) from None


def explain(frame: bytes | memoryview, error: Exception) -> str:
    """What is wrong with a frame that cannot be read."""
    if not frame:
        return "an empty message"
    if frame[0] & 0xF0 == 0x90 and len(frame) > 1 and LAST_KIND < frame[1] < 0x80:
        return f"kind {frame[1]:#x} is of another version; this is version 1, with kinds up to {LAST_KIND:#x}"
    return f"not a message of this protocol: {error}"


def _claimed_id(frame: bytes | memoryview) -> int | None:
    """The id that an unreadable request bears, so that its sender can be told."""
    if len(frame) < 3 or frame[0] & 0xF0 != 0x90:
        return None
    try:
        kind, id, *_ = msgspec.msgpack.decode(frame, type=list[Raw])
        found = msgspec.msgpack.decode(id)
    except (*UNREADABLE, ValueError):
        return None
    return found if type(found) is int and bytes(kind) != b"\x10" and 0 <= found <= MAX_ID else None
