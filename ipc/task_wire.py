"""
What an owner and its task say to each other over the connection that is theirs alone: one job, then one result.

Both are msgpack behind their length in four bytes; a result is the value alone, because a task that fails says nothing
here: its supervisor knows why it ended.

Source: the msgpack specification; otp-rules S232, S233.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from regrow.ipc.wire import MAX_MESSAGE_BYTES

_LENGTH_BYTES = 4


class Job(Struct, frozen=True, array_like=True):
    """What a task is to do: call `target` (`module:function`) with an encoded array and an encoded map."""

    target: str
    args: Raw
    kwargs: Raw


class TooLong(ValueError):
    """More than a message may hold."""

    def __init__(self, size: int) -> None:
        super().__init__(f"it has {size} bytes, {MAX_MESSAGE_BYTES} are the limit")


def encode_job(target: str, args: Any, kwargs: Any) -> bytes:
    """
    A job, ready to be framed.

    Raises:
        UNSENDABLE: msgpack has no form for an argument; TooLong.
    """
    return _checked(msgspec.msgpack.encode((target, args, kwargs)))


def decode_job(payload: bytes) -> Job:
    """
    Read it.

    Raises:
        msgspec.MsgspecError: it is none.
    """
    return msgspec.msgpack.decode(payload, type=Job)


def encode_result(value: Any) -> bytes:
    """A result, ready to be framed. Raises as `encode_job` does."""
    return _checked(msgspec.msgpack.encode(value))


def _checked(payload: bytes) -> bytes:
    if len(payload) > MAX_MESSAGE_BYTES:
        raise TooLong(len(payload))
    return payload


def framed(payload: bytes) -> bytes:
    """With its length before it."""
    return len(payload).to_bytes(_LENGTH_BYTES, "big") + payload


class Frame:
    """
    One payload, put together from the pieces in which it arrives.

    `payload` is None until it is complete; what comes behind it is nobody's.
    """

    __slots__ = ("_received", "payload")

    def __init__(self) -> None:
        self._received = bytearray()
        self.payload: bytes | None = None

    def feed(self, piece: bytes) -> bool:
        """
        Take a piece; True once the payload is complete.

        Raises:
            TooLong: it never will be.
        """
        self._received += piece
        if self.payload is None and len(self._received) >= _LENGTH_BYTES:
            size = int.from_bytes(self._received[:_LENGTH_BYTES], "big")
            if size > MAX_MESSAGE_BYTES:
                raise TooLong(size)
            if len(self._received) >= _LENGTH_BYTES + size:
                self.payload = bytes(memoryview(self._received)[_LENGTH_BYTES : _LENGTH_BYTES + size])
                self._received = bytearray()
        return self.payload is not None


def abstract(address: str) -> str:
    """A socket's address as it is written (`@00c0f`), or what getsockname gave, in the other of the two forms."""
    return f"\0{address[1:]}" if address.startswith("@") else f"@{address[1:]}"


__all__ = ["Frame", "Job", "TooLong", "abstract", "decode_job", "encode_job", "encode_result", "framed"]
