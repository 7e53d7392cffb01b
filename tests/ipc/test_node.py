"""One outcome for each message between real processes, whatever becomes of them."""

from __future__ import annotations

import os
import select
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import procs
import pytest
from boxes import Box, NewBox, make_run_dir
from endless import longer_than_any_form
from siblings import TIMEOUT_S, Line, Sibling, line_has

from regrow.ipc import Client, by_key, least_outstanding
from regrow.ipc.bell import MBOX
from regrow.ipc.delivery import Awaits
from regrow.ipc.errors import (
    Backpressure,
    BadRequest,
    NoProcess,
    Refused,
    RemoteError,
)
from regrow.ipc.mailbox import Envelope
from regrow.ipc.names import FOLDER
from regrow.ipc.node import MailboxSpec, Node
from regrow.ipc.verbs import Verbs


@pytest.fixture
def box(new_box: NewBox) -> Box:
    """One box."""
    return new_box()


@pytest.fixture
def client(run_dir: Path) -> Iterator[Client]:
    """A client."""
    with Client(run_dir) as made:
        yield made


class Limited(Verbs):
    """A client that may have few messages on their way."""

    def __init__(self, run_dir: Path, limit: int) -> None:
        self._node = Node(str(run_dir), limit=limit)

    def close(self) -> None:
        self._node.close()


# what goes well


def test_who_only_sends_has_others_send_again(new_box: NewBox, run_dir: Path) -> None:
    """A refusal that is taken in beside a cast wakes whoever waits, and the call goes to the other of the group."""
    stopped, lives = (new_box(f"g.{number}", group="g", replicas=2) for number in range(2))
    with Client(run_dir) as client:
        client.call(stopped.name, "stop")
        node = client._node
        node.by_loop = True  # as with an event loop that is at something else: nobody takes in but who sends
        both = (node.submit(Awaits.REPLY, "g", "whoami", (), {}) for _ in range(2))
        asked = next(sent for sent in both if sent.to == stopped.name)
        until_s = time.monotonic() + TIMEOUT_S
        while not node._strays and time.monotonic() < until_s:
            if select.select([node.transport.wake_fd], [], [], 0)[0]:
                os.eventfd_read(node.transport.wake_fd)
            node.cast(lives.name, "note", (), {})
        assert asked.done is False
        assert select.select([node.transport.wake_fd], [], [], 0)[0]
        node.by_loop = False
        assert node.wait(asked, until_s)
        assert asked.to == lives.name
        assert asked.error is None


def test_verbs(box: Box, client: Client) -> None:
    """Casts, sends and calls of one client are handled in the order in which they were sent (S195)."""
    assert client.call("box", "echo", 1, "two", [3]) == [1, "two", [3]]
    assert client.cast("box", "note", 1)
    delivery = client.send("box", "note", 2)
    delivery.wait()
    assert delivery.done
    assert client.call("box", "notes") == [[1], [2]]
    where = client.whereis("box")
    assert where is not None
    assert (where.name, where.incarnation, where.pid) == ("box", 1, box.pid)


def test_a_node_is_bound_after_it_was_made(run_dir: Path, box: Box, client: Client) -> None:
    """It asks from the beginning, has a mailbox when it is bound, and a name when it is announced."""
    with closing(Node(str(run_dir))) as node:
        pending = node.submit(Awaits.REPLY, "box", "echo", [1], {})
        assert node.wait(pending, time.monotonic() + TIMEOUT_S)
        assert not list((run_dir / MBOX).glob("late.*"))
        node.bind(MailboxSpec("late", 3, limit=1))
        assert [file.name for file in (run_dir / MBOX).glob("late.*")] == [node.mailbox_file]
        assert client.whereis("late") is None
        node.announce()
        first = client.send("late", "note", 1)
        item = node.receive(TIMEOUT_S)
        assert isinstance(item, Envelope)
        assert (item.handler, node.name) == ("note", "late")
        first.wait()
        assert node.mailbox.limit == 1
    assert not list((run_dir / MBOX).glob("late.*"))


