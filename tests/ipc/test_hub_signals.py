"""A process's own signals: what it publishes and hears over hubs that come and go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fake_daemon import FakeDaemon, event
from hub_host import HubHost

from regrow.ipc.errors import Backpressure, BadRequest, DeliveryTimeout
from regrow.ipc.node import Node
from regrow.ipc.signals import Signals
from regrow.ipc.subscriptions import read_all


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HubHost]:
    """A run_dir, without a hub as yet."""
    with closing(HubHost(tmp_path)) as made:
        yield made


@pytest.fixture
def node(host: HubHost) -> Iterator[Node]:
    """The test's own process, as one that only asks."""
    with closing(Node(host.run_dir)) as made:
        yield made


@pytest.fixture
def signals(node: Node) -> Iterator[Signals]:
    """Its signals."""
    with closing(Signals(node)) as made:
        yield made


def test_what_is_published_without_a_hub_waits(host: HubHost, signals: Signals) -> None:
    """Subscribing and publishing need no hub: the next one is told, and hands all of it out, in order."""
    assert signals.subscribe("n.>", timeout=0.05) is False
    for number in range(100):
        signals.publish("n.x", number)
    with pytest.raises(DeliveryTimeout):
        signals.publish("n.x", "late", timeout=0.05)
    host.start()
    heard = [signals.receive(20) for _ in range(101)]
    assert [found.message for found in heard if found is not None] == [*range(100), "late"]
    assert signals.publish("n.x", "now", timeout=20) == 1


def test_what_waits_for_a_hub_is_bounded(signals: Signals) -> None:
    """Without a hub 10,000 signals wait, more or less; then the publisher is told."""
    for number in range(9_000):
        signals.publish("n.x", number)

    def publish_more() -> None:
        for number in range(10_000):
            signals.publish("n.x", number)

    with pytest.raises(Backpressure, match="the way to the hub"):
        publish_more()


def test_subscriptions_are_recorded(host: HubHost, node: Node, signals: Signals) -> None:
    """They are beside the names while they last."""

    def recorded() -> list[tuple[str, ...]]:
        return [found.patterns for _, found in read_all(node.names.env) if found is not None]

    host.start()
    assert signals.subscribe("a.>", timeout=20) is True
    assert signals.subscribe("b.*", timeout=20) is True
    assert recorded() == [("a.>", "b.*")]
    assert signals.unsubscribe("a.>") is True
    assert recorded() == [("b.*",)]
    signals.close()
    assert recorded() == []


def test_a_window_is_enough_for_any_number(host: HubHost, signals: Signals) -> None:
    """Credit goes back as signals are handled: twenty windows pass without a loss, large ones too."""
    host.start()
    signals.subscribe("n.>", timeout=20)
    for size, count in ((1, 10_000), (300_000, 60)):
        for _ in range(count):
            signals.publish("n.x", bytes(size))
        for _ in range(count):
            found = signals.receive(20)
            assert found is not None
            assert (len(found.message), found.lost) == (size, 0)


def test_events_since(host: HubHost, signals: Signals, tmp_path: Path) -> None:
    """`since` brings the events after a number, then those that happen; none twice."""
    with closing(FakeDaemon(tmp_path / "run")) as root:
        root.events = [event(seq, "ready", "redis") for seq in (1, 2, 3)]
        host.start()
        assert signals.subscribe("regrow.event.>", since=1, timeout=20) is True
        root.emit(event(4, "exited", "redis"))
        heard = [signals.receive(20) for _ in range(3)]
        assert [found.message["seq"] for found in heard if found is not None] == [2, 3, 4]
        host.restart()
        root.emit(event(5, "ready", "redis"))
        found = signals.receive(20)
        assert found is not None
        assert found.message["seq"] == 5


def test_bad_requests(signals: Signals) -> None:
    """What is no topic, no pattern or nothing that can be encoded is refused at once, hub or no hub."""
    for topic, message in (("", 1), ("regrow.x", 1), ("a b", 1), ("a", object()), ("a", bytes(17 << 20))):
        with pytest.raises(BadRequest):
            signals.publish(topic, message)
    with pytest.raises(BadRequest):
        signals.subscribe("a.>.b")
    assert signals.unsubscribe("never.was") is False
