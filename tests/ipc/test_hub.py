"""The hub as a process: publish and subscribe, calls from outside, and what its death changes: nothing."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hub_host import HubHost, RawClient, value

from regrow.ipc import hub_wire
from regrow.ipc.hub_wire import (
    Bye,
    Call,
    Cancel,
    Cast,
    Control,
    Credit,
    Demonitor,
    Done,
    Down,
    Lost,
    Monitor,
    Publish,
    Refusal,
    Send,
    Signal,
    Subscribe,
    Unsubscribe,
    Whereis,
    pack,
)  # fmt: skip


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HubHost]:
    """A run_dir with a hub."""
    with closing(HubHost(tmp_path)) as made:
        made.start()
        yield made


@pytest.fixture
def client(host: HubHost) -> Iterator[RawClient]:
    """A client that was welcomed."""
    with closing(RawClient(host.run_dir)) as made:
        made.welcome()
        yield made


@pytest.fixture
def other(host: HubHost) -> Iterator[RawClient]:
    """Another one."""
    with closing(RawClient(host.run_dir)) as made:
        made.welcome()
        yield made


def subscribe(client: RawClient, pattern: str, credit: int = 1000) -> None:
    """Subscribe and wait for the answer."""
    assert isinstance(client.answer(Subscribe(client.id(), pattern)), Done)
    if credit:
        client.say(Credit(credit))
    assert client.hear_all() == []


def test_signals_come_to_subscribers_only(client: RawClient, other: RawClient) -> None:
    """A signal comes to whom it was published for, as it was published, and to nobody else."""
    subscribe(client, "shop.*.placed")
    subscribe(other, "shop.carts.>")
    done = other.answer(Publish(other.id(), "shop.orders.placed", pack({"id": 7, "raw": b"\0\xff"})))
    assert value(done) == 1
    heard = client.hear()
    assert heard is not None
    assert isinstance(heard, Signal)
    assert (heard.topic, value(heard)) == ("shop.orders.placed", {"id": 7, "raw": b"\0\xff"})
    assert client.hear_all() == []
    assert other.hear_all() == []


def test_several_patterns_are_one_signal(client: RawClient) -> None:
    """A signal that several of one subscriber's patterns match comes once."""
    for pattern in ("a.>", "a.*", "a.b"):
        subscribe(client, pattern, credit=0)
    client.say(Credit(10), Signal("a.b", pack(1)))
    assert [value(message) for message in client.hear_all()] == [1]


def test_unsubscribed_means_no_more(client: RawClient) -> None:
    """After the answer to `Unsubscribe` nothing comes; a second one is harmless."""
    subscribe(client, "a.b")
    assert value(client.answer(Unsubscribe(client.id(), "a.b"))) is True
    assert value(client.answer(Unsubscribe(client.id(), "a.b"))) is False
    assert value(client.answer(Publish(client.id(), "a.b", pack(1)))) == 0


def test_order_of_one_publisher_is_kept(client: RawClient, other: RawClient) -> None:
    """Ten thousand signals of one publisher come in the order in which they were published."""
    subscribe(client, "n.>", credit=1000)
    count = 10_000
    got: list[int] = []
    for number in range(count):
        other.say(Signal("n.x", pack(number)))
    while len(got) < count:
        heard = client.hear()
        assert heard is not None
        got.append(value(heard))
        if len(got) % 500 == 0:
            client.say(Credit(500))
    assert got == list(range(count))


def test_slow_subscriber_loses_its_oldest(client: RawClient, other: RawClient) -> None:
    """Without credit 10,000 signals wait; of more, the oldest are dropped, and their number is told first."""
    subscribe(client, "n.>", credit=0)
    for number in range(10_050):
        other.say(Signal("n.x", pack(number)))
    assert other.hear_all() == []
    client.say(Credit(3))
    lost, *rest = client.hear_all()
    assert lost == Lost(50)
    assert [value(message) for message in rest] == [50, 51, 52]


