"""Connections: what the kernel holds of theirs; what was handed over leaves before a socket is closed."""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from siblings import TIMEOUT_S, Line, Sibling

from regrow.ipc.transport import LARGE_BYTES, SEND_BUFFER_BYTES, Transport, _make_room, _peer_pid

SIZE = 8 << 20
"""Bytes: more than the kernel takes for one who does not read."""



@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Sibling]:
    """He hears a message when he is told to, and says how long it is."""

    def body(line: Line) -> None:
        listener = Transport(str(tmp_path))
        listener.bind("him")
        line.say("bound")
        end = select.poll()
        end.register(listener.router_fd, select.POLLIN)
        while (found := listener.receive()) is None:
            assert end.poll(1000 * TIMEOUT_S), "nothing has come"
        line.say(len(found[1]))

    with Sibling(body) as listener:
        assert listener.hear() == "bound"
        yield listener


def connected(folder: Path) -> tuple[Transport, bytes]:
    """To the listener, whose ZeroMQ is ready for a message."""
    transport = Transport(str(folder))
    alias = transport.connect("him")
    while not transport.met:
        assert select.select([transport.monitor_fd], [], [], TIMEOUT_S)[0]
        transport.watch_connections()
    return transport, alias


def stop(listener: Sibling) -> None:
    """Returns when he does nothing more, which the kernel tells his parent alone."""
    listener.signal(signal.SIGSTOP)
    state = Path(f"/proc/{listener.pid}/stat")
    while state.read_text().rpartition(")")[2].split()[0] != "T":
        os.sched_yield()


def send_signals(listener: Sibling) -> None:
    """To the main thread, as long as it takes them and then one that has to wait; after that the listener goes on."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    is_taken = True
    while is_taken:
        is_taken = not _main_thread_blocks(signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR1)
    listener.signal(signal.SIGCONT)


def _main_thread_blocks(number: int) -> bool:
    status = Path(f"/proc/self/task/{os.getpid()}/status").read_text()
    return bool(int(status.partition("SigBlk:")[2].split()[0], 16) >> (number - 1) & 1)


def test_signals_do_not_cut_the_last_words_off(listener: Sibling, tmp_path: Path) -> None:
    """A signal that has a handler would end ZeroMQ's wait, and the process would be gone before all had left."""

    def body(line: Line) -> None:
        handled: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _frame: handled.append(number))
        transport, alias = connected(tmp_path)
        stop(listener)
        transport.send(alias, bytes(SIZE))
        threading.Thread(target=send_signals, args=(listener,), daemon=True).start()
        transport.close(TIMEOUT_S)
        line.say(bool(handled))

    with Sibling(body) as closer:
        assert closer.hear()
        assert closer.wait() == 0
        assert listener.hear() == SIZE


def test_large_messages_have_room_in_the_kernel(listener: Sibling, tmp_path: Path) -> None:
    """As much as it allows, which it doubles, from the first on; other sockets of the process have what they had."""
    allowed = int(Path("/proc/sys/net/core/wmem_max").read_text())
    large = 2 * min(SEND_BUFFER_BYTES, allowed)
    transport, alias = connected(tmp_path)
    assert large not in send_buffers()
    transport.send(alias, bytes(LARGE_BYTES))
    assert send_buffers().count(large) == 1
    assert listener.hear() == LARGE_BYTES
    transport.close(TIMEOUT_S)


def send_buffers() -> list[int]:
    """Of all sockets that this process has."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        if entry.is_symlink() and os.readlink(entry).startswith("socket:"):
            with socket.socket(fileno=os.dup(int(entry.name))) as each:
                found.append(each.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
    return found


def test_closed_transport_asks_nobody(tmp_path: Path) -> None:
    """Nothing has come, whatever there is to read on standard input."""
    transport = Transport(str(tmp_path))
    transport.close()
    assert not transport.has_input()


def test_room_in_a_connection_that_has_just_been_closed() -> None:
    """Its number may be nobody's by then, or that of something else."""
    one, other = os.pipe()
    _make_room(one)
    os.close(one)
    _make_room(one)
    assert _peer_pid(one) == 0
    os.close(other)


class _Rung(Exception):
    """What a signal's handler raises."""


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_a_signal_handler_raises_closes_no_connection() -> None:
    """Whichever line it falls before: a descriptor of ZeroMQ's stays open, which else aborts the process."""
    before = set(os.listdir("/proc/self/fd"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        for line in range(1, 1000):
            left = line

            def ring(frame: FrameType, event: str, _argument: object) -> Any:
                nonlocal left
                if frame.f_code.co_filename.endswith("transport.py") and event == "line":
                    left -= 1
                    if not left:
                        raise _Rung
                return ring

            sys.settrace(ring)
            try:
                _make_room(ours.fileno())
            except _Rung:
                pass
            finally:
                sys.settrace(None)
            gc.collect()
            assert os.fstat(ours.fileno())
            if left > 0:
                break
        assert line > 10, "it has that many lines"
    for copy in set(os.listdir("/proc/self/fd")) - before:
        with suppress(OSError):
            os.close(int(copy))  # one at most is left behind, if it falls just behind its making
