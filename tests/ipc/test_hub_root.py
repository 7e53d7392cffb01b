"""The hub and the root: events as signals, again from any number on, and the control verbs for clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fake_daemon import FakeDaemon, Refusal, entry, event, last_exit
from hub_host import HubHost, Program, RawClient, value

from regrow.ipc.errors import ProcessDown
from regrow.ipc.hub_wire import Control, Credit, Done, Down, Event, Monitor, Replay, Subscribe
from regrow.ipc.hub_wire import Refusal as Refused
from regrow.ipc.remote import RemoteClient


@pytest.fixture
def root(tmp_path: Path) -> Iterator[FakeDaemon]:
    """A root of straw, which has seen three events."""
    made = FakeDaemon(tmp_path / "run")
    made.events = [event(1, "ready", "redis"), event(2, "exited", "pricer.0"), event(3, "ready", "pricer.0")]
    yield made
    made.close()


@pytest.fixture
def host(root: FakeDaemon, tmp_path: Path) -> Iterator[HubHost]:
    """A hub below it."""
    with closing(HubHost(tmp_path)) as made:
        made.start()
        root.await_request("events")
        yield made


@pytest.fixture
def client(host: HubHost) -> Iterator[RawClient]:
    """A client that was welcomed."""
    with closing(RawClient(host.run_dir)) as made:
        made.welcome()
        yield made


def heard_events(client: RawClient, count: int) -> list[Event]:
    """The next signals, all of which are events."""
    events = []
    for _ in range(count):
        message = client.hear()
        assert isinstance(message, Event)
        assert value(message)["seq"] == message.seq
        events.append(message)
    return events


def test_events_are_published(root: FakeDaemon, client: RawClient) -> None:
    """Each event comes, once, under `regrow.event.NAME.EVENT`; what was before the subscription does not."""
    assert value(client.answer(Subscribe(client.id(), "regrow.event.>"))) == 3
    client.say(Credit(100))
    root.emit(event(4, "exited", "pricer.0"))
    root.emit(event(5, "reloaded", ""))
    assert [(heard.seq, heard.topic) for heard in heard_events(client, 2)] == [
        (4, "regrow.event.pricer.0.exited"),
        (5, "regrow.event.regrow.reloaded"),
    ]


def test_events_are_replayed(root: FakeDaemon, client: RawClient) -> None:
    """`Replay` brings the kept events after a number that the client is subscribed to, before any that come."""
    assert isinstance(client.answer(Subscribe(client.id(), "regrow.event.pricer.>")), Done)
    root.emit(event(4, "exited", "redis"))
    root.emit(event(5, "exited", "pricer.0"))
    assert value(client.answer(Replay(client.id(), 0))) == 1
    client.say(Credit(100))
    assert [heard.seq for heard in heard_events(client, 3)] == [2, 3, 5]
    id = client.id()
    client.say(Replay(id, 2))
    assert [heard.seq for heard in heard_events(client, 2)] == [3, 5]
    assert isinstance(done := client.hear(), Done)
    assert done.id == id


def test_no_event_is_missed_over_a_restart(root: FakeDaemon, host: HubHost) -> None:
    """A process that follows events gets each of them once, though the hub is killed between them."""
    actor = host.actor("actor", "regrow.event.>")
    root.emit(event(4, "exited", "redis"))
    assert '"seq": 4' in actor.line()
    assert host.hub is not None
    host.hub.kill()
    for seq in (5, 6):
        root.emit(event(seq, "ready", "redis"))
    host.start()
    root.emit(event(7, "ready", "redis"))
    assert [f'"seq": {seq}' in actor.line() for seq in (5, 6, 7)] == [True, True, True]


def test_root_comes_back(root: FakeDaemon, host: HubHost, client: RawClient, tmp_path: Path) -> None:
    """When the root's connection ends the hub makes another, and brings what happened meanwhile."""
    client.answer(Subscribe(client.id(), "regrow.event.>"))
    client.say(Credit(100))
    client.say(Replay(client.id(), 0))
    assert [heard.seq for heard in heard_events(client, 3)] == [1, 2, 3], "it has them"
    assert isinstance(client.hear(), Done)
    root.close()
    (tmp_path / "run" / "control.sock").unlink()
    second = FakeDaemon(tmp_path / "run")
    try:
        second.events = [*root.events, event(4, "ready", "redis")]
        assert second.await_request("events")["since"] == 3
        assert [heard.seq for heard in heard_events(client, 1)] == [4]
    finally:
        second.close()


