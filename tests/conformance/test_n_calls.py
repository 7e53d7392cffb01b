"""
Section N: calls.

Interpretation: a call is `Client.call` or `Agent.call`; its failure is raised as an error with the reason of the death
(`ProcessDown`), `NoProcess` for OTP's noproc, and `CallTimeout`. A stop request (`gen_server:stop`) is what the
supervisor does, `terminate_child`: nobody else stops a process of the tree. A peer node is another host's client,
connected over TCP with keys; the connection stands for the node.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import procs
import pytest
from configs import Config
from talk import Talk
from tree import SUP, Tree
from wire import TIMEOUT_S

from regrow.ipc import keys
from regrow.ipc.errors import CallTimeout, NoProcess, ProcessDown, Refused, Unreachable
from regrow.ipc.remote import RemoteClient

SOON_S = 1.0
"""What is known at once is known within this, on a busy machine too."""


@pytest.fixture
def talk(directory: Path, config: Config, tree: Tree) -> Iterator[Talk]:
    """A tree of agents that has not been started yet."""
    made = Talk(directory, config, tree)
    yield made
    made.close()


def test_c141_time_limits_are_the_callers(talk: Talk) -> None:
    """A reply within the limit comes; beyond it the caller fails on time, and the server still does the work."""
    talk.grow("a:P")
    assert talk.call("a", "work", 0.5, "first", timeout=30) == "first"
    begun_s = time.monotonic()
    with pytest.raises(CallTimeout):
        talk.call("a", "work", 0.5, "second", timeout=0.01)
    assert 0.01 <= time.monotonic() - begun_s < 0.4
    assert talk.call("a", "what_was_done") == ["first", "second"]


def test_c143_server_ends_while_a_call_waits(talk: Talk) -> None:
    """A crash, an exit with 0 and a kill each end a call without limit at once, with that reason."""
    talk.grow("a:M b:M c:M")
    requests = {
        "exception": talk.client.send_request("a", "crash"),
        "normal": talk.client.send_request("b", "leave", 0),
        "killed": talk.client.send_request("c", "hold", talk.fifo()),
    }
    talk.tree.crash("c")
    for reason, request in requests.items():
        begun_s = time.monotonic()
        with pytest.raises(ProcessDown) as down:
            request.wait_response(float("inf"))
        assert down.value.reason == reason
        assert time.monotonic() - begun_s < SOON_S
    assert "RuntimeError: the server is wrong" in str(talk.client.control.why("a"))


def test_c144_nobody_and_oneself(talk: Talk) -> None:
    """A call to an unknown name, to somebody who is dead, and to oneself, are all refused at once."""
    talk.grow("a:P b:P", patient=True)
    assert talk.call("b", "whoami")[0] == "b"
    assert procs.wait_dead(talk.tree.crash("b"), TIMEOUT_S)
    begun_s = time.monotonic()
    for name in ("nobody", "b"):
        with pytest.raises(NoProcess):
            talk.call(name, "whoami")
        assert talk.call("a", "ask", name, "whoami", []) == "NoProcess"
    assert talk.call("a", "call_self") == "calling_self"
    assert time.monotonic() - begun_s < SOON_S


@pytest.fixture
def remote(talk: Talk, directory: Path, config: Config) -> Iterator[RemoteClient]:
    """A client of another host, of a tree with `a`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config.sections["hub"] = {"listen": f"tcp://127.0.0.1:{port}", "clients": ["laptop"]}
    keys.add_client(str(directory / "state"), "laptop", str(directory / "laptop.key"))
    talk.grow("a:P")
    with RemoteClient(f"tcp://127.0.0.1:{port}", key=directory / "laptop.key") as client:
        yield client


def test_c145_peer_goes_away(talk: Talk, remote: RemoteClient) -> None:
    """The connection with the daemon's host is lost in a call: it fails as noconnection; then nothing is reached."""
    assert remote.call("a", "whoami")[0] == "a"
    request = remote.send_request("a", "hold", talk.fifo())
    talk.tree.crash("regrow.hub")
    with pytest.raises(ProcessDown) as down:
        request.wait_response(TIMEOUT_S)
    assert down.value.reason == "noconnection"
    assert talk.tree.down() == 0
    with pytest.raises((ProcessDown, Unreachable, NoProcess)) as gone:
        remote.call("a", "whoami", timeout=TIMEOUT_S)
    assert not isinstance(gone.value, ProcessDown) or gone.value.reason == "noconnection"


def test_c146_reply_and_stop(talk: Talk, directory: Path) -> None:
    """The caller gets the reply, after `terminate` has run (S193); once the server is dead, a call has nobody."""
    talk.grow("a:M")
    monitor = talk.client.monitor("a")
    file = directory / "terminated"
    assert talk.call("a", "reply_and_stop", str(file)) == "the reply"
    assert file.read_text() == "normal"
    down = monitor.wait()
    assert down is not None
    assert down.reason == "normal"
    with pytest.raises(NoProcess):
        talk.call("a", "whoami")


def test_c147_cast_to_nobody(talk: Talk) -> None:
    """A cast to an unknown name, or to somebody who is dead, returns at once, and nothing comes of it."""
    talk.grow("a:P b:P", patient=True)
    talk.call("b", "whoami")
    assert procs.wait_dead(talk.tree.crash("b"), TIMEOUT_S)
    begun_s = time.monotonic()
    for name in ("nobody", "b"):
        talk.client.cast(name, "whoami")
    assert time.monotonic() - begun_s < SOON_S
    assert talk.call("a", "whoami")[0] == "a"


def test_c147_cast_to_an_unreachable_peer(talk: Talk, remote: RemoteClient) -> None:
    """The same over a connection that is lost."""
    talk.close()
    assert talk.tree.down() == 0
    begun_s = time.monotonic()
    remote.cast("a", "whoami")
    assert time.monotonic() - begun_s < SOON_S


def test_c148_asynchronous_requests(talk: Talk) -> None:
    """A request may be waited for again after a time-out; one that was abandoned is never answered (S197)."""
    talk.grow("a:P")
    kept = talk.client.send_request("a", "work", 0.05, "kept")
    with pytest.raises(CallTimeout):
        kept.wait_response(0)
    assert kept.wait_response(float("inf")) == "kept"
    abandoned = talk.client.send_request("a", "work", 0.05, "abandoned")
    with pytest.raises(CallTimeout):
        abandoned.receive_response(0)
    assert talk.call("a", "what_was_done") == ["kept", "abandoned"]
    with pytest.raises(CallTimeout):
        abandoned.wait_response(float("inf"))


def test_c149_stop_requests(talk: Talk) -> None:
    """A stop is answered once the server has ended, of that reason; one that nobody has is refused."""
    talk.grow("a:P")
    monitor = talk.client.monitor("a")
    pid = talk.call("a", "whoami")[2]
    talk.client.control.terminate_child(SUP, "a")
    assert procs.is_dead(pid)
    down = monitor.wait()
    assert down is not None
    assert down.reason == "shutdown"
    with pytest.raises(Refused) as refused:
        talk.client.control.terminate_child(SUP, "nobody")
    assert refused.value.code == "not_found"
    with pytest.raises(NoProcess):
        talk.call("a", "whoami")
