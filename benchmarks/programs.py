"""
The smallest program that can be watched from its first instruction: it writes its pid into a FIFO, and waits.

On x86-64 it is an ELF file of some 170 bytes made here, so that no compiler is needed and no loader is measured;
elsewhere a shell does the same. Functions announce themselves through `announce` of `worker.py`.

Source: elf(5), syscall(2); the System V ABI for what lies on the stack of a new program.
"""

from __future__ import annotations

import os
import platform
import select
import struct
import time
from pathlib import Path

RECORD = struct.Struct("<q")
TIMEOUT_S = 60.0

_BASE = 0x400000
_HEADERS = 64 + 56
_CODE = bytes.fromhex(
    "488b7c2410"  # mov rdi, [rsp+16]    argv[1]
    "be01000000"  # mov esi, 1           O_WRONLY
    "b802000000"  # mov eax, 2           open
    "0f05"
    "89c3"  # mov ebx, eax
    "b827000000"  # mov eax, 39          getpid
    "0f05"
    "50"  # push rax
    "89df"  # mov edi, ebx
    "4889e6"  # mov rsi, rsp
    "ba08000000"  # mov edx, 8
    "b801000000"  # mov eax, 1           write
    "0f05"
    "b822000000"  # mov eax, 34          pause, for ever
    "0f05"
    "ebf7"
)


def tiny_program(directory: Path) -> Path:
    """Make the program in `directory`; its argument is the FIFO."""
    path = directory / "tiny"
    if platform.machine() == "x86_64":
        path.write_bytes(_elf())
    else:
        path.write_text("#!/bin/sh\nprintf %08d $$ >\"$1\"\nexec sleep 1000000\n")
    path.chmod(0o755)
    return path


def _elf() -> bytes:
    size = _HEADERS + len(_CODE)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return ident + header + segment + _CODE


class Announcements:
    """A FIFO in which new processes announce their pids, in the order of their first instructions."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)  # for writing too: never an end of file
        self._poller = select.poll()
        self._poller.register(self._fd, select.POLLIN)

    def next(self, count: int = 1) -> list[int]:
        """
        The next `count` pids.

        Raises:
            TimeoutError: after `TIMEOUT_S`.
        """
        found = bytearray()
        end_s = time.monotonic() + TIMEOUT_S
        while len(found) < count * RECORD.size:
            left_ms = max(0.0, end_s - time.monotonic()) * 1e3
            if not self._poller.poll(left_ms):
                raise TimeoutError(f"{len(found) // RECORD.size} of {count} processes announced themselves")
            found += os.read(self._fd, count * RECORD.size - len(found))
        return [_pid(bytes(found[at : at + RECORD.size])) for at in range(0, len(found), RECORD.size)]

    def close(self) -> None:
        os.close(self._fd)


def _pid(record: bytes) -> int:
    return int(record) if record.isdigit() else int(RECORD.unpack(record)[0])
