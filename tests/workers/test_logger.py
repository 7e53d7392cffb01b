"""The logger moves bytes from pipes to files, and survives or hands over whatever happens."""

from __future__ import annotations

import os
import select
import socket
import time
from functools import partial
from pathlib import Path

import pytest
from logger_process import (
    LoggerProcess,
    forked,
    processor_ticks,
    reap,
    wait_for_bytes,
    wait_readable,
    wait_until,
    whole_log,
    write_all,
    writer,
)

from regrow.workers.system.log_protocol import Closed, FaultCleared, Hello, Matched, Open, Opened


def test_what_is_said_is_in_the_file(logger: LoggerProcess, tmp_path: Path) -> None:
    """Bytes of a stream end in its file, whose directory is made, and its end reports the last lines."""
    path = tmp_path / "deep" / "down" / "a.log"
    pipe = logger.open(path)
    os.write(pipe, b"one\ntwo\n")
    os.close(pipe)
    assert logger.closed(1).tail == "one\ntwo\n"
    assert path.read_bytes() == b"one\ntwo\n"
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.parent.stat().st_mode & 0o777 == 0o755


def test_appends_to_what_is_there(logger: LoggerProcess, tmp_path: Path) -> None:
    """An existing log grows; what it held before is no part of the stream's tail."""
    path = tmp_path / "a.log"
    path.write_bytes(b"before\n")
    os.close(logger.open(path))
    assert logger.closed(1).tail == ""
    assert path.read_bytes() == b"before\n"


def test_unfinished_last_line_gets_its_newline(logger: LoggerProcess, tmp_path: Path) -> None:
    """A child that dies within a line does not spoil the first line of its successor."""
    path = tmp_path / "a.log"
    pipe = logger.open(path)
    os.write(pipe, b"Segmenta")
    os.close(pipe)
    assert logger.closed(1).tail == "Segmenta"
    pipe = logger.open(path, number=2)
    os.write(pipe, b"hello\n")
    os.close(pipe)
    assert logger.closed(2).tail == "hello\n"
    assert path.read_bytes() == b"Segmenta\nhello\n"


@pytest.mark.parametrize(
    ("said", "tail"),
    [
        (b"x" * 5000 + b"\n" + b"y" * 100 + b"\n", "y" * 100 + "\n"),
        (b"a\n" + b"z" * 9000 + b"\n", "z" * 4095 + "\n"),
        (b"".join(b"%04d\n" % number for number in range(2000)), "".join(f"{n:04d}\n" for n in range(1181, 2000))),
        (b"0\n" + b"1" * 4095 + b"\n", "1" * 4095 + "\n"),
        ("ä\n".encode() + b"\xff\n", "ä\n\ufffd\n"),
        ("€".encode() * 3000, "€" * 1365),
    ],
)
def test_tail_is_whole_lines(logger: LoggerProcess, tmp_path: Path, said: bytes, tail: str) -> None:
    """The tail begins at a line, holds at most 4096 bytes, and is only cut when one line is longer."""
    pipe = logger.open(tmp_path / "a.log")
    write_all(pipe, said)
    os.close(pipe)
    assert logger.closed(1).tail == tail


def test_tail_reaches_back_over_a_rotation(logger: LoggerProcess, tmp_path: Path) -> None:
    """A rotation just before the end does not shorten the tail."""
    pipe = logger.open(tmp_path / "a.log", size=100)
    for number in range(50):
        os.write(pipe, b"line %02d\n" % number)
    os.close(pipe)
    assert logger.closed(1).tail.splitlines() == [f"line {number:02d}" for number in range(50)]


def test_end_of_channel_drains_and_exits(logger: LoggerProcess, tmp_path: Path) -> None:
    """When root is gone, what is in the pipes is written, then the logger exits with 0."""
    pipe = logger.open(tmp_path / "a.log")
    os.write(pipe, b"last words\n")
    logger.channel.close()
    os.close(logger.their_fd)
    logger.their_fd = -1
    pid, logger.pid = logger.pid, 0
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(pipe)
    assert (tmp_path / "a.log").read_bytes() == b"last words\n"


def test_sigterm_drains_and_exits(logger: LoggerProcess, tmp_path: Path) -> None:
    """SIGTERM: everything in every pipe is written, also an unfinished line; ends are reported; exit 0."""
    pipes = [logger.open(tmp_path / f"{number}.log", number) for number in range(1, 21)]
    os.kill(logger.pid, 19)  # SIGSTOP: nothing is moved while the pipes are filled
    for pipe in pipes:
        write_all(pipe, b"x" * 60_000)
    os.close(pipes[0])
    os.kill(logger.pid, 15)
    os.kill(logger.pid, 18)
    assert logger.ended() == 0
    for pipe in pipes[1:]:
        os.close(pipe)
    sizes = [(tmp_path / f"{number}.log").stat().st_size for number in range(1, 21)]
    assert sizes == [60_001] + [60_000] * 19
    assert [m.stream for m in logger.received if isinstance(m, Closed)] == [1]


def test_sigterm_ends_under_a_flood(logger: LoggerProcess, tmp_path: Path) -> None:
    """A child that never stops talking does not keep the logger from stopping."""

    def flood() -> None:
        try:
            while True:
                os.write(pipe, b"flood\n" * 10_000)
        except BrokenPipeError:
            pass

    pipe = logger.open(tmp_path / "a.log", size=1 << 20, keep=1)
    with writer(flood, pipe):
        assert logger.stop() == 0
        for _, fd in logger.streams.values():
            os.close(fd)
        logger.streams.clear()


