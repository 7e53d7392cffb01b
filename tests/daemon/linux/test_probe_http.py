"""The status line of an HTTP answer, as far as it has come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.daemon.linux.probe_http import INCOMPLETE, NOT_HTTP, parse_status, request

REASONS = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=30)
ENDS = st.sampled_from([b"\r\n", b"\n"])
FINAL = st.integers(200, 999)


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 404\n", 404),
        (b"HTTP/1.1 101 Switching\r\n", 101),
        (b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 204 \r\n", 204),
        (b"HTTP/1.1 100 Continue\r\n\r\n", INCOMPLETE),
        (b"HTTP/1.1 100 Continue\r\nLink: x\r\n", INCOMPLETE),
        (b"", INCOMPLETE),
        (b"HTTP/1.1 200", INCOMPLETE),
        (b"HTTP/1.1 200\r", INCOMPLETE),
        (b"HTTP/1.1 2000", NOT_HTTP),
        (b"HTTP/1.1 099 x\r\n", NOT_HTTP),
        (b"HTTP/1.1 20\r\n", NOT_HTTP),
        (b"\r\n", NOT_HTTP),
        (b"+PONG\r\n", NOT_HTTP),
        (b"SSH-2.0", NOT_HTTP),
        (b"\x15\x03\x01", NOT_HTTP),
    ],
)
def test_status_of_known_answers(received: bytes, status: int) -> None:
    """Final statuses are found, interim ones passed over, garbage refused as early as it shows."""
    assert parse_status(received) == status


@given(received=st.binary(max_size=200) | st.binary(max_size=60).map(lambda tail: b"HTTP/1.1 " + tail))
def test_any_bytes_have_a_verdict(received: bytes) -> None:
    """Whatever comes, the verdict is one of the three kinds, and nothing is raised."""
    status = parse_status(received)
    assert status in (INCOMPLETE, NOT_HTTP, 101) or 200 <= status <= 999


@given(interim=st.lists(st.sampled_from([100, 102, 103]), max_size=3), status=FINAL, reason=REASONS, end=ENDS)
def test_every_cut_of_an_answer_is_incomplete(interim: list[int], status: int, reason: str, end: bytes) -> None:
    """A well-formed answer that is cut anywhere is awaited, never judged; whole, it has its status."""
    answer = b"".join(b"HTTP/1.1 %d x%sA: b%s%s" % (number, end, end, end) for number in interim)
    answer += b"HTTP/1.1 %d %s%s" % (status, reason.encode("latin-1"), end)
    assert {parse_status(answer[:cut]) for cut in range(len(answer))} == {INCOMPLETE}
    assert parse_status(answer + b"Content-Length: 0\r\n") == status


@given(received=st.binary(max_size=60), more=st.binary(max_size=20))
def test_a_verdict_is_final(received: bytes, more: bytes) -> None:
    """What has been judged stays judged, whatever comes behind it."""
    status = parse_status(received)
    assert status == INCOMPLETE or parse_status(received + more) == status


@given(path=st.text(max_size=30), host=st.text(max_size=30))
def test_request_has_only_its_own_lines(path: str, host: str) -> None:
    """No path or host, however odd, can add a header or a second request."""
    lines = request(path, host).split(b"\r\n")
    assert [line.split(b" ")[0] for line in lines] == [
        b"GET", b"Host:", b"User-Agent:", b"Accept:", b"Connection:", b"", b""
    ]  # fmt: skip
    assert lines[0].count(b" ") == 2
    assert b"\n" not in b"".join(lines)