def test_losses_are_announced(client: RawClient, other: RawClient) -> None:
    """Who loses signals is told on `regrow.hub.lost`, with how many."""
    subscribe(client, "n.>", credit=0)
    subscribe(other, "regrow.hub.>", credit=10)
    for number in range(10_020):
        other.say(Signal("n.x", pack(number)))
    told = 0
    while told < 20:
        heard = other.hear()
        assert heard is not None
        assert value(heard)["subscriber"] == f"uid {os.getuid()} (pid {os.getpid()})"
        told += value(heard)["lost"]
    assert told == 20


def test_frozen_subscriber_slows_nobody(host: HubHost, client: RawClient, other: RawClient) -> None:
    """While a subscriber is stopped, others get everything; when it goes on, it has lost its oldest only."""
    frozen = host.actor("frozen", "n.>")
    subscribe(client, "n.>", credit=1000)
    frozen.signal(signal.SIGSTOP)
    count = 20_000
    got = 0
    for number in range(count):
        other.say(Signal("n.x", pack(number)))
        while client.socket.poll(0) and (heard := client.hear()) is not None:
            assert value(heard) == got
            got += 1
            client.say(Credit(1))
    while got < count:
        heard = client.hear()
        assert heard is not None
        assert value(heard) == got
        got += 1
        client.say(Credit(1))
    frozen.signal(signal.SIGCONT)
    expected, lost = 0, 0
    while expected < count:
        _, number, dropped = json.loads(frozen.line())
        assert number == expected + dropped
        lost += dropped
        expected = number + 1
    assert lost == count - 10_000 - 500


def test_reserved_topics_are_refused(client: RawClient) -> None:
    """Nobody but the daemon publishes below `regrow.`; what is no topic or pattern is refused as well."""
    for message in (
        Publish(client.id(), "regrow.event.x", pack(1)),
        Publish(client.id(), "a..b", pack(1)),
        Publish(client.id(), "a.*", pack(1)),
        Publish(client.id(), "x" * 256, pack(1)),
        Subscribe(client.id(), "a.>.b"),
        Subscribe(client.id(), ""),
    ):
        refusal = client.answer(message)
        assert isinstance(refusal, Refusal)
        assert (refusal.code, refusal.details["path"]) == ("bad_request", "$[2]")


def test_subscriptions_survive_the_hub(host: HubHost, other: RawClient) -> None:
    """A killed hub's successor knows the subscriptions of this host's processes; published meanwhile is not lost."""
    actor = host.actor("actor", "n.>")
    other.say(Signal("n.x", pack("before")))
    assert json.loads(actor.line()) == ["n.x", "before", 0]
    for turn in range(3):
        host.restart()
        for number in range(10):
            other.say(Signal("n.x", pack([turn, number])))
        assert [json.loads(actor.line())[1] for _ in range(10)] == [[turn, number] for number in range(10)]


def test_signals_wait_for_a_process_that_is_not_back(host: HubHost, other: RawClient) -> None:
    """What is published before a recorded, and just now frozen, process has come back to a new hub waits for it."""
    actor = host.actor("actor", "n.>")
    actor.signal(signal.SIGSTOP)
    host.restart()
    assert value(other.answer(Publish(other.id(), "n.x", pack("waits")))) == 1
    actor.signal(signal.SIGCONT)
    assert json.loads(actor.line()) == ["n.x", "waits", 0]


def test_dead_subscribers_are_dropped(host: HubHost, other: RawClient) -> None:
    """A subscriber's death ends its subscriptions, also when it died while there was no hub."""
    actor = host.actor("actor", "n.>")
    assert value(other.answer(Publish(other.id(), "n.x", pack(1)))) == 1
    actor.kill()
    while value(other.answer(Publish(other.id(), "n.x", pack(1)))):
        pass
    second = host.actor("second", "n.>")
    assert host.hub is not None
    host.hub.kill()
    second.kill()
    host.start()
    assert value(other.answer(Publish(other.id(), "n.x", pack(1)))) == 0


