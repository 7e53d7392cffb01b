"""What a message comes to when its receiver, or its sender, ends: one outcome, whatever is killed when."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import procs
import pytest
from boxes import Box, NewBox
from siblings import TIMEOUT_S, Line, Sibling, line_has

from regrow.daemon import why
from regrow.ipc import Client, Down
from regrow.ipc.errors import (
    CallTimeout,
    DeliveryTimeout,
    MessageError,
    NoProcess,
    ProcessDown,
)


@pytest.fixture
def box(new_box: NewBox) -> Box:
    """One box."""
    return new_box()


@pytest.fixture
def client(run_dir: Path) -> Iterator[Client]:
    """A client."""
    with Client(run_dir) as made:
        yield made


def test_killed_while_it_handles(box: Box, client: Client) -> None:
    """The call ends at once, as the death of that incarnation (S186)."""
    request = client.send_request("box", "hold")
    assert box.hear() == "holding"
    box.signal(signal.SIGKILL)
    begun_s = time.monotonic()
    with pytest.raises(ProcessDown) as down:
        request.wait_response(timeout=float("inf"))
    assert time.monotonic() - begun_s < 1.0
    assert (down.value.down.name, down.value.down.incarnation) == ("box", 1)
    with pytest.raises(ProcessDown):
        request.wait_response()
    with pytest.raises(NoProcess):
        client.call("box", "echo")


def test_killed_while_messages_are_on_their_way(box: Box, client: Client) -> None:
    """Stopped, it takes nothing in; killed then, all that was sent ends as its death."""
    procs.freeze(box.pid, TIMEOUT_S)
    requests = [client.send_request("box", "echo", number) for number in range(50)]
    deliveries = [client.send("box", "note", number) for number in range(50)]
    box.kill()
    for request in requests:
        with pytest.raises(ProcessDown):
            request.wait_response()
    for delivery in deliveries:
        with pytest.raises(ProcessDown):
            delivery.wait()


def test_killed_before_it_is_connected(box: Box, client: Client) -> None:
    """The first message of all ends as the death as well, though nobody ever came to the door."""
    procs.freeze(box.pid, TIMEOUT_S)
    request = client.send_request("box", "echo")
    box.kill()
    with pytest.raises(ProcessDown):
        request.wait_response()


def test_reply_before_the_death_wins(box: Box, client: Client) -> None:
    """What it has said counts, though it is dead when that is read (S246)."""
    request = client.send_request("box", "last", "words")
    box.wait()
    assert request.wait_response() == ["words"]
    with pytest.raises(NoProcess):
        client.call("box", "echo")


def test_each_of_many_is_answered_or_dead(box: Box, client: Client) -> None:
    """A hundred calls, of which the fiftieth kills it: those before are answered, the others are not, in any case."""
    first = [client.send_request("box", "echo", number) for number in range(49)]
    assert [request.wait_response() for request in first] == [[number] for number in range(49)]
    fatal = client.send_request("box", "dies")
    after = [client.send_request("box", "echo", number) for number in range(50)]
    for request in (fatal, *after):
        with pytest.raises(ProcessDown):
            request.wait_response()


def test_restarted_at_once_under_its_name(new_box: NewBox, run_dir: Path, client: Client) -> None:
    """What was sent to the first incarnation is never handled by the second."""
    first = new_box()
    procs.freeze(first.pid, TIMEOUT_S)
    requests = [client.send_request("box", "note", number) for number in range(20)]
    deliveries = [client.send("box", "note", number) for number in range(20)]
    first.signal(signal.SIGKILL)
    client.close()  # a fork must not have it, and its outcomes must still be one each
    new_box(incarnation=2)
    for each in requests:
        with pytest.raises(NoProcess):
            each.wait_response()
    for delivery in deliveries:
        with pytest.raises(NoProcess):
            delivery.wait()
    with Client(run_dir) as other:
        assert other.call("box", "notes") == []
        assert other.call("box", "whoami")[1] == 2


def test_successor_is_found_while_the_death_is_not_told(new_box: NewBox, run_dir: Path) -> None:
    """In another process that does not wait meanwhile: its next call reaches whoever has the name now."""

    def body(line: Line) -> None:
        with Client(run_dir) as client:
            line.say(client.call("box", "whoami")[1])
            old = client.send_request("box", "hold")
            old_send = client.send("box", "hold")
            line.say("asked")
            line.hear()
            line.say(client.call("box", "whoami")[1])
            with pytest.raises(ProcessDown) as down:
                old.wait_response()
            line.say([down.value.down.incarnation, old_send.done])
            line.say(client.call("box", "notes"))

    box = new_box()
    with Sibling(body) as asker:
        assert asker.hear() == 1
        assert asker.hear() == "asked"
        assert box.hear() == "holding"
        box.kill()
        new_box(incarnation=2)
        asker.say("go on")
        assert asker.hear() == 2
        assert asker.hear() == [1, True]
        assert asker.hear() == []
        assert asker.wait() == 0


def test_stopped_process_is_late_and_not_dead(box: Box, client: Client) -> None:
    """Stopped by SIGSTOP it answers nobody in time; what it says after SIGCONT is for those who still wait."""
    assert client.call("box", "echo") == []
    procs.freeze(box.pid, TIMEOUT_S)
    begun_s = time.monotonic()
    with pytest.raises(CallTimeout):
        client.call("box", "note", "call", timeout=0.1)
    delivery = client.send("box", "note", "send")
    with pytest.raises(DeliveryTimeout):
        delivery.wait(0.1)
    assert 0.2 <= time.monotonic() - begun_s < 1.0
    monitor = client.monitor("box")
    assert monitor.wait(0.05) is None
    box.signal(signal.SIGCONT)
    delivery.wait()
    assert client.call("box", "notes") == [["call"], ["send"]]
    assert not monitor.done


def test_late_reply_reaches_nobody(box: Box, client: Client) -> None:
    """The answer to a call that was given up is not taken for that of the next one (S192)."""
    with pytest.raises(CallTimeout):
        client.call("box", "hold", timeout=0.05)
    assert box.hear() == "holding"
    second = client.send_request("box", "echo", "second")
    box.say("first")
    assert second.wait_response() == ["second"]


def test_abandoned_request(box: Box, client: Client) -> None:
    """`wait_response` may be repeated after a time-out; `receive_response` gives up (S197)."""
    request = client.send_request("box", "hold")
    assert box.hear() == "holding"
    with pytest.raises(CallTimeout):
        request.wait_response(0)
    with pytest.raises(CallTimeout):
        request.wait_response(0.02)
    box.say("reply")
    assert request.wait_response() == "reply"
    assert request.receive_response() == "reply"
    request = client.send_request("box", "hold")
    assert box.hear() == "holding"
    with pytest.raises(CallTimeout):
        request.receive_response(0)
    box.say("too late")
    assert client.call("box", "echo", 1) == [1]
    with pytest.raises(CallTimeout):
        request.wait_response()


def test_caller_killed_in_its_call(box: Box, run_dir: Path) -> None:
    """The answer goes to nobody, and the next caller is served."""

    def body(line: Line) -> None:
        with Client(run_dir) as client:
            client.call("box", "hold")

    for _ in range(3):
        with Sibling(body) as caller:
            assert box.hear() == "holding"
            caller.kill()
            box.say("reply")
    with Client(run_dir) as client:
        assert client.call("box", "echo", 1) == [1]


def test_replaced_ten_times_a_second(run_dir: Path, tmp_path: Path) -> None:
    """Two processes send on while the box is killed and replaced: each outcome is right, and none is late."""

    def body(line: Line) -> None:
        outcomes: dict[str, int] = {}
        with Client(run_dir) as client:
            line.say("on it")
            number = 0
            while not line_has(line):
                number += 1
                begun_s = time.monotonic()
                try:
                    if number % 2:
                        result = client.call("box", "echo", os.getpid(), number, timeout=1.0)
                        assert result == [os.getpid(), number]
                    else:
                        client.send("box", "note", os.getpid(), number).wait(1.0)
                    word = "done"
                except MessageError as error:
                    word = type(error).__name__
                assert time.monotonic() - begun_s < 1.5, word
                outcomes[word] = outcomes.get(word, 0) + 1
        line.say(outcomes)

    clock = threading.Event()
    with Sibling(body) as one, Sibling(body) as other:
        for incarnation in range(1, 21):
            with Box(run_dir, "box", incarnation):
                clock.wait(0.07)  # it is its life that is short: ten a second are asked for
        for client in (one, other):
            assert client.hear() == "on it"
            client.say("enough")
            outcomes = client.hear()
            assert outcomes["done"] > 20
            assert outcomes.keys() <= {"done", "NoProcess", "ProcessDown"}
            assert client.wait() == 0


def test_down_once_for_each_of_many_lives(run_dir: Path) -> None:
    """Three watch a name whose process is killed and replaced ten times a second: of each life they hear once."""
    lives = 20

    def body(line: Line) -> None:
        heard: list[int] = []
        with Client(run_dir) as client:
            line.say("on it")
            while not line_has(line):
                with client.monitor("box") as monitor:
                    down = monitor.wait(5.0)
                    assert down is not None
                    assert monitor.wait(0.0) is down
                    assert monitor.demonitor() is False
                if down.reason != "noproc":
                    heard.append(down.incarnation)
        line.say(heard)

    clock = threading.Event()
    with Sibling(body) as one, Sibling(body) as two, Sibling(body) as three:
        watchers = (one, two, three)
        for watcher in watchers:
            assert watcher.hear() == "on it"
        for incarnation in range(1, lives + 1):
            with Box(run_dir, "box", incarnation):
                clock.wait(0.07)
        for watcher in watchers:
            heard = watcher.ask("enough")
            assert heard == sorted(set(heard))
            assert len(heard) > lives // 2
            assert watcher.wait() == 0


def test_words_for_a_worker_that_hung() -> None:
    """A death in one line says what was missing; the stacks below it are in `text`."""
    text = f"no progress shown within 1 s; {why.STACKS}\nCurrent thread 0x7f (most recent call first):"
    assert str(Down("a", 1, reason="watchdog", signal="SIGKILL", text=text)) == (
        "watchdog, SIGKILL, no progress shown within 1 s"
    )
