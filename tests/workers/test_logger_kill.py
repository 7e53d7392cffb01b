"""SIGKILL of the logger: nothing is lost, nothing is doubled, nothing is forgotten."""

from __future__ import annotations

import os
import random
import re
import select
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import pytest
from logger_process import LoggerProcess, forked, reap, wait_for_bytes, wait_readable, whole_log, write_all

from regrow.workers.system.log_protocol import Matched, Open

Lines = Callable[[int, int], bytes]


def write_until_told(pipe: int, lines: Lines, at_once: int, told: int, result: int) -> None:
    """Write numbered lines at full speed until `told` is readable; then say how many."""
    poll = select.poll()
    poll.register(told, select.POLLIN)
    number = 0
    while not poll.poll(0):
        write_all(pipe, lines(number, number + at_once))
        number += at_once
    os.write(result, str(number).encode())


@contextmanager
def writing(pipe: int, lines: Lines, at_once: int = 100) -> Iterator[Callable[[], int]]:
    """Have a process write into `pipe`; the yielded function ends it and returns how many lines it wrote."""
    told_out, told_in = os.pipe()
    result_out, result_in = os.pipe()
    body = partial(write_until_told, pipe, lines, at_once, told_out, result_in)
    pid = forked(body, keep=(pipe, told_out, result_in))
    for fd in (pipe, told_out, result_in):
        os.close(fd)

    def stop() -> int:
        os.close(told_in)
        count = int(os.read(result_out, 100))
        os.close(result_out)
        assert reap(pid) == 0
        return count

    yield stop


def kill_at_random(logger: LoggerProcess, dice: random.Random, times: int) -> None:
    """Kill and restart the logger at random moments, some of them while it is still starting."""
    nothing, never = os.pipe()
    for _ in range(times):
        assert not wait_readable(nothing, dice.expovariate(150.0))
        logger.restart()
    os.close(nothing)
    os.close(never)


def numbered(begin: int, end: int) -> bytes:
    """Return lines of various lengths, each with its number."""
    return b"".join(b"%08d %s\n" % (number, b"x" * (number % 60)) for number in range(begin, end))


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [1, 200, 3001], ids=["line by line", "blocks", "blocks larger than the pipe"])
def test_kill_loses_and_doubles_nothing(
    logger: LoggerProcess, tmp_path: Path, dice: random.Random, at_once: int
) -> None:
    """SIGKILL at 40 random moments while a child writes at full speed: every line is there once, in order."""
    path = tmp_path / "a.log"
    with writing(logger.open(path, size=256 * 1024, keep=10_000), numbered, at_once) as stop:
        kill_at_random(logger, dice, 40)
        count = stop()
    logger.closed(1)
    assert count > 1000
    right = whole_log(path) == numbered(0, count)
    assert right
    assert len(list(tmp_path.iterdir())) > 3
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_kill_within_shared_file(logger: LoggerProcess, tmp_path: Path, dice: random.Random) -> None:
    """
    Two streams into one file while the logger is killed: every byte of each is there once, in order.

    And no line holds bytes of both, though a kill may break a line in two.
    """

    def lines(alphabet: bytes, begin: int, end: int) -> bytes:
        digits = bytes.maketrans(b"0123456789", alphabet)
        return b"".join((b"%06d\n" % number).translate(digits) for number in range(begin, end))

    path = tmp_path / "a.log"
    alphabets = (b"abcdefghij", b"ABCDEFGHIJ")
    pipes = [logger.open(path, number, size=256 * 1024, keep=10_000) for number in (1, 2)]
    with ExitStack() as stack:
        stops = [
            stack.enter_context(writing(pipe, partial(lines, alphabet)))
            for pipe, alphabet in zip(pipes, alphabets, strict=True)
        ]
        kill_at_random(logger, dice, 25)
        counts = [stop() for stop in stops]
    logger.closed(1)
    logger.closed(2)
    said = whole_log(path)
    for alphabet, other, count in zip(alphabets, reversed(alphabets), counts, strict=True):
        right = said.translate(None, other + b"\n") == lines(alphabet, 0, count).replace(b"\n", b"")
        assert right
    assert not re.search(rb"[a-j][A-J]|[A-J][a-j]", said)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("shared", [True, False])
def test_line_of_a_stream_that_is_still_to_be_opened(logger: LoggerProcess, tmp_path: Path, shared: bool) -> None:
    """What a dead logger left unfinished is gone on with only by a stream that is alone in its file."""
    path = tmp_path / "a.log"
    path.write_bytes(b"unfinished")
    read_end, write_end = os.pipe()
    spec = Open(1, "child", str(path), 0, 5, shared=shared)
    logger.streams[1] = (spec, read_end)
    logger.send(spec, read_end)
    os.write(write_end, b"line\n")
    os.close(write_end)
    logger.closed(1)
    assert path.read_bytes() == (b"unfinished\nline\n" if shared else b"unfinishedline\n")


def test_successor_knows_what_was_said_before(logger: LoggerProcess, tmp_path: Path) -> None:
    """After a SIGKILL the tail is the stream's, across both loggers and rotations, without the file's older lines."""
    path = tmp_path / "a.log"
    path.write_bytes(b"of an elder incarnation\n")
    pipe = logger.open(path, size=60, pattern="never")
    for number in range(20):
        os.write(pipe, b"line %02d\n" % number)
        wait_for_bytes(path, b"line %02d\n" % number)
    logger.restart()
    os.close(pipe)
    said = logger.closed(1).tail.splitlines()
    assert said == [f"line {number:02d}" for number in range(20)]


def test_pattern_is_found_after_a_kill(logger: LoggerProcess, tmp_path: Path) -> None:
    """The awaited line, written by a logger that died before it could tell, is reported by its successor."""
    path = tmp_path / "a.log"
    path.write_bytes(b"ready\n")
    pipe = logger.open(path, pattern="^ready$")
    os.write(pipe, b"starting\n")
    wait_for_bytes(path, b"starting\n")
    logger.kill()
    with path.open("ab") as file:
        file.write(b"ready\n")  # as the dead logger would have, without telling
    assert logger.count(Matched) == 0
    logger.start()
    assert logger.next(Matched).line == "ready"
    os.close(pipe)
