"""Several streams into one file: a line never holds bytes of two."""

from __future__ import annotations

import os
from pathlib import Path

from logger_process import LoggerProcess, wait_for_bytes, write_all, writer


def test_shared_file_keeps_lines_whole(logger: LoggerProcess, tmp_path: Path) -> None:
    """Two incarnations into one file, in unlucky pieces: no line holds bytes of both; tails are each one's own."""
    path = tmp_path / "a.log"
    old, new = logger.open(path, 1), logger.open(path, 2)
    os.write(old, b"old be")
    os.write(new, b"new one\nnew t")
    wait_for_bytes(path, b"new one\n")
    os.write(old, b"gins\nold ")
    os.write(new, b"wo\n")
    os.write(old, b"ends\n")
    os.close(old)
    assert logger.closed(1).tail == "old begins\nold ends\n"
    os.close(new)
    assert logger.closed(2).tail == "new one\nnew two\n"
    lines = path.read_bytes().splitlines()
    assert sorted(lines) == [b"new one", b"new two", b"old begins", b"old ends"]


def test_line_begun_before_sharing_is_finished_first(logger: LoggerProcess, tmp_path: Path) -> None:
    """A line that was half written when a second stream came is not broken."""
    path = tmp_path / "a.log"
    old = logger.open(path, 1)
    os.write(old, b"old be")
    wait_for_bytes(path, b"old be")
    new = logger.open(path, 2)
    os.write(new, b"new\n")
    os.write(old, b"gins\n")
    wait_for_bytes(path, b"new\n")
    os.close(old)
    os.close(new)
    logger.closed(1)
    logger.closed(2)
    assert path.read_bytes() == b"old begins\nnew\n"


def test_unfinished_line_in_shared_file_is_not_held_for_ever(logger: LoggerProcess, tmp_path: Path) -> None:
    """A prompt without a newline is written after a moment, and another stream's line begins below it."""
    path = tmp_path / "a.log"
    asking, other = logger.open(path, 1), logger.open(path, 2)
    os.write(asking, b"password: ")
    wait_for_bytes(path, b"password: ")
    os.write(other, b"hello\n")
    wait_for_bytes(path, b"password: \nhello\n")
    os.close(asking)
    os.close(other)
    logger.closed(1)
    logger.closed(2)
    assert path.read_bytes() == b"password: \nhello\n"


def test_endless_line_in_shared_file_blocks_nobody(logger: LoggerProcess, tmp_path: Path) -> None:
    """A megabyte without a newline into a shared file: the writer is never stuck."""
    path = tmp_path / "a.log"
    endless, other = logger.open(path, 1), logger.open(path, 2)
    with writer(lambda: write_all(endless, b"x" * 1_000_000), endless):
        logger.closed(1)
    os.close(other)
    logger.closed(2)
    assert path.read_bytes() == b"x" * 1_000_000 + b"\n"
