"""Bells: who is rung hears it, who is not there is not, and nobody ever waits."""

from __future__ import annotations

import os
import select
import shutil
import threading
from contextlib import closing
from pathlib import Path

import pytest
from siblings import Line, Sibling

from regrow.ipc.bell import MBOX, Bell, Rope


def is_rung(bell: Bell) -> bool:
    """Whether anybody who waits for it would wake up."""
    return bool(select.select([bell], [], [], 0)[0])


def test_rung_and_heard(run_dir: Path) -> None:
    """Any number of times; what was heard is over."""
    with closing(Bell(str(run_dir), "a.bell")) as bell, closing(Rope(str(run_dir))) as rope:
        assert not bell.heard()
        for count in (1, 2, 100_000):
            for _ in range(count):
                assert rope.ring("a.bell")
            assert is_rung(bell)
            assert bell.heard()
            assert not bell.heard()
            assert not is_rung(bell)


def test_nobody_there(run_dir: Path, tmp_path: Path) -> None:
    """Neither a bell, nor a folder, nor a name that could be one; and one that was left by a kill."""

    def body(line: Line) -> None:
        Bell(str(run_dir), "dead.bell")
        os._exit(0)

    with Sibling(body) as sibling:
        sibling.wait()
    with closing(Rope(str(run_dir))) as rope:
        for name in ("nobody.bell", "", ".", "..", "../names", "x" * 300, "dead.bell"):
            assert not rope.ring(name)
        with closing(Bell(str(run_dir), "a.bell")):
            assert rope.ring("a.bell")
        assert not rope.ring("a.bell")
    with closing(Rope(str(tmp_path / "nowhere"))) as rope:
        assert not rope.ring("a.bell")


def test_folder_that_is_made_anew(run_dir: Path) -> None:
    """The daemon was started again: the same rope rings the new bells."""
    with closing(Rope(str(run_dir))) as rope:
        with closing(Bell(str(run_dir), "a.bell")):
            assert rope.ring("a.bell")
        shutil.rmtree(run_dir / MBOX)
        assert not rope.ring("a.bell")
        (run_dir / MBOX).mkdir()
        with closing(Bell(str(run_dir), "a.bell")) as bell:
            assert rope.ring("a.bell")
            assert bell.heard()


def test_long_paths(tmp_path: Path) -> None:
    """A run_dir that no socket's name has room for."""
    run_dir = tmp_path / ("d" * 200) / ("e" * 200)
    (run_dir / MBOX).mkdir(parents=True)
    with closing(Bell(str(run_dir), "a.bell")) as bell, closing(Rope(str(run_dir))) as rope:
        assert rope.ring("a.bell")
        assert bell.heard()


def test_cannot_be_made(run_dir: Path, tmp_path: Path) -> None:
    """Somebody has it already, or there is no folder: an error, and nothing is left open."""
    with closing(Bell(str(run_dir), "a.bell")) as bell:
        with pytest.raises(OSError, match="in use"):
            Bell(str(run_dir), "a.bell")
        with closing(Rope(str(run_dir))) as rope:
            rope.ring("a.bell")
        assert bell.heard()
    with pytest.raises(OSError, match="No such file"):
        Bell(str(tmp_path / "nowhere"), "a.bell")


def test_rung_just_before_the_end(run_dir: Path) -> None:
    """Whoever rings may be killed at once: the bell has been rung."""

    def body(line: Line) -> None:
        Rope(str(run_dir)).ring("a.bell")
        os.kill(os.getpid(), 9)

    with closing(Bell(str(run_dir), "a.bell")) as bell:
        with Sibling(body) as sibling:
            sibling.wait()
        assert bell.heard()


def test_many_threads(run_dir: Path) -> None:
    """One rope for all."""
    with closing(Bell(str(run_dir), "a.bell")) as bell, closing(Rope(str(run_dir))) as rope:
        rung: list[bool] = []
        threads = [
            threading.Thread(target=lambda: rung.extend([rope.ring("a.bell") for _ in range(200)])) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert rung == [True] * 1600
        assert bell.heard()


def test_closed_rope(run_dir: Path) -> None:
    """It rings nothing, whichever descriptor has its number by now."""
    rope = Rope(str(run_dir))
    with closing(Bell(str(run_dir), "a.bell")) as bell:
        assert rope.ring("a.bell")
        bell.heard()
        rope.close()
        rope.close()
        assert not rope.ring("a.bell")
        assert not bell.heard()
