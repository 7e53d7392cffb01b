"""
Bringing a backlog into its file once that can be written again, and saying there what is missing.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from regrow.workers.system.backlog import Pending
from regrow.workers.system.rotation import portion

if TYPE_CHECKING:
    from regrow.workers.system.logfile import LogFile


def write_pending(file: LogFile, stream: int, pending: Pending) -> None:
    """
    Write one stream's part, rotating as usual, and forget it.

    Raises:
        OSError: the rest is still pending, nothing of it twice.
    """
    if len(file.backlog.pending) > 1 or file.by_turns:
        file.take_turn(stream)
    if pending.lost_bytes:
        _write_gap(file, pending)
    while pending.chunks:
        file.make_room()
        chunk, room = pending.chunks[0], file.room()
        fits = portion(bytes(chunk), room, whole_lines=False)
        if room == 0:
            fits = min(fits, file.cut_room())
        file.backlog.written(pending, file.write(chunk[:fits]))
    file.backlog.forget(stream)


def _write_gap(file: LogFile, pending: Pending) -> None:
    """Write a line that says how much is missing here: the whole line, or nothing of it."""
    begin = file.position.offset
    text = f"[regrow] {pending.lost_bytes} bytes lost: {file.cause}\n".encode()
    if file.mid_line():
        text = b"\n" + text
    if file.write(text) < len(text):
        file.undo_to(begin)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    pending.lost_bytes = 0
