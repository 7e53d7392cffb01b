"""Backups of a store in use, and others put in its place: each is one state of it, and nothing is ever neither."""

from __future__ import annotations

import os
import random
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import lmdb
import pytest
from filled_store import content, make_filled
from msgspec.structs import replace

from regrow.config.spec import Durability
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.levels import STEADY, read_owner, write_info, write_owner
from regrow.ipc.store import Store, StoreInfo, Txn
from regrow.workers.system import store_copies
from regrow.workers.system.keeper_place import Place
from regrow.workers.system.keeper_preparing import prepare
from regrow.workers.system.keeper_steady import SteadyPoints
from regrow.workers.system.store_copies import back_up, compact, content_of, restore
from regrow.workers.system.store_site import Site, claimed, of_daemon
from regrow.workers.system.store_verify import verify_store


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A store that no daemon has."""
    return make_filled(tmp_path)


@contextmanager
def child(does: str, place: Place) -> Iterator[int]:
    """A process that does something with the store until it is killed; it has begun."""
    ready, begun = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            globals()[does](place, begun)
        finally:
            os._exit(1)
    try:
        os.close(begun)
        assert os.read(ready, 1) == b"x"
        yield pid
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)


def writes(place: Place, begun: int) -> None:
    """Commit the same number under two keys far from each other, again and again, and more that comes and goes."""
    store = Store(StoreInfo(place.folder, Durability.PROCESS))
    number = 0
    while True:
        number += 1
        value = number.to_bytes(8, "big")

        def change(txn: lmdb.Transaction, value: bytes = value, number: int = number) -> None:
            txn.put(b"a\0 first\0", value, db=store.state)
            txn.put(b"z\0 last\0", value, db=store.state)
            txn.put(b"m\0 %d\0" % (number % 50), os.urandom(number * 37 % 9000), db=store.state)
            txn.delete(b"m\0 %d\0" % (number * 7 % 50), db=store.state)

        store.write(change)
        if number == 100:
            os.write(begun, b"x")


def claims(place: Place, begun: int) -> None:
    """Have the store for itself."""
    with claimed(place):
        os.write(begun, b"x")
        signal.pause()


def pair_in(path: str) -> list[bytes | None]:
    """The two values that are equal after each commit."""
    with lmdb.open(path, subdir=False, readonly=True, lock=False, max_dbs=8) as env:
        db = env.open_db(b"state", create=False)
        with env.begin() as txn:
            return [txn.get(b"a\0 first\0", db=db), txn.get(b"z\0 last\0", db=db)]


def test_backup_of_a_store_in_use(place: Place, tmp_path: Path) -> None:
    """Each backup is the state after one commit, sound, and the next is no earlier; so is what `verify` looks at."""
    write_info(place.run_dir, StoreInfo(place.folder, Durability.PROCESS))
    before = b""
    with child("writes", place), of_daemon(place.run_dir) as store:
        for number in range(10):
            path = str(tmp_path / f"backup-{number}")
            assert back_up(store, path) == os.path.getsize(path)
            assert content_of(path).daemon == "shop"
            first, last = pair_in(path)
            assert first is not None
            assert first == last
            assert first >= before
            before = first
            assert [fault for fault in verify_store(store).faults if not fault.startswith("state of")] == []


def test_one_at_a_time(place: Place) -> None:
    """Who has the store for himself keeps others out: commands and daemons; when he is killed, nothing is lost."""
    before = content(place)
    with child("claims", place) as pid:
        with pytest.raises(StoreUnusable, match=f"pid {pid}"), Site(place).writing():
            pass
        with pytest.raises(StoreUnusable, match=f"pid {pid}"):
            prepare(place)
    with Site(place).writing():
        pass
    assert content(place) == before


def test_failed_exchange(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the file cannot be put in place, the old one is there, closed in order, and nothing is left over."""
    path = str(tmp_path / "backup")
    with Site(place).reading() as store:
        back_up(store, path)
    before, files = content(place), sorted(os.listdir(place.folder))

    def fail(_source: str, _target: str) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", fail)
        with pytest.raises(OSError, match="Input/output"):
            restore(place, path)
    assert content(place) == before
    assert sorted(os.listdir(place.folder)) == files
    owner = read_owner(place.folder)
    assert owner is not None
    assert owner.clean


