"""Agents as processes: how they begin, what they answer, how they end."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
from agents import House, Running

from regrow.ipc.errors import BadRequest, NoProcess, ProcessDown, Refused, RemoteError


def exception(agent: Running) -> str:
    """What the agent, which has ended, told of an exception; it must have told of exactly one."""
    told = [fields["X_REGROW_EXCEPTION"] for fields in agent.said if "X_REGROW_EXCEPTION" in fields]
    assert len(told) == 1
    return told[0].replace("\x1f", "\n")


def fifo(folder: Path) -> str:
    """Something for a handler to wait for."""
    path = folder / "fifo"
    os.mkfifo(path)
    return str(path)


def test_agent_answers(house: House) -> None:
    """By position, by name, and with what it knows of itself and of its arguments."""
    agent = house.start("fleet:Pricer", "pricer", args={"currency": "USD"})
    assert house.call("pricer", "quote", "A1") == 1.5
    assert house.call("pricer", "quote", sku="A1", quantity=2) == 3.0
    assert house.call("pricer", "whoami") == ["pricer", 1, agent.pid, "USD"]


def test_messages_in_order(house: House) -> None:
    """What one process sends is handled in that order, whichever verb sent it (S195)."""
    house.start("fleet:Pricer", "pricer")
    for number in range(0, 300, 3):
        house.send("pricer", "note", number)
        house.node.cast("pricer", "note", (number + 1,), {})
        house.call("pricer", "note", number + 2)
    assert house.call("pricer", "seen") == list(range(300))


def test_agent_is_not_found_before_it_is_ready(house: House) -> None:
    """READY=1 comes when others can find it, and the name is free as soon as it has ended."""
    with pytest.raises(NoProcess):
        house.call("pricer", "quote", "A1")
    agent = house.start("fleet:Pricer", "pricer")
    assert house.call("pricer", "quote", "A1") == 1.5
    assert agent.stop() == 0
    with pytest.raises(NoProcess):
        house.call("pricer", "quote", "A1")


def test_exception_in_init_fails_the_start(house: House) -> None:
    """The traceback goes to the supervisor, READY is not said, the status is 1."""
    agent = house.start("fleet:Pricer", "pricer", args={"fails": True, "currency": "EUR"}, await_ready=False)
    assert agent.wait() == 1
    assert exception(agent).endswith("RuntimeError: no rates for EUR")
    assert not any("READY" in fields for fields in agent.said)
    assert "RuntimeError: no rates for EUR" in agent.printed()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ({"currency": 3}, "cannot start pricer: $.currency: expected str, got int; Pricer.init(currency: str"),
        ({"colour": 3}, "cannot start pricer: $.colour: no such argument; Pricer.init(currency: str"),
    ],
)
def test_wrong_arguments_in_the_file(house: House, args: dict[str, Any], text: str) -> None:
    """They are checked against the annotations of `init`, and the start fails with the place and the signature."""
    agent = house.start("fleet:Pricer", "pricer", args=args, await_ready=False)
    assert agent.wait() == 1
    assert text in exception(agent)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("fleet:NoAgent", "cannot run fleet:NoAgent: it is not a class derived from regrow.workers.Agent"),
        ("fleet:Absent", "has no attribute 'Absent'"),
        ("no_such_module:Agent", "No module named 'no_such_module'"),
    ],
)
def test_what_is_no_agent(house: House, target: str, text: str) -> None:
    """A wrong target fails the start, and says why."""
    agent = house.start(target, await_ready=False)
    assert agent.wait() == 1
    assert text in exception(agent)


def test_ignore(house: House) -> None:
    """An agent that is not needed says so, and ends with 0 without having been there (S30)."""
    agent = house.start("fleet:Pricer", "pricer", args={"ignored": True}, await_ready=False)
    assert agent.wait() == 0
    assert agent.said == [{"X_REGROW_IGNORE": "1"}]


def test_crash(house: House) -> None:
    """An exception ends the agent; the caller and those who wait in line learn it by its death, not by an answer."""
    agent = house.start("fleet:Pricer", "pricer")
    calls = [house.submit("pricer", "crashes"), house.submit("pricer", "quote", "A1")]
    for pending in calls:
        with pytest.raises(ProcessDown):
            house.outcome(pending)
    assert agent.wait() == 1
    assert exception(agent).endswith("ValueError: the rates are gone")
    assert "in crashes" in exception(agent)
    assert "runtime.py" not in exception(agent)  # how regrow came to call it helps nobody
    assert "terminate(" not in agent.printed()


def test_answers_before_a_crash_arrive(house: House) -> None:
    """What was answered before the crash is not lost with it (S204)."""
    agent = house.start("fleet:Pricer", "pricer")
    quotes = [house.submit("pricer", "quote", "A1", number) for number in range(100)]
    crash = house.submit("pricer", "crashes")
    assert [house.outcome(pending) for pending in quotes] == [1.5 * number for number in range(100)]
    with pytest.raises(ProcessDown):
        house.outcome(crash)
    assert agent.wait() == 1


def test_exception_for_the_caller(house: House) -> None:
    """What `replies` lists goes to the caller; the agent lives, and a send or a cast that causes one is done."""
    agent = house.start("fleet:Pricer", "pricer")
    with pytest.raises(RemoteError) as raised:
        house.call("pricer", "lacks", "A1")
    assert (raised.value.type, raised.value.text) == ("KeyError", "'A1'")
    house.send("pricer", "lacks", "A1")
    house.node.cast("pricer", "lacks", ("A1",), {})
    assert house.call("pricer", "quote", "A1") == 1.5
    assert agent.stop() == 0


def test_bad_requests(house: House) -> None:
    """An unknown handler and wrong arguments are the caller's fault: told with the place, and the agent lives."""
    house.start("fleet:Pricer", "pricer")
    with pytest.raises(BadRequest, match=r"no handler nothing; Pricer has computes, crashes, .*, whoami") as raised:
        house.call("pricer", "nothing")
    assert raised.value.path == ""
    with pytest.raises(BadRequest) as raised:
        house.call("pricer", "quote", "A1", quantity="3")
    assert raised.value.path == "$.quantity"
    assert raised.value.text == "$.quantity: expected int, got str; handler quote(sku: str, quantity: int = 1)"
    with pytest.raises(BadRequest, match="no handler init"):
        house.call("pricer", "init")


