"""What is said between mailboxes: its bytes as they are documented, what is read back, what is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from regrow.ipc import wire
from regrow.ipc.wire import Accepted, Call, Cast, Refusal, Reply, Send, Waiting, WireError

ids = st.integers(0, wire.MAX_ID)
texts = st.text(max_size=40)
leaves = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | texts | st.binary()
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))
raws = values.map(lambda value: Raw(msgspec.msgpack.encode(value)))
arrays = st.lists(values, max_size=4).map(lambda value: Raw(msgspec.msgpack.encode(value)))
maps = st.dictionaries(texts, values, max_size=4).map(lambda value: Raw(msgspec.msgpack.encode(value)))
requests = (
    st.builds(Cast, texts, arrays, maps)
    | st.builds(Send, ids, texts, arrays, maps)
    | st.builds(Call, ids, texts, arrays, maps, st.lists(texts, max_size=4).map(tuple))
)
answers = (
    st.builds(Accepted, st.lists(ids, max_size=8).map(tuple))
    | st.builds(Reply, ids, raws)
    | st.builds(Refusal, ids, texts, texts, st.dictionaries(texts, values.filter(lambda v: v == v), max_size=3))
    | st.builds(Waiting, ids, st.lists(texts, max_size=4).map(tuple))
)

DOCUMENTED: list[tuple[wire.Request | wire.Answer, bytes]] = [
    (Cast("note"), b"\x94\x10\xa4note\x90\x80"),
    (Cast("note", Raw(b"\x91\x01"), Raw(b"\x81\xa1k\xc0")), b"\x94\x10\xa4note\x91\x01\x81\xa1k\xc0"),
    (Send(7, "note"), b"\x95\x11\x07\xa4note\x90\x80"),
    (Call(128, "ask", chain=("a", "b")), b"\x96\x12\xcc\x80\xa3ask\x90\x80\x92\xa1a\xa1b"),
    (Call(wire.MAX_ID, "ask"), b"\x96\x12\xcf" + b"\xff" * 8 + b"\xa3ask\x90\x80\x90"),
    (Accepted((1, 3, 9, 9)), b"\x92\x20\x94\x01\x03\x09\x09"),
    (Reply(5, Raw(b"\xc3")), b"\x93\x21\x05\xc3"),
    (Refusal(5, "shutdown", "it stops"), b"\x95\x22\x05\xa8shutdown\xa8it stops\x80"),
    (
        Refusal(5, "backpressure", "", {"length": 10, "limit": 10}),
        b"\x95\x22\x05\xacbackpressure\xa0\x82\xa6length\x0a\xa5limit\x0a",
    ),
    (Waiting(5, ("a", "b", "a")), b"\x93\x23\x05\x93\xa1a\xa1b\xa1a"),
]


def decode(frame: bytes) -> wire.Request | wire.Answer:
    """By the first element."""
    return wire.decode_request(frame) if frame[1] < 0x20 else wire.decode_answer(frame)


@pytest.mark.parametrize(("message", "frame"), DOCUMENTED, ids=lambda item: type(item).__name__)
def test_documented_bytes(message: wire.Request | wire.Answer, frame: bytes) -> None:
    """What is written is what the protocol's page has, and is read back."""
    assert wire.encode(message) == frame
    assert wire.encode(decode(frame)) == frame


@given(requests)
def test_requests_come_back(request: wire.Request) -> None:
    """Every request is read as it was written, copied or not."""
    frame = wire.encode(request)
    assert wire.encode(wire.decode_request(frame)) == frame
    assert wire.encode(wire.decode_request(memoryview(frame))) == frame
    with pytest.raises(WireError):
        wire.decode_answer(frame)


@given(answers)
def test_answers_come_back(answer: wire.Answer) -> None:
    """Every answer is read as it was written, and is no request."""
    frame = wire.encode(answer)
    assert wire.decode_answer(frame) == answer or "nan" in repr(answer)
    with pytest.raises(WireError):
        wire.decode_request(frame)


@given(requests, st.lists(values, min_size=1, max_size=3))
def test_more_elements_are_ignored(request: wire.Request, more: list[Any]) -> None:
    """A later minor version may add elements at the end; this one reads what it knows."""
    known = request if isinstance(request, Call) else Call(1, request.handler, request.args, request.kwargs)
    frame = wire.encode(known)
    longer = bytes([frame[0] + len(more)]) + frame[1:] + b"".join(map(msgspec.msgpack.encode, more))
    assert wire.encode(wire.decode_request(longer)) == frame


@given(requests, st.data())
def test_truncated(request: wire.Request, data: st.DataObject) -> None:
    """No part of a request is a request."""
    frame = wire.encode(request)
    length = data.draw(st.integers(0, len(frame) - 1))
    with pytest.raises(WireError):
        wire.decode_request(frame[:length])


@pytest.mark.parametrize(
    ("frame", "text", "id"),
    [
        (b"", "an empty message", None),
        (b"\xc1", "not a message of this protocol", None),
        (b"\x95\x11\x07\xa4note\x90\x80\x00", "not a message of this protocol", None),
        (b"\x93\x60\x01\x02", "kind 0x60 is of another version; this is version 1, with kinds up to 0x5f", 1),
        (b"\x93\x7f\x01\x02", "kind 0x7f is of another version", 1),
        (b"\x93\x13\x09\xa1h", "not a message of this protocol: Invalid value 19", 9),
        (b"\x93\x12\x09\xa4\xff\xff\xff\xff", "not a message of this protocol", 9),
        (b"\x93\x12\x09\x05", r"not a message of this protocol: Expected `str`, got `int` - at `\$\[2\]`", 9),
        (b"\x93\x12\x81\x80\x01\xa1h", r"not a message of this protocol: Expected `int`", None),
        (b"\x93\x12\xc3\x05", "not a message of this protocol", None),
        (b"\x92\x11\x09", "not a message of this protocol", 9),
        (b"\x92\x10\x09", "not a message of this protocol", None),
        (b"\xdd\xff\xff\xff\xff\x12", "not a message of this protocol: Input data was truncated", None),
        (b"\x96\x12\x01\xa1h\x90\x80\xdd\xff\xff\xff\xff", "Input data was truncated", None),
        (b"\x95\x12\x01\xa1h" + b"\x91" * 100_000 + b"\x80", "maximum recursion depth exceeded", None),
        (b"\x80", "not a message of this protocol: Expected `array`, got `object`", None),
    ],
)
def test_what_is_no_request(frame: bytes, text: str, id: int | None) -> None:
    """It says what is wrong, and finds the id that the sender waits for where there is one."""
    with pytest.raises(WireError, match=text) as error:
        wire.decode_request(frame)
    assert error.value.id == id


@given(st.binary(max_size=200))
def test_any_bytes(frame: bytes) -> None:
    """They are a message or a WireError, whatever they are."""
    with contextlib.suppress(WireError):
        wire.decode_request(frame)
    with contextlib.suppress(WireError):
        wire.decode_answer(frame)


@pytest.mark.parametrize("id", [0, 127, 128, 1 << 16, 1 << 32, wire.MAX_ID])
def test_value_in_a_reply(id: int) -> None:
    """Whatever bytes its id takes."""
    value = {"a": [1, "x" * 300]}
    assert wire.value_in(wire.encode((wire.REPLY, id, value)), id) == wire.encode(value)
