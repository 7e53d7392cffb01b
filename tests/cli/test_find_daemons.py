"""Which daemon is meant: --run-dir, --name, $REGROW_RUN_DIR, or the only one running."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_daemon import FakeDaemon, Refusal

from regrow.ipc import daemons
from regrow.ipc.errors import Ambiguous, ControlTimeout, Refused, Unreachable

Start = Callable[[Path], FakeDaemon]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a daemon in a run_dir; it takes the folder's name."""
    started: list[FakeDaemon] = []

    def make(run_dir: Path) -> FakeDaemon:
        started.append(FakeDaemon(run_dir, run_dir.name))
        return started[-1]

    yield make
    for one in started:
        one.close()


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """An ordinary user's environment; root's place is a folder too."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return {"HOME": str(tmp_path / "home"), "XDG_RUNTIME_DIR": str(tmp_path / "xdg")}


def test_the_only_one(start: Start, environ: dict[str, str], tmp_path: Path) -> None:
    """With one daemon running nothing has to be said, whichever default place it is in."""
    for place in ("xdg/regrow/a", "home/.regrow/b/run", "system/c"):
        one = start(tmp_path / place)
        with daemons.connect(environ=environ) as client:
            assert client.run_dir == str(one.run_dir)
        one.close()


def test_none(environ: dict[str, str], tmp_path: Path) -> None:
    """With none the message says where was looked and what to do."""
    with pytest.raises(Unreachable) as caught:
        daemons.connect(environ=environ)
    for place in ("xdg/regrow", "home/.regrow", "system"):
        assert str(tmp_path / place) in str(caught.value)
    assert "start one with `regrow up FILE`" in str(caught.value)


def test_several(start: Start, environ: dict[str, str], tmp_path: Path) -> None:
    """With several the message lists them and says how to choose."""
    start(tmp_path / "xdg/regrow/lab")
    start(tmp_path / "system/shop")
    with pytest.raises(Ambiguous) as caught:
        daemons.connect(environ=environ)
    assert str(caught.value) == (
        f"cannot tell which daemon is meant: 2 run ('lab' at {tmp_path}/xdg/regrow/lab, 'shop' at "
        f"{tmp_path}/system/shop); say --name NAME or --run-dir DIR"
    )


def test_dead_ones_do_not_count(start: Start, environ: dict[str, str], tmp_path: Path) -> None:
    """A socket left behind and a folder without one are passed over."""
    start(tmp_path / "xdg/regrow/dead").close()
    (tmp_path / "xdg/regrow/empty").mkdir()
    alive = start(tmp_path / "xdg/regrow/shop")
    with daemons.connect(environ=environ) as client:
        assert client.run_dir == str(alive.run_dir)


def test_by_name(start: Start, environ: dict[str, str], tmp_path: Path) -> None:
    """--name chooses among those that run; this user's own comes before root's of the same name."""
    start(tmp_path / "xdg/regrow/lab")
    start(tmp_path / "system/shop")
    mine = start(tmp_path / "home/.regrow/shop/run")
    with daemons.connect(name="shop", environ=environ) as client:
        assert client.run_dir == str(mine.run_dir)
        assert client.label == "the daemon 'shop'"


def test_by_name_nobody(environ: dict[str, str], tmp_path: Path) -> None:
    """An unknown name says where the socket would be."""
    with pytest.raises(Unreachable, match=f"'shop': nothing listens at {tmp_path}/xdg/regrow/shop/control.sock"):
        daemons.connect(name="shop", environ=environ)


def test_order_of_what_is_said(start: Start, environ: dict[str, str], tmp_path: Path) -> None:
    """--run-dir goes before --name, and that before $REGROW_RUN_DIR."""
    first, second = start(tmp_path / "elsewhere"), start(tmp_path / "system/shop")
    environ["REGROW_RUN_DIR"] = str(first.run_dir)
    for meant, name, run_dir in (
        (first, None, None),
        (second, "shop", None),
        (first, "shop", str(first.run_dir)),
    ):
        with daemons.connect(environ=environ, name=name, run_dir=run_dir) as client:
            assert client.run_dir == str(meant.run_dir)


def test_no_answer_to_ping(
    start: Start, environ: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that does not answer is passed over for one that does; alone, the time-out is the answer."""
    monkeypatch.setattr(daemons, "PING_S", 0.05)
    start(tmp_path / "xdg/regrow/hung").hold("ping")
    with pytest.raises(ControlTimeout, match="the daemon 'hung'"):
        daemons.connect(environ=environ)
    alive = start(tmp_path / "xdg/regrow/shop")
    with daemons.connect(environ=environ) as client:
        assert client.run_dir == str(alive.run_dir)


def test_not_for_us(start: Start, environ: dict[str, str], tmp_path: Path) -> None:
    """A daemon that refuses us is passed over; alone, its refusal is the answer."""

    def refuse(request: object) -> None:
        raise Refusal("forbidden", "uid 1000 may not look")

    start(tmp_path / "system/theirs").handlers["ping"] = refuse
    with pytest.raises(Refused, match="may not look"):
        daemons.connect(environ=environ)
