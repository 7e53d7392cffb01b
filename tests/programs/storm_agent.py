"""An agent of the storm of calls: it writes down what it does, before anybody is told, and is killed at any moment."""

from __future__ import annotations

import os
import struct

from regrow.workers import Agent, handler

RECORD = struct.Struct("<II")
"""The number of the client, and that of its message."""


class Target(Agent):
    """What it writes with O_APPEND outlives a SIGKILL: the kernel has it."""

    def init(self, folder: str) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self.fd = os.open(f"{folder}/{self.name}.{self.incarnation}", flags)

    @handler
    def work(self, client: int, number: int) -> tuple[int, int, str, int]:
        os.write(self.fd, RECORD.pack(client, number))
        return client, number, self.name, self.incarnation

    @handler
    def seen(self) -> int:
        return os.fstat(self.fd).st_size // RECORD.size
