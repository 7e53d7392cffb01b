"""
What the three levels of durability need beside the store's data: who runs on it, and the last steady point.

`owner` says which daemon has the store, at which level, in which boot, and whether it closed it in order. `steady`
holds the meta page of a state that is certainly on disk: two slots, written in turn, each with a checksum.

Source: architecture section 7; open(2), fdatasync(2), rename(2) on what survives the loss of power.
"""

from __future__ import annotations

import os
import struct
import zlib
from typing import Any

import msgspec
from msgspec import Struct

from regrow.config.spec import Durability
from regrow.ipc.meta_page import META_BYTES, BadMeta, Meta, parse
from regrow.ipc.store import INFO, StoreInfo

DATA, LOCK = "data.mdb", "lock.mdb"
OWNER, STEADY, SNAPSHOTS = "owner", "steady", "snapshots"
FORMAT = 1
"""The level of the store's format that this regrow writes."""

SLOT_BYTES = 4096
_SLOT = struct.Struct("=8sQII")
"""Of a slot: a magic word, its sequence number, the length of the meta page, and the checksum of both."""

_STEADY_MAGIC = b"regrowS1"


class Owner(Struct, frozen=True, kw_only=True):
    """
    The daemon that has, or last had, the store; `pid` and `start` are its root's, in the boot `boot_id`.

    `clean`: all was on disk when it closed the store. While it runs, it is not.
    """

    daemon: str
    run_dir: str
    pid: int
    start: int
    boot_id: str
    durability: Durability
    clean: bool = False


def read_owner(folder: str) -> Owner | None:
    """
    Who has the store; None when nobody ever had, or what is written there cannot be read any more.

    Raises:
        OSError.
    """
    try:
        with open(os.path.join(folder, OWNER), "rb") as file:
            return msgspec.json.decode(file.read(), type=Owner)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def write_owner(folder: str, owner: Owner) -> None:
    """
    Durably.

    Raises:
        OSError.
    """
    write_durably(os.path.join(folder, OWNER), msgspec.json.encode(owner))


def write_info(run_dir: str, info: StoreInfo) -> None:
    """Say to all that the store is fit for use; it says nothing that is worth hiding. Raises OSError."""
    path = os.path.join(run_dir, INFO)
    with open(f"{path}.new", "wb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(msgspec.json.encode(info))
    os.rename(f"{path}.new", path)


def write_durably(path: str, content: bytes) -> None:
    """
    The file `path` has this content from now on, or what it had, whatever happens meanwhile.

    Raises:
        OSError.
    """
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    os.rename(f"{path}.new", path)
    sync_folder(os.path.dirname(path))


def sync_file(path: str) -> None:
    """What was written to it, by whomever, is on disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_folder(folder: str) -> None:
    """What was made, renamed or removed in it stays so. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class SteadyFile:
    """
    The file `steady`, open.

    Raises:
        OSError.
    """

    def __init__(self, folder: str) -> None:
        path = os.path.join(folder, STEADY)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(self._fd).st_size < 2 * SLOT_BYTES:
                os.posix_fallocate(self._fd, 0, 2 * SLOT_BYTES)
                os.fsync(self._fd)
                sync_folder(folder)
        except BaseException:
            os.close(self._fd)
            raise

    def newest(self) -> Meta | None:
        """The last steady point; None where there is none. Raises OSError."""
        found = [told for slot in (0, 1) if (told := self._read(slot)) is not None]
        return max(found, key=lambda told: told[0])[1] if found else None

    def write(self, meta: Meta) -> None:
        """
        From now on this is the last steady point; the one before stays whole until then.

        They are numbered, as the transactions of a store that was put in the place of another begin anew.

        Raises:
            OSError: it is not.
        """
        numbers = [told[0] if (told := self._read(slot)) is not None else 0 for slot in (0, 1)]
        slot, number = numbers.index(min(numbers)), max(numbers) + 1
        content = _SLOT.pack(_STEADY_MAGIC, number, len(meta.page), _checksum(number, meta.page)) + meta.page
        os.pwrite(self._fd, content, slot * SLOT_BYTES)
        os.fdatasync(self._fd)

    def close(self) -> None:
        os.close(self._fd)

    def _read(self, slot: int) -> tuple[int, Meta] | None:
        content = os.pread(self._fd, _SLOT.size + META_BYTES, slot * SLOT_BYTES)
        if len(content) < _SLOT.size + META_BYTES:
            return None
        magic, number, length, checksum = _SLOT.unpack_from(content)
        page = content[_SLOT.size :]
        if magic != _STEADY_MAGIC or length != len(page) or _checksum(number, page) != checksum:
            return None
        try:
            return number, parse(page)
        except BadMeta:
            return None


def _checksum(number: int, page: bytes) -> int:
    return zlib.crc32(page, zlib.crc32(struct.pack("=Q", number)))


def get_meta(txn: Any, db: Any, key: str) -> Any:
    """What the database `meta` says under this key; None when nothing."""
    found = txn.get(key.encode(), db=db)
    return None if found is None else msgspec.msgpack.decode(found)


def put_meta(txn: Any, db: Any, key: str, value: Any) -> None:
    """Have the database `meta` say it."""
    txn.put(key.encode(), msgspec.msgpack.encode(value), db=db)
