"""Reading logs: the last lines across rotated files, and following many children at once."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, islice
from pathlib import Path
from typing import Any

import pytest
from logger_process import LoggerProcess, forked, processor_ticks, reap, wait_readable, write_all, writer

from regrow.workers.system import history
from regrow.workers.system.history import Part, open_part, parts
from regrow.workers.system.logs import Follower, log_path, logged_names, tail_lines
from regrow.workers.system.rotation import old_path, rotate

Follow = Callable[..., Iterator[tuple[str, str]]]


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Follow]:
    """Open followers on `tmp_path`/logs that end with the test; a hang is ended by an alarm."""
    followers: list[Follower] = []

    def start(*names: str, lines: int = 0, wake_fd: int = -1) -> Iterator[tuple[str, str]]:
        followers.append(Follower(str(tmp_path / "logs"), names or None, lines, wake_fd))
        return iter(followers[-1])

    yield start
    for follower in followers:
        follower.close()


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """An empty log directory."""
    directory = tmp_path / "logs"
    directory.mkdir()
    return directory


def append(path: Path, said: bytes) -> None:
    """Write at the end of a file."""
    with path.open("ab") as file:
        file.write(said)


@pytest.mark.parametrize("count", [0, 1, 3, 7, 25, 26, 1000])
def test_last_lines_across_files(logs: Path, count: int) -> None:
    """The last N lines come from as many rotated files as it takes."""
    path = logs / "a.log"
    for number in range(25):
        append(path, b"line %d\n" % number)
        if number % 4 == 3:
            rotate(str(path), 10)
    expected = [f"line {number}" for number in range(25)][max(0, 25 - count) :] if count else []
    assert tail_lines(str(logs), "a", count) == expected


def test_last_lines_of_large_files(logs: Path) -> None:
    """Long files are read from their end; lines longer than a block and unfinished ones come whole."""
    said = [b"%d " % number + b"x" * (number * 7919 % 200_000) for number in range(50)]
    (logs / "a.log").write_bytes(b"\n".join(said))
    assert tail_lines(str(logs), "a", 20) == [line.decode() for line in said[-20:]]
    assert tail_lines(str(logs), "nobody", 20) == []
    assert tail_lines(str(logs / "nowhere"), "a", 20) == []


def test_last_lines_in_the_middle_of_a_rotation(logs: Path) -> None:
    """A gap in the numbers, as a rotation leaves it for a moment, hides nothing."""
    for index, text in ((1, b"three\n"), (3, b"two\n"), (4, b"one\n")):
        (logs / f"a.log.{index}").write_bytes(text)
    assert tail_lines(str(logs), "a", 10) == ["one", "two", "three"]


def test_names_of_logs(logs: Path) -> None:
    """Every child that has a log, without rotated files and regrow's own."""
    for name in ("b.log", "a.log", "a.log.1", "p.0.log", "regrow.logger.log", "note.txt"):
        (logs / name).touch()
    assert logged_names(str(logs)) == ["a", "b", "p.0"]
    assert log_path(str(logs), "p.0") == str(logs / "p.0.log")


def test_follow_begins_with_the_last_lines(logs: Path, follow: Follow) -> None:
    """The last lines, then what comes; a line is given when it is complete, once."""
    append(logs / "a.log", b"one\ntwo\nthree\nfo")
    lines = follow("a", lines=2)
    assert list(islice(lines, 2)) == [("a", "two"), ("a", "three")]
    append(logs / "a.log", b"ur\nfive")
    assert next(lines) == ("a", "four")
    append(logs / "a.log", b"\n")
    assert next(lines) == ("a", "five")


def test_follow_what_does_not_exist_yet(tmp_path: Path, follow: Follow) -> None:
    """Neither the directory, nor the ones above it, nor the file need to be there."""
    lines = follow("a")
    os.makedirs(tmp_path / "logs")
    append(tmp_path / "logs" / "a.log", b"hello\n")
    assert next(lines) == ("a", "hello")


def test_follow_below_a_missing_directory(tmp_path: Path) -> None:
    """The directory appears step by step."""
    with Follower(str(tmp_path / "x" / "y" / "z")) as follower:
        lines = iter(follower)
        pid = forked(lambda: appear(tmp_path / "x" / "y" / "z"))
        assert next(lines) == ("a", "hello")
        assert reap(pid) == 0


def appear(directory: Path) -> None:
    """Make a log and the directories above it."""
    directory.mkdir(parents=True)
    append(directory / "a.log", b"hello\n")


