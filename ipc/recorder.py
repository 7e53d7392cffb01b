"""
Writing down what a process is subscribed to, without anybody waiting for it.

LMDB has one writer at a time; one that is stopped in the middle of it (SIGSTOP) holds up all others for as long as it
is. So the writing is done by a thread that lives as long as there is something to write.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from regrow.ipc import subscriptions
from regrow.ipc.process import start_time
from regrow.ipc.subscriptions import Recorded

if TYPE_CHECKING:
    import lmdb

    from regrow.ipc.names import Names


class Recorder:
    """What is recorded under `token` is what `record` was given last, soon. Thread-safe; not for forked processes."""

    def __init__(self, names: Names, token: str) -> None:
        self._names = names
        self._token = token
        self._lock = threading.Lock()
        self._wanted: tuple[str, ...] = ()
        self._is_due = False
        self._thread: threading.Thread | None = None

    def record(self, patterns: tuple[str, ...]) -> None:
        """From now on these; none: no record. Returns at once."""
        with self._lock:
            if not patterns and not self._wanted:
                return
            self._wanted = patterns
            self._is_due = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="regrow-recorder", daemon=True)
                self._thread.start()

    def settle(self, within_s: float) -> None:
        """Wait until it is written, `within_s` seconds at most."""
        thread = self._thread
        if thread is not None:
            thread.join(within_s)

    def _run(self) -> None:
        import lmdb

        while (wanted := self._next()) is not None:
            try:
                with self._names.borrowed() as env:
                    self._write(env, wanted)
            except (lmdb.Error, OSError):
                pass  # full, not ours to write, no descriptors: then only the connection carries the subscription

    def _next(self) -> tuple[str, ...] | None:
        with self._lock:
            if not self._is_due:
                self._thread = None
                return None
            self._is_due = False
            return self._wanted

    def _write(self, env: lmdb.Environment, patterns: tuple[str, ...]) -> None:
        if not patterns:
            subscriptions.remove(env, self._token)
            return
        pid = os.getpid()
        recorded = Recorded(pid, start_time(pid), patterns)
        if subscriptions.read(env, self._token) != recorded:
            subscriptions.write(env, self._token, recorded)
