"""The map of the store: it grows under whoever reads, and has its limits."""

from __future__ import annotations

import os
import resource
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import lmdb
import pytest
from siblings import Line, Sibling
from storeuse import SMALL, TIMEOUT_S, done, get, put, user

from regrow.ipc.store import Store, StoreUnusable, Txn


def test_map_grows_under_readers(opened: Store) -> None:
    """A hundred times what the map holds, while threads read: each sees what was committed before."""
    stop, newest, errors = threading.Event(), [-1], list[object]()

    def look() -> None:
        while not stop.is_set():
            known = newest[0]
            found = int(opened.row(b"newest") or -1)
            if found < known:
                errors.append((found, known))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(100):
            put(opened, b"%d" % number, bytes(SMALL))
            put(opened, b"newest", b"%d" % number)
            newest[0] = number
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT_S)
    assert errors == []
    assert opened.env.info()["map_size"] >= 100 * SMALL


def test_map_that_others_have_grown(run_dir: Path, folder: Path) -> None:
    """Whoever reads or writes next has it as large, in turns."""
    with user(run_dir) as first, user(run_dir) as second:
        for number in range(8):
            grower, other = (first, second) if number % 2 else (second, first)
            grower.ask(("fill", b"%d" % number, SMALL << number))
            assert other.ask(("size", b"%d" % number)) == SMALL << number
            other.ask(("put", b"small", b"%d" % number))
        done(first)
        done(second)


def test_map_that_grows_while_it_is_opened(run_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened as large as it is then."""
    with user(run_dir) as other:

        def open_late(*args: Any, **kwargs: Any) -> lmdb.Environment:
            env = lmdb_open(*args, **kwargs)
            other.ask(("fill", b"k", 4 * SMALL))
            return env

        lmdb_open = lmdb.open
        monkeypatch.setattr(lmdb, "open", open_late)
        with closing(Store.open(str(run_dir))) as mine:
            assert len(get(mine, b"k") or b"") == 4 * SMALL
        done(other)


def test_map_that_cannot_grow(run_dir: Path, folder: Path) -> None:
    """No more address space: an error that says so; with more of it everything is there, and goes on."""

    def body(line: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            put(mine, b"a", b"1")
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            before = resource.getrlimit(resource.RLIMIT_AS)
            content = bytes(64 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (96 << 20), before[1]))
            for _ in range(2):
                try:
                    put(mine, b"b", content)
                except StoreUnusable as error:
                    line.say(str(error))
            resource.setrlimit(resource.RLIMIT_AS, before)
            line.say(get(mine, b"a"))
            put(mine, b"b", content)
            line.say(len(get(mine, b"b") or b""))

    with Sibling(body) as sibling:
        for _ in range(2):
            assert "Cannot allocate memory" in sibling.hear()
        assert sibling.hear() == b"1"
        assert sibling.hear() == 64 << 20
        assert sibling.wait() == 0


@pytest.mark.parametrize("mib", [16, 100])
def test_large_values(opened: Store, mib: int) -> None:
    """They fit, however small the map was."""
    put(opened, b"large", os.urandom(1 << 20) * mib)
    assert len(get(opened, b"large") or b"") == mib << 20
    put(opened, b"large", b"")
    assert get(opened, b"large") == b""


def test_many_rows_in_one_transaction(opened: Store) -> None:
    """More pages than LMDB keeps in its list of changed ones."""

    def change(txn: Txn) -> None:
        for number in range(100_000):
            txn.put(number.to_bytes(8, "little"), bytes(200), db=opened.state)

    opened.write(change)
    assert opened.read(lambda txn: txn.stat(opened.state)["entries"]) == 100_000
