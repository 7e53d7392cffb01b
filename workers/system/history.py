"""
Reading a log across its rotated files, while they may be rotated again.

Files only ever move to higher numbers, and we look from the lowest up: so a file may be met twice, which
its inode tells, but never be missed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from regrow.workers.system.log_protocol import Position
from regrow.workers.system.rotation import old_path

BLOCK_BYTES = 64 * 1024

Found = TypeVar("Found")


class Part(NamedTuple):
    """One open file of a log. `size` is as of its opening."""

    fd: int
    inode: int
    size: int


@contextmanager
def parts(path: str) -> Iterator[list[Part]]:
    """
    Open the present file and its old ones, newest first; closed on leaving.

    Where rotations pass by while we look, some may be in another order: see `successor`.
    """
    found: list[Part] = []
    try:
        for _, part in _upwards(path, open_part):
            if part.inode in {known.inode for known in found}:
                os.close(part.fd)
            else:
                found.append(part)
        yield found
    finally:
        for part in found:
            os.close(part.fd)


def successor(path: str, inode: int) -> Part | None:
    """
    Open the file that was written right after this one; None: it is the newest, or not among those that are there, or
    they were moved while we looked.

    Ours is in its place before and after its neighbour is opened, so nothing has come between them. A rotation that is
    under way, or was cut short, leaves one number free there.
    """
    for index, found in _upwards(path, _inode):
        while found == inode:
            part = open_part(old_path(path, index - 1)) if index else None
            is_next = True
            if part is None and index > 1:
                part = open_part(old_path(path, index - 2))
                is_next = part is None or _inode(old_path(path, index - 1)) in (0, part.inode)  # or the gap is closed
            found = _inode(old_path(path, index))
            if is_next and found == inode:
                return part
            if part is not None:
                os.close(part.fd)
    return None


def _upwards(path: str, look: Callable[[str], Found | None]) -> Iterator[tuple[int, Found]]:
    """
    Look at each file from the present one up; yields its number with what `look` has found, when it has.

    One missing number is passed over: a rotation that is under way, or was cut short, leaves such a gap. It
    travels downwards, so a second one is the end, unless another rotation has begun since: then we look again.
    """
    index = missing = 0
    rotation = _rotation(path)
    while True:
        if missing == 2:
            before, rotation = rotation, _rotation(path)
            if rotation == before:
                return
            index, missing = index - 2, 0
        found = look(old_path(path, index))
        missing = 0 if found else missing + 1
        index += 1
        if found:
            yield index - 1, found


def _rotation(path: str) -> tuple[int, int]:
    """Return what differs as soon as a rotation has ended: the two newest files; 0 for one that is missing."""
    return _inode(path), _inode(old_path(path, 1))


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return 0


def open_part(path: str) -> Part | None:
    """
    Open one file for reading, or return None if there is none.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    status = os.fstat(fd)
    return Part(fd, status.st_ino, status.st_size)


def last_bytes(path: str, since: Position, limit: int) -> bytes:
    """
    Return the last bytes, at most `limit`, that were written after `since`.

    A file that is no longer among the kept ones says nothing about its successors, which may have come from
    elsewhere (logrotate): then only the present file counts.
    """
    with parts(path) as found:
        inodes = [part.inode for part in found]
        known = since.inode in inodes
        mine = found[: inodes.index(since.inode) + 1] if known else found[:1]
        taken = b""
        for part in mine:
            floor = since.offset if part.inode == since.inode else 0
            begin = max(floor, part.size - (limit - len(taken)))
            taken = os.pread(part.fd, max(0, part.size - begin), begin) + taken
        return taken


def last_lines(path: str, count: int, newest: Part | None = None) -> list[bytes]:
    """
    Return the last `count` lines, oldest first, without newlines; an unfinished last one counts.

    With `newest`, look back from the end of that part, whatever was written since.
    """
    if count <= 0:
        return []
    with parts(path) as found:
        if newest:
            inodes = [part.inode for part in found]
            elders = found[inodes.index(newest.inode) + 1 :] if newest.inode in inodes else []
            found = [newest, *elders]
        blocks: list[bytes] = []
        newlines = 0
        for block in _backwards(found):
            blocks.append(block)
            newlines += block.count(b"\n")
            if newlines > count:
                break
        text = b"".join(reversed(blocks))
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return lines[-count:]


def _backwards(found: list[Part]) -> Iterator[bytes]:
    for part in found:
        end = part.size
        while end > 0:
            begin = max(0, end - BLOCK_BYTES)
            yield os.pread(part.fd, end - begin, begin)
            end = begin
