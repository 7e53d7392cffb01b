"""RemoteClient: the verbs from another host, over TCP with keys, and what becomes of them when the way is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zmq
from fake_daemon import FakeDaemon, entry
from hub_host import HubHost, free_port

from regrow.ipc import AsyncClient, Client, hub_wire, keys
from regrow.ipc.errors import (
    BadRequest,
    CallTimeout,
    ControlTimeout,
    DeliveryTimeout,
    NoProcess,
    ProcessDown,
    Refused,
    RemoteError,
    Unreachable,
)
from regrow.ipc.keys import KeyFileError
from regrow.ipc.remote import RemoteClient
from regrow.ipc.wire import MAX_MESSAGE_BYTES


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HubHost]:
    """A hub with a TCP door, for `laptop` and for the operator `boss`; `thief` has a key, but is not named."""
    listen = f"tcp://127.0.0.1:{free_port()}"
    with closing(HubHost(tmp_path, listen=listen, clients=["laptop", "boss"], operators=["boss"])) as made:
        for name in ("laptop", "boss", "thief"):
            keys.add_client(made.state_dir, name, str(tmp_path / f"{name}.key"))
        made.start()
        yield made


@pytest.fixture
def connect(host: HubHost, tmp_path: Path) -> Iterator[Callable[..., RemoteClient]]:
    """Connect as one of them, over TCP."""
    made: list[RemoteClient] = []

    def connected(name: str = "laptop", **options: Any) -> RemoteClient:
        made.append(RemoteClient(host.options["listen"], key=tmp_path / f"{name}.key", **options))
        return made[-1]

    yield connected
    for client in made:
        client.close()


def test_verbs(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """Calls, requests, sends, casts and names give what they give a local client."""
    actor = host.actor("actor")
    client = connect()
    assert client.call("actor", "echo", 1, k=b"\0") == [[1], {"k": b"\0"}]
    assert client.call("actor", "echo", returns=tuple[list[int], dict[str, int]]) == ([], {})
    request = client.send_request("actor", "echo", 2)
    assert request.wait_response(5) == [[2], {}]
    assert request.wait_response(0) == [[2], {}]
    client.send("actor", "note", "sent").wait()
    assert actor.line() == '[["sent"], {}]'
    assert client.cast("actor", "note", "cast") is True
    assert actor.line() == '[["cast"], {}]'
    where = client.whereis("actor")
    assert where is not None
    assert (where.name, where.incarnation, where.pid) == ("actor", 1, actor.pid)
    assert client.whereis("nobody") is None


def test_longest_message(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """One of 16 MiB arrives, encrypted as it is; a longer one is refused here, and the connection stays."""
    client = connect()
    session = client.session
    around = len(hub_wire.encode(hub_wire.Call(1, "nobody", "echo", hub_wire.pack([b"x" * 70_000]), timeout_s=6.0)))
    longest = MAX_MESSAGE_BYTES - (around - 70_000)
    with pytest.raises(NoProcess):
        client.call("nobody", "echo", b"x" * longest)
    with pytest.raises(BadRequest, match="the message has 16777217 bytes, 16777216 are the limit"):
        client.call("nobody", "echo", b"x" * (longest + 1))
    assert client.session == session


def test_errors(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """Each thing that can go wrong is the error that a local client raises, with the same facts."""
    host.actor("actor")
    client = connect()
    with pytest.raises(NoProcess, match="nobody"):
        client.call("nobody", "echo")
    with pytest.raises(RemoteError) as remote:
        client.call("actor", "fail")
    assert (remote.value.type, remote.value.text) == ("KeyError", "no such sku")
    with pytest.raises(BadRequest) as bad:
        client.call("actor", "bad")
    assert bad.value.path == "$.quantity"
    with pytest.raises(CallTimeout):
        client.call("actor", "never", timeout=0.05)
    with pytest.raises(BadRequest, match="cannot encode"):
        client.call("actor", "echo", object())
    with pytest.raises(NoProcess):
        client.send("nobody", "echo").wait()
    with pytest.raises(BadRequest):
        client.publish("regrow.event.x", 1)
    with pytest.raises(RemoteError, match="UnexpectedReply"):
        client.call("actor", "echo", returns=int)


def test_death_of_the_called(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """A call to a process that dies ends at once, and so does its monitor."""
    host.actor("actor")
    client = connect()
    with client.monitor("actor") as monitor:
        with pytest.raises(ProcessDown) as down:
            client.call("actor", "die")
        assert (down.value.down.name, down.value.down.incarnation) == ("actor", 1)
        found = monitor.wait(5)
    assert found is not None
    assert (found.name, found.incarnation) == ("actor", 1)
    assert monitor.demonitor() is False
    removed = client.monitor("nobody")
    assert removed.wait(5) is not None


def test_signals(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """Signals come as to a local subscriber; 5,000 of them in order, without a word about credit."""
    client, other = connect(), connect("boss")
    assert client.subscribe("n.>") is True
    for number in range(5_000):
        other.publish("n.x", number)
    assert other.publish("n.x", "last", timeout=5) == 1
    got = []
    while (found := client.next_signal(5)) is not None and found.message != "last":
        got.append(found.message)
    assert got == list(range(5_000))
    assert client.unsubscribe("n.>") is True
    assert client.unsubscribe("n.>") is False
    assert other.publish("n.x", 1, timeout=5) == 0


def test_lost_connection_is_noconnection(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """When the hub dies, what is open ends in `noconnection` (S187, S202), and casts return at once (S196)."""
    actor = host.actor("actor")
    client = connect()
    monitor = client.monitor("actor")
    request = client.send_request("actor", "never")
    assert actor.line() == "never"
    assert host.hub is not None
    host.hub.kill()
    with pytest.raises(ProcessDown) as down:
        request.receive_response(10)
    assert down.value.reason == "noconnection"
    found = monitor.wait(10)
    assert found is not None
    assert found.reason == "noconnection"
    assert client.cast("actor", "note", "never arrives") is False
    with pytest.raises(ProcessDown):
        client.call("actor", "echo")
    again = client.monitor("actor").wait(0)
    assert again is not None
    assert again.reason == "noconnection"
    with pytest.raises(ProcessDown):
        client.control.request("status")


def test_frozen_hub_is_a_time_out(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """A hub that does not answer costs a caller its time limit, not more."""
    client = connect()
    assert host.hub is not None
    host.hub.signal(signal.SIGSTOP)
    with pytest.raises(CallTimeout):
        client.call("actor", "echo", timeout=0.05)
    with pytest.raises(DeliveryTimeout):
        client.publish("a.b", 1, timeout=0.05)
    with pytest.raises(ControlTimeout):
        client.control.request("status", within_s=0.05)
    host.hub.signal(signal.SIGCONT)
    with pytest.raises(NoProcess):
        client.call("nobody", "echo")


def test_connection_comes_back(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """Subscriptions and what was published meanwhile are carried over to the next hub."""
    client = connect()
    client.subscribe("n.>")
    assert host.hub is not None
    host.hub.kill()
    monitor = client.monitor("nobody")
    while (down := monitor.wait(20)) is not None and down.reason == "noproc":  # the loss has not been noticed yet
        monitor = client.monitor("nobody")
    client.publish("n.x", "kept")
    host.start()
    found = client.next_signal(20)
    assert found is not None
    assert found.message == "kept"


def test_clients_of_an_address(host: HubHost, tmp_path: Path) -> None:
    """Client and AsyncClient of `tcp://` have the same verbs, and take a key; on this host there is none to take."""
    host.actor("actor")
    key = tmp_path / "laptop.key"
    with Client(host.options["listen"], key=key) as client:
        assert client.call("actor", "echo", "hello") == [["hello"], {}]
    with pytest.raises(ValueError, match="tcp://"):
        Client(host.run_dir, key=key)

    async def talk() -> None:
        async with AsyncClient(host.options["listen"], key=key) as client:
            found = await asyncio.gather(*(client.call("actor", "echo", n) for n in range(100)))
            assert found == [[[n], {}] for n in range(100)]
            await (await client.send("actor", "note", "x")).wait()
            assert await (await client.send_request("actor", "echo", 1)).wait_response() == [[1], {}]
            assert await client.subscribe("shop.>")
            assert await client.publish("shop.open", 1, timeout=5.0) == 1
            signal = await client.next_signal(5.0)
            assert signal is not None
            assert (signal.topic, signal.message) == ("shop.open", 1)
            with pytest.raises(NoProcess):
                await client.call("nobody", "echo")

    asyncio.run(talk())


def test_keys_decide(host: HubHost, connect: Callable[..., RemoteClient], tmp_path: Path) -> None:
    """A client whose key is there but who is not named, or whose key was removed, is refused; so is no key at all."""
    with pytest.raises(Unreachable, match="does not admit this key"):
        connect("thief", timeout=5.0)
    with pytest.raises(KeyFileError):
        RemoteClient(host.options["listen"])
    assert keys.remove_client(host.state_dir, "laptop") is True
    with pytest.raises(Unreachable, match="does not admit this key"):
        connect("laptop", timeout=5.0)
    keys.add_client(host.state_dir, "laptop", str(tmp_path / "new.key"))
    with RemoteClient(host.options["listen"], key=tmp_path / "new.key") as client:
        assert client.session


def test_removed_key_is_served_no_more_after_sighup(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """Who is connected when its key is removed is served until the hub is told to look."""
    client, other = connect("laptop"), connect("boss")
    keys.remove_client(host.state_dir, "laptop")
    assert client.publish("a.b", 1, timeout=5) == 0
    other.subscribe("a.b")
    assert host.hub is not None
    host.hub.signal(signal.SIGHUP)
    while True:
        try:
            client.publish("a.b", 1, timeout=0.2)
        except DeliveryTimeout:
            break
    with pytest.raises(NoProcess):
        other.call("nobody", "echo")


def test_plain_tcp_is_no_way_in(host: HubHost, connect: Callable[..., RemoteClient]) -> None:
    """A peer without CURVE, or with another server's key, gets nothing, and the hub serves on."""
    client = connect()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    plain = context.socket(zmq.DEALER)
    plain.setsockopt(zmq.LINGER, 0)
    plain.setsockopt(zmq.PROBE_ROUTER, 1)
    plain.connect(host.options["listen"])
    plain.send(b"\x92\x31\x01")
    assert plain.poll(300) == 0
    plain.close()
    context.term()
    with pytest.raises(NoProcess):
        client.call("nobody", "echo")


