"""The store in one process: opened, closed, and another one in its place."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest
from mockups import MockNode
from storehouse import make_store
from storeuse import TIMEOUT_S, done, get, put, user

from regrow.ipc.posting import Posting
from regrow.ipc.store import INFO, SIGNS, Store, StoreUnusable, Txn


def test_one_for_all_in_a_process(run_dir: Path, folder: Path) -> None:
    """Each `open` gives the same one; with the last `close` it is closed, and can be opened again."""
    first = Store.open(str(run_dir))
    second = Store.open(f"{run_dir}/../{run_dir.name}")
    assert first is second
    first.close()
    put(second, b"k", b"v")
    second.close()
    with closing(Store.open(str(run_dir))) as third:
        assert third is not first
        assert get(third, b"k") == b"v"


USES: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.read(lambda txn: txn.get(b"k", db=store.state)),
    "row": lambda store: store.row(b"k"),
    "write": lambda store: store.write(lambda txn: txn.put(b"k", b"w", db=store.state)),
    "look": lambda store: store.look(lambda txn: txn.get(b"k", db=store.state)),
    "follow": Store.follow,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_used_after_it_was_closed(run_dir: Path, folder: Path, use: Callable[[Store], object]) -> None:
    """Another thread that goes on with it is told so, each time: it is not opened again behind the one's back."""
    store = Store.open(str(run_dir))
    put(store, b"k", b"v")
    store.close()
    errors: list[BaseException] = []

    def go_on() -> None:
        try:
            use(store)
        except StoreUnusable as error:
            errors.append(error)

    for _ in range(2):
        thread = threading.Thread(target=go_on)
        thread.start()
        thread.join(TIMEOUT_S)
    assert ["this process has closed it" in str(error) for error in errors] == [True, True]
    assert str(folder) not in Path("/proc/self/maps").read_text()
    with closing(Store.open(str(run_dir))) as again:
        use_again = USES["write" if use is USES["follow"] else "read"]
        use_again(again)
        with pytest.raises(StoreUnusable, match="this process has closed it"):
            use(store)
        assert get(again, b"k") is not None


def test_closed_in_the_middle_of_a_transaction(run_dir: Path, folder: Path) -> None:
    """By who has it open himself: nothing of it is committed, and it says why."""
    store = Store.open(str(run_dir))

    def change(txn: Txn) -> None:
        txn.put(b"k", b"v", db=store.state)
        store.close()

    with pytest.raises(StoreUnusable, match="this process has closed it"):
        store.write(change)
    with closing(Store.open(str(run_dir))) as again:
        assert get(again, b"k") is None


def test_threads_that_open_it_at_once(run_dir: Path, folder: Path) -> None:
    """They count as one: when it is closed it is closed."""
    for _ in range(20):
        posting = Posting(cast(Any, MockNode(str(run_dir))))
        barrier = threading.Barrier(4)
        found: list[Store] = []

        def take(posting: Posting = posting, barrier: threading.Barrier = barrier, found: Any = found) -> None:
            barrier.wait(TIMEOUT_S)
            found.append(posting.store)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        assert len(set(map(id, found))) == 1
        posting.close()
        with closing(Store.open(str(run_dir))) as again:
            assert again is not found[0]


def test_a_transaction_within_one(opened: Store) -> None:
    """Is refused, and the outer one comes to nothing; the store goes on."""

    def change(txn: Txn) -> None:
        txn.put(b"k", b"v", db=opened.state)
        put(opened, b"l", b"w")

    with pytest.raises(RuntimeError, match="is open in this thread already"):
        opened.write(change)
    assert get(opened, b"k") is None
    put(opened, b"k", b"v")
    assert get(opened, b"k") == b"v"


def test_what_it_cannot_hold(opened: Store) -> None:
    """A key that is too long: the error says what is the matter, and does not take the store for broken."""
    with pytest.raises(StoreUnusable, match="larger than it can hold"):
        put(opened, b"k" * 512, b"v")
    assert get(opened, b"k" * 512) is None


def test_nobody_there(run_dir: Path, tmp_path: Path) -> None:
    """Neither a daemon, nor a store, nor anything that can be read: each is said."""
    with pytest.raises(StoreUnusable, match="no daemon runs there"):
        Store.open(str(tmp_path / "nowhere"))
    with pytest.raises(StoreUnusable, match="its tree has no agents"):
        Store.open(str(run_dir))
    (run_dir / INFO).write_text("{nonsense")
    with pytest.raises(StoreUnusable, match="access"):
        Store.open(str(run_dir))
    folder = Path(make_store(run_dir, tmp_path / "state"))
    folder.rename(tmp_path / "away")
    with pytest.raises(StoreUnusable, match="No such file"):
        Store.open(str(run_dir))
    (tmp_path / "away").rename(folder)
    (folder / SIGNS).rename(folder / "signs.away")
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="No such file"):
            Store.open(str(run_dir))
    (folder / SIGNS).write_bytes(b"")
    with pytest.raises(StoreUnusable, match="mmap"):
        Store.open(str(run_dir))
    (folder / "signs.away").rename(folder / SIGNS)
    (folder / "data.mdb").write_bytes(os.urandom(65536))
    for _ in range(2):
        with pytest.raises(StoreUnusable):
            Store.open(str(run_dir))


def replace(folder: Path, tmp_path: Path, value: bytes) -> None:
    """As a restore does."""
    other = tmp_path / f"other-{value.decode()}"
    other.mkdir()
    (other / "run").mkdir()
    made = Path(make_store(other / "run", other / "state"))
    with closing(Store.open(str(other / "run"))) as new:
        put(new, b"k", value)
    (made / "data.mdb").rename(folder / "data.mdb")
    with (folder / SIGNS).open("r+b") as signs:
        before = signs.read(2)
        signs.seek(1)
        signs.write(bytes([(before[1] + 1) % 256]))


def test_replaced(run_dir: Path, tmp_path: Path, folder: Path, opened: Store) -> None:
    """Whoever has it open goes over to the new one with whatever it does next, and so does who opens it again."""
    put(opened, b"k", b"old")
    with user(run_dir) as reader, user(run_dir) as writer:
        assert reader.ask(("get", b"k")) == writer.ask(("get", b"k")) == b"old"
        replace(folder, tmp_path, b"new")
        assert reader.ask(("get", b"k")) == b"new"
        writer.ask(("put", b"l", b"w"))
        with closing(Store.open(str(run_dir))) as again:
            assert again is opened
        assert get(opened, b"k") == b"new"
        assert reader.ask(("get", b"l")) == b"w"
        done(reader)
        done(writer)


def test_away_for_a_while(run_dir: Path, tmp_path: Path, folder: Path, opened: Store) -> None:
    """It cannot be opened anew at once: each use says so, until it is there."""
    put(opened, b"k", b"old")
    replace(folder, tmp_path, b"new")
    folder.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=r"No such file|not there"):
            get(opened, b"k")
        with pytest.raises(StoreUnusable, match=r"No such file|not there"):
            put(opened, b"k", b"v")
    (tmp_path / "away").rename(folder)
    assert get(opened, b"k") == b"new"
    put(opened, b"k", b"v")
    assert get(opened, b"k") == b"v"
