"""
What a forked process does with an LMDB environment that its parent had open: it must not be used, and LMDB lets nobody
open the file again before it is closed.

Source: LMDB 0.9, mdb.c: mdb_env_close0 clears the reader slots of whoever has opened the environment, and after a fork
that is the parent, whose threads may be reading.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import lmdb

LOCK_FILE = "lock.mdb"

_READ_WRITE = 3
_PRIVATE_FIXED_ANONYMOUS = 0x02 | 0x10 | 0x20


def close_inherited(env: lmdb.Environment, lock_inode: int) -> None:
    """Close it in the forked process only: the table of readers, which all share, is taken out of its hands first."""
    try:
        _put_zeros_over(lock_inode)
    finally:
        env.close()


def _put_zeros_over(inode: int) -> None:
    """Wherever this lock file is mapped in this process, there is private memory from now on. Raises OSError."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
    failed = ctypes.c_void_p(-1).value
    with open("/proc/self/maps", "rb") as maps:
        mapped = [line.split(maxsplit=5) for line in maps]
    for span, _, _, _, number, *path in mapped:
        if int(number) != inode or not path or LOCK_FILE.encode() not in os.path.basename(path[0]):
            continue
        first, end = (int(part, 16) for part in span.split(b"-"))
        if libc.mmap(first, end - first, _READ_WRITE, _PRIVATE_FIXED_ANONYMOUS, -1, 0) == failed:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