def test_nobody(client: Client) -> None:
    """A name that nobody has: every verb says so at once, in its own way (S185, S196, S201)."""
    with pytest.raises(NoProcess):
        client.call("nobody", "echo")
    with pytest.raises(NoProcess):
        client.send("nobody", "echo").wait()
    with pytest.raises(NoProcess):
        client.send_request("nobody", "echo").wait_response()
    assert client.cast("nobody", "echo") is False
    assert client.whereis("nobody") is None
    down = client.monitor("nobody").wait()
    assert down is not None
    assert (down.reason, down.incarnation) == ("noproc", 0)


def test_arguments_that_cannot_be_sent(box: Box, client: Client) -> None:
    """They are refused here, and nothing is left open."""
    for bad in (object(), "x" * (17 * 1024 * 1024), 1 << 70, longer_than_any_form()):
        with pytest.raises(BadRequest):
            client.call("box", "echo", bad)
        with pytest.raises(BadRequest):
            client.send("box", "echo", bad).wait()
        with pytest.raises(BadRequest):
            client.cast("box", "echo", bad)
    assert client._node.outstanding("box") == 0


def test_large_messages(box: Box, client: Client) -> None:
    """Nearly 16 MiB go there and come back; an answer that is longer is an error and not a lost connection."""
    text = "x" * (16 * 1024 * 1024 - 100)
    assert client.call("box", "echo", text) == [text]
    with pytest.raises(RemoteError, match="its answer has 16777221 bytes, 16777200 are the limit"):
        client.call("box", "full", 16 * 1024 * 1024)
    with pytest.raises(RemoteError, match="its answer has 16777201 bytes, 16777200 are the limit"):
        client.call("box", "full", 16777200 - 4)
    assert len(client.call("box", "full", 16777200 - 5)) == 16777200 - 5
    assert client.call("box", "echo", 1) == [1]


@pytest.mark.parametrize("timeout", [-1, float("nan"), -float("inf")])
def test_timeouts_that_are_none(box: Box, client: Client, timeout: float) -> None:
    """They are a fault of the caller, and nothing is sent."""
    with pytest.raises(ValueError, match="cannot wait for"):
        client.call("box", "note", 1, timeout=timeout)
    assert client.call("box", "notes") == []


@pytest.mark.parametrize("timeout", [float("inf"), 1e12, 1e300])
def test_timeouts_that_are_long(box: Box, client: Client, timeout: float) -> None:
    """However long, it is waited for."""
    request = client.send_request("box", "hold")
    assert box.hear() == "holding"
    threading.Timer(0.05, box.say, ["at last"]).start()
    assert request.wait_response(timeout) == "at last"


# monitors


def test_down_once_and_after_what_it_sent(new_box: NewBox, client: Client) -> None:
    """A box that is watched sends two messages and dies: both come before the news, which comes once (S200, S204)."""
    new_box("watcher")
    for turn in range(1, 6):
        victim = new_box("victim", turn)
        client = Client(client.run_dir)
        client.send("watcher", "watch", "victim").wait()
        client.send("victim", "ask", "watcher", "note", turn)
        client.send("victim", "ask", "watcher", "note", turn)
        client.cast("victim", "dies")
        victim.wait()
        client.close()
    with Client(client.run_dir) as last:
        while len(downs := last.call("watcher", "downs")) < 5:
            pass
    assert downs == [["victim", turn, 2 * turn] for turn in range(1, 6)]


def test_monitors_are_told_each_once(box: Box, client: Client) -> None:
    """Each monitor is its own; one that was removed hears nothing, and removing it again is harmless (S205-S208)."""
    kept, removed = client.monitor("box"), client.monitor("box")
    assert removed.demonitor()
    assert not removed.demonitor()
    box.kill()
    down = kept.wait()
    assert down is not None
    assert (down.name, down.incarnation, down.reason) == ("box", 1, "unknown")  # no root to ask
    assert kept.wait() is down
    assert not kept.demonitor()
    assert removed.wait(0) is None
    assert removed.down is None


def test_monitor_does_not_meet_the_successor(new_box: NewBox, run_dir: Path) -> None:
    """A monitor is of one incarnation (S210)."""

    def body(line: Line) -> None:
        with Client(run_dir) as client:
            monitor = client.monitor("box")
            line.say(monitor.incarnation)
            line.hear()
            down = monitor.wait()
            assert down is not None
            line.say([down.incarnation, client.monitor("box").incarnation])

    first = new_box()
    with Sibling(body) as watcher:
        assert watcher.hear() == 1
        first.kill()
        new_box(incarnation=2)
        watcher.say("go on")
        assert watcher.hear() == [1, 2]


