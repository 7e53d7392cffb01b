"""Rotation: by size, at line boundaries, the kept set whole after a crash at any step."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from logger_process import LoggerProcess, wait_for_bytes, wait_until, whole_log, write_all

from regrow.workers.system.log_protocol import Fault, FaultCleared
from regrow.workers.system.rotation import portion, rotate


class Killed(BaseException):
    """Stands for a SIGKILL between two system calls."""


@pytest.fixture
def killed_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Let so many renames and removals happen, then kill."""

    def arm(steps: int) -> None:
        left = [steps]

        def counted(call: Callable[..., None]) -> Callable[..., None]:
            def maybe(*arguments: str) -> None:
                if left[0] == 0:
                    raise Killed
                left[0] -= 1
                call(*arguments)

            return maybe

        monkeypatch.setattr(os, "rename", counted(os.rename))
        monkeypatch.setattr(os, "unlink", counted(os.unlink))

    return arm


def contents(path: Path) -> list[bytes]:
    """What the log's files hold, newest first."""
    files = [path, *(path.with_name(f"{path.name}.{index}") for index in range(1, 20))]
    return [file.read_bytes() for file in files if file.exists()]


@pytest.mark.parametrize("keep", [1, 2, 5])
@pytest.mark.parametrize("steps", range(8))
def test_killed_rotation_loses_nothing_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: Callable[[int], None], keep: int, steps: int
) -> None:
    """A rotation killed after any step, then done again, leaves the newest files in order, none missing."""
    path = tmp_path / "a.log"
    for number in range(10):
        path.write_bytes(b"%d" % number)
        rotate(str(path), keep)
    path.write_bytes(b"10")
    killed_after(steps)
    try:
        rotate(str(path), keep)
    except Killed:
        monkeypatch.undo()
        assert len(contents(path)) >= keep
        if path.exists():
            rotate(str(path), keep)
    monkeypatch.undo()
    assert contents(path) == [b"%d" % number for number in range(10, 10 - keep, -1)]


def test_many_killed_rotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dice: random.Random) -> None:
    """Rotations killed one after the other, at random steps, never lose a file of the kept set."""
    path = tmp_path / "a.log"
    keep, number = 4, 0
    for _ in range(200):
        if not path.exists():
            path.write_bytes(b"%d" % number)
            number += 1
        steps = dice.randrange(6)
        with monkeypatch.context() as patch:
            rename = os.rename
            left = iter(range(steps))

            def maybe(old: str, new: str, left: object = left, rename: Callable[..., None] = rename) -> None:
                if next(left, None) is None:  # type: ignore[call-overload]
                    raise Killed
                rename(old, new)

            patch.setattr(os, "rename", maybe)
            try:
                rotate(str(path), keep)
            except Killed:
                pass
        held = [int(text) for text in contents(path)]
        assert held == list(range(number - 1, -1, -1))[: len(held)]
        assert len(held) >= min(number, keep)


def test_keep_counts_old_files(logger: LoggerProcess, tmp_path: Path) -> None:
    """`keep = 2`: the present file and two old ones; what was left from a larger keep is removed."""
    path = tmp_path / "a.log"
    for index in range(1, 6):
        path.with_name(f"a.log.{index}").write_bytes(b"elder\n")
    pipe = logger.open(path, size=10, keep=2)
    for number in range(10):
        os.write(pipe, b"line %04d\n" % number)
        wait_for_bytes(path, b"line %04d\n" % number)
    os.close(pipe)
    logger.closed(1)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.log", "a.log.1", "a.log.2"]
    assert whole_log(path) == b"line 0007\nline 0008\nline 0009\n"


def test_keep_nothing(logger: LoggerProcess, tmp_path: Path) -> None:
    """`keep = 0`: a full file is replaced by an empty one."""
    path = tmp_path / "a.log"
    pipe = logger.open(path, size=10, keep=0)
    for number in range(10):
        os.write(pipe, b"line %04d\n" % number)
        wait_for_bytes(path, b"line %04d\n" % number)
    os.close(pipe)
    logger.closed(1)
    assert [file.name for file in tmp_path.iterdir()] == ["a.log"]
    assert path.read_bytes() == b"line 0009\n"


def test_files_end_with_a_line(logger: LoggerProcess, tmp_path: Path, dice: random.Random) -> None:
    """A flood in blocks that end anywhere: every file but the last reaches its limit by less than one line."""
    path = tmp_path / "a.log"
    said = b"".join(b"%d %s\n" % (number, b"x" * dice.randrange(300)) for number in range(20_000))
    pipe = logger.open(path, size=50_000, keep=1000)
    write_all(pipe, said)
    os.close(pipe)
    logger.closed(1)
    assert whole_log(path) == said
    old = [file for file in tmp_path.iterdir() if file != path]
    assert len(old) > 50
    assert all(50_000 <= file.stat().st_size < 50_310 for file in old)
    assert all(file.read_bytes().endswith(b"\n") for file in old)


