"""Single HTTP attempts against real servers, some of which are broken."""

from __future__ import annotations

import select
import socket

import pytest
from probing import World, free_port, http

from regrow.config.spec import Probe, ReadyKind


@pytest.mark.parametrize(("status", "passes"), [(200, True), (204, True), (302, True), (399, True), (400, False),
                                                (404, False), (503, False), (101, False)])  # fmt: skip
def test_http_status_decides(world: World, status: int, passes: bool) -> None:
    """200 to 399 passes, everything else is named."""
    port = world.answer(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status, close=True)
    assert world.outcome(http(port)) == ("" if passes else f"HTTP status {status} from 127.0.0.1:{port}")


def test_http_request_as_specified(world: World) -> None:
    """The request names path, host and regrow, and asks for the connection to be closed."""
    seen: list[bytes] = []

    def on_accept(peer: socket.socket) -> None:
        def on_request(_events: int) -> None:
            seen.append(peer.recv(65536))
            world.loop.unwatch(peer.fileno())
            peer.send(b"HTTP/1.1 200 OK\r\n")

        world.loop.watch(peer.fileno(), select.EPOLLIN, on_request)

    port = world.serve(on_accept)
    probe = Probe(ReadyKind.HTTP, host="127.0.0.1", port=port, path="/health?x=1", http_host="shop.example:80")
    assert world.outcome(probe) == ""
    assert seen[0].startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: shop.example:80\r\n")
    assert b"\r\nConnection: close\r\n" in seen[0]
    assert seen[0].endswith(b"\r\n\r\n")


def test_http_refused(world: World) -> None:
    """Nobody there: the same words as for tcp."""
    port = free_port()
    assert world.outcome(http(port)) == f"connection refused by 127.0.0.1:{port}"


def test_http_garbage_is_shown(world: World) -> None:
    """A peer that speaks something else fails at once, with what it said."""
    port = world.answer(b"\x00-ERR unknown command\r\n")
    outcome = world.outcome(http(port))
    assert outcome.startswith(f"127.0.0.1:{port} did not answer with HTTP, got ")
    assert "-ERR unknown command" in outcome


def test_http_endless_status_line_is_cut_off(world: World) -> None:
    """A status line without end is read to 8 KiB and no further."""
    port = world.answer(b"HTTP/1.1 200 " + b"a" * 100_000)
    assert world.outcome(http(port)).startswith(f"127.0.0.1:{port} did not answer with HTTP, got ")


def test_http_endless_interim_answers_are_cut_off(world: World) -> None:
    """Interim answers without end do not keep the attempt."""
    port = world.answer(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
    assert "did not answer with HTTP" in world.outcome(http(port))


def test_http_endless_head_passes_by_its_status(world: World) -> None:
    """A head that never ends is not waited for: the status is known."""
    port = world.answer(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000)
    assert world.outcome(http(port)) == ""


def test_http_closed_at_once(world: World) -> None:
    """A peer that closes without a word is told apart from one that refuses."""
    port = world.serve(lambda peer: peer.shutdown(socket.SHUT_RDWR))
    outcome = world.outcome(http(port))
    assert outcome.startswith(f"127.0.0.1:{port} ")
    assert "nothing came" in outcome or "took no request" in outcome


def test_http_closed_within_the_status_line(world: World) -> None:
    """Half an answer is shown."""
    port = world.answer(b"HTTP/1.1 20", close=True)
    assert world.outcome(http(port)) == f"127.0.0.1:{port} closed before an HTTP status, got 'HTTP/1.1 20'"


def test_http_silent_times_out(world: World) -> None:
    """A peer that accepts and says nothing fails at the limit."""
    port = world.listen()
    outcome = world.outcome(http(port), 0.05)
    assert outcome == f"no HTTP status from 127.0.0.1:{port} within 0.05 s, nothing came"


def test_http_dripping_answer_passes(world: World) -> None:
    """An answer that comes byte by byte, each in a turn of its own, is put together."""
    answer = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n"

    def on_accept(peer: socket.socket) -> None:
        def drip(at: int = 0) -> None:
            if at < len(answer):
                peer.send(answer[at : at + 1])
                world.loop.call_soon(lambda: drip(at + 1))

        drip()

    assert world.outcome(http(world.serve(on_accept))) == ""


def test_http_pending_connection_times_out_like_tcp(world: World) -> None:
    """Without a connection, the reason is the missing connection."""
    port = world.full_port()
    assert world.outcome(http(port), 0.05) == f"no connection to 127.0.0.1:{port} within 0.05 s"