# too much


def test_backpressure_of_the_mailbox(new_box: NewBox, client: Client) -> None:
    """A full mailbox refuses, with its length and limit; when there is room it accepts again."""
    box = new_box(limit=5)
    holding = client.send_request("box", "take_in")
    assert box.hear() == "holding"
    deliveries = [client.send("box", "note", number) for number in range(8)]
    box.say(8)
    assert holding.wait_response() == 8
    errors: list[Any] = []
    for delivery in deliveries:
        try:
            delivery.wait()
            errors.append(None)
        except Backpressure as error:
            errors.append([error.length, error.limit, error.where])
    assert errors == [None] * 5 + [[5, 5, "its mailbox"]] * 3
    assert when_there_is_room(client, "notes") == [[number] for number in range(5)]


def when_there_is_room(client: Client, handler: str) -> Any:
    """Call the box until it takes the call in."""
    while True:
        try:
            return client.call("box", handler)
        except Backpressure:
            pass


def test_backpressure_on_the_way(box: Box, run_dir: Path) -> None:
    """To a process that takes nothing in, only so many may be on their way; then the next is refused at once."""
    limited = Limited(run_dir, 3)
    try:
        assert limited.call("box", "echo") == []
        procs.freeze(box.pid, TIMEOUT_S)
        deliveries = [limited.send("box", "note", number) for number in range(5)]
        for delivery in deliveries[3:]:
            with pytest.raises(Backpressure) as full:
                delivery.wait()
            assert (full.value.length, full.value.limit, full.value.where) == (3, 3, "the way there")
        with pytest.raises(Backpressure):
            limited.call("box", "echo")
        box.signal(signal.SIGCONT)
        for delivery in deliveries[:3]:
            delivery.wait()
        assert limited.call("box", "notes") == [[0], [1], [2]]
    finally:
        limited.close()


def test_casts_to_a_stopped_process_end(box: Box, client: Client) -> None:
    """Nobody accepts a cast; even so no more than a limit wait, and the next is not sent."""
    assert client.call("box", "echo") == []
    procs.freeze(box.pid, TIMEOUT_S)
    sent = 0
    while client.cast("box", "note", sent):
        sent += 1
        assert sent < 100_000
    assert sent >= 1_000
    with pytest.raises(Backpressure, match="the way there holds 10000 messages of at most 10000"):
        client.call("box", "echo")
    box.signal(signal.SIGCONT)
    while not client.cast("box", "note", sent):
        pass
    assert len(client.call("box", "notes", timeout=TIMEOUT_S)) == sent + 1


def test_news_come_to_a_busy_mailbox(new_box: NewBox, run_dir: Path) -> None:
    """A mailbox that is never empty hears of a death all the same, and its own calls end in time."""

    def flood(line: Line) -> None:
        with Client(run_dir) as client:
            line.say("on it")
            while not line_has(line):
                client.cast("watcher", "echo", 1)

    new_box("watcher", limit=100_000)
    victim = new_box("victim")
    with Client(run_dir) as client:
        client.send("watcher", "watch", "victim").wait()
    with Sibling(flood) as one, Sibling(flood) as other:
        assert [one.hear(), other.hear()] == ["on it"] * 2
        victim.kill()
        with Client(run_dir) as client:
            deadline_s = time.monotonic() + TIMEOUT_S
            while not client.call("watcher", "downs", timeout=TIMEOUT_S):
                assert time.monotonic() < deadline_s


# one thousand callers


@pytest.mark.timeout(120)
def test_a_thousand_callers(new_box: NewBox, run_dir: Path) -> None:
    """A thousand clients in eight processes call one box at once, and each gets its own answer."""
    new_box()

    def body(line: Line) -> None:
        clients = [Client(run_dir) for _ in range(125)]
        line.say("ready")
        line.hear()
        requests = [client.send_request("box", "echo", os.getpid(), index) for index, client in enumerate(clients)]
        replies = [request.wait_response(TIMEOUT_S) for request in requests]
        assert replies == [[os.getpid(), index] for index in range(125)]
        line.say("done")

    callers = [Sibling(body) for _ in range(8)]
    try:
        for caller in callers:
            assert caller.hear(60) == "ready"
        for caller in callers:
            caller.say("go")
        for caller in callers:
            assert caller.hear(60) == "done"
    finally:
        for caller in callers:
            caller.close()