def test_bad_casts_are_logged_once(house: House) -> None:
    """Nobody waits for an answer: the log says what was dropped, and says it once."""
    agent = house.start("fleet:Pricer", "pricer")
    for _ in range(3):
        house.send("pricer", "quote", 3)
        house.node.cast("pricer", "nothing", (), {})
    house.call("pricer", "seen")
    assert agent.printed().splitlines()[0].startswith(
        "pricer: a message to quote is dropped: $.sku: expected str, got int; handler quote(sku: str, "
    )
    assert agent.printed().count("\n") == 2


@pytest.mark.parametrize(
    ("handler", "type", "text"),
    [
        ("returns_object", "TypeError", "handler returns_object returned what cannot be sent: $.items[1]: no message"),
        ("returns_text", "TypeError", "handler returns_text returned what it does not promise: $: expected int"),
    ],
)
def test_bad_replies(house: House, handler: str, type: str, text: str) -> None:
    """The caller gets an error, the supervisor is told, and the agent lives."""
    agent = house.start("fleet:Pricer", "pricer")
    with pytest.raises(RemoteError) as raised:
        house.call("pricer", handler)
    assert raised.value.type == type
    assert raised.value.text.startswith(text)
    assert agent.await_said("STATUS").startswith(text)
    assert house.call("pricer", "quote", "A1") == 1.5


def test_orderly_stop(house: House, tmp_path: Path) -> None:
    """The present handler finishes and is answered; what waits is refused; what comes later is refused too."""
    agent = house.start("fleet:Stubborn", "stubborn")
    path = fifo(tmp_path)
    running, waiting = house.submit("stubborn", "linger", path), house.submit("stubborn", "quote")
    with open(path, "w") as writer:
        agent.signal(signal.SIGTERM)
        writer.write("done")
    assert house.outcome(running) == "done"
    with pytest.raises(Refused, match="stubborn stops") as raised:
        house.outcome(waiting)
    assert raised.value.code == "shutdown"
    assert agent.wait() == 0
    assert {"STOPPING": "1"} in agent.said


