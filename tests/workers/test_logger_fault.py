"""Full disks, unwritable directories, no free descriptors: told once, bounded, and over when the cause is."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import resource
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
from logger_process import LoggerProcess, wait_for_bytes, whole_log, write_all, writer

from regrow.workers.system.backlog import FILE_BYTES, Backlog, Held
from regrow.workers.system.log_protocol import Fault, FaultCleared, FromLogger, LoggerEnd, Lost, Opened

DISK_BYTES = 4 * 1024 * 1024
LINE = b"%06d: one line of twenty-nine\n"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    directory = tmp_path / "disk"
    directory.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"none", os.fsencode(directory), b"tmpfs", 0, b"size=%d" % DISK_BYTES) != 0:
        pytest.skip(f"cannot mount a tmpfs: {os.strerror(ctypes.get_errno())}")
    yield directory
    lazily = 2
    assert libc.umount2(os.fsencode(directory), lazily) == 0


@pytest.fixture
def fill(disk: Path) -> Callable[[int], Path]:
    """Fill the disk until only so many bytes are left; removing the returned file makes room."""

    def until(left: int) -> Path:
        filler = disk / "filler"
        stat = os.statvfs(disk)
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, stat.f_bavail * stat.f_bsize - left)
        return filler

    return until


def lines(begin: int, end: int) -> bytes:
    """Return numbered lines."""
    return b"".join(LINE % number for number in range(begin, end))


def test_full_disk_and_recovery(logger: LoggerProcess, disk: Path, fill: Callable[[int], Path]) -> None:
    """What was said while the disk was full is written when it is not; nothing is lost below 1 MiB."""
    path = disk / "a.log"
    pipe = logger.open(path)
    filler = fill(8192)
    write_all(pipe, lines(0, 10_000))
    fault = logger.next(Fault)
    assert fault.text == f"cannot write {path}: No space left on device"
    filler.unlink()
    logger.next(FaultCleared)
    write_all(pipe, lines(10_000, 10_100))
    os.close(pipe)
    assert logger.closed(1).tail.encode().endswith(lines(10_050, 10_100))
    assert path.read_bytes() == lines(0, 10_100)
    assert (logger.count(Fault), logger.count(FaultCleared), logger.count(Lost)) == (1, 1, 0)


def test_what_does_not_fit_in_memory_is_counted(
    logger: LoggerProcess, disk: Path, fill: Callable[[int], Path]
) -> None:
    """Beyond 1 MiB the oldest whole lines are dropped; the gap is in the file and in Lost; nothing else is missing."""
    path = disk / "a.log"
    pipe = logger.open(path)
    filler = fill(64 * 1024)  # whole lines, so that the gap needs no newline before it
    said = lines(0, 100_000)
    write_all(pipe, said)
    os.close(pipe)
    tail = logger.closed(1).tail
    assert tail.encode() == lines(100_000 - 4096 // len(LINE % 0), 100_000)
    filler.unlink()
    logger.next(FaultCleared)
    written = path.read_bytes()
    gap = re.search(rb"\[regrow\] (\d+) bytes lost: No space left on device\n", written)
    assert gap
    lost = int(gap[1])
    assert sum(message.bytes_lost for message in logger.received if isinstance(message, Lost)) == lost
    before, after = written[: gap.start()], written[gap.end() :]
    assert said.startswith(before)
    assert said.endswith(after)
    assert len(before) + lost + len(after) == len(said)
    assert after.startswith(b"0")
    assert FILE_BYTES - 70_000 < len(after) <= FILE_BYTES


def test_other_files_go_on(logger: LoggerProcess, tmp_path: Path, disk: Path, fill: Callable[[int], Path]) -> None:
    """A full disk under one file is nothing to the others, and the child that writes to it is not stopped."""
    bad, good = logger.open(disk / "a.log", 1), logger.open(tmp_path / "b.log", 2)
    fill(0)
    with writer(lambda: write_all(bad, lines(0, 100_000)), bad):
        os.write(good, b"fine\n")
        os.close(good)
        assert logger.closed(2).tail == "fine\n"
        logger.closed(1)
    assert logger.stop() == 0
    assert sum(message.bytes_lost for message in logger.received if isinstance(message, Lost)) == len(lines(0, 100_000))


def test_stop_with_a_full_disk_leaves_the_rest_in_the_pipe(
    logger: LoggerProcess, disk: Path, fill: Callable[[int], Path]
) -> None:
    """What a stopping logger could not write and had in memory is counted; what came later waits for its successor."""
    path = disk / "a.log"
    pipe = logger.open(path)
    filler = fill(0)
    os.write(pipe, b"lost\n")
    logger.next(Fault)
    os.kill(logger.pid, signal.SIGSTOP)
    os.write(pipe, b"kept\n")
    os.kill(logger.pid, signal.SIGTERM)
    os.kill(logger.pid, signal.SIGCONT)
    assert logger.ended() == 0
    lost = logger.next(Lost).bytes_lost
    filler.unlink()
    logger.start()
    os.close(pipe)
    logger.closed(1)
    assert (lost, path.read_bytes()) in [(5, b"kept\n"), (10, b"")]


def test_directory_that_cannot_be_made(logger: LoggerProcess, tmp_path: Path) -> None:
    """A file where the log directory should be: a fault, and everything is written once it is a directory."""
    obstacle = tmp_path / "logs"
    obstacle.write_text("in the way")
    pipe = logger.open(obstacle / "a.log")
    os.write(pipe, b"one\n")
    assert "Not a directory" in logger.next(Fault).text
    obstacle.unlink()
    logger.next(FaultCleared)
    os.write(pipe, b"two\n")
    os.close(pipe)
    assert logger.closed(1).tail == "one\ntwo\n"
    assert (obstacle / "a.log").read_bytes() == b"one\ntwo\n"


def test_path_that_is_no_file(logger: LoggerProcess, tmp_path: Path) -> None:
    """A fifo or a directory under the log's name harms only that log."""
    os.mkfifo(tmp_path / "a.log")
    (tmp_path / "b.log").mkdir()
    for number, name in enumerate(["a.log", "b.log", "n\0l.log", "c.log"], 1):
        pipe = logger.open(tmp_path / name, number)
        os.write(pipe, b"said\n")
        os.close(pipe)
        assert logger.closed(number).tail == "said\n"
    assert logger.count(Fault) == 1
    assert (tmp_path / "c.log").read_bytes() == b"said\n"


