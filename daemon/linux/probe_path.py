"""
Look up a path without ever waiting for a disk or a file server: from the kernel's cache, or not at all.

`stat` on a dead NFS server would stop the supervisor, so a lookup that needs the file system is refused here and
left to a process of its own. tmpfs keeps no record of what is missing but never waits: it is asked directly.

Source: openat2(2), RESOLVE_CACHED (Linux 5.12); proc_pid_fdinfo(5), proc_pid_mountinfo(5).
"""

from __future__ import annotations

import ctypes
import errno
import os

_OPENAT2 = ctypes.c_long(437)  # the same number on every architecture
_RESOLVE_CACHED = 0x20
_AT_FDCWD = ctypes.c_long(-100)
_UNKNOWN = (errno.EAGAIN, errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.E2BIG, errno.EINTR)
_IN_MEMORY = (b"tmpfs", b"ramfs", b"devtmpfs")
_LOCAL = (*_IN_MEMORY, b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"f2fs", b"bcachefs", b"zfs", b"overlay")

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def open_cached(path: str) -> int | None:
    """
    An O_PATH descriptor of `path`, symbolic links followed; `None` when only the file system itself could tell.

    Raises:
        OSError: the kernel knows that there is no such file, or that it is out of reach.
    """
    fd = _open_cached(path)
    if fd is not None:
        return fd
    parent = _open_cached(os.path.dirname(path) or ".")
    if parent is None:
        return None
    try:
        if _file_system(parent) not in _IN_MEMORY:
            return None
        # This finds out that the name is missing, or brings it into the cache.
        os.close(os.open(os.path.basename(path) or ".", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent))
    finally:
        os.close(parent)
    return _open_cached(path)


def _open_cached(path: str) -> int | None:
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_CACHED)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    fd = _libc.syscall(_OPENAT2, _AT_FDCWD, ctypes.c_char_p(os.fsencode(path)), ctypes.byref(how), size)
    if fd >= 0:
        return int(fd)
    code = ctypes.get_errno()
    if code in _UNKNOWN:
        return None
    raise OSError(code, os.strerror(code), path)


def is_local(fd: int) -> bool:
    """Whether permissions of the open `fd` are checked without asking a server (NFS and FUSE may ask theirs)."""
    return _file_system(fd) in _LOCAL


def _file_system(fd: int) -> bytes:
    """The type of the file system `fd` is on. `fstatfs` would ask a file server; /proc does not."""
    mount_id = b""
    for line in _read_proc(f"/proc/self/fdinfo/{fd}").splitlines():
        if line.startswith(b"mnt_id:"):
            mount_id = line.split()[1]
    for line in _read_proc("/proc/self/mountinfo").splitlines():
        if line.startswith(mount_id + b" "):
            return line.partition(b" - ")[2].split(b" ", 1)[0]
    return b""


def _read_proc(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.readall()
