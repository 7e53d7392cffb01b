"""Steady points: whatever the power leaves of the file, it goes back to exactly the last one."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import lmdb
import pytest

from regrow.config.spec import Durability
from regrow.ipc import meta_page
from regrow.ipc.levels import DATA, SLOT_BYTES, STEADY, SteadyFile
from regrow.ipc.points import Point, install
from regrow.workers.system.keeper_recovery import after_power_loss
from regrow.workers.system.keeper_steady import SteadyPoints
from regrow.workers.system.keeper_walk import walk

SECTOR = 512
DATABASES = (b"state", b"messages", b"meta")
Content = dict[tuple[bytes, bytes], bytes]


class Killed(BaseException):
    """A process that ends here: nothing of what comes after it happens."""


class World:
    """A store under random commits, in a folder of its own."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = str(folder)
        self.random = random.Random(seed)
        self.env = lmdb.open(self.folder, map_size=1 << 30, max_dbs=8, sync=False, metasync=False, mode=0o600)
        self.databases = [self.env.open_db(name) for name in DATABASES]

    def commit(self, times: int = 1) -> None:
        """Put and delete, small and large."""
        pick = self.random
        for _ in range(times):
            with self.env.begin(write=True) as txn:
                for _ in range(pick.randrange(1, 20)):
                    key, db = b"%d" % pick.randrange(400), pick.choice(self.databases)
                    if pick.random() < 0.3:
                        txn.delete(key, db=db)
                    else:
                        txn.put(key, pick.randbytes(pick.choice((8, 100, 1000, 5000, 20000))), db=db)

    def content(self) -> Content:
        return content_of(self.env)

    def image(self) -> bytes:
        """The file as a machine that goes on would see it."""
        return Path(self.folder, DATA).read_bytes()

    def steady(self) -> bytes:
        return Path(self.folder, STEADY).read_bytes()

    def close(self) -> None:
        self.env.close()


def content_of(env: lmdb.Environment) -> Content:
    """All that is in the three databases."""
    databases = [env.open_db(name, create=False) for name in DATABASES]
    with env.begin() as txn:
        return {
            (name, bytes(key)): bytes(value)
            for name, db in zip(DATABASES, databases, strict=True)
            for key, value in txn.cursor(db)
        }


LATER = (Point.STEADY_PINNED, Point.STEADY_SYNCED, Point.STEADY_WRITTEN, Point.STEADY_MADE)
FIRST = (Point.STEADY_BEGUN, Point.STEADY_LOCKED, Point.STEADY_SYNCED, Point.STEADY_WRITTEN, Point.STEADY_MADE)
UNDER_LOCK = FIRST[1:4]


@pytest.fixture(autouse=True)
def no_hook() -> Iterator[None]:
    """Whatever a test has installed is gone after it."""
    yield
    install(None)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """One with something in it."""
    folder = tmp_path / "state"
    folder.mkdir()
    made = World(folder, seed=11)
    made.commit(60)
    yield made
    made.close()


def mixture(images: list[bytes], pick: random.Random) -> bytes:
    """What a disk may hold when the power goes: of each sector any version since the first image was brought to it."""
    longest = max(map(len, images))
    length = len(images[0]) + pick.choice((0, pick.randrange(0, longest - len(images[0]) + 1)))
    made = bytearray()
    whole = pick.random() < 0.5
    for page in range(0, length, 4096):
        chosen = pick.choice(images)
        for at in range(page, min(page + 4096, length), SECTOR):
            source = chosen if whole else pick.choice(images)
            made += source[at : at + SECTOR].ljust(SECTOR, b"\0")
    return bytes(made[:length])


def after(folder: Path, data: bytes, steady: bytes) -> Path:
    """The folder that is found after the power has come back."""
    folder.mkdir()
    (folder / DATA).write_bytes(data)
    (folder / STEADY).write_bytes(steady)
    return folder