def limit_files() -> None:
    """Let files grow to 100 bytes only, with the signal that goes with it."""
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))


def test_two_daemons_and_one_file(logger: LoggerProcess, tmp_path: Path) -> None:
    """Who comes second says that somebody else writes there, and writes; until it opens the file anew, and is alone."""
    path = tmp_path / "a.log"
    first = logger.open(path)
    with LoggerProcess() as other:
        second = other.open(path)
        assert f"cannot have {path} alone: another daemon writes there too" in other.next(Fault).text
        write_all(second, b"second\n")
        wait_for_bytes(path, b"second\n")
        os.close(first)
        logger.closed(1)
        other.reopen()
        other.next(FaultCleared)
        os.close(second)
        other.closed(1)
    assert logger.count(Fault) == 0


def test_another_daemon_hides_no_fault(logger: LoggerProcess, tmp_path: Path) -> None:
    """That somebody else writes there may be so for long: a file that cannot be written is told of all the same."""
    first = logger.open(tmp_path / "a.log")
    (tmp_path / "b.log").mkdir()
    with LoggerProcess() as other:
        pipes = [other.open(tmp_path / name, number) for number, name in enumerate(("a.log", "b.log"), 1)]
        assert "cannot have" in other.next(Fault).text
        os.write(pipes[1], b"said\n")
        assert f"cannot write {tmp_path / 'b.log'}" in other.next(Fault).text
        for number, pipe in enumerate(pipes, 1):
            os.close(pipe)
            other.closed(number)
    os.close(first)
    logger.closed(1)


def test_file_size_limit_does_not_kill(tmp_path: Path) -> None:
    """A limit on file sizes is a fault like a full disk; SIGXFSZ does not kill; other files go on."""
    with LoggerProcess(limit_files) as logger:
        pipe = logger.open(tmp_path / "a.log", 1)
        os.write(pipe, b"x" * 150 + b"\n")
        assert "File too large" in logger.next(Fault).text
        os.close(pipe)
        logger.closed(1)
        other = logger.open(tmp_path / "b.log", 2)
        os.write(other, b"fine\n")
        os.close(other)
        assert logger.closed(2).tail == "fine\n"
        assert (tmp_path / "a.log").read_bytes() == b"x" * 100
        assert (tmp_path / "b.log").read_bytes() == b"fine\n"