# groups


def test_groups(new_box: NewBox, run_dir: Path) -> None:
    """Round robin over the living, the least busy one, and the one that a key belongs to."""
    boxes = [new_box(f"pair.{number}", group="pair", replicas=2) for number in range(2)]
    with Client(run_dir) as client:
        names = [client.call("pair", "whoami")[0] for _ in range(4)]
        assert names in (["pair.0", "pair.1"] * 2, ["pair.1", "pair.0"] * 2)
        held = client.send_request("pair.0", "hold")
        assert boxes[0].hear() == "holding"
        assert [client.call(least_outstanding("pair"), "whoami")[0] for _ in range(3)] == ["pair.1"] * 3
        boxes[0].say("go on")
        held.wait_response()
        assert [client.call(by_key("pair", key), "whoami")[0] for key in range(3)] == ["pair.0", "pair.1", "pair.0"]
        boxes[1].kill()
        assert {client.call("pair", "whoami")[0] for _ in range(4)} == {"pair.0"}
        with pytest.raises(NoProcess, match=r"cannot reach pair\.1"):
            client.call(by_key("pair", 1), "whoami")
        assert client.members("pair") == ["pair.0"]
        with pytest.raises(NoProcess):
            client.call(by_key("nobody", 1), "whoami")
        with pytest.raises(NoProcess, match="cannot reach '': no process has that name"):
            client.call("", "whoami")
        with new_box("alone"), pytest.raises(NoProcess, match="by key 1: it is no group, and only groups have keys"):
            client.call(by_key("alone", 1), "whoami")
        with pytest.raises(BadRequest, match=r"the message for 'echo' has \d+ bytes, 16777216 are the limit"):
            client.call("pair.0", "echo", bytes(17 << 20))


def test_daemon_started_anew(new_box: NewBox, run_dir: Path) -> None:
    """A client goes on with the next daemon; while there is none, it says so as often as it is asked."""

    def body(line: Line) -> None:
        with Client(run_dir) as client:
            assert client.call("one.0", "whoami")[2] == line.hear()
            for _ in range(2):
                line.say("first")
                line.hear()
                with pytest.raises(NoProcess, match="start it with"):
                    client.call("one.0", "whoami")
                with pytest.raises(NoProcess):
                    client.send(by_key("one", 0), "note").wait()
                assert not client.cast("one", "note")
                assert client.whereis("one.0") is None
                assert client.members("one") == []
            line.say("second")
            pid = line.hear()
            where = client.whereis("one.0")
            assert where is not None
            assert where.pid == pid
            for to in (by_key("one", 0), "one", "one.0"):
                assert client.call(to, "whoami")[2] == pid
            line.say("third")

    box = new_box("one.0", group="one")
    with Sibling(body) as asker:
        asker.say(box.pid)
        for _ in range(2):
            assert asker.hear() == "first"
            box.kill()
            for folder in (FOLDER, MBOX):
                shutil.rmtree(run_dir / folder, ignore_errors=True)
            asker.say("gone")
        assert asker.hear() == "second"
        make_run_dir(run_dir)
        asker.say(new_box("one.0", group="one").pid)
        assert asker.hear() == "third"
        assert asker.wait() == 0


def test_stopping_agent_refuses(new_box: NewBox, client: Client) -> None:
    """What reaches a mailbox that is closed is refused with its reason."""
    box = new_box()
    held = client.send_request("box", "take_in")
    assert box.hear() == "holding"
    deliveries = [client.send("box", "note", 1), client.send("box", "stop"), client.send("box", "note", 2)]
    requests = [client.send_request("box", "echo") for _ in range(3)]
    for delivery in deliveries:
        assert not delivery.done
    box.say(6)
    assert held.wait_response() == 6
    for delivery in deliveries:
        delivery.wait()  # they were in the mailbox before it was closed
    for request in requests:
        with pytest.raises(Refused, match="box: it stops") as refused:
            request.wait_response()
        assert refused.value.code == "shutdown"
    with pytest.raises(Refused):
        client.send("box", "note", 3).wait()
