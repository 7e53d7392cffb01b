"""Single attempts at ports: against real sockets, with and without peers."""

from __future__ import annotations

import select
import socket

import pytest
from probing import World, free_port, tcp

from regrow.daemon.linux.probe_connect import TcpAttempt, connected_to_itself, numeric_address


def test_tcp_listening_passes(world: World) -> None:
    """A port somebody listens on passes, also before it is accepted."""
    assert world.outcome(tcp(world.listen())) == ""


def test_tcp_ipv6_passes(world: World) -> None:
    """IPv6 addresses work, also with an interface."""
    port = world.listen(socket.AF_INET6, ("::1", 0))
    assert world.outcome(tcp(port, "::1")) == ""
    assert world.outcome(tcp(port, "::1%lo")) == ""


def test_tcp_refused_names_the_peer(world: World) -> None:
    """Nobody there: the reason says where."""
    port = free_port()
    assert world.outcome(tcp(port)) == f"connection refused by 127.0.0.1:{port}"
    assert world.outcome(tcp(port, "::1")) == f"connection refused by [::1]:{port}"


def test_tcp_without_answer_times_out(world: World) -> None:
    """A connection that stays pending fails at its limit."""
    port = world.full_port()
    assert world.outcome(tcp(port), 0.05) == f"no connection to 127.0.0.1:{port} within 0.05 s"


def test_tcp_pending_then_accepted_passes(world: World) -> None:
    """A connection that is made only after a while passes."""
    port = world.full_port()
    server = world.sockets[-9]
    server.setblocking(False)

    def accept(_events: int) -> None:
        try:
            world.sockets.append(server.accept()[0])
        except BlockingIOError:
            pass

    world.loop.call_soon(lambda: world.loop.watch(server.fileno(), select.EPOLLIN, accept))
    assert world.outcome(tcp(port)) == ""


@pytest.mark.parametrize("host", ["localhost", "example.com", "", "1.2.3", "::1%nope", "::x", "a\0b"])
def test_names_are_never_resolved(world: World, host: str) -> None:
    """A host that is not numeric fails at once instead of asking a resolver."""
    assert world.outcome(tcp(80, host)).endswith("is not a numeric address")


@pytest.mark.parametrize("port", [0, -1, 65536, 10**9])
def test_impossible_port_is_no_address(port: int) -> None:
    """A port out of range is refused, not raised."""
    assert numeric_address("127.0.0.1", port) is None


def test_connection_to_itself_is_noticed() -> None:
    """The kernel can connect a socket to itself when nobody listens: that is nobody's answer."""
    with socket.socket() as own, socket.socket() as server, socket.socket() as client:
        own.bind(("127.0.0.1", 0))
        own.connect(own.getsockname())
        assert connected_to_itself(own)
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        assert not connected_to_itself(client)


def test_tcp_connected_to_itself_is_refused_and_frees_the_port(world: World) -> None:
    """The attempt reports a refusal, and the port can be bound at once."""
    outcomes: list[str] = []
    own = socket.socket()
    own.bind(("127.0.0.1", 0))
    port = own.getsockname()[1]
    own.connect(("127.0.0.1", port))
    attempt = TcpAttempt(world.loop, 1.0, outcomes.append, "127.0.0.1", port)
    assert attempt._connect_result(own, 0) == f"connection refused by 127.0.0.1:{port}"
    own.close()
    with socket.socket() as child:
        child.bind(("127.0.0.1", port))


def test_stale_event_is_no_connection(world: World) -> None:
    """An event meant for an earlier descriptor of the same number does not pass a pending connection."""
    outcomes: list[str] = []
    attempt = TcpAttempt(world.loop, 5.0, outcomes.append, "127.0.0.1", world.full_port())
    attempt.begin()
    attempt._progress(select.EPOLLOUT)
    assert attempt._socket is not None
    attempt.cancel()
    attempt._progress(select.EPOLLOUT)
    assert outcomes == []
