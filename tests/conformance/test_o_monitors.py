"""
Section O: monitors.

Interpretation: a monitor is a `Monitor` of a client, whose `wait` is the DOWN, or `on_down` of an agent. A process that
exits with a code of its own is OTP's exit with that reason. The observer holds the monitor: the process that is
monitored knows nothing of it.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import procs
import pytest
from configs import Config
from siblings import Line, Sibling
from talk import Talk
from tree import Tree
from wire import TIMEOUT_S

from regrow.ipc import Client, keys
from regrow.ipc.remote import RemoteClient


@pytest.fixture
def talk(directory: Path, config: Config, tree: Tree) -> Iterator[Talk]:
    """A tree of agents that has not been started yet."""
    made = Talk(directory, config, tree)
    yield made
    made.close()


def test_c150_reasons(talk: Talk) -> None:
    """A worker that exits with 0, one that exits with 3, one that is killed: one DOWN each, with the reason."""
    talk.grow("a:M b:M c:M o:P=Observer")
    monitors = {name: talk.client.monitor(name) for name in "abc"}
    for name in "abc":
        talk.call("o", "watch", name)
    talk.client.cast("a", "leave", 0)
    talk.client.cast("b", "leave", 3)
    talk.tree.crash("c")
    found = {}
    for name, monitor in monitors.items():
        down = monitor.wait(TIMEOUT_S)
        assert down is not None
        found[name] = (down.reason, down.code)
    assert found == {"a": ("normal", 0), "b": ("exit", 3), "c": ("killed", None)}
    downs = talk.until(lambda: done if len(done := talk.call("o", "what_was_done")) >= 3 else None)
    expected = [["DOWN", "a", "normal", 0], ["DOWN", "b", "exit", 3], ["DOWN", "c", "killed", None]]
    assert sorted(downs) == expected


def test_c151_nobody_to_monitor(talk: Talk) -> None:
    """Monitoring somebody who is dead, or an unknown name, answers DOWN noproc at once (S201)."""
    talk.grow("a:P", patient=True)
    assert procs.wait_dead(talk.tree.crash("a"), TIMEOUT_S)
    for name in ("a", "nobody"):
        begun_s = time.monotonic()
        down = talk.client.monitor(name).wait(TIMEOUT_S)
        assert down is not None
        assert (down.name, down.reason) == (name, "noproc")
        assert time.monotonic() - begun_s < 1.0


def test_c153_demonitor(talk: Talk) -> None:
    """Twice, of somebody unknown, and before the death: harmless, and no DOWN (S205, S208)."""
    talk.grow("a:M")
    monitor, unknown, witness = (talk.client.monitor(name) for name in ("a", "nobody", "a"))
    assert monitor.demonitor()
    assert not monitor.demonitor()
    assert not unknown.demonitor()
    talk.tree.crash("a")
    assert witness.wait(TIMEOUT_S) is not None
    assert monitor.wait(0) is None
    assert monitor.down is None


def test_c154_peer_is_lost(talk: Talk, directory: Path, config: Config) -> None:
    """A client of another host loses its daemon: DOWN noconnection for what it monitored, and so again after it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    config.sections["hub"] = {"listen": address, "clients": ["laptop"]}
    keys.add_client(str(directory / "state"), "laptop", str(directory / "laptop.key"))
    talk.grow("a:P")
    with RemoteClient(address, key=directory / "laptop.key") as remote:
        monitor = remote.monitor("a")
        assert monitor.wait(0) is None
        talk.tree.crash("regrow.hub")
        down = monitor.wait(TIMEOUT_S)
        assert down is not None
        assert down.reason == "noconnection"
        assert talk.tree.entry("a")["incarnation"] == 1  # it lives
        assert talk.tree.down() == 0
        again = remote.monitor("a").wait(TIMEOUT_S)
        assert again is not None
        assert again.reason in ("noconnection", "noproc")


def test_c156_messages_before_the_down(talk: Talk) -> None:
    """What a worker has sent to its observer before it ends comes before the DOWN (S204)."""
    talk.grow("o:P=Observer a:M b:M c:M")
    for name in "abc":
        talk.call("o", "watch", name)
        talk.client.cast(name, "tell_and_end", "o", [f"{name}1", f"{name}2"])
        assert procs.wait_dead(talk.tree.pid(name), TIMEOUT_S) if talk.client.whereis(name) else True
    done = talk.until(lambda: done if len(done := talk.call("o", "what_was_done")) >= 9 else None)
    for name in "abc":
        assert [item for item in done if item[0] == name or item[1] == name] == [
            f"{name}1",
            f"{name}2",
            ["DOWN", name, "normal", 0],
        ]


def test_c157_name_is_free_at_the_down(talk: Talk) -> None:
    """Who is told of the death of a name's holder can take the name at once (S203, S229, T9)."""
    talk.grow("a:M o:P=Observer")
    assert talk.call("a", "take", ["leader"]) == [None]
    talk.call("o", "watch", "leader", "leader")
    talk.tree.crash("a")
    talk.until(lambda: (where := talk.client.whereis("leader")) is not None and where.name == "o")
    assert talk.call("leader", "what_was_done") == [["DOWN", "a", "killed", None]]
    assert talk.call("leader", "whoami")[0] == "o"


def test_c158_observer_dies(talk: Talk) -> None:
    """The monitored worker is unaffected, and nothing of the monitor remains with it (S209)."""
    talk.grow("a:P")
    pid = talk.call("a", "whoami")[2]
    run_dir = talk.tree.run_dir
    before = sorted(os.listdir(f"/proc/{pid}/fd"))

    def observe(line: Line) -> None:
        with Client(run_dir) as client:
            client.monitor("a")
            client.call("a", "whoami")
            line.say("watching")
            line.hear()

    talk.close()
    for _ in range(3):
        with Sibling(observe) as observer:
            assert observer.hear() == "watching"
            assert len(os.listdir(f"/proc/{pid}/fd")) > len(before) - 1
            observer.kill()
    assert talk.until(lambda: len(os.listdir(f"/proc/{pid}/fd")) <= len(before))
    assert talk.tree.pid("a") == pid
    assert not procs.is_dead(pid)
