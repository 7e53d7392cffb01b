"""
Log files by size: how much may go into the present one, and how the old ones move up.

`path` is written, `path.1` is the newest of the old ones, `path.<keep>` the oldest. A file is rotated at
the first end of a line at or beyond its limit; a line without an end is cut when the file is twice as large.

Source: rename(2), which is atomic; logrotate(8) for the numbering.
"""

from __future__ import annotations

import os

CUT_AT = 2
"""A file is never more than this many times its limit, plus a newline: there a line is cut."""


def old_path(path: str, index: int) -> str:
    """Return the name of the `index`-th old file; 0 is the present one."""
    return f"{path}.{index}" if index else path


def rotate(path: str, keep: int) -> None:
    """
    Move `path` out of the way: to `path.1`, with the older ones moved up; `keep` 0 removes it.

    Killed between any two steps it has lost nothing that is to be kept, and the next call goes on where
    it stopped: only the files below the first gap are moved, so a gap never travels upwards or costs a file.
    Files beyond `keep`, left from when it was larger, are removed.

    Raises:
        OSError: a step was refused; what was moved stays moved.
    """
    _remove_beyond(path, keep)
    if keep <= 0:
        _unlink(path)
        return
    gap = next((index for index in range(1, keep) if not os.path.lexists(old_path(path, index))), keep)
    for index in range(gap, 0, -1):
        os.rename(old_path(path, index - 1), old_path(path, index))


def _remove_beyond(path: str, keep: int) -> None:
    index = keep + 1
    while _unlink(old_path(path, max(index, 1))):
        index += 1


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def room(size: int, limit: int) -> int | None:
    """Return how many bytes a file of `size` takes without a look at them; None: any number; 0: look first."""
    return max(0, limit - size) if limit > 0 else None


def portion(window: bytes, room_bytes: int | None, whole_lines: bool) -> int:
    """
    Decide how many bytes of `window`, the next to be written, are written now.

    Whole lines are wanted when several streams share the file: as many as there is room for, at least
    one; 0 when the window holds none. Otherwise all there is room for; and without room what remains of
    the present line, so that the file can be rotated behind it.
    """
    if not whole_lines and room_bytes != 0:
        return len(window) if room_bytes is None else min(len(window), room_bytes)
    if whole_lines and (end := window.rfind(b"\n", 0, room_bytes) + 1):
        return end
    if end := window.find(b"\n") + 1:
        return end
    return 0 if whole_lines else len(window)
