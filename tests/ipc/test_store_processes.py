"""The store in several processes, some of which end in the middle of something, or are forked there."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import lmdb
import pytest
from siblings import Line, Sibling
from storeuse import TIMEOUT_S, done, get, increment, put, user

from regrow.ipc import points, store_env, store_users
from regrow.ipc.points import Point
from regrow.ipc.store import Store, Txn


def test_many_processes(run_dir: Path, folder: Path) -> None:
    """Nothing is lost between those that change the same row."""

    def body(line: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            line.hear()
            for _ in range(200):
                increment(mine, b"n")

    siblings = [Sibling(body) for _ in range(6)]
    for sibling in siblings:
        sibling.say("go")
    for sibling in siblings:
        with sibling:
            assert sibling.wait() == 0
    with closing(Store.open(str(run_dir))) as mine:
        assert get(mine, b"n") == b"1200"


@pytest.mark.parametrize("point", [Point.BEFORE_COMMIT, Point.INSIDE_COMMIT, Point.AFTER_COMMIT])
def test_killed_writer(run_dir: Path, opened: Store, point: Point) -> None:
    """It has changed all or nothing, and the next one goes on."""

    def kill(here: Point) -> None:
        if here is point:
            os.kill(os.getpid(), signal.SIGKILL)

    def body(_: Line) -> None:
        points.install(kill)
        with closing(Store.open(str(run_dir))) as mine:
            mine.write(lambda txn: [txn.put(key, b"x" * 5000, db=mine.state) for key in (b"a", b"b")])

    for number in range(5):
        with Sibling(body) as sibling:
            assert sibling.wait() == -signal.SIGKILL
        expected = b"x" * 5000 if point is Point.AFTER_COMMIT else None
        assert get(opened, b"a") == get(opened, b"b") == expected
        put(opened, b"n", b"%d" % number)
        assert get(opened, b"n") == b"%d" % number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_reader_that_is_killed_or_stopped(run_dir: Path, opened: Store, number: signal.Signals) -> None:
    """Nobody waits for it."""
    put(opened, b"k", b"old")

    def body(line: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            mine.read(lambda txn: line.ask(txn.get(b"k", db=mine.state)))

    with Sibling(body) as sibling:
        assert sibling.hear() == b"old"
        sibling.signal(number)
        for value in range(50):
            put(opened, b"k", b"%d" % value)
        assert get(opened, b"k") == b"49"
        if number is signal.SIGKILL:
            assert sibling.wait() == -signal.SIGKILL
            assert opened.env.reader_check() == 1


def test_no_place_among_the_readers(run_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many read as may: whoever comes then reads as a writer would."""
    monkeypatch.setattr(store_env, "MAX_READERS", 3)
    (folder / "lock.mdb").unlink()
    with closing(Store.open(str(run_dir))) as mine:
        put(mine, b"k", b"v")
        held = [mine.env.begin() for _ in range(3)]
        with pytest.raises(lmdb.ReadersFullError):
            mine.env.begin()
        assert get(mine, b"k") == b"v"
        assert mine.look(lambda txn: txn.get(b"k", db=mine.state)) == b"v"
        put(mine, b"k", b"w")
        assert get(mine, b"k") == b"w"
        for txn in held:
            txn.abort()


def test_fork_leaves_the_readers_of_the_parent_alone(run_dir: Path, opened: Store) -> None:
    """A forked process opens the store for itself, and closes it: what its parent reads meanwhile stays what it is."""
    put(opened, b"k", b"v")

    def body(_: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            for number in range(10):
                put(mine, b"k", b"%d" % number)
            assert get(mine, b"k") == b"9"

    def look(txn: Txn) -> Any:
        table = opened.env.readers()
        with Sibling(body) as sibling:
            assert sibling.wait() == 0
        assert opened.env.readers() == table
        assert str(os.getpid()) in table
        return txn.get(b"k", db=opened.state)

    assert opened.read(look) == b"v"
    assert get(opened, b"k") == b"9"


def test_fork_while_threads_have_it(run_dir: Path, opened: Store) -> None:
    """A fork waits until the other threads are done with what they have begun; the child finds all of it there."""
    begun, go_on = threading.Event(), threading.Event()
    os.register_at_fork(before=go_on.set)

    def change(txn: Txn) -> None:
        begun.set()
        assert go_on.wait(TIMEOUT_S)
        txn.put(b"k", b"parent", db=opened.state)

    def body(line: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            mine.write(lambda txn: txn.put(b"seen", txn.get(b"k", db=mine.state), db=mine.state))

    thread = threading.Thread(target=opened.write, args=(change,))
    thread.start()
    assert begun.wait(TIMEOUT_S)
    with Sibling(body) as sibling:
        thread.join(TIMEOUT_S)
        assert sibling.wait() == 0
    assert get(opened, b"seen") == b"parent"


def test_fork_that_does_not_wait_for_ever(run_dir: Path, opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else keeps the writers' lock: a process whose thread waits for it can be forked all the same."""
    monkeypatch.setattr(store_users, "FORK_S", 0.05)
    with user(run_dir) as other:
        other.say(("hold",))
        assert other.hear() == "held"
        thread = threading.Thread(target=put, args=(opened, b"k", b"v"))
        thread.start()
        with Sibling(lambda _: None) as sibling:
            assert sibling.wait() == 0
        other.say("let go")
        assert other.hear() is None
        thread.join(TIMEOUT_S)
        done(other)
    assert get(opened, b"k") == b"v"


def test_fork_that_does_not_use_it(opened: Store) -> None:
    """It ends without touching anything."""
    put(opened, b"k", b"v")

    def look(txn: Txn) -> Any:
        table = opened.env.readers()
        with Sibling(lambda _: None) as sibling:
            assert sibling.wait() == 0
        assert opened.env.readers() == table
        return txn.get(b"k", db=opened.state)

    assert opened.read(look) == b"v"
