"""The wheel holds what the folders hold: a sub-package that pyproject.toml forgets would be missing silently."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ROOT = Path(os.environ.get("REGROW_SOURCE", REPOSITORY))
ROOMS = ("config", "ipc", "workers", "daemon")
UNITS = "systemd"  # files that `regrow systemd` writes: no modules, so no room


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """Return the wheel under test; without one, build it from a copy of the folders."""
    if built := os.environ.get("REGROW_WHEEL"):
        return Path(built)
    source = tmp_path / "source"
    source.mkdir()
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / UNITS, source / UNITS)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path / "wheel"), str(source)],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    (built_wheel,) = (tmp_path / "wheel").glob("*.whl")
    return built_wheel


def test_wheel_equals_folders(wheel: Path) -> None:
    """Every module and py.typed of the rooms and every file for systemd is in the wheel, and nothing else is."""
    expected = {
        f"regrow/{path.relative_to(ROOT)}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    units = [path for path in (REPOSITORY / UNITS).rglob("*") if path.suffix in (".service", ".conf")]
    expected |= {f"regrow/{path.relative_to(REPOSITORY)}" for path in units}
    with zipfile.ZipFile(wheel) as archive:
        contents = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert expected == contents


def test_every_room_is_typed() -> None:
    """Each room carries py.typed: `regrow` itself is a namespace and cannot."""
    assert [room for room in ROOMS if not (ROOT / room / "py.typed").exists()] == []


def test_every_folder_with_modules_is_a_package() -> None:
    """No folder of modules lacks its `__init__.py`."""
    folders = {path.parent for room in ROOMS for path in (ROOT / room).rglob("*.py")}
    assert sorted(str(folder) for folder in folders if not (folder / "__init__.py").exists()) == []
