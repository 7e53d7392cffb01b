"""What a process is subscribed to is written down without anybody waiting for it."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path

import lmdb

from regrow.ipc import Client, subscriptions
from regrow.ipc.names import FOLDER, Names


def frozen_writer(run_dir: Path) -> int:
    """A process that is stopped inside a transaction of the table; its pid."""
    ready, say = os.pipe()
    pid = os.fork()
    if pid == 0:
        with lmdb.open(str(run_dir / FOLDER)).begin(write=True):
            os.write(say, b".")
            os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    os.read(ready, 1)
    os.waitpid(pid, os.WUNTRACED)
    os.close(ready)
    os.close(say)
    return pid


def recorded(run_dir: Path) -> list[tuple[str, ...]]:
    """The patterns of every record."""
    with closing(Names(str(run_dir))) as names:
        return [each.patterns for _, each in subscriptions.read_all(names.env) if each is not None]


def test_a_frozen_writer_holds_nobody_up(run_dir: Path) -> None:
    """Subscribing goes on while another process is stopped in the middle of a write; the record follows."""
    writer = frozen_writer(run_dir)
    with Client(run_dir) as client:
        assert client.subscribe("shop.>", timeout=0.0) is False
        assert client.subscribe("ship.>", timeout=0.0) is False
        assert client.whereis("nobody") is None
        assert recorded(run_dir) == []
        os.kill(writer, signal.SIGKILL)
        os.waitpid(writer, 0)
        client.signals._recorder.settle(30.0)
        assert recorded(run_dir) == [("shop.>", "ship.>")]
    assert recorded(run_dir) == []
