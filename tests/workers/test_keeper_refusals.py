"""What a keeper does not touch, and says so; and stores of older formats, which it takes over."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import lmdb
import procs
import pytest
from keepers import KeeperHouse, put
from tree import short_directory

from regrow.config.spec import Durability
from regrow.ipc import levels
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.levels import get_meta, put_meta
from regrow.ipc.store import Store, StoreInfo, Txn
from regrow.workers.system import keeper_formats, keeper_preparing
from regrow.workers.system.keeper_formats import migrate
from regrow.workers.system.keeper_place import Place
from regrow.workers.system.keeper_preparing import beginning, prepare
from regrow.workers.system.store_site import claimed


@pytest.fixture
def directory() -> Iterator[Path]:
    """With a short name, for the addresses of sockets."""
    with short_directory() as path:
        yield path


@pytest.fixture
def house(directory: Path) -> Iterator[KeeperHouse]:
    """At level `system`."""
    made = KeeperHouse(directory)
    yield made
    made.dispose()


def of_a_newer_format(house: KeeperHouse) -> None:
    """Another regrow has written it."""
    edit(house, lambda txn, db: put_meta(txn, db, "format", 99))


def of_another_name(house: KeeperHouse) -> None:
    """Another daemon has."""
    edit(house, lambda txn, db: put_meta(txn, db, "name", "other"))


def edit(house: KeeperHouse, change: Callable[[Txn, object], None]) -> None:
    """Change `meta` behind everybody's back."""
    with lmdb.open(str(house.folder), max_dbs=8, map_size=1 << 30) as env:
        db = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            change(txn, db)


