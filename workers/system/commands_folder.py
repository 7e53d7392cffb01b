"""
Removing a directory with all that a command has made of it: deep, locked, full of links.

Source: openat(2), unlink(2), path_resolution(7).
"""

from __future__ import annotations

import os


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
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(top, 0o700)
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
            os.unlink(name, dir_fd=fd)
    return folders


def _open_folder(name: str, above: int) -> int:
    _unlock(name, above)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)


def _unlock(name: str, above: int) -> None:
    """Whoever made it may have forbidden himself to enter it; it is a folder, and nobody is left to make it a link."""
    try:
        os.chmod(name, 0o700, dir_fd=above)
    except OSError:
        pass  # not ours: then it shows when it is entered
