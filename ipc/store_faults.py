"""
What LMDB says when it cannot do something, and what that means.

Source: LMDB 0.9, mdb.c: mdb_page_flush makes EIO of a write that was cut short, "filesystem full?".
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from regrow.ipc.errors import StoreError, StoreFull, StoreUnusable

if TYPE_CHECKING:
    import lmdb

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_TOLD = (*NO_ROOM, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOMEM, errno.EMFILE)

_KEEP_SIZE = 1
_PROBE_BYTES = 1 << 20


def fault(path: str, error: lmdb.Error) -> StoreError:
    """What `error` is to whoever uses the store whose folder this is."""
    import lmdb

    number = _errno(error)
    if number == errno.EIO:
        number = _why_no_room(os.path.join(path, "data.mdb")) or number
    if number in NO_ROOM:
        return StoreFull(path, os.strerror(number))
    if isinstance(error, lmdb.TxnFullError):
        remedy = "commit in parts: with self.transaction()"
        return StoreUnusable(path, "one transaction changes too much, some 500 MB", remedy)
    if isinstance(error, lmdb.BadValsizeError):
        return StoreUnusable(path, "a key or a value is larger than it can hold", "keep it in parts")
    if number:
        return StoreUnusable(path, str(error), "see to it; what is committed is there")
    return StoreUnusable(path, str(error), "stop the daemon and run `regrow state verify`")


def fault_of_system(path: str, error: OSError) -> StoreError:
    """The same for something that lies beside the store."""
    why = error.strerror or str(error)
    return StoreFull(path, why) if error.errno in NO_ROOM else StoreUnusable(path, why, "see to it")


def _errno(error: BaseException) -> int:
    """LMDB gives system errors as texts."""
    text = str(error)
    return next((number for number in _TOLD if os.strerror(number) in text), 0)


def _why_no_room(file: str) -> int:
    """Whether the file could have more, within the disk, quotas and limits; 0: it could. It does not get longer."""
    import ctypes
    import resource

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)
    try:
        fd = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        size, limit = os.fstat(fd).st_size, resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        if limit != resource.RLIM_INFINITY and size + _PROBE_BYTES > limit:
            return errno.EFBIG
        if libc.fallocate(fd, _KEEP_SIZE, size, _PROBE_BYTES) == 0:
            return 0
        number = ctypes.get_errno()
        return number if number in NO_ROOM else 0
    finally:
        os.close(fd)