def test_control_verbs(root: FakeDaemon, client: RawClient) -> None:
    """A verb is answered as on the control socket, refusals with their details included."""
    root.entries = [entry("redis")]

    def refuse(_request: object) -> None:
        raise Refusal("already_started", "it runs", pid=17)

    root.handlers["start_child"] = refuse
    status = client.answer(Control(client.id(), "status", {"names": ["redis"]}))
    assert value(status)[0]["name"] == "redis"
    refusal = client.answer(Control(client.id(), "start_child", {"supervisor": "app", "spec": {}}))
    assert isinstance(refusal, Refused)
    assert (refusal.code, refusal.text, refusal.details) == ("already_started", "it runs", {"pid": 17})


@pytest.mark.parametrize(
    "fields", [{"id": 1}, {"x": b"bytes"}, {"x": float("nan")}, {"follow": True}, {"x": "y" * 600_000}, {"self": 1}]
)
def test_fields_that_json_has_not_are_refused(client: RawClient, fields: dict[str, object]) -> None:
    """What cannot be asked in JSON, or would disturb the hub's own conversation, is refused."""
    refusal = client.answer(Control(client.id(), "events", fields))
    assert isinstance(refusal, Refused)
    assert refusal.code == "bad_request"
    assert isinstance(client.answer(Control(client.id(), "ping")), Done)


def test_control_has_a_time_limit(root: FakeDaemon, client: RawClient) -> None:
    """A verb that the root does not answer in time is refused with `timeout`."""
    gate = root.hold("status")
    try:
        refusal = client.answer(Control(client.id(), "status", {}, 0.05))
        assert isinstance(refusal, Refused)
        assert refusal.code == "timeout"
    finally:
        gate.set()


def test_reasons_come_from_the_root(root: FakeDaemon, host: HubHost, client: RawClient) -> None:
    """A `Down` tells OTP's word for the reason, and all that the root knows."""
    exit = last_exit("signal", None, "SIGKILL")
    root.handlers["exit_reason"] = lambda request: {**exit, "incarnation": request["incarnation"]}
    actor = host.actor("actor")
    id = client.id()
    client.say(Monitor(id, "actor"))
    assert client.hear_all() == []
    actor.kill()
    down = client.hear()
    assert isinstance(down, Down)
    assert (down.id, down.reason, down.exit["signal"]) == (id, "killed", "SIGKILL")


def test_reasons_reach_remote_clients(root: FakeDaemon, host: HubHost) -> None:
    """What a call dies of is for a remote client what the root says, whatever else the root says with it."""
    exit = last_exit("exit", 3)
    root.handlers["exit_reason"] = lambda request: {"name": "actor", "incarnation": request["incarnation"], **exit}
    host.actor("actor")
    with RemoteClient(host.run_dir) as client:
        monitor = client.monitor("actor")
        with pytest.raises(ProcessDown) as raised:
            client.call("actor", "die")
        down = monitor.wait(20)
    assert down is not None
    for found in (raised.value.down, down):
        assert (found.name, found.incarnation, found.reason, found.code, found.exit) == ("actor", 1, "exit", 3, exit)


def test_commands_can_be_monitored(root: FakeDaemon, host: HubHost, client: RawClient) -> None:
    """A process without a mailbox is known by the root; its death is told all the same."""
    root.handlers["exit_reason"] = lambda _request: last_exit("exit", 0)
    command: Program = host.run("cat")
    root.entries = [entry("redis", pid=command.pid, incarnation=4)]
    id = client.id()
    client.say(Monitor(id, "redis"))
    root.await_request("status")
    assert client.hear_all() == []
    command.kill()
    assert client.hear() == Down(id, "redis", 4, "normal", last_exit("exit", 0))


def test_idle_hub_sleeps(root: FakeDaemon, host: HubHost, client: RawClient) -> None:
    """A hub that has nothing to do comes to rest: then nothing wakes it."""
    assert host.hub is not None
    tasks = list(Path(f"/proc/{host.hub.pid}/task").iterdir())

    def switches() -> int:
        texts = [(task / "status").read_text() for task in tasks]
        return sum(int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0]) for text in texts)

    assert client.hear_all() == []
    woken = 3
    while woken > 2:  # what it was told at its start may still be in its sockets
        before = switches()
        assert client.hear(1.0) is None
        woken = switches() - before