def test_flood_does_not_starve_others(logger: LoggerProcess, tmp_path: Path) -> None:
    """While three children flood, a fourth's lines come through with little delay."""
    stop_out, stop_in = os.pipe()

    def flood(pipe: int) -> None:
        block = b"flood\n" * 10_000
        poll = select.poll()
        poll.register(stop_out, select.POLLIN)
        while not poll.poll(0):
            os.write(pipe, block)

    floods = [logger.open(tmp_path / f"{number}.log", number, size=1 << 20, keep=1) for number in (1, 2, 3)]
    quiet = logger.open(tmp_path / "quiet.log", 4, pattern="^20 ")
    pids = [forked(partial(flood, pipe), keep=(pipe, stop_out)) for pipe in floods]
    for pipe in floods:
        os.close(pipe)
    begun_s = time.monotonic()
    for number in range(21):
        os.write(quiet, b"%d still heard\n" % number)
    logger.next(Matched, timeout_s=5)
    took_s = time.monotonic() - begun_s
    os.close(stop_in)
    os.close(stop_out)
    os.close(quiet)
    assert [reap(pid) for pid in pids] == [0, 0, 0]
    for number in range(1, 5):
        logger.closed(number)
    assert took_s < 1.0


def test_idle_logger_does_nothing(logger: LoggerProcess, tmp_path: Path) -> None:
    """With open, silent streams the logger neither wakes up nor uses CPU."""
    pipes = [logger.open(tmp_path / f"{number}.log", number) for number in range(1, 11)]
    for number, pipe in enumerate(pipes, 1):
        os.write(pipe, b"hello\n")
        wait_for_bytes(tmp_path / f"{number}.log", b"hello\n")
    nothing, never = os.pipe()
    used = [processor_ticks(logger.pid)]
    while len(used) < 2 or used[-1] != used[-2]:
        assert len(used) < 4, f"the logger is never idle for a second: {used}"
        assert not wait_readable(nothing, 1.0)
        used.append(processor_ticks(logger.pid))
    for fd in (*pipes, nothing, never):
        os.close(fd)


def test_socket_instead_of_a_pipe(logger: LoggerProcess, tmp_path: Path) -> None:
    """What cannot be spliced is read and written, with the same result."""
    path = tmp_path / "a.log"
    ours, theirs = socket.socketpair()
    logger.send(Open(1, "a", str(path), 100, 100, "^3 "), theirs.fileno())
    logger.next(Opened)
    theirs.close()
    said = b"".join(b"%d line\n" % number for number in range(1000))
    ours.sendall(said)
    ours.close()
    assert logger.next(Matched).line == "3 line"
    assert logger.closed(1).tail.endswith("998 line\n999 line\n")
    assert whole_log(path) == said
    assert max(file.stat().st_size for file in tmp_path.iterdir()) <= 110


def test_many_streams(logger: LoggerProcess, tmp_path: Path) -> None:
    """Some hundred children at once, each with its own file."""
    pipes = {}
    for number in range(1, 301):
        pipes[number] = logger.offer(tmp_path / f"{number}.log", number)
        logger.take_messages()
    for number, pipe in pipes.items():
        os.write(pipe, b"%d\n" % number)
        os.close(pipe)
    assert all(logger.closed(number).tail == f"{number}\n" for number in pipes)


def test_root_that_does_not_listen(logger: LoggerProcess, tmp_path: Path) -> None:
    """While root reads nothing the logger goes on; every report arrives, in order, once root does."""
    numbers = range(1, 61)
    for number in numbers:
        pipe = logger.offer(tmp_path / f"{number}.log", number)
        write_all(pipe, b"%02d\n" % number * 1365)
        os.close(pipe)
    wait_until(tmp_path / "1.log", lambda: sum(file.stat().st_size for file in tmp_path.iterdir()) > 10 * 4095)
    assert [logger.closed(number).tail[:2] for number in numbers] == [f"{number:02d}" for number in numbers]
    closed = [message.stream for message in logger.received if isinstance(message, Closed)]
    assert closed == list(numbers)


def test_garbage_on_the_channel_is_survived(logger: LoggerProcess, tmp_path: Path) -> None:
    """A packet that is no message is reported as a fault, and the next one is served."""
    raw = socket.socket(fileno=os.dup(logger.channel.fileno()))
    raw.send(b"\xc1 garbage")
    raw.close()
    logger.next(FaultCleared)
    os.close(logger.open(tmp_path / "a.log"))
    logger.closed(1)


def test_stream_opened_twice_is_one(logger: LoggerProcess, tmp_path: Path) -> None:
    """Root may answer Hello with streams that the logger has already."""
    pipe = logger.open(tmp_path / "a.log")
    logger.send(*logger.streams[1])
    os.write(pipe, b"once\n")
    os.close(pipe)
    logger.closed(1)
    assert logger.stop() == 0
    assert logger.count(Closed) == 1
    assert (tmp_path / "a.log").read_bytes() == b"once\n"


def test_hello_comes_first(logger: LoggerProcess) -> None:
    """A logger introduces itself before anything else."""
    assert isinstance(logger.received[0], Hello)
