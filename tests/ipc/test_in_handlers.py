"""Verbs in a signal's handler that has interrupted one of the same client."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from regrow.ipc import wire
from regrow.ipc.client import Client
from regrow.ipc.mailbox import Envelope
from regrow.ipc.node import Node
from regrow.ipc.transport import Transport

TIMEOUT_S = 10.0
FOREVER_S = float("inf")
"""Who is answered only at the end of his time is not answered at all."""


@pytest.fixture
def other(new_node: Callable[[str], Node]) -> Node:
    """Somebody to be called."""
    return new_node("other")


@contextmanager
def handling(handler: Any) -> Iterator[None]:
    """For SIGUSR1."""
    before = signal.signal(signal.SIGUSR1, lambda number, frame: handler())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


def taken(node: Node) -> Envelope:
    """The next call."""
    item = node.receive(TIMEOUT_S)
    assert isinstance(item, Envelope)
    return item


@pytest.mark.parametrize("first", ["outer", "inner"])
def test_a_call_within_a_call(other: Node, run_dir: Path, first: str) -> None:
    """Both are answered as soon as their answers come, whichever comes first."""
    client, found = Client(run_dir), []

    def answer() -> None:
        calls = {"outer": taken(other)}
        while not client._node._leading:
            os.sched_yield()
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
        calls["inner"] = taken(other)
        for name in (first, *({"outer", "inner"} - {first})):
            other.reply(calls[name], wire.encode((wire.REPLY, calls[name].id, name)))

    answering = threading.Thread(target=answer)
    with handling(lambda: found.append(client.call("other", "inner", timeout=FOREVER_S))):
        answering.start()
        assert client.call("other", "outer", timeout=FOREVER_S) == "outer"
    assert found == ["inner"]
    answering.join(TIMEOUT_S)
    client.close()


def test_not_in_the_middle_of_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is sent in two parts has none of another message between them, and neither has what is received."""
    here, there = Transport(str(tmp_path)), Transport(str(tmp_path))
    there.bind("there")
    alias, send, refused = here.connect("there"), here._send, list[str]()

    def interrupted(part: bytes, flags: int) -> None:
        send(part, flags)
        if part == alias:
            assert here.receive() is None
            with pytest.raises(RuntimeError, match="let it set a flag"):
                here.refuse_midway()
            with pytest.raises(RuntimeError, match="let it set a flag") as error:
                here.send(alias, b"inner")
            refused.append(str(error.value))

    monkeypatch.setattr(here, "_send", interrupted)
    here.send(alias, b"outer")
    here.send(alias, b"later")
    assert len(refused) == 2
    assert [message(there), message(there)] == [b"outer", b"later"]
    for transport in (here, there):
        transport.close()


def message(transport: Transport) -> bytes:
    """The next one."""
    while (found := transport.receive()) is None:
        transport.epoll.poll(TIMEOUT_S)
    return bytes(found[1])
