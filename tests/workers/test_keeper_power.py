"""
Loss of power on a real file system: ext4 on a loop device, shut down in the middle of commits without any flush.

Before, some pages are brought to disk at random, as the kernel does when it likes: without recovery the store breaks.

Source: the kernel's fs/ext4/ioctl.c on EXT4_IOC_SHUTDOWN; sync_file_range(2).
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import random
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from keepers import KeeperHouse
from tree import short_directory

from regrow.config.spec import Durability
from regrow.ipc import meta_page
from regrow.ipc.errors import StoreError
from regrow.ipc.levels import DATA, SteadyFile
from regrow.ipc.store import Store, Txn
from regrow.workers.system.keeper_walk import walk

SHUTDOWN, WITHOUT_FLUSH = (2 << 30) | (4 << 16) | (ord("X") << 8) | 125, 2
ALL_OF_IT = 7
"""sync_file_range: wait before, write, wait after."""

_libc = ctypes.CDLL(None)


class Disk:
    """A file system of this test's own, mounted at `place`."""

    def __init__(self, directory: Path) -> None:
        self._image, self.place = directory / "image", directory / "disk"
        self.place.mkdir()
        with self._image.open("wb") as file:
            file.truncate(2 << 30)  # sparse; the file grows as fast as the machine commits
        self._run("mkfs.ext4", "-q", "-F", str(self._image))
        self.mount()

    def mount(self) -> None:
        self._run("mount", "-o", "loop", str(self._image), str(self.place))

    def cut_power(self) -> None:
        """From now on nothing reaches it; then it is what it was at that moment."""
        fd = os.open(self.place, os.O_RDONLY)
        fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", WITHOUT_FLUSH))
        os.close(fd)

    def remount(self) -> None:
        """
        What had reached it, in a file of its own: who copied this test's mounts keeps the old file system mounted.

        And to mount a file that still is means to get that file system again, after its power was cut.
        """
        rest = self._image.with_suffix(".rest")
        self._run("cp", "--sparse=always", "--reflink=auto", str(self._image), str(rest))
        self.unmount()
        rest.replace(self._image)
        self.mount()

    def unmount(self, *, lazily: bool = False) -> None:
        self._run("umount", *(["-l"] if lazily else []), str(self.place))

    @staticmethod
    def _run(*command: str) -> None:
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"cannot {command[0]} here: {done.stderr}")


class Writer(threading.Thread):
    """
    Commits as long as it can: each commit writes its number in two databases, and something large.

    `committed` is the last number that a commit has returned for.
    """

    def __init__(self, store: Store, seed: int, first: int) -> None:
        super().__init__()
        self._store, self._random = store, random.Random(seed)
        self.committed = first
        self.ended = ""
        self.over = threading.Event()

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self._store.write(lambda txn: self._change(txn, self.committed + 1))
            except StoreError as error:
                self.ended = str(error)
                return
            self.committed += 1

    def _change(self, txn: Txn, number: int) -> None:
        pick = self._random
        txn.put(b"number", b"%d" % number, db=self._store.state)
        txn.put(b"number", b"%d" % number, db=self._store.messages)
        txn.put(b"%d" % pick.randrange(500), pick.randbytes(pick.choice((10, 500, 9000))), db=self._store.state)
        txn.put(b"k%d" % number, b"", db=self._store.messages)


@pytest.fixture
def disk() -> Iterator[Disk]:
    """An ext4 of its own."""
    with short_directory() as directory:
        made = Disk(directory)
        yield made
        made.unmount(lazily=True)


def bring_some_to_disk(path: Path, pick: random.Random) -> None:
    """As the kernel does it, at any time, to any page."""
    fd = os.open(path, os.O_RDONLY)
    size = os.fstat(fd).st_size
    for at in (0, *(pick.randrange(0, size) // 4096 * 4096 for _ in range(60))):
        _libc.sync_file_range(fd, ctypes.c_long(at), ctypes.c_long(4096 * pick.randrange(1, 9)), ALL_OF_IT)
    os.close(fd)


def numbers(store: Store) -> tuple[int, int, int]:
    """What the two databases say was committed last, and how many commits are there."""

    def look(txn: Txn) -> tuple[int, int, int]:
        first, second = (int(txn.get(b"number", b"0", db=db)) for db in (store.state, store.messages))
        return first, second, sum(key.startswith(b"k") for key in txn.cursor(store.messages).iternext(values=False))

    return store.read(look)


def last_commit(store: Store) -> tuple[int, int]:
    """Its number, and its transaction."""
    return store.read(lambda txn: (int(txn.get(b"number", b"0", db=store.state)), int(txn.id())))


def await_steady(house: KeeperHouse, writer: Writer, txnid: int) -> None:
    """Wait for a steady point that holds this transaction; commits go on."""
    if house.durability is Durability.SYSTEM:
        steady = SteadyFile(str(house.folder))
        while (meta := steady.newest()) is None or meta.txnid < txnid:
            assert not writer.ended
            writer.over.wait(0.01)
        steady.close()


def is_broken(path: Path) -> bool:
    """Whether the file as the power left it is not whole."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return bool(walk(fd, meta_page.read(fd)).faults)
    finally:
        os.close(fd)


@pytest.mark.root
@pytest.mark.timeout(300)
@pytest.mark.parametrize("durability", [Durability.SYSTEM, Durability.FULL])
def test_power_cut(disk: Disk, directory: Path, durability: Durability) -> None:
    """After each of ten cuts the store is whole, as of a moment before; at level `full` nothing is missing."""
    house = KeeperHouse(directory, durability)
    try:
        _cut_again_and_again(disk, house)
    finally:
        house.dispose()


def _cut_again_and_again(disk: Disk, house: KeeperHouse) -> None:
    durability = house.durability
    house.state_dir = disk.place / "state"
    pick, broken, last, kept = random.Random(3), 0, 0, 0
    for turn in range(10):
        assert house.start() == ""
        store = house.store()
        first, second, count = numbers(store)
        assert first == second == count
        assert kept <= first
        if durability is Durability.FULL:
            assert first in (last, last + 1)  # the last one may be there without its writer knowing
        writer = Writer(store, turn, first)
        writer.start()
        writer.over.wait(pick.uniform(0.3, 0.7))
        kept, txnid = last_commit(store)
        await_steady(house, writer, txnid)
        writer.over.wait(pick.uniform(0.0, 0.3))
        bring_some_to_disk(house.data, pick)
        disk.cut_power()
        house.kill()
        writer.over.set()
        writer.join()
        last = writer.committed
        store.close()
        disk.remount()
        broken += is_broken(house.folder / DATA)
        house.reboot()
    assert broken >= 5 or durability is Durability.FULL, broken


@pytest.fixture
def directory() -> Iterator[Path]:
    """With a short name, for the addresses of sockets."""
    with short_directory() as path:
        yield path