def test_power_loss_stays_on_record_until_something_else_is_there(place: Place, tmp_path: Path) -> None:
    """A store that waits for its recovery is replaced by a backup, or still waits for it."""
    path = str(tmp_path / "backup")
    with Site(place).reading() as store:
        back_up(store, path)
    before = content(place)
    owner = read_owner(place.folder)
    assert owner is not None
    lost = replace(owner, clean=False, boot_id="another")
    write_owner(place.folder, lost)
    with pytest.raises(StoreUnusable, match="power failed"), Site(place).reading():
        pass
    with pytest.raises(KeyError), claimed(place):
        raise KeyError
    assert read_owner(place.folder) == lost
    assert restore(place, path)
    assert content(place) == before


class Leaky:
    """An environment of which LMDB makes no compact copy, as after a loss of power."""

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env

    def copyfd(self, fd: int, compact: bool) -> None:
        os.write(fd, b"something")
        raise lmdb.IncompatibleError("mdb_env_copyfd2")

    def __getattr__(self, name: str) -> object:
        return getattr(self._env, name)


def test_pages_that_are_lost(place: Place, tmp_path: Path) -> None:
    """They are left behind by a copy row by row."""
    path = str(tmp_path / "backup")
    with Site(place).reading() as store:
        store_env, store.env = store.env, Leaky(store.env)  # type: ignore[assignment]
        try:
            back_up(store, path)
        finally:
            store.env = store_env
    before = content(place)
    assert restore(place, path)
    assert content(place) == before


def put(store: Store, value: bytes, txn: Txn) -> None:
    """Change something."""
    txn.put(b"m\0 x\0", value, db=store.state)


def test_transactions_go_on(place: Place, tmp_path: Path) -> None:
    """Of a copy too, because ordinals are made of their numbers; and it is as sound as before."""
    write_info(place.run_dir, StoreInfo(place.folder, Durability.PROCESS))
    path = str(tmp_path / "backup")
    with of_daemon(place.run_dir) as store:
        for number in range(20):
            store.write(partial(put, store, bytes([number])))
        back_up(store, path)
        last = store.write(lambda txn: txn.id())
    restore(place, path)
    with Site(place).writing() as store:
        assert store.write(lambda txn: txn.id()) >= last
    with Site(place).writing() as store:
        compact(place, store)
    with Site(place).writing() as store:
        assert store.write(lambda txn: txn.id()) >= last
        store.write(partial(put, store, b"\1"))
    with Site(place).reading() as store:
        assert verify_store(store).faults == ()


def exchanges(place: Place, begun: int) -> None:
    """Put other files in the place of the store, with the same content, again and again."""
    path = os.path.join(place.state_dir, "backup")
    while True:
        with Site(place).writing() as store:
            compact(place, store)
        os.unlink(restore(place, path))
        os.write(begun, b"x")


def test_kills_in_the_middle(place: Place, dice: random.Random) -> None:
    """Whoever is killed while he puts another file in place: the store is there, whole, and nobody has it."""
    with Site(place).reading() as store:
        back_up(store, os.path.join(place.state_dir, "backup"))
    before = content(place)
    for _ in range(25):
        with child("exchanges", place) as pid:
            pidfd = os.pidfd_open(pid)
            select.select([pidfd], [], [], dice.random() * 0.03)
            os.close(pidfd)
        assert content(place) == before
        with Site(place).writing():
            pass


def make_steady_point(place: Place) -> None:
    """As a keeper that runs leaves one."""
    store = Store(StoreInfo(place.folder, Durability.SYSTEM))
    points = SteadyPoints(store.env, place.folder)
    points.first()
    points.close()
    store.shut()


def test_steady_points_are_of_one_file(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a loss of power, and a restore that is killed at its last moment: no page is put into the backup."""
    path = str(tmp_path / "backup")
    with Site(place).reading() as store:
        back_up(store, path)
    before = content(place)
    with Site(place).writing() as store:
        store.write(lambda txn: txn.put(b"counter\0more", os.urandom(100_000), db=store.state))
    make_steady_point(place)
    steady = os.path.join(place.folder, STEADY)
    owner = read_owner(place.folder)
    assert owner is not None
    write_owner(place.folder, replace(owner, clean=False, boot_id="another"))

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(store_copies, "sync_folder", fail)
        with pytest.raises(OSError, match="Input/output"):
            restore(place, path)
    assert os.path.exists(steady)
    pid = os.fork()
    if pid == 0:
        monkeypatch.setattr(store_copies, "bump_generation", lambda _: os._exit(9))
        restore(place, path)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    with open(place.data, "rb") as data, open(path, "rb") as backup:
        exchanged = data.read()
        assert exchanged == backup.read()
    with pytest.raises(StoreUnusable, match="no steady point"):
        prepare(place)
    assert Path(place.data).read_bytes() == exchanged
    assert restore(place, path)
    assert content(place) == before
