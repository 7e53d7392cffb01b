"""Accepting in a thread of its own, while another thread sends over the same socket."""

from __future__ import annotations

import select
import threading
from pathlib import Path

import pytest
from boxes import Box

from regrow.ipc import waits
from regrow.ipc.client import Client
from regrow.ipc.node import MailboxSpec, Node

TIMEOUT_S = 10.0


def test_who_attends_looks_while_another_sends(
    run_dir: Path, box: Box, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sending uses up the sign that something has come: it is found without one."""
    monkeypatch.setattr(waits, "LOOK_S", 3600.0)
    over, looked = threading.Event(), threading.Event()

    def still() -> bool:
        looked.set()
        return not over.is_set()

    node = Node(str(run_dir), MailboxSpec("me", 1))
    node.announce()
    attending = threading.Thread(target=node.attend, args=(still,))
    attending.start()
    try:
        assert looked.wait(TIMEOUT_S)
        for number in range(2 * waits.SENT):
            node.cast(box.name, "note", (number,), {})
            with node.locked():
                delivery = client.send("me", "anything")
                while not node.transport.has_input():
                    assert select.select([node.transport.router_fd], [], [], TIMEOUT_S)[0]
            delivery.wait(TIMEOUT_S)
    finally:
        over.set()
        node.wake()
        attending.join(TIMEOUT_S)
        node.close()
