"""The places at which tests kill: each is passed in the code, and there is a test that kills there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import regrow.ipc
import regrow.workers
from regrow.ipc.points import Point

TESTS = Path(__file__).parents[1]
ROOMS = [Path(path) for room in (regrow.ipc, regrow.workers) for path in room.__path__]


def named_in(folders: list[Path], form: str) -> set[str]:
    """The names of points that are written in this form somewhere below."""
    files = [file for folder in folders for file in folder.rglob("*.py") if file != Path(__file__)]
    return {name for file in files for name in re.findall(form, file.read_text())}


@pytest.mark.parametrize("point", Point)
def test_passed_and_killed_at(point: Point) -> None:
    """What is in the list only would be a promise that nobody keeps."""
    assert point.name in named_in(ROOMS, r"\bhit\((?:Point\.|_)(\w+)\)")
    assert point.name in named_in([TESTS], r"\bPoint\.(\w+)")


def test_there_are_no_others() -> None:
    """Every place that is passed is in the list."""
    allowed = {f"{prefix}{point.name}" for point in Point for prefix in ("Point.", "_")}
    assert named_in(ROOMS, r"\bhit\(([^)]*)\)") <= {"point: Point", *allowed}
    kept = [pair.split(" = Point.") for pair in named_in(ROOMS, r"\b_([A-Z_]+ = Point\.\w+)")]
    assert all(name == member for name, member in kept)
