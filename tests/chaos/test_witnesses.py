"""The witnesses of a storm see what they are there to see."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from storm.gauges import Size
from storm.growth import Sample, grown
from storm.ledger import Ledger
from storm.witness import RUN, Expected, Witness

Start = Callable[..., "subprocess.Popen[bytes]"]

BLOCK = "import os, select; os.write(1, b'.'); select.select([], [], [])"
RUN_ID = f"witness-{os.getpid()}"


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a process of the run that shows the given identity; all are ended after the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(identity: str) -> subprocess.Popen[bytes]:
        environ = {RUN: RUN_ID, "REGROW_CHILD": identity}
        process = subprocess.Popen([sys.executable, "-I", "-S", "-c", BLOCK], env=environ, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.read(1) == b"."
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_two_incarnations_at_once(start: Start) -> None:
    """Two living processes of one name with different incarnations are told; two of one incarnation are not."""
    witness = Witness(RUN_ID)
    start("t:a:1")
    start("t:a:1")
    assert witness.doubles(witness.look()) == []
    start("t:a:2")
    assert "two incarnations of a" in witness.doubles(witness.look())[0]


def test_exactly_the_expected(start: Start) -> None:
    """The expected processes are in order; an escapee too many, an orphan, a zombie are told."""
    witness = Witness(RUN_ID)
    root, main = start("t:regrow.root:1"), start("t:a:1")
    expected = {"a": Expected(main.pid, os.getpid(), 1, 0)}
    assert witness.unexpected(root.pid, expected) == []
    start("t:a:1")
    assert witness.unexpected(root.pid, expected) == ["a has 2 processes, not 1"]
    start("t:b:1")
    assert any("orphan" in line for line in witness.unexpected(root.pid, expected))
    assert any("not a child" in line for line in witness.unexpected(root.pid, {"a": Expected(main.pid, 1, 1, 1)}))
    main.kill()
    os.waitid(os.P_PID, main.pid, os.WEXITED | os.WNOWAIT)
    assert f"a has no process {main.pid}" in witness.unexpected(root.pid, expected)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A ledger of `w`, who says to have printed three lines."""
    (tmp_path / "printed").mkdir()
    (tmp_path / "log").mkdir()
    (tmp_path / "printed" / "w").write_text("t 1 99 1\nt 1 99 2\nt 1 99 3\n")
    return Ledger(tmp_path)


def write(tmp_path: Path, *numbers: int, name: str = "w.log", end: str = "\n") -> None:
    """Add lines of `w` to its log."""
    with (tmp_path / "log" / name).open("a") as log:
        log.write("\n".join(f"L t 1 99 {number}" for number in numbers) + end)


def test_every_line_is_there(tmp_path: Path, ledger: Ledger) -> None:
    """Lines over a rotation, one of them half written when first looked at: all are found, nothing is wrong."""
    write(tmp_path, 1, 2, end="")
    assert ledger.missing() == ["w:t:1:99: 3 lines printed, 1 logged"]
    write(tmp_path, end="\n")
    (tmp_path / "log" / "w.log").rename(tmp_path / "log" / "w.log.1")
    write(tmp_path, 3)
    assert ledger.missing() == []
    ledger.finish({"99"})
    assert ledger.wrong == []


@pytest.mark.parametrize(
    ("numbers", "complaint"),
    [((1, 3), "line 3 follows line 1"), ((1, 2, 2, 3), "line 2 follows line 2"), ((1, 2, 3, 4, 5), "only 3 printed")],
)
def test_wrong_lines(tmp_path: Path, ledger: Ledger, numbers: tuple[int, ...], complaint: str) -> None:
    """A line that is missing among others, one that is there twice, and lines that nobody printed are told."""
    write(tmp_path, *numbers)
    ledger.finish({"99"})
    assert complaint in ledger.wrong[0]


def test_growth() -> None:
    """One descriptor more at the end, or memory beyond tolerance, is told; noise, and growth before, is not."""
    before, warm = Size(5, 2 << 20, 10 << 20), Size(6, 3 << 20, 11 << 20)

    def grows(last: Size) -> list[str]:
        return grown([Sample(kills, kills, {"a": size}) for kills, size in enumerate([before, warm, warm, last])])

    assert grows(Size(6, (3 << 20) + 100_000, (11 << 20) + 100_000)) == []
    assert grows(Size(7, 3 << 20, 11 << 20)) == ["a had 6 descriptors and has 7"]
    assert "2048 KiB of anonymous" in grows(Size(6, 3 << 20, 13 << 20))[0]
    assert "4096 KiB of private" in grows(Size(6, 7 << 20, 11 << 20))[0]