def limit_descriptors() -> None:
    """Leave the logger room for a few streams."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))


def test_no_free_descriptors(tmp_path: Path) -> None:
    """Streams that the logger has no descriptors for are told as a fault, and are served when others have ended."""
    with LoggerProcess(limit_descriptors) as logger:
        pipes = {number: logger.offer(tmp_path / f"{number}.log", number) for number in range(1, 21)}
        for number, pipe in pipes.items():
            os.write(pipe, b"%d\n" % number)
        logger.next(Fault)
        for _ in range(20):
            number = logger.next(Opened).stream
            os.close(pipes.pop(number))
            assert logger.closed(number).tail == f"{number}\n"
        logger.next(FaultCleared)
        said = {file.read_bytes() for file in tmp_path.iterdir()}
        assert said == {b"%d\n" % number for number in range(1, 21)}


@pytest.mark.parametrize("number", [errno.ENOBUFS, errno.EMSGSIZE])
def test_reports_that_the_kernel_does_not_take(tmp_path: Path, number: int) -> None:
    """It has no memory for a moment, or takes no packet of several: what was to be said is kept, and said."""

    def short() -> None:
        real, tries = LoggerEnd.send, iter(range(1000))

        def send(end: LoggerEnd, messages: Iterable[FromLogger]) -> int:
            said = list(messages)
            is_short = 0 < next(tries) < 4 if number == errno.ENOBUFS else len(said) > 1  # the first is Hello
            if is_short:
                raise OSError(number, os.strerror(number))
            return real(end, said)

        LoggerEnd.send = send  # type: ignore[assignment,method-assign]

    with LoggerProcess(short) as logger:
        pipes = [logger.offer(tmp_path / f"{number}.log", number) for number in range(1, 40)]
        for pipe in pipes:
            os.write(pipe, b"said\n")
            os.close(pipe)
        assert [logger.closed(number).tail for number in range(1, 40)] == ["said\n"] * 39
        assert logger.count(Opened) == 39


def test_kill_during_a_fault(logger: LoggerProcess, disk: Path, fill: Callable[[int], Path]) -> None:
    """A successor finds the disk still full, and goes on when there is room."""
    path = disk / "a.log"
    pipe = logger.open(path)
    os.write(pipe, b"first\n")
    wait_for_bytes(path, b"first\n")
    filler = fill(0)
    write_all(pipe, b"x" * 8192 + b"\n")
    logger.next(Fault)
    logger.restart()
    write_all(pipe, b"y" * 8192 + b"\n")
    logger.next(Fault)
    filler.unlink()
    logger.next(FaultCleared)
    os.close(pipe)
    assert logger.closed(1).tail.endswith("y\n")
    assert whole_log(path).endswith(b"y" * 8192 + b"\n")


def test_backlogs_are_bounded_together() -> None:
    """However many files are in trouble, their backlogs together keep to the overall limit."""
    held = Held()
    backlogs = [Backlog(held) for _ in range(100)]
    for number, backlog in enumerate(backlogs):
        for _ in range(40):
            backlog.add(number, b"x" * 32_767 + b"\n")
    assert held.total_bytes <= 32 * FILE_BYTES
    lost = sum(count for backlog in backlogs for _, count in backlog.unreported())
    assert lost + held.total_bytes == 100 * 40 * 32_768


def test_backlog_drops_whole_lines() -> None:
    """The oldest bytes go first, up to an end of a line, even when chunks end within lines."""
    backlog = Backlog(Held())
    said = lines(0, 80_000)
    for at in range(0, len(said), 10_007):
        backlog.add(1, said[at : at + 10_007])
    pending = backlog.pending[1]
    kept = b"".join(pending.chunks)
    assert said.endswith(kept)
    assert kept.startswith(b"0")
    assert len(kept) % len(LINE % 0) == 0
    assert pending.lost_bytes + len(kept) == len(said)