def test_follow_directory_that_is_made_again(logs: Path, follow: Follow) -> None:
    """The whole directory is removed and comes back."""
    append(logs / "a.log", b"before\n")
    lines = follow("a", lines=1)
    assert next(lines) == ("a", "before")
    (logs / "a.log").unlink()
    logs.rmdir()
    logs.mkdir()
    append(logs / "a.log", b"after\n")
    assert next(lines) == ("a", "after")


def test_follow_all_sees_new_children(logs: Path, follow: Follow) -> None:
    """Without names every child is followed, also those that begin later; lines come in the order of writing."""
    append(logs / "a.log", b"old\n")
    lines = follow()
    append(logs / "a.log", b"one\n")
    assert next(lines) == ("a", "one")
    append(logs / "b.log", b"two\n")
    assert next(lines) == ("b", "two")
    append(logs / "regrow.logger.log", b"internal\n")
    append(logs / "a.log", b"three\n")
    assert next(lines) == ("a", "three")


def test_follow_truncated_file(logs: Path, follow: Follow) -> None:
    """A file cut to nothing is read from its new beginning."""
    append(logs / "a.log", b"a long line before\n")
    lines = follow("a")
    append(logs / "a.log", b"one\n")
    assert next(lines) == ("a", "one")
    os.truncate(logs / "a.log", 0)
    append(logs / "a.log", b"two\n")
    assert next(lines) == ("a", "two")


@pytest.mark.parametrize("rotations", [1, 2, 5])
def test_follow_misses_no_file(logs: Path, follow: Follow, rotations: int) -> None:
    """Several rotations before the follower looks again: every file in between is read, in order."""
    path = logs / "a.log"
    append(path, b"begin\n")
    lines = follow("a", lines=1)
    assert next(lines) == ("a", "begin")
    for number in range(rotations):
        append(path, b"before %d\n" % number)
        rotate(str(path), 10)
        append(path, b"after %d\n" % number)
    expected = [f"{when} {number}" for number in range(rotations) for when in ("before", "after")]
    assert [line for _, line in islice(lines, 2 * rotations)] == expected


