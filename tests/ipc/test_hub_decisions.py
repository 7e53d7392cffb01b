"""What the hub decides without any socket: topics, credit and losses, who is forgotten."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.ipc.hub_wire import Event, Lost, decode_from_hub, pack
from regrow.ipc.topics import ONE, REST, TopicError, check_pattern, check_topic, topic_part
from regrow.workers.system.hub_board import Board, Subscriber
from regrow.workers.system.hub_outlet import MAX_CREDIT, UNDERWAY_BYTES, Outlet
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.hub_topics import Subscriptions

NUMBER_BYTES = 12
"""Longer than any frame that tells of a loss."""

PARTS = st.sampled_from(["a", "b", "c"])
TOPICS = st.lists(PARTS, min_size=1, max_size=4).map(".".join)
PATTERNS = st.builds(
    lambda parts, rest: ".".join(parts + ([">"] if rest or not parts else [])),
    st.lists(st.sampled_from(["a", "b", "*"]), max_size=4),
    st.booleans(),
)


def matches(pattern: str, topic: str) -> bool:
    """Whether a subscription to `pattern` gets what is published under `topic`, as plainly as it can be said."""
    wanted, parts = pattern.split("."), topic.split(".")
    if wanted[-1] == REST:
        wanted.pop()
        if len(parts) <= len(wanted):
            return False
        parts = parts[: len(wanted)]
    return len(wanted) == len(parts) and all(want in (ONE, part) for want, part in zip(wanted, parts, strict=True))


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a.b", "a.b", True), ("a.b", "a", False), ("a.b", "a.b.c", False), ("a.*", "a.b", True), ("a.*", "a", False),
        ("a.*", "a.b.c", False), ("a.>", "a.b", True), ("a.>", "a.b.c", True), ("a.>", "a", False), (">", "a", True),
        (">", "a.b", True), ("*", "a", True), ("*.b", "a.b", True), ("*.>", "a", False), ("*.b.>", "a.b.c.d", True),
    ],
)  # fmt: skip
def test_matching(pattern: str, topic: str, expected: bool) -> None:
    """`*` is one part, `>` one or more at the end."""
    assert matches(pattern, topic) is expected
    subscriptions: Subscriptions[int] = Subscriptions()
    subscriptions.add(pattern, 1)
    assert list(subscriptions.subscribers(topic)) == [1] * expected


def test_valid_topics_and_patterns() -> None:
    """What is no topic or no pattern is refused with the reason."""
    for topic in ("a", "a.b", "a-b_C9.ü", "x" * 255):
        check_topic(topic)
        check_pattern(topic)
    for topic in ("", ".", "a.", ".a", "a..b", "a b", "a.*", ">", "a\n", "x" * 256, "ü" * 128):
        with pytest.raises(TopicError):
            check_topic(topic)
    for pattern in ("a.>.b", ">.a", "a*", "a.>>", "", "a..>"):
        with pytest.raises(TopicError):
            check_pattern(pattern)
    check_topic(topic_part("a b.c>*\0"))


@given(st.lists(st.tuples(PATTERNS, st.integers(0, 3)), max_size=12), st.lists(TOPICS, max_size=6), st.data())
def test_subscriptions_are_the_naive_ones(wanted: list[tuple[str, int]], topics: list[str], data: Any) -> None:
    """The tree of patterns finds whom trying every pattern finds, also after removals, and ends up empty."""
    subscriptions: Subscriptions[int] = Subscriptions()
    kept: set[tuple[str, int]] = set()
    for pattern, subscriber in wanted:
        if data.draw(st.booleans()):
            subscriptions.add(pattern, subscriber)
            kept.add((pattern, subscriber))
        else:
            subscriptions.remove(pattern, subscriber)
            kept.discard((pattern, subscriber))
        for topic in topics:
            naive = {one for pattern, one in kept if matches(pattern, topic)}
            found = subscriptions.subscribers(topic)
            assert (set(found), len(found)) == (naive, len(naive))
    for pattern, subscriber in kept:
        subscriptions.remove(pattern, subscriber)
    assert subscriptions.is_empty()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 40)),
        st.tuples(st.just("grant"), st.integers(1, 30)),
        st.tuples(st.just("detach"), st.just(0)),
        st.tuples(st.just("attach"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS)
def test_outlet_loses_only_its_oldest_and_tells(steps: list[tuple[str, int]]) -> None:
    """What arrives is in order, within credit, and every number that is missing was counted before the next one."""
    limit, number, credit, expected, counted = 20, 0, 0, 0, 0
    sent: deque[bytes] = deque()

    def transmit(frame: bytes) -> bool:
        sent.append(frame)
        return True

    outlet = Outlet(transmit, limit)
    attached = True
    for step, count in steps:
        match step:
            case "put":
                for _ in range(count):
                    outlet.put(number.to_bytes(NUMBER_BYTES, "big"))
                    number += 1
            case "grant" if attached:
                credit += count
                outlet.grant(count)
            case "detach":
                attached, credit = False, 0
                outlet.detach()
            case "attach":
                attached, credit = True, 0
                outlet.attach(transmit)
        while sent:
            frame = sent.popleft()
            if len(frame) == NUMBER_BYTES:
                assert int.from_bytes(frame, "big") == expected + counted
                expected += counted + 1
                counted = 0
                credit -= 1
                assert credit >= 0
            else:
                lost = decode_from_hub(frame)
                assert isinstance(lost, Lost)
                counted += lost.count
        assert len(outlet) <= limit
    assert outlet.lost_ever <= number


def test_credit_and_bytes_on_their_way_are_bounded() -> None:
    """Whatever is granted, no more than 1,000 signals and 4 MiB are sent ahead."""
    sent: list[bytes] = []

    def transmit(frame: bytes) -> bool:
        sent.append(frame)
        return True

    outlet = Outlet(transmit)
    outlet.grant(10**12)
    for _ in range(3_000):
        outlet.put(b"x")
    assert len(sent) == MAX_CREDIT
    outlet.grant(1)
    assert len(sent) == MAX_CREDIT + 1
    sent.clear()
    big = Outlet(transmit)
    big.grant(1_000)
    for _ in range(20):
        big.put(bytes(1 << 20))
    assert sum(map(len, sent)) == UNDERWAY_BYTES
    big.grant(1)
    assert sum(map(len, sent)) == UNDERWAY_BYTES + (1 << 20)


def test_refused_transmission_is_kept() -> None:
    """A signal that the connection does not take now stays the next one."""
    takes = False
    sent: list[bytes] = []

    def transmit(frame: bytes) -> bool:
        if takes:
            sent.append(frame)
        return takes

    outlet = Outlet(transmit)
    outlet.grant(10)
    outlet.put(b"1")
    outlet.put(b"2")
    takes = True
    outlet.grant(1)
    assert sent == [b"1", b"2"]


def test_events_are_handed_out_once_and_in_order() -> None:
    """A replay takes the place of the events that wait, and events that were known are none."""
    sent: list[int] = []

    def transmit(frame: bytes) -> bool:
        message = decode_from_hub(frame)
        assert isinstance(message, Event)
        sent.append(message.seq)
        return True

    board = Board(lambda _subscriber, _count: None)
    subscriber = Subscriber("x", transmit=transmit)
    board.subscribe(subscriber, "regrow.event.>")
    for seq in (1, 2, 2, 3, 1):
        board.happened(Event("regrow.event.x.ready", pack(seq), seq))
    assert board.replay(subscriber, 1) == 1
    board.happened(Event("regrow.event.x.ready", pack(4), 4))
    subscriber.outlet.grant(100)
    assert sent == [2, 3, 4]


def test_timers_forget_what_is_cancelled() -> None:
    """Ten thousand cancelled timers take no room; what is due is called in order, the cancelled never."""
    now_s = 0.0
    timers = Timers(lambda: now_s)
    called: list[str] = []
    timers.after(2.0, lambda: called.append("second"))
    timers.after(1.0, lambda: called.append("first"))
    for _ in range(10_000):
        timers.after(0.5, lambda: called.append("never")).cancel()
    assert len(timers) == 2
    assert len(timers._heap) < 200
    assert timers.wait_s() == 1.0
    now_s = 5.0
    timers.run()
    assert called == ["first", "second"]
    assert timers.wait_s() is None