def recovered(folder: Path) -> Content:
    """What the store holds after the recovery; every page of it is looked at."""
    after_power_loss(str(folder), "", Durability.SYSTEM)
    fd = os.open(folder / DATA, os.O_RDONLY)
    try:
        meta = meta_page.read(fd)
        assert walk(fd, meta).faults == ()
    finally:
        os.close(fd)
    with lmdb.open(str(folder), map_size=1 << 30, max_dbs=8, create=False) as env:
        return content_of(env)


def damage(folder: Path) -> bool:
    """Whether the newest meta page leads to a store that is not whole."""
    fd = os.open(folder / DATA, os.O_RDONLY)
    try:
        return bool(walk(fd, meta_page.read(fd)).faults)
    finally:
        os.close(fd)


@pytest.mark.timeout(300)
def test_power_loss(world: World, tmp_path: Path) -> None:
    """Any mixture of the sectors written since goes back to the steady point, and would be broken without it."""
    pick = random.Random(5)
    broken = 0
    points = SteadyPoints(world.env, world.folder)
    points.first()
    for turn in range(12):
        expected, images = world.content(), [world.image()]
        steady = world.steady()
        for _ in range(6):
            world.commit(pick.choice((1, 2, 10, 30)))
            images.append(world.image())
        for number in range(12):
            folder = after(tmp_path / f"{turn}.{number}", mixture(images, pick), steady)
            broken += damage(folder)
            assert recovered(folder) == expected
        points.make()
    points.close()
    assert broken > 100, broken


def test_power_loss_without_a_pin(world: World, tmp_path: Path) -> None:
    """Without the pin, pages of the steady point are written over: the test above can fail."""
    pick = random.Random(5)
    points = SteadyPoints(world.env, world.folder)
    points.first()
    points.close()
    images, steady = [world.image()], Path(world.folder, STEADY).read_bytes()
    world.commit(200)
    images.append(world.image())
    folder = after(tmp_path / "lost", mixture(images, pick), steady)
    with pytest.raises((AssertionError, lmdb.Error)):
        recovered(folder)


@pytest.mark.timeout(300)
def test_power_loss_within_a_step(world: World, tmp_path: Path) -> None:
    """Between any two steps of a steady point the one before, or the new one, is what the power leaves."""
    pick = random.Random(6)
    seen: list[Point] = []
    expected: list[Content] = []
    images: list[bytes] = []

    def step(here: Point) -> None:
        seen.append(here)
        if here is Point.STEADY_SYNCED:
            del images[:]  # older versions of a page cannot come back
        images.append(world.image())
        folder = after(tmp_path / f"{len(seen)}", mixture(images, pick), torn(world.steady(), steadies[-1], pick))
        assert recovered(folder) in expected[-2:]
        if here is not Point.STEADY_WRITTEN:
            world.commit(3)

    points = SteadyPoints(world.env, world.folder)
    points.first()
    expected.append(world.content())
    install(step)
    for _ in range(10):
        world.commit(10)
        steadies = [world.steady()]
        expected.append(world.content())
        points.make()
    points.close()
    assert set(seen) == set(LATER)


def torn(now: bytes, before: bytes, pick: random.Random) -> bytes:
    """The file `steady` of which each slot is as it was or as it is, or half of it."""
    made = b""
    for at in range(0, 2 * SLOT_BYTES, SLOT_BYTES):
        new, old = now[at : at + SLOT_BYTES], before[at : at + SLOT_BYTES]
        cut = pick.choice((0, SLOT_BYTES, 64))
        made += new[:cut] + old[cut:]
    return made