def test_no_file_is_missed_while_two_rotations_pass(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gap of a rotation is met, and right above it that of the next: what is beyond is found all the same."""
    path = logs / "a.log"
    for number in range(6):
        append(path, b"%d\n" % number)
        rotate(str(path), 100)
    append(path, b"now\n")
    inodes = {entry.stat().st_ino for entry in logs.iterdir()}

    def move(index: int) -> None:
        os.rename(old_path(str(path), index), old_path(str(path), index + 1))

    def look(wanted: str) -> Part | None:
        if wanted.endswith(".3"):  # the gap is at 3
            for index in (6, 5, 4, 3):
                move(index)
            monkeypatch.setattr(history, "open_part", look_above)
        return open_part(wanted)

    def look_above(wanted: str) -> Part | None:
        monkeypatch.setattr(history, "open_part", open_part)
        for index in (2, 1, 0):  # it ends; the next one begins, up to a gap at 4
            move(index)
        append(path, b"newer\n")
        for index in (7, 6, 5, 4):
            move(index)
        return open_part(wanted)

    monkeypatch.setattr(history, "open_part", look)
    with parts(str(path)) as found:
        assert inodes <= {part.inode for part in found}


def moving(path: Path) -> Iterator[None]:
    """Files with running numbers: each step renames one, as rotations do, or makes the next one."""
    for number in count(1):
        there = sum(1 for _ in path.parent.iterdir())
        for index in range(there, 0, -1):
            os.rename(old_path(str(path), index - 1), old_path(str(path), index))
            yield
        path.write_text(str(number))
        yield


def test_the_next_file_while_all_of_them_move(
    logs: Path, monkeypatch: pytest.MonkeyPatch, dice: random.Random
) -> None:
    """Whenever somebody looks, between two steps of a rotation and over several: it is the next one, or none yet."""
    path = logs / "a.log"
    path.write_text("0")
    steps, is_moving = moving(path), True

    def and_move(function: Callable[[str], Any]) -> Callable[[str], Any]:
        def moved(path: str) -> Any:
            for _ in range(dice.choice((0, 0, 0, 1, 2, 9)) if is_moving else 0):
                next(steps)
            return function(path)

        return moved

    for _ in range(20):
        next(steps)
    monkeypatch.setattr(history, "open_part", and_move(history.open_part))
    monkeypatch.setattr(history, "_inode", and_move(history._inode))
    found = 0
    for _ in range(100):
        is_moving = False
        number, inode = dice.choice([(int(each.read_text()), each.stat().st_ino) for each in logs.iterdir()])
        is_moving = True
        part = history.successor(str(path), inode)
        if part is not None:
            found += 1
            assert int(os.read(part.fd, 100)) == number + 1
            os.close(part.fd)
    assert found > 70


def test_follow_when_its_file_is_rotated_away(logs: Path, follow: Follow) -> None:
    """Ours is beyond the kept files: the rest of it is read, then all that are still there."""
    path = logs / "a.log"
    append(path, b"begin\n")
    lines = follow("a", lines=1)
    assert next(lines) == ("a", "begin")
    append(path, b"rest\n")
    for number in range(5):
        rotate(str(path), 2)
        append(path, b"%d\n" % number)
    assert [line for _, line in islice(lines, 4)] == ["rest", "2", "3", "4"]


def test_follow_removed_file_does_not_repeat_its_elders(logs: Path, follow: Follow) -> None:
    """Somebody removes the present file: what was rotated before is not taken for new."""
    path = logs / "a.log"
    append(path, b"elder\n")
    os.utime(path, (1, 1))
    rotate(str(path), 5)
    append(path, b"begin\n")
    lines = follow("a", lines=1)
    assert next(lines) == ("a", "begin")
    path.unlink()
    append(path, b"new\n")
    assert next(lines) == ("a", "new")


@contextmanager
def flooding(pipe: int, said: bytes) -> Iterator[None]:
    """Write it all from another process."""
    with writer(lambda: write_all(pipe, said), pipe):
        yield


@pytest.mark.slow
def test_follow_a_flood_through_rotations(
    logger: LoggerProcess, logs: Path, follow: Follow, dice: random.Random
) -> None:
    """The real logger rotates some hundred times under a flood from two children: no line is missed or doubled."""
    count = 30_000
    said = [b"%d %s" % (number, b"x" * dice.randrange(100)) for number in range(count)]
    text = b"\n".join(said) + b"\n"
    pipes = [logger.open(logs / f"{name}.log", number, size=20_000, keep=1000) for number, name in ((1, "a"), (2, "b"))]
    lines = follow()
    with flooding(pipes[0], text), flooding(pipes[1], text):
        got = list(islice(lines, 2 * count))
    for name in ("a", "b"):
        same = [line.encode() for whose, line in got if whose == name] == said
        assert same
    logger.closed(1)
    logger.closed(2)
    assert len(list(logs.iterdir())) > 100


def test_wake_up_ends_the_iteration(logs: Path, follow: Follow) -> None:
    """A byte for the wake-up descriptor ends the waiting, and a flood too."""
    append(logs / "a.log", b"one\n")
    out, into = os.pipe()
    lines = follow("a", lines=1, wake_fd=out)
    assert next(lines) == ("a", "one")
    os.write(into, b"x")
    assert list(lines) == []
    os.close(into)
    os.close(out)


def test_idle_follower_does_not_wake_up(logs: Path) -> None:
    """Nothing is polled: a follower of silent children uses no CPU."""
    append(logs / "a.log", b"one\n")
    out, into = os.pipe()

    def body() -> None:
        with Follower(str(logs), None, 1) as follower:
            for _ in follower:
                os.write(into, b"x")

    pid = forked(body, keep=(into,))
    os.close(into)
    assert os.read(out, 1) == b"x"
    used = [processor_ticks(pid)]
    while len(used) < 2 or used[-1] != used[-2]:
        assert len(used) < 5, f"never idle for a second: {used}"
        assert not wait_readable(out, 1.0)
        used.append(processor_ticks(pid))
    os.kill(pid, signal.SIGKILL)
    assert reap(pid) == -signal.SIGKILL
    os.close(out)


def test_follow_a_thousand_children(logs: Path, follow: Follow) -> None:
    """Many logs at once, more than the usual limit of open files."""
    for number in range(1100):
        append(logs / f"w.{number}.log", b"begin\n")
    lines = follow()
    for number in range(1100):
        append(logs / f"w.{number}.log", b"%d\n" % number)
    got = dict(islice(lines, 1100))
    assert got == {f"w.{number}": str(number) for number in range(1100)}


def test_follow_a_line_of_megabytes(logs: Path, follow: Follow) -> None:
    """A line beyond 1 MiB comes in pieces, so that memory stays bounded."""
    lines = follow("a")
    append(logs / "a.log", b"x" * 3_000_000 + b"\n" + b"end\n")
    pieces: list[str] = []
    while not pieces or pieces[-1] != "end":
        pieces.append(next(lines)[1])
    assert "".join(pieces[:-1]) == "x" * 3_000_000
    assert max(map(len, pieces)) < 2_000_000
