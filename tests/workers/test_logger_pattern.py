"""The line that a child was awaited to print."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from logger_process import LoggerProcess, wait_for_bytes

from regrow.workers.system.log_protocol import Lost, Matched


@pytest.mark.parametrize(
    "pieces",
    [[b"listening on 80\n"], [b"listen", b"ing on", b" 80", b"\nmore\n"], [b"listening on 80"]],
)
def test_pattern(logger: LoggerProcess, tmp_path: Path, pieces: list[bytes]) -> None:
    """The first matching line is reported once, in whatever pieces it comes, also unfinished at the end."""
    path = tmp_path / "a.log"
    pipe = logger.open(path, pattern=r"on \d+$")
    os.write(pipe, b"listening soon\n")
    said = b"listening soon\n"
    for piece in pieces:
        os.write(pipe, piece)
        said += piece
        wait_for_bytes(path, said)
    os.close(pipe)
    assert logger.next(Matched) == Matched(1, "listening on 80")
    logger.closed(1)
    assert logger.count(Matched) == 1


def test_pattern_that_takes_for_ever_is_given_up(logger: LoggerProcess, tmp_path: Path) -> None:
    """A pattern with catastrophic backtracking stops nothing: it is reported as given up, other streams go on."""
    pipe = logger.open(tmp_path / "a.log", 1, pattern=r"(a+)+$")
    other = logger.open(tmp_path / "b.log", 2)
    os.write(pipe, b"a" * 60 + b"!\n")
    lost = logger.next(Lost)
    assert (lost.stream, lost.bytes_lost) == (1, 0)
    assert "pattern" in lost.text
    os.write(other, b"fine\n")
    os.close(other)
    assert logger.closed(2).tail == "fine\n"
    os.close(pipe)
    assert logger.closed(1).tail == "a" * 60 + "!\n"
