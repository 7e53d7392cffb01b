"""
Removing a directory with all that a command has made of it: deep, locked, immutable, full of links.

Source: openat(2), unlink(2), path_resolution(7), ioctl_iflags(2).
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct

_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
_FROZEN = 0x10 | 0x20
"""FS_IMMUTABLE_FL and FS_APPEND_FL: then even root can neither remove a file nor change its mode."""


def remove_folder(path: str) -> bool:
    """
    Remove it and all in it, and follow no link. What cannot be removed stays.

    Returns:
        Whether nothing is left.
    """
    try:
        _empty(path)
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _empty(path: str) -> None:
    """Not recursive: nobody knows how deep it is. Each folder is renamed up to the top before it is entered."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(path)
    top = _open_folder(path, None)
    try:
        count = 0
        while folders := _remove_files(top):
            for name in folders:
                fd = _open_folder(name, top)
                try:
                    for below in _remove_files(fd):
                        count += 1
                        _unlock(below, fd)
                        os.rename(below, f".regrow.{count}", src_dir_fd=fd, dst_dir_fd=top)
                finally:
                    os.close(fd)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)


def _remove_files(fd: int) -> list[str]:
    """Remove what is no folder; the names of the folders."""
    folders = []
    with os.scandir(fd) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_folder in found:
        if is_folder:
            folders.append(name)
        else:
            _unlink(name, fd)
    return folders


def _unlink(name: str, above: int) -> None:
    try:
        os.unlink(name, dir_fd=above)
    except PermissionError:
        _thaw(name, above)
        os.unlink(name, dir_fd=above)


def _open_folder(name: str, above: int | None) -> int:
    _unlock(name, above)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)


def _unlock(name: str, above: int | None) -> None:
    """Whoever made it may have forbidden himself to enter it; it is a folder, and nobody is left to make it a link."""
    try:
        os.chmod(name, 0o700, dir_fd=above)
    except PermissionError:
        _thaw(name, above)
    except OSError:
        pass  # not ours: then it shows when it is entered


def _thaw(name: str, above: int | None) -> None:
    """Make changeable what was made unchangeable (chattr(1)); what cannot be, shows when it is removed."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=above)
    except OSError:
        return
    try:
        (flags,) = struct.unpack("I4x", fcntl.ioctl(fd, _GETFLAGS, bytes(8)))
        if flags & _FROZEN:
            fcntl.ioctl(fd, _SETFLAGS, struct.pack("I4x", flags & ~_FROZEN))
            if stat.S_ISDIR(os.fstat(fd).st_mode):
                os.fchmod(fd, 0o700)
    except OSError:
        pass  # a file system without such flags, or not for us to say
    finally:
        os.close(fd)