def truncated(house: KeeperHouse) -> None:
    """Half of it is there."""
    os.truncate(house.data, house.data.stat().st_size // 2 // 4096 * 4096)


def cut_to_nothing(house: KeeperHouse) -> None:
    """Nothing of it is there."""
    os.truncate(house.data, 0)


def garbage(house: KeeperHouse) -> None:
    """Random bytes."""
    house.data.write_bytes(os.urandom(100_000))


def text(house: KeeperHouse) -> None:
    """Some other file."""
    house.data.write_text("not a database\n" * 1000)


def gone(house: KeeperHouse) -> None:
    """Somebody has taken it away, and left the rest."""
    house.data.rename(house.directory / "moved")


def foreign(house: KeeperHouse) -> None:
    """An LMDB file of some other program."""
    house.data.unlink()
    with lmdb.open(str(house.folder), max_dbs=8) as env, env.begin(write=True) as txn:
        txn.put(b"a", b"b")


REFUSED: dict[Callable[[KeeperHouse], None], str] = {
    of_a_newer_format: "its format is 99, of a newer regrow; this one knows 1; use that regrow, or choose another",
    of_another_name: "it belongs to the daemon 'other', not 'test'; choose another [daemon] state_dir",
    truncated: "it is truncated: ",
    cut_to_nothing: "it ends before its first page does; restore a backup",
    garbage: "it is no LMDB file; restore a backup",
    text: "it is no LMDB file; restore a backup",
    gone: "it is gone, and ",
    foreign: "it is no store of regrow, or it is damaged",
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda spoil: spoil.__name__)
def test_refused(house: KeeperHouse, spoil: Callable[[KeeperHouse], None]) -> None:
    """What cannot be used is refused in a line that says what, where and what to do; nothing is written over."""
    assert house.start() == ""
    put(house, b"one", times=50)
    house.stop()
    house.new_root()
    spoil(house)
    before = house.data.read_bytes() if house.data.exists() else None
    refusal = house.start()
    assert REFUSED[spoil] in refusal
    assert refusal.startswith(f"cannot use the store {house.folder}")
    assert "\n" not in refusal
    assert (house.data.read_bytes() if house.data.exists() else None) == before


def test_refused_while_another_daemon_lives(house: KeeperHouse) -> None:
    """A store on which another living root runs; once it is dead it can be taken over."""
    assert house.start() == ""
    house.kill()
    pid = os.fork()
    if pid == 0:
        signal.pause()
    house.be_root(pid)
    assert f"the daemon test at {house.run_dir} (pid {os.getpid()}) uses it; stop it, or choose" in house.start()
    house.new_root()
    assert house.start() == ""
    house.kill()
    procs.kill(pid)
    os.waitpid(pid, 0)
    house.be_root(os.getpid())
    assert house.start() == ""


@pytest.mark.root
def test_refused_while_another_begins(house: KeeperHouse) -> None:
    """Until it is on record who has the store, nobody else begins with it; nothing of it is touched meanwhile."""
    place = Place("test", str(house.run_dir), str(house.state_dir), Durability.SYSTEM)
    with beginning(place):
        assert house.start() == (
            f"cannot use the store {house.folder}: another daemon or command begins with it at this moment; "
            "try again, or choose another [daemon] state_dir"
        )
        assert list(house.folder.iterdir()) == []
        with pytest.raises(StoreUnusable, match="begins with it"), claimed(place):
            pass
    assert house.start() == ""


@pytest.mark.parametrize("is_new", [True, False])
def test_two_daemons_at_once(house: KeeperHouse, directory: Path, is_new: bool) -> None:
    """Of two that begin with one store at the same moment, one has it and the other one is refused."""
    (directory / "second").mkdir()
    second = KeeperHouse(directory / "second")
    second.state_dir = house.state_dir
    pid = os.fork()
    if pid == 0:
        signal.pause()
    second.be_root(pid)
    try:
        for _ in range(5):
            with ThreadPoolExecutor(2) as pool:
                refusals = list(pool.map(KeeperHouse.start, (house, second)))
            assert sorted(map(bool, refusals)) == [False, True], refusals
            assert any(why in max(refusals) for why in ("begins with it at this moment", "uses it; stop it"))
            winner = (house, second)[refusals.index("")]
            put(winner, b"one", times=3)
            winner.stop()
            if is_new:
                shutil.rmtree(house.state_dir)
            else:
                house.new_root()
    finally:
        second.dispose()
        procs.kill(pid)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("size", ["8k", "4m"])
def test_refused_when_full(directory: Path, size: str) -> None:
    """A disk without room is told of at the start; with some room, the next start succeeds."""
    import subprocess

    house = KeeperHouse(directory)
    house.state_dir.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(house.state_dir)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        filler = house.state_dir / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                pass
        refusal = house.start()
        assert "No space left on device; make room there" in refusal
        filler.unlink()
        if size == "4m":
            assert house.start() == ""
            house.kill()
        subprocess.run(["mount", "-o", "remount,ro", str(house.state_dir)], check=True)
        assert "Read-only file system; see to it, or choose another [daemon] state_dir" in house.start()
    finally:
        subprocess.run(["umount", "-l", str(house.state_dir)], check=True)
        house.dispose()


# formats


def test_migrations(house: KeeperHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older format is brought to the newest in order, each step once, also when somebody is killed between."""
    assert house.start() == ""
    house.stop()
    done: list[int] = []

    def step(number: int) -> Callable[[Store, Txn], None]:
        def change(store: Store, txn: Txn) -> None:
            txn.put(b"step%d" % number, b"", db=store.state)
            done.append(number)

        return change

    def fail(store: Store, txn: Txn) -> None:
        txn.put(b"half", b"", db=store.state)
        raise KeyboardInterrupt

    store = Store(StoreInfo(str(house.folder), Durability.SYSTEM))
    with pytest.raises(KeyboardInterrupt):
        migrate(store, 1, (step(1), fail))
    level = store.read(lambda txn: get_meta(txn, store.meta, "format"))
    assert (level, done) == (2, [1])
    assert migrate(store, level, (step(1), step(2), step(3))) == 4
    assert (store.row(b"half"), done) == (None, [1, 2, 3])
    assert store.read(lambda txn: get_meta(txn, store.meta, "format")) == 4
    store.shut()
    house.new_root()
    assert "its format is 4, of a newer regrow" in house.start()
    monkeypatch.setattr(keeper_preparing, "FORMAT", 5)
    assert prepare(Place("test", str(house.run_dir), str(house.state_dir), Durability.SYSTEM)).format == 4
    assert len(keeper_formats.MIGRATIONS) + 1 == levels.FORMAT


def test_little_address_space(house: KeeperHouse) -> None:
    """A new store has a map that leaves room for others; one that was made with more is not called damaged."""
    for house.address_space in (5 << 30, 0):
        assert house.start() == ""
        house.stop()
    shutil.rmtree(house.folder)
    assert house.start() == ""
    house.stop()
    house.address_space = 5 << 30
    why = house.start()
    assert "too little address space" in why
    assert "LimitAS=" in why
    assert "restore" not in why