def test_endless_line_is_cut(logger: LoggerProcess, tmp_path: Path) -> None:
    """A line longer than a file is cut where the file is twice its limit; no byte is lost."""
    path = tmp_path / "a.log"
    said = b"".join(b"%07d " % number for number in range(40_000))
    pipe = logger.open(path, size=50_000, keep=1000)
    write_all(pipe, said)
    os.close(pipe)
    logger.closed(1)
    assert whole_log(path) == said + b"\n"
    assert {file.stat().st_size for file in tmp_path.iterdir() if file != path} == {100_000}


def test_removed_file_is_made_anew(logger: LoggerProcess, tmp_path: Path) -> None:
    """Somebody removes the log, even its directory: the next line makes them again."""
    path = tmp_path / "logs" / "a.log"
    pipe = logger.open(path)
    os.write(pipe, b"one\n")
    wait_for_bytes(path, b"one\n")
    path.unlink()
    path.parent.rmdir()
    os.write(pipe, b"two\n")
    os.close(pipe)
    assert logger.closed(1).tail == "one\ntwo\n"
    assert path.read_bytes() == b"two\n"


def test_truncated_file_goes_on_at_its_start(logger: LoggerProcess, tmp_path: Path) -> None:
    """`copytruncate` of logrotate: the next line is at the beginning, not behind a hole."""
    path = tmp_path / "a.log"
    pipe = logger.open(path)
    os.write(pipe, b"one\n")
    wait_for_bytes(path, b"one\n")
    os.truncate(path, 0)
    os.write(pipe, b"two\n")
    os.close(pipe)
    logger.closed(1)
    assert path.read_bytes() == b"two\n"


def test_reopen_follows_a_rename(logger: LoggerProcess, tmp_path: Path) -> None:
    """A logrotate renames, then sends Reopen: the old file keeps what it has, the new one gets the rest."""
    path = tmp_path / "a.log"
    pipe = logger.open(path)
    os.write(pipe, b"one\n")
    wait_for_bytes(path, b"one\n")
    moved = path.rename(tmp_path / "a.log-2024")
    logger.reopen()
    wait_until(path, path.exists)
    os.write(pipe, b"two\n")
    os.close(pipe)
    assert logger.closed(1).tail == "one\ntwo\n"
    assert (moved.read_bytes(), path.read_bytes()) == (b"one\n", b"two\n")


def test_renamed_file_is_noticed_at_rotation(logger: LoggerProcess, tmp_path: Path) -> None:
    """Without Reopen a rename is noticed at the limit: nobody else's file is rotated away."""
    path = tmp_path / "a.log"
    pipe = logger.open(path, size=10)
    os.write(pipe, b"the first line\n")
    wait_for_bytes(path, b"line\n")
    moved = path.rename(tmp_path / "moved")
    os.write(pipe, b"two\n")
    os.close(pipe)
    logger.closed(1)
    assert (moved.read_bytes(), path.read_bytes()) == (b"the first line\n", b"two\n")
    assert len(list(tmp_path.iterdir())) == 2


def test_refused_rotation_is_a_fault_and_loses_nothing_yet(logger: LoggerProcess, tmp_path: Path) -> None:
    """Where the old file cannot be moved, writing goes on to twice the limit, the fault is told and retried."""
    path = tmp_path / "a.log"
    obstacle = tmp_path / "a.log.1"
    obstacle.mkdir()
    pipe = logger.open(path, size=100, keep=1)
    for number in range(15):
        os.write(pipe, b"line %04d\n" % number)
        wait_for_bytes(path, b"line %04d\n" % number)
    assert "cannot rotate" in logger.next(Fault).text
    obstacle.rmdir()
    logger.next(FaultCleared)
    os.write(pipe, b"last\n")
    os.close(pipe)
    logger.closed(1)
    assert whole_log(path) == b"".join(b"line %04d\n" % number for number in range(15)) + b"last\n"
    assert path.read_bytes() == b"last\n"


@given(
    pieces=st.lists(st.sampled_from([b"\n", b"ab\n", b"x" * 7]), min_size=1),
    room=st.one_of(st.none(), st.integers(0, 30)),
    whole=st.booleans(),
)
def test_portion_makes_progress_and_respects_lines(pieces: list[bytes], room: int | None, whole: bool) -> None:
    """What is taken is at least a byte unless whole lines are wanted and there is none; whole lines end with one."""
    window = b"".join(pieces)
    count = portion(window, room, whole)
    assert 0 <= count <= len(window)
    assert count > 0 or (whole and b"\n" not in window)
    if whole and count:
        assert window[count - 1 : count] == b"\n"
    if not whole and room:
        assert count <= room
    if room == 0 and not whole and b"\n" in window:
        assert count == window.index(b"\n") + 1
