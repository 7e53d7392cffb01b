"""When what the dead have left in run_dir is removed: at the hub's start, and after every so many deaths."""

from __future__ import annotations

import os
import threading
import time

import lmdb

from regrow.ipc.bell import MBOX
from regrow.ipc.names import Names
from regrow.ipc.sweep import sweep
from regrow.workers.system.hub_timers import Timer, Timers

DEATHS = 500
PAUSE_S = 60.0
"""At least so long from the beginning of one to the next."""

CLOSE_S = 1.0
END_EVENTS = frozenset({"exited", "stopped", "start_failed"})


class Sweeper:
    """
    A thread that lives as long as there is something to do: a frozen writer of the table can hold it up.

    Where nothing dies, there is neither a thread nor a timer.
    """

    def __init__(self, names: Names, run_dir: str, timers: Timers) -> None:
        self._names = names
        self._folder = os.path.join(run_dir, MBOX)
        self._timers = timers
        self._deaths = 0
        self._next_s = 0.0
        self._timer: Timer | None = None
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def happened(self, topic: str) -> None:
        """An event of the daemon's was published under this."""
        if topic.rpartition(".")[2] in END_EVENTS:
            self._deaths += 1
            if self._deaths >= DEATHS and self._timer is None:
                self._timer = self._timers.after(max(self._next_s - time.monotonic(), 0.0), self.start)

    def start(self) -> None:
        """Sweep now, unless the last one is held up still."""
        self._timer = None
        self._deaths = 0
        self._next_s = time.monotonic() + PAUSE_S
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="regrow-sweep", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            sweep(self._names, self._folder, lambda: not self._closed.is_set())
        except (lmdb.Error, OSError):
            pass  # the next one may be luckier; nobody waits for it

    def close(self) -> None:
        """Stop soon; one that is held up ends with the process."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(CLOSE_S)