def in_child(body: Callable[[], None]) -> None:
    """Run it in a forked process that ends by SIGKILL."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize(
    ("which", "point"), [*(("first", point) for point in FIRST), *(("later", point) for point in LATER)]
)
def test_keeper_killed(tmp_path: Path, which: str, point: Point) -> None:
    """A keeper that is killed between two steps, its successor, and a loss of power at any time after."""
    folder = tmp_path / "state"
    folder.mkdir()
    pick = random.Random(point)

    def first() -> None:
        child = World(folder, seed=1)
        child.commit(40)
        child.env.sync(True)

        def kill(here: Point) -> None:
            if here is point:
                if which == "later" or here not in UNDER_LOCK:
                    child.commit(3)
                os.kill(os.getpid(), signal.SIGKILL)

        points = SteadyPoints(child.env, child.folder)
        install(kill if which == "first" else None)
        points.first()
        install(kill)
        for _ in range(3):
            child.commit(10)
            points.make()

    in_child(first)
    world = World(folder, seed=2)
    points = SteadyPoints(world.env, world.folder)
    points.first()
    expected, images, steady = world.content(), [world.image()], world.steady()
    for _ in range(20):
        world.commit(5)
        images.append(world.image())
    for number in range(6):
        assert recovered(after(tmp_path / f"{number}", mixture(images, pick), steady)) == expected
    points.close()
    world.close()


def test_writer_killed(tmp_path: Path) -> None:
    """
    A writer that dies with the lock has a dead keeper's pin cleared by the next writer; a living one's stays.

    So until the next keeper's first steady point nothing protects the last one: that is why it is made under the lock.
    """
    folder = tmp_path / "state"
    folder.mkdir()
    world = World(folder, seed=3)
    world.commit(20)

    def keeper() -> None:
        world.env.close()
        child = World(folder, seed=4)
        points = SteadyPoints(child.env, child.folder)
        points.first()
        os.kill(os.getpid(), signal.SIGKILL)

    def writer() -> None:
        world.env.close()
        child = World(folder, seed=5)
        txn = child.env.begin(write=True)
        txn.put(b"half", b"done", db=child.databases[0])
        os.kill(os.getpid(), signal.SIGKILL)

    def pins() -> int:
        return sum(line.split()[2] != "-" for line in world.env.readers().splitlines()[1:])

    in_child(keeper)
    assert pins() == 1  # it holds without its keeper
    world.commit()
    assert pins() == 1
    in_child(writer)
    world.commit()
    assert pins() == 0
    gate_out, gate_in = os.pipe()
    pid = os.fork()  # before there is a pin: a forked process that closes its parent's environment would end it
    if pid == 0:
        os.read(gate_out, 1)
        writer()
    points = SteadyPoints(world.env, world.folder)
    points.first()
    os.write(gate_in, b"\n")
    os.waitpid(pid, 0)
    world.commit()
    assert pins() == 1
    points.close()
    world.close()
    os.close(gate_out)
    os.close(gate_in)


def test_failed_sync(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an fsync that failed all is written once more before the next; the last point stays until then."""
    points = SteadyPoints(world.env, world.folder)
    points.first()
    expected, steady, images = world.content(), world.steady(), [world.image()]
    world.commit(10)
    images.append(world.image())

    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output error"):
            points.make()
    assert world.steady() == steady
    assert recovered(after(tmp_path / "before", mixture(images, world.random), steady)) == expected
    written = []
    real = os.pwrite

    def count(fd: int, content: bytes, at: int) -> int:
        written.append(len(content))
        return real(fd, content, at)

    monkeypatch.setattr(os, "pwrite", count)
    points.make()
    assert sum(written) >= len(images[-1])
    assert recovered(after(tmp_path / "after", world.image(), world.steady())) == world.content()
    points.close()


def test_steady_of_garbage(tmp_path: Path) -> None:
    """A slot that is not whole counts as none."""
    file = SteadyFile(str(tmp_path))
    assert file.newest() is None
    file.close()
    (tmp_path / STEADY).write_bytes(os.urandom(2 * SLOT_BYTES))
    file = SteadyFile(str(tmp_path))
    assert file.newest() is None
    file.close()


def test_unknown_layout(world: World) -> None:
    """A file that LMDB itself has laid out otherwise is refused before anything relies on it."""
    with pytest.raises(meta_page.BadMeta):
        meta_page.parse(world.image()[:4096].replace((1).to_bytes(4, "little"), (2).to_bytes(4, "little"), 1))
