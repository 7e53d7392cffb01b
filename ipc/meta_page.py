"""
LMDB's two meta pages: what says which pages of the file are the store, and as of which transaction.

They are pages 0 and 1 of the file, and transaction `t` writes page `t & 1`. So whoever puts one of them back, goes back
to what it says, as long as none of the pages that it leads to has been written over since.

Source: LMDB 0.9, mdb.c: MDB_page, MDB_meta, MDB_db, mdb_env_write_meta, mdb_env_pick_meta.
"""

from __future__ import annotations

import os
import struct

from msgspec import Struct

MAGIC, VERSION = 0xBEEFC0DE, 1
META_FLAG = 0x08
NO_ROOT = 0xFFFFFFFFFFFFFFFF

_HEADER = struct.Struct("=QHHI")
"""Of every page: its number, padding, flags, and what depends on its kind."""

_META = struct.Struct("=IIQQ")
"""Magic, version, address, size of the map; then the two trees."""

_TREE = struct.Struct("=IHHQQQQQ")
_TAIL = struct.Struct("=QQ")
"""The last page, and the transaction."""

_TAIL_AT = _HEADER.size + _META.size + 2 * _TREE.size
META_BYTES = _TAIL_AT + _TAIL.size
"""All of a meta page that means anything: less than the 512 bytes that a disk writes whole."""


class BadMeta(Exception):
    """These are no meta pages of an LMDB file as this version of regrow knows them."""


class Root(Struct, frozen=True):
    """One tree: `flags` as of LMDB, `root` is `NO_ROOT` where it is empty."""

    pad: int
    flags: int
    depth: int
    branches: int
    leaves: int
    overflows: int
    entries: int
    root: int


class Meta(Struct, frozen=True):
    """What a meta page says; `page` is its bytes. `free` is the tree of pages that are not in use."""

    page: bytes
    txnid: int
    page_bytes: int
    map_bytes: int
    last_page: int
    free: Root
    main: Root

    @property
    def file_bytes(self) -> int:
        """How long the file has to be for every page that may be looked at."""
        return (self.last_page + 1) * self.page_bytes


def read_root(content: bytes, at: int = 0) -> Root:
    """The tree that `content` describes, in a meta page or in the entry of a named database."""
    return Root(*_TREE.unpack_from(content, at))


def parse(page: bytes) -> Meta:
    """
    Read one meta page.

    Raises:
        BadMeta.
    """
    if len(page) < META_BYTES:
        raise BadMeta("it ends before its first page does")
    _, _, flags, _ = _HEADER.unpack_from(page)
    magic, version, _, map_bytes = _META.unpack_from(page, _HEADER.size)
    if magic != MAGIC or not flags & META_FLAG:
        raise BadMeta("it is no LMDB file")
    if version != VERSION:
        raise BadMeta(f"it is an LMDB file of version {version}, and this one can do {VERSION}")
    free = read_root(page, _HEADER.size + _META.size)
    main = read_root(page, _HEADER.size + _META.size + _TREE.size)
    last_page, txnid = _TAIL.unpack_from(page, _TAIL_AT)
    page_bytes = free.pad
    if page_bytes < 512 or page_bytes & (page_bytes - 1) or page_bytes > 1 << 16 or last_page < 1:
        raise BadMeta("its first page makes no sense")
    return Meta(page[:META_BYTES], txnid, page_bytes, map_bytes, last_page, free, main)


def read(fd: int, txnid: int | None = None) -> Meta:
    """
    The newest meta page of the file, or that of `txnid`.

    Raises:
        BadMeta: it is no LMDB file, or has no such page any more.
        OSError.
    """
    first = parse(os.pread(fd, META_BYTES, 0))
    second = parse(os.pread(fd, META_BYTES, first.page_bytes))
    newest = second if second.txnid > first.txnid else first
    if txnid is None:
        return newest
    found = (first, second)[txnid & 1]
    if found.txnid != txnid:
        raise BadMeta(f"its page for transaction {txnid} is of {found.txnid}: another layout than LMDB 0.9's")
    return found


def put_back(fd: int, meta: Meta) -> None:
    """
    Make the file what it was when `meta` was its newest. Whoever does this must be alone; it may be done again.

    Raises:
        OSError.
    """
    for number in (meta.txnid & 1, ~meta.txnid & 1):
        txnid = meta.txnid if number == meta.txnid & 1 else meta.txnid - 1
        page = bytearray(meta.page)
        _HEADER.pack_into(page, 0, number, *_HEADER.unpack_from(page)[1:])
        _TAIL.pack_into(page, _TAIL_AT, meta.last_page, max(txnid, 0))
        os.pwrite(fd, page, number * meta.page_bytes)
    os.fsync(fd)
