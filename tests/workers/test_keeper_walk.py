"""Going through all pages of a store without LMDB: values on pages of their own, however large they are."""

from __future__ import annotations

import os
from pathlib import Path

import lmdb
import pytest

from regrow.ipc import meta_page
from regrow.workers.system import keeper_walk
from regrow.workers.system.keeper_walk import Walked, walk

MOST_BYTES = 64 << 10
"""So much is read at a time here; read(2) gives 2 GiB, less than a value may have."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """One that holds a large value, and a list of free pages that lies on pages of its own."""
    with lmdb.open(str(tmp_path), map_size=1 << 26, max_dbs=2, sync=False) as env:
        state = env.open_db(b"state")
        with env.begin(write=True, db=state) as txn:
            txn.put(b"large", os.urandom(3 << 20))
            for number in range(2000):
                txn.put(b"%d" % number, bytes(3000))
        with env.begin(write=True, db=state) as txn:
            for number in range(1900):
                txn.delete(b"%d" % number)
    return tmp_path / "data.mdb"


def walked(file: Path) -> Walked:
    """All of it as it is."""
    fd = os.open(file, os.O_RDONLY)
    try:
        return walk(fd, meta_page.read(fd))
    finally:
        os.close(fd)


def test_values_that_no_single_read_gives(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are whole, and the walk keeps no more of one in memory than a piece."""
    pread, asked = os.pread, set[int]()

    def bounded(fd: int, count: int, at: int) -> bytes:
        asked.add(count)
        return pread(fd, min(count, MOST_BYTES), at)

    expected = walked(file)
    monkeypatch.setattr(os, "pread", bounded)
    found = walked(file)
    assert found == expected
    assert found.faults == ()
    assert found.entries == 101
    assert found.free > 900
    assert max(asked) == keeper_walk._PIECE_BYTES


def test_values_that_are_not_whole(file: Path) -> None:
    """A large value of which the pages say that they are fewer, or another kind, is a fault."""
    content = bytearray(file.read_bytes())
    heads = [
        at
        for at in range(8192, len(content), 4096)
        if content[at + 10 : at + 12] == b"\4\0" and int.from_bytes(content[at + 12 : at + 16], "little") == 769
    ]
    assert len(heads) == 1
    content[heads[0] + 12 : heads[0] + 16] = (768).to_bytes(4, "little")
    file.write_bytes(content)
    (fault, *_) = walked(file).faults
    assert f"leads to {heads[0] // 4096}, which holds no value of {3 << 20} bytes" in fault
    content[heads[0] + 10 : heads[0] + 12] = b"\2\0"
    file.write_bytes(content)
    assert "which holds no value" in walked(file).faults[0]