def test_calls_of_local_processes_need_no_hub(host: HubHost) -> None:
    """A call between two processes of this host passes while the hub is dead."""
    from regrow.ipc.client import Client

    host.actor("actor")
    assert host.hub is not None
    host.hub.kill()
    with Client(host.run_dir) as regrow:
        assert regrow.call("actor", "echo", 1, x=2) == [[1], {"x": 2}]


def test_gateway_messages(host: HubHost, client: RawClient) -> None:
    """A call is answered, a send accepted, a cast handled; each refusal says what a local client would have heard."""
    actor = host.actor("actor")
    arguments = (pack([1, b"x"]), pack({"k": None}))
    assert value(client.answer(Call(client.id(), "actor", "echo", *arguments))) == [[1, b"x"], {"k": None}]
    assert value(client.answer(Send(client.id(), "actor", "note", pack(["sent"])))) is None
    assert json.loads(actor.line()) == [["sent"], {}]
    client.say(Cast("actor", "note", pack(["cast"])))
    assert json.loads(actor.line()) == [["cast"], {}]
    refusals = {
        handler: client.answer(Call(client.id(), to, handler, timeout_s=0.05))
        for to, handler in (("nobody", "echo"), ("actor", "fail"), ("actor", "bad"), ("actor", "never"))
    }
    assert all(isinstance(refusal, Refusal) for refusal in refusals.values())
    assert {(refusal.code, *refusal.details.items()) for refusal in refusals.values()} == {  # type: ignore[union-attr]
        ("noproc", ("name", "nobody")),
        ("remote_error", ("type", "KeyError")),
        ("bad_request", ("path", "$.quantity")),
        ("timeout", ("within_s", 0.05)),
    }


def test_gateway_whereis(host: HubHost, client: RawClient) -> None:
    """`Whereis` says who has a name, and nil when nobody has."""
    actor = host.actor("actor")
    assert value(client.answer(Whereis(client.id(), "actor"))) == {"name": "actor", "incarnation": 1, "pid": actor.pid}
    assert value(client.answer(Whereis(client.id(), "nobody"))) is None


def test_gateway_death_ends_calls_and_monitors(host: HubHost, client: RawClient) -> None:
    """When a process dies, calls to it end in `down` and monitors of it in `Down`, once each."""
    host.actor("actor")
    monitor, call, die = client.id(), client.id(), client.id()
    client.say(Monitor(monitor, "actor"), Call(call, "actor", "never"), Call(die, "actor", "die"))
    heard: dict[int, Down | Refusal] = {}
    while len(heard) < 3:
        message = client.hear()
        assert isinstance(message, Down | Refusal)
        assert message.id not in heard
        heard[message.id] = message
    down = heard[monitor]
    assert isinstance(down, Down)
    assert (down.name, down.incarnation) == ("actor", 1)
    assert {message.code for message in heard.values() if isinstance(message, Refusal)} == {"down"}
    assert client.hear_all() == []


def test_gateway_monitor_of_nobody(client: RawClient) -> None:
    """To monitor nobody is to be told `noproc` at once (S201)."""
    id = client.id()
    assert client.answer(Monitor(id, "nobody")) == Down(id, "nobody", 0, "noproc", {"reason": "noproc"})


def test_gateway_demonitor(host: HubHost, client: RawClient) -> None:
    """After `Demonitor` no `Down` comes; a second one is harmless (S205, S208)."""
    actor = host.actor("actor")
    monitor = client.id()
    client.say(Monitor(monitor, "actor"))
    assert value(client.answer(Demonitor(client.id(), monitor))) is True
    assert value(client.answer(Demonitor(client.id(), monitor))) is False
    actor.kill()
    assert isinstance(client.answer(Call(client.id(), "actor", "echo")), Refusal)
    assert client.hear_all() == []