def test_who_may_operate(tmp_path: Path) -> None:
    """Over TCP the verbs that act are for keys that are listed as operators; to look is for all that may connect."""
    root = FakeDaemon(tmp_path / "run")
    root.entries = [entry("redis")]
    host = HubHost(tmp_path, listen=f"tcp://127.0.0.1:{free_port()}", clients=["laptop", "boss"], operators=["boss"])
    for name in ("laptop", "boss"):
        keys.add_client(host.state_dir, name, str(tmp_path / name))
    host.start()
    root.await_request("events")
    try:
        with RemoteClient(host.options["listen"], key=tmp_path / "laptop") as client:
            assert client.control.status()[0]["name"] == "redis"
            with pytest.raises(Refused) as refused:
                client.control.request("restart", names=["redis"])
            assert refused.value.code == "forbidden"
        with RemoteClient(host.options["listen"], key=tmp_path / "boss") as client:
            assert client.control.request("restart", names=["redis"])[0]["result"] == "restarted"
    finally:
        host.close()
        root.close()


def test_local_remote_client(host: HubHost) -> None:
    """The same client works over the socket in run_dir, without keys."""
    with RemoteClient(host.run_dir) as client, pytest.raises(NoProcess):
        client.call("nobody", "echo")


def test_key_files(tmp_path: Path) -> None:
    """Key files are made once, for their owner alone, and are what zmq.auth reads."""
    state = str(tmp_path / "state")
    made = keys.add_client(state, "laptop", str(tmp_path / "laptop.key"))
    for path in ("laptop.key", "state/keys/hub.key_secret", "state/keys/clients/laptop.key"):
        assert stat.S_IMODE((tmp_path / path).stat().st_mode) == 0o600
    assert keys.read_client_key(str(tmp_path / "laptop.key")) == made
    assert keys.list_clients(state) == {"laptop": made.public}
    assert made.server == keys.server_pair(state).public
    assert keys.server_pair(state) == keys.server_pair(state)
    with pytest.raises(KeyFileError, match="already"):
        keys.add_client(state, "laptop", str(tmp_path / "other.key"))
    with pytest.raises(KeyFileError, match="already"):
        keys.add_client(state, "desktop", str(tmp_path / "laptop.key"))
    assert keys.list_clients(state) == {"laptop": made.public}
    for name in ("../x", "", "a/b", ".hidden"):
        with pytest.raises(KeyFileError, match="name"):
            keys.add_client(state, name, str(tmp_path / "x.key"))
    for path in ("state/keys/clients/laptop.key", "state/keys/hub.key_secret"):
        with pytest.raises(KeyFileError, match="cannot use"):
            keys.read_client_key(str(tmp_path / path))
    assert keys.remove_client(state, "laptop") is True
    assert keys.remove_client(state, "laptop") is False
    assert not [name for name in os.listdir(tmp_path / "state/keys") if name.endswith(".new")]


def test_hub_serves_while_it_cannot_listen(tmp_path: Path) -> None:
    """While somebody else has its port the hub serves this host, and takes the port when it is free."""
    with socket.create_server(("127.0.0.1", 0)) as occupant:
        listen = f"tcp://127.0.0.1:{occupant.getsockname()[1]}"
        host = HubHost(tmp_path, listen=listen, clients=["laptop"])
        keys.add_client(host.state_dir, "laptop", str(tmp_path / "laptop"))
        host.start()
        with RemoteClient(host.run_dir, timeout=20) as client:
            assert client.whereis("nobody") is None
    try:
        with RemoteClient(listen, key=tmp_path / "laptop", timeout=20) as client:
            assert client.whereis("nobody") is None
    finally:
        host.close()