def test_accepted_sends_that_a_stop_leaves_behind(house: House, tmp_path: Path) -> None:
    """Nobody awaits an answer to them any more: the log is told how many, and what they were."""
    agent = house.start("fleet:Stubborn", "stubborn")
    path = fifo(tmp_path)
    running = house.submit("stubborn", "linger", path)
    for _ in range(3):
        house.send("stubborn", "quote")
    house.node.cast("stubborn", "nothing", (), {})
    waiting = house.submit("stubborn", "quote")
    house.send("stubborn", "quote")
    with open(path, "w") as writer:
        agent.signal(signal.SIGTERM)
        writer.write("done")
    assert house.outcome(running) == "done"
    with pytest.raises(Refused):
        house.outcome(waiting)
    assert agent.wait() == 0
    said = "stops (shutdown) with 5 accepted sends and casts in its mailbox, which are dropped: quote (4), nothing (1)"
    assert said in agent.printed()


def test_refused_while_terminate_runs(house: House, tmp_path: Path) -> None:
    """Whoever calls meanwhile is told at once, and the reply of the call that stopped it comes last (S193)."""
    agent = house.start("fleet:Stubborn", "stubborn")
    path = fifo(tmp_path)
    last = house.submit("stubborn", "ends_after", path)
    with open(path, "w"):  # terminate has begun, and waits for us to close it
        with pytest.raises(Refused):
            house.call("stubborn", "quote")
        assert not last.done
    assert house.outcome(last) == "the last word"
    assert agent.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_of_an_idle_agent(house: House, number: signal.Signals) -> None:
    """It ends at once, `terminate` having run."""
    agent = house.start("fleet:Pricer", "pricer")
    agent.signal(number)
    assert agent.wait() == 0
    assert agent.printed() == "terminate(shutdown) after []\n"


def test_stop_right_after_ready(house: House) -> None:
    """A signal that comes between the last instruction and the wait is not slept through."""
    for _ in range(50):
        agent = house.start("fleet:Pricer", "pricer")
        assert agent.stop() == 0


@pytest.mark.parametrize(
    ("reason", "status", "told"),
    [("normal", 0, []), ("shutdown", 82, []), ("the rates are old", 1, ["stopped by itself: the rates are old"])],
)
def test_stop_by_itself(house: House, reason: str, status: int, told: list[str]) -> None:
    """`stop(reason)` ends it after its handler; the reason decides about the status, and the caller is answered."""
    agent = house.start("fleet:Pricer", "pricer")
    assert house.call("pricer", "ends", reason) == "the last word"
    with pytest.raises((NoProcess, ProcessDown, Refused)):
        house.call("pricer", "quote", "A1")
    assert agent.wait() == status
    assert agent.printed() == f"terminate({reason}) after []\n"
    assert [fields["X_REGROW_EXCEPTION"] for fields in agent.said if "X_REGROW_EXCEPTION" in fields] == told


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [(0, 0, "normal"), (None, 0, "normal"), (82, 82, "shutdown"), (3, 3, "exit 3"), ("no", 1, "no"), (256, 1, "exit 256")],  # noqa: E501
)
def test_sys_exit(house: House, code: Any, status: int, reason: str) -> None:
    """`sys.exit()` is an orderly end with that status; the caller learns it by the death, as of OTP's exit/1."""
    agent = house.start("fleet:Pricer", "pricer")
    with pytest.raises(ProcessDown):
        house.call("pricer", "exits", code)
    assert agent.wait() == status
    assert agent.printed().splitlines()[0] == f"terminate({reason}) after []"


def test_terminate_that_raises(house: House) -> None:
    """It is a crash like any other."""
    agent = house.start("fleet:Stubborn", "stubborn", args={"terminate_raises": True})
    assert agent.stop() == 1
    assert exception(agent).endswith("RuntimeError: cannot say goodbye")


def test_successor_has_the_name(house: House) -> None:
    """A new incarnation is found under the name, and knows that it is one."""
    for incarnation in (1, 2, 3):
        agent = house.start("fleet:Pricer", "pricer")
        assert house.call("pricer", "whoami")[:3] == ["pricer", incarnation, agent.pid]
        agent.signal(signal.SIGKILL)
        assert agent.wait() == -signal.SIGKILL


