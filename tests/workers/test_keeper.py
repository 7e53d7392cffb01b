"""The keeper: what it makes, and what is left after each kind of end. In processes of its own."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path

import lmdb
import procs
import pytest
from keepers import KeeperHouse, last_txnid, put, steady_txnid, value
from tree import short_directory

from regrow.config.spec import Durability
from regrow.ipc import meta_page
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.levels import get_meta
from regrow.ipc.store import Store, StoreInfo
from regrow.workers.system import keeper_snapshots
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.hub_watch import Watch
from regrow.workers.system.keeper_snapshots import Snapshots
from regrow.workers.system.keeper_walk import walk

LEVELS = list(Durability)


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


@pytest.fixture(params=LEVELS)
def any_house(directory: Path, request: pytest.FixtureRequest) -> Iterator[KeeperHouse]:
    """At each level."""
    made = KeeperHouse(directory, request.param)
    yield made
    made.dispose()


# its life


def test_first_start(any_house: KeeperHouse) -> None:
    """A store that nobody else may read, its agents, an orderly end; then another start goes on with it."""
    house = any_house
    assert house.start(pricer=2, shop=1) == ""
    assert house.folder.stat().st_mode & 0o777 == 0o700
    assert {path.name: path.stat().st_mode & 0o077 for path in house.folder.iterdir()}.keys() >= {"data.mdb", "owner"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in house.folder.iterdir())
    store = house.store()
    assert store.read(lambda txn: get_meta(txn, store.meta, "agents")) == {"pricer": 2, "shop": 1}
    assert store.read(lambda txn: get_meta(txn, store.meta, "name")) == "test"
    assert store.durability is house.durability
    store.close()
    assert not house.owner().clean
    put(house, b"one")
    house.stop()
    assert house.owner().clean
    assert not (house.run_dir / "store").exists()
    with pytest.raises(StoreUnusable):
        house.store()
    house.new_root()
    assert house.start(shop=1) == ""
    assert value(house) == b"one"


def test_killed(any_house: KeeperHouse) -> None:
    """A keeper that is killed leaves the store in use; the next one takes over while others have it open."""
    house = any_house
    assert house.start() == ""
    store = house.store()
    put(house, b"one")
    house.kill()
    put(house, b"two")
    assert house.start() == ""
    put(house, b"three")
    assert value(house) == b"three"
    store.close()
    house.stop()
    assert house.owner().clean


def test_ended_while_in_use(house: KeeperHouse) -> None:
    """An orderly end while others have the store open does not call it closed, and leaves its pin to the next one."""
    assert house.start() == ""
    store = house.store()
    put(house, b"one")
    pid = house.pid
    house.stop()
    assert not house.owner().clean
    assert any(line.split()[0] == str(pid) and line.split()[2] != "-" for line in store.env.readers().splitlines()[1:])
    assert house.start() == ""
    assert not any(line.split()[0] == str(pid) for line in store.env.readers().splitlines()[1:])
    store.close()


def test_steady_point_soon(house: KeeperHouse) -> None:
    """What is committed is steady a moment later; who waits for that sees the byte go back."""
    assert house.start() == ""
    put(house, b"one", times=20)
    store = house.store()
    while steady_txnid(house) < last_txnid(house):
        procs.wait_dead(house.pid, 0.02)
    assert store._signs[0] == 0
    store.close()


def test_no_wake_up(any_house: KeeperHouse) -> None:
    """Without commits the keeper is not woken: not one switch in a second."""
    house = any_house
    assert house.start() == ""
    put(house, b"one")
    procs.wait_dead(house.pid, 1.0)  # what is to be done about it is done

    def switches() -> list[str]:
        text = Path(f"/proc/{house.pid}/status").read_text()
        return [line for line in text.splitlines() if "ctxt_switches" in line]

    before = switches()
    assert not procs.wait_dead(house.pid, 1.5)
    assert switches() == before


def test_growth_is_bounded(house: KeeperHouse) -> None:
    """A writer that replaces 1 MiB as fast as it can, for two seconds: pins do not make the file grow without end."""
    assert house.start() == ""
    store = house.store()
    commits = 0
    while not procs.wait_dead(house.pid, 0.0) and commits < 4000:
        commits += 1
        store.write(lambda txn: txn.put(b"big", os.urandom(1 << 20), db=store.state))
    store.close()
    assert house.data.stat().st_size < 1 << 30, (house.data.stat().st_size, commits)


def test_dead_readers(house: KeeperHouse) -> None:
    """A reader that is killed pins pages only until the next steady point."""
    assert house.start() == ""
    gate_out, gate_in = os.pipe()
    pid = os.fork()
    if pid == 0:
        txn = Store.open(str(house.run_dir)).env.begin()
        os.write(gate_in, b"%d" % txn.id())
        signal.pause()
    os.read(gate_out, 16)
    procs.kill(pid)
    os.waitpid(pid, 0)
    os.close(gate_out)
    os.close(gate_in)
    store = house.store()
    put(house, b"one")
    while any(line.split()[0] == str(pid) for line in store.env.readers().splitlines()[1:]):
        procs.wait_dead(house.pid, 0.02)
    store.close()


# loss of power


def test_power_loss_system(house: KeeperHouse) -> None:
    """The store is as of its last steady point, which is said."""
    assert house.start() == ""
    put(house, b"one")
    while steady_txnid(house) < last_txnid(house):
        procs.wait_dead(house.pid, 0.02)
    procs.kill(house.pid, signal.SIGSTOP)
    put(house, b"two", b"three")
    house.kill()
    house.reboot()
    assert house.start() == ""
    assert value(house) == b"one"
    assert "as of its last steady point; 2 later commits are lost" in house.await_said("X_REGROW_TEXT=the power failed")


def test_power_loss_process(directory: Path) -> None:
    """The newest snapshot is used; the file that was in use is kept beside it, which is said."""
    house = KeeperHouse(directory, Durability.PROCESS)
    assert house.start() == ""
    put(house, b"one")
    house.stop()
    assert len(house.snapshots) == 2
    house.new_root()
    assert house.start() == ""
    assert len(house.snapshots) == 2  # it is of this very state
    put(house, b"two")
    house.kill()
    house.reboot()
    damaged = bytearray(house.data.read_bytes())
    damaged[8192:] = os.urandom(len(damaged) - 8192)
    house.data.write_bytes(damaged)
    assert house.start() == ""
    assert value(house) == b"one"
    said = house.await_said("X_REGROW_TEXT=the power failed")
    kept = [path for path in house.folder.iterdir() if path.name.startswith("data.mdb.")]
    assert len(kept) == 1
    assert kept[0].read_bytes() == damaged
    assert str(kept[0]) in said
    house.dispose()


def test_power_loss_process_without_snapshot(directory: Path) -> None:
    """Nothing to fall back on: refused, and nothing is touched."""
    house = KeeperHouse(directory, Durability.PROCESS)
    assert house.start() == ""
    house.kill()
    house.reboot()
    for path in house.snapshots:
        path.unlink()
    before = house.data.read_bytes()
    assert "holds no snapshot to go back to; restore a backup" in house.start()
    assert house.data.read_bytes() == before
    house.dispose()


def test_power_loss_full(directory: Path) -> None:
    """Nothing is to be done."""
    house = KeeperHouse(directory, Durability.FULL)
    assert house.start() == ""
    put(house, b"one", b"two")
    house.kill()
    house.reboot()
    assert house.start() == ""
    assert value(house) == b"two"
    assert not any("power" in line for line in house.said)
    house.dispose()


@pytest.mark.parametrize("before", LEVELS)
@pytest.mark.parametrize("after", LEVELS)
def test_level_changed(directory: Path, before: Durability, after: Durability) -> None:
    """Another level than in the last run, after an orderly end, a killed root, and a loss of power."""
    house = KeeperHouse(directory, before)
    assert house.start() == ""
    put(house, b"one")
    house.stop()
    house.new_root()
    house.durability = after
    assert house.start() == ""
    put(house, b"two")
    house.kill()
    house.new_root()
    house.durability = before
    assert house.start() == ""
    assert value(house) == b"two"
    house.kill()
    house.reboot()
    house.durability = after
    try:
        assert house.start() == ""
        # Where there was a snapshot already, the next one is taken beside the work, and may not have been ready.
        lately = before is after is Durability.PROCESS
        assert value(house) in ((b"one", b"two") if lately else (b"two",))
    finally:
        house.dispose()


# snapshots


def test_snapshots(directory: Path) -> None:
    """Two are kept, each of which can be used by itself; a failure leaves those that are there."""
    house = KeeperHouse(directory, Durability.PROCESS)
    assert house.start() == ""
    for text in (b"one", b"two", b"three"):
        put(house, text, times=10)
        house.stop()
        house.new_root()
        assert house.start() == ""
    first, second = house.snapshots
    for path in (first, second):
        fd = os.open(path, os.O_RDONLY)
        assert walk(fd, meta_page.read(fd)).faults == ()
        assert meta_page.read(fd).txnid > 10  # it goes on counting: ordinals of posts are made of these numbers
        os.close(fd)
    put(house, b"four")
    house.kill()
    env = lmdb.open(str(house.folder), map_size=1 << 30, max_dbs=8)
    folder = directory / "file"
    folder.write_text("in the way")
    fault = keeper_snapshots.fault_of(lambda: keeper_snapshots.take(env, str(folder), "0" * 32))
    assert "file" in fault
    assert keeper_snapshots.take(env, str(house.state_dir / "snapshots"), "0" * 32) == str(house.snapshots[-1])
    assert len(house.snapshots) == 2
    env.close()
    house.dispose()


def test_snapshots_while_in_use(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only when something was committed, and not before an hour; a full disk is told once, and is over when it is."""
    house = KeeperHouse(directory, Durability.PROCESS)
    assert house.start() == ""
    house.stop()
    store = Store(StoreInfo(str(house.folder), Durability.PROCESS))
    watch, timers, told = Watch(), Timers(), []
    folder = directory / "copies"
    snapshots = Snapshots(store, str(folder), "0" * 32, watch, lambda about, text: told.append((about, text)))
    snapshots.begin(lately=True)  # there is none to fall back on: it is taken now
    assert len(list(folder.iterdir())) == 1
    snapshots.begin(lately=True)
    snapshots.due(timers)
    wait_s = timers.wait_s()
    assert wait_s is not None
    assert 3500 < wait_s <= 3600

    def one() -> None:
        due = Timers()
        snapshots._timer = None
        snapshots.due(due)
        due.run()
        assert select.select([watch.fileno()], [], [], 10.0)[0]
        watch.turn()

    monkeypatch.setattr(keeper_snapshots, "PERIOD_S", 0.0)
    store.write(lambda txn: txn.put(b"a", b"b", db=store.state))
    one()
    assert told == [("snapshot", "")]
    assert len(list(folder.iterdir())) == 2

    def full(_fd: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        one()
    assert told[-1] == ("snapshot", "no snapshot was taken: snapshots: No space left on device")
    assert len(list(folder.iterdir())) == 2
    one()
    assert told[-1] == ("snapshot", "")
    snapshots.close()
    watch.close()
    store.shut()
    house.dispose()