def test_gateway_cancelled_calls_are_not_answered(host: HubHost, client: RawClient) -> None:
    """A call that was given up is answered no more, and its time limit is forgotten."""
    actor = host.actor("actor")
    call = client.id()
    client.say(Call(call, "actor", "never", timeout_s=0.2))
    assert actor.line() == "never"
    client.say(Cancel(call))
    assert client.hear(0.5) is None


def test_gateway_backpressure(host: HubHost, client: RawClient) -> None:
    """More than 1,000 open requests of one client are refused with backpressure; the others are not concerned."""
    host.actor("actor")
    ids = [client.id() for _ in range(1_010)]
    for id in ids:
        client.say(Call(id, "actor", "never"))
    refused = client.hear_all()
    assert {message.id for message in refused if isinstance(message, Refusal)} == set(ids[1_000:])
    assert {(message.code, message.details["limit"]) for message in refused if isinstance(message, Refusal)} == {
        ("backpressure", 1_000)
    }


def test_ids_are_used_once(host: HubHost, client: RawClient) -> None:
    """An id that is in use is refused for another request."""
    host.actor("actor")
    id = client.id()
    client.say(Call(id, "actor", "never"))
    refusal = client.answer(Monitor(id, "actor"))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "bad_request"


def test_bye_forgets(host: HubHost, client: RawClient) -> None:
    """After `Bye` the hub knows nothing of a client but its connection."""
    host.actor("actor")
    subscribe(client, "a.>")
    client.say(Call(client.id(), "actor", "never", timeout_s=0.05), Bye())
    assert value(client.answer(Publish(client.id(), "a.b", pack(1)))) == 0
    assert client.hear(0.2) is None


def test_end_of_a_connection_ends_all_of_it(host: HubHost, client: RawClient) -> None:
    """When a client is gone its subscriptions are; what it cast and published last is done all the same."""
    actor = host.actor("actor")
    gone = RawClient(host.run_dir)
    subscribe(gone, "a.>")
    gone.say(Monitor(gone.id(), "actor"), Call(gone.id(), "actor", "never"))
    assert actor.line() == "never"
    gone.close()
    while value(client.answer(Publish(client.id(), "a.b", pack(1)))):
        pass
    subscribe(client, "last.>")
    brief = RawClient(host.run_dir)
    brief.say(Cast("actor", "note", pack(["last words"])), Signal("last.words", pack(1)))
    brief.close()
    assert json.loads(actor.line()) == [["last words"], {}]
    assert isinstance(client.hear(), Signal)


def test_stop_is_orderly(host: HubHost, client: RawClient) -> None:
    """At SIGTERM the hub ends with status 0, and its successor serves the same clients."""
    assert host.hub is not None
    hub = host.hub
    hub.signal(signal.SIGTERM)
    assert hub.wait() == 0
    host.start()
    client.say(hub_wire.Ping(client.id()))
    heard = [client.hear(), client.hear()]
    assert isinstance(heard[0], hub_wire.Welcome)
    assert isinstance(heard[1], Done)


def test_only_the_admitted_may_connect(tmp_path: Path) -> None:
    """Who is not among the ids of `REGROW_MAILBOX` is not let in by the socket itself."""
    admitted = f"u{os.getuid()},u12345,g54321"
    with closing(HubHost(tmp_path)) as host:
        hub = host.start(env={"REGROW_MAILBOX": admitted})
        with closing(RawClient(host.run_dir)) as client:
            assert client.welcome().version == 1
        hub.signal(signal.SIGTERM)
        assert hub.wait() == 0
        host.start(env={"REGROW_MAILBOX": f"u{os.getuid() + 12345}"})
        with closing(RawClient(host.run_dir)) as client:
            client.socket.send(b"")
            assert client.hear(1.0) is None


def test_control_without_root(client: RawClient) -> None:
    """While the root cannot be reached, its verbs are refused with `noconnection`."""
    refusal = client.answer(Control(client.id(), "status"))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "noconnection"