def test_deaths_reach_on_down(house: House) -> None:
    """A monitored agent's death, and that nobody had a name, each once, and behind what the dead had sent (S204)."""
    house.start("fleet:Watching", "watching")
    pricer = house.start("fleet:Pricer", "pricer")
    house.call("watching", "watch", "pricer")
    house.call("watching", "watch", "nobody")
    pricer.signal(signal.SIGKILL)
    pricer.wait()
    while ["pricer", 1] not in (seen := house.call("watching", "seen")):
        pass
    assert seen == [["nobody", 0], ["pricer", 1]]


def test_other_names(house: House) -> None:
    """An agent is also found under a name that it took; one that another has is refused (S221)."""
    watching = house.start("fleet:Watching", "watching")
    house.start("fleet:Watching", "other")
    house.call("watching", "take_name", "leader")
    assert house.call("leader", "seen") == []
    house.call("other", "give_name", "leader")
    assert house.call("leader", "seen") == []
    house.call("watching", "give_name", "leader")
    with pytest.raises(NoProcess):
        house.call("leader", "seen")
    house.call("other", "take_name", "leader")
    with pytest.raises(ProcessDown):
        house.call("watching", "take_name", "leader")
    assert "Refused" in watching.printed()


def test_calls_carry_who_waits(house: House) -> None:
    """Each agent on the way adds its name; a client has none."""
    for name in "abc":
        house.start("fleet:Link", name)
    assert house.call("c", "chain") == ["c"]
    assert house.call("a", "ask_chain", ["b", "c"]) == ["a", "b", "c"]
    assert house.call("a", "chain") == ["a"]


def test_circle_of_calls_is_named(house: House) -> None:
    """Agents that wait for each other time out, and the one whose call closes the circle can say so."""
    for name in "ab":
        house.start("fleet:Link", name)
    with pytest.raises(RemoteError) as raised:
        house.call("a", "forward", ["b", "a"], 0.5)
    assert raised.value.type in ("CallTimeout", "RemoteError")
    assert "a -> b -> a wait for each other" in raised.value.text


def test_its_own_processes(house: House) -> None:
    """What an agent forks ends by SIGTERM as processes do, however early that comes; the agent goes on."""
    agent = house.start("fleet:Parent", "parent")
    for _ in range(5):
        assert house.call("parent", "fork") == -signal.SIGTERM
    assert house.call("parent", "has_parent")
    assert agent.stop() == 0


def test_signals_reach_on_signal(house: House) -> None:
    """Converted by the hook's annotation. What does not fit is dropped; that, and that some were lost, is logged."""
    agent = house.start("fleet:Listener", "listener")
    for message, lost in (("2026-01-02", 0), ("soon", 0), ("2026-01-03", 7)):
        house.call("listener", "signal", "days.new", message, lost)
    assert house.call("listener", "seen") == [["days.new", "02.01.2026"], ["days.new", "03.01.2026"]]
    assert agent.printed().splitlines() == [
        "listener: a signal of days.new is dropped: $: invalid RFC3339 encoded date",
        "listener: signals are lost, 7 before one of days.new: it does not keep up with them",
    ]


def test_threads_of_its_own_may_use_the_verbs(house: House) -> None:
    """Calls from several threads at once each get their own answer."""
    house.start("fleet:Link", "link")
    house.start("fleet:Pricer", "pricer")
    assert house.call("link", "in_threads", "pricer", 200) == [1.5 * number for number in range(200)]


def test_aio_without_a_loop(house: House) -> None:
    """An agent without `async def` is told what to do instead."""
    agent = house.start("fleet:Link", "link")
    with pytest.raises(ProcessDown):
        house.call("link", "uses_aio")
    assert agent.wait() == 1
    assert "link has no event loop: use the verbs without aio, or make handlers `async def`" in exception(agent)


def test_stop_while_a_handler_waits_for_another_agent(house: House, tmp_path: Path) -> None:
    """The handler finishes first: its call is answered, and so is its caller."""
    link, stubborn = house.start("fleet:Link", "link"), house.start("fleet:Stubborn", "stubborn")
    path = fifo(tmp_path)
    asked = house.submit("link", "ask", "stubborn", "linger", path)
    with open(path, "w") as writer:  # both are in their handlers
        link.signal(signal.SIGTERM)
        writer.write("done")
    assert house.outcome(asked) == "done"
    assert link.wait() == 0
    assert stubborn.stop() == 0
