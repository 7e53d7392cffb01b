"""
The keeper: makes the store fit for use, brings it to disk as its level asks for, copies it, and lets timers fire.

One thread and one wait; without commits and without timers nothing wakes it. It can be killed at any time: the next one
goes on where it was. Who has the store open does not need it, except for timers and for a loss of power.

Source: architecture section 7.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import sys
from collections.abc import Mapping

import lmdb
from msgspec.structs import replace

from regrow.config.spec import Durability
from regrow.ipc.bell import MBOX, Bell
from regrow.ipc.errors import StoreError, StoreUnusable, Unreachable
from regrow.ipc.levels import LOCK, get_meta, put_meta, read_owner, sync_file, write_info, write_owner
from regrow.ipc.meta_page import BadMeta
from regrow.ipc.names import Names
from regrow.ipc.store import INFO, KEEPER_BELL, Store, StoreInfo, Txn
from regrow.workers.notify import notify, ready
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.hub_watch import Watch
from regrow.workers.system.keeper_boxes import Forgetting, leave_signs
from regrow.workers.system.keeper_complaints import Complaints, say
from regrow.workers.system.keeper_formats import migrate
from regrow.workers.system.keeper_level import LevelCare
from regrow.workers.system.keeper_place import Place, locker
from regrow.workers.system.keeper_preparing import Prepared, beginning, prepare
from regrow.workers.system.keeper_timers import KeeperTimers
from regrow.workers.system.signal_pipe import SignalPipe


def run(run_dir: str, state_dir: str, durability: str, daemon: str, agents: Mapping[str, int]) -> None:
    """
    Serve until SIGTERM.

    Args:
        daemon: its name, which the store is to bear too.
        agents: those of the file, and how many replicas each has.
    """
    place = Place(daemon, run_dir, state_dir, Durability(durability))
    try:
        with beginning(place):
            keeper = Keeper(place, prepare(place), agents)
    except StoreError as error:  # what is wrong is the operator's to see to: one line says it all
        sys.stderr.write(f"{error}\n")
        notify(f"X_REGROW_EXCEPTION={error}")
        raise SystemExit(1) from None
    ready()
    keeper.serve()
    if not keeper.close():
        sys.stderr.flush()
        os._exit(0)


def resize(run_dir: str, agents: Mapping[str, int]) -> None:
    """Whoever has outlived a change of `replicas` says the new number from now on: keys go by it."""
    names = Names(run_dir)
    try:
        for group, replicas in agents.items():
            if replicas:
                names.resize(group, replicas)
    finally:
        names.close()


class Keeper:
    """
    Everything the keeper has, and the loop that serves it.

    Raises:
        StoreError: the store cannot be used; nothing is left open.
    """

    def __init__(self, place: Place, prepared: Prepared, agents: Mapping[str, int]) -> None:
        self._place, self._prepared = place, prepared
        self._stopping = False
        self._complaints = Complaints()
        for note in prepared.notes:
            say(note)
        with contextlib.ExitStack() as stack:
            try:
                self._open(stack)
                self._begin(agents)
            except (OSError, lmdb.Error, BadMeta, Unreachable) as error:
                raise StoreUnusable(place.folder, str(error), "see to it, and start again") from None
            self._opened = stack.pop_all()

    def _open(self, stack: contextlib.ExitStack) -> None:
        place = self._place
        self.watch, self.timers = Watch(), Timers()
        stack.callback(self.watch.close)
        self._signals = SignalPipe((signal.SIGTERM, signal.SIGHUP), (signal.SIGINT, signal.SIGPIPE))
        stack.callback(self._signals.close)
        self._bell = _own_bell(place.run_dir)
        stack.callback(self._bell.close)
        self.store = Store(StoreInfo(place.folder, place.durability), place.run_dir)
        stack.callback(self.store.shut)
        self.level = LevelCare(self.store, place, self._prepared, self.watch, self.timers, self._complaints)
        stack.callback(self.level.close)
        self.due = KeeperTimers(self.store, place.run_dir, self._complaints.set)
        stack.callback(self.due.close)

    def _begin(self, agents: Mapping[str, int]) -> None:
        """First what protects the store, then who has it, then what is written to it, then the others."""
        place, owner = self._place, self._prepared.owner
        self.level.begin()
        if read_owner(place.folder) != owner:
            write_owner(place.folder, owner)
        migrate(self.store, self._prepared.format)
        if self.store.read(lambda txn: get_meta(txn, self.store.meta, "agents")) != dict(agents):
            self.store.write(lambda txn: self._know(txn, agents))
        leave_signs(self.store, place.run_dir)
        self.due.begin()
        Forgetting(self.store, self.timers)
        for fd, call in ((self._signals, self._on_signals), (self._bell, self._on_ring), (self.due, self.due.due)):
            self.watch.add(fd.fileno(), call)
        write_info(place.run_dir, StoreInfo(place.folder, place.durability))
        resize(place.run_dir, agents)

    def _know(self, txn: Txn, agents: Mapping[str, int]) -> None:
        put_meta(txn, self.store.meta, "agents", dict(agents))

    def serve(self) -> None:
        """Serve until told to stop."""
        while not self._stopping:
            self.turn()

    def turn(self) -> None:
        """Wait for something to do, and do it."""
        wait_s = self.timers.wait_s()
        poll = select.poll()
        poll.register(self.watch.fileno(), select.POLLIN)
        if poll.poll(None if wait_s is None else math.ceil(wait_s * 1000)):
            self.watch.turn()
        self.timers.run()

    def _on_signals(self) -> None:
        if signal.SIGTERM in self._signals.arrived():
            self._stopping = True

    def _on_ring(self) -> None:
        """Somebody commits, for the first time since we looked, or has put a timer before all others."""
        self._bell.heard()
        if self.level.is_replaced:  # the next keeper prepares the other one
            self._stopping = True
            return
        self.level.rung()
        self.due.rung()

    def close(self) -> bool:
        """
        Bring all to disk, and say that the store was closed in order; False when somebody else has it open.

        Then nothing is closed: the pin stays, like that of a keeper that was killed, until the next one has its own.
        """
        try:
            self.level.sync()
        except lmdb.Error as error:
            say(f"what was committed last is not certain to be on disk: {error}")
            return False
        lock_fd = os.open(os.path.join(self._place.folder, LOCK), os.O_RDWR | os.O_CLOEXEC)
        if locker(lock_fd) is not None:
            return False  # the descriptor stays too: LMDB's locks would go with it
        self._leave(lock_fd)
        self.level.last_snapshot()  # may take longer than the supervisor waits: all else is done
        self._opened.close()
        os.close(lock_fd)
        return True

    def _leave(self, lock_fd: int) -> None:
        """From now on nobody finds the store; what was committed by whoever found it before is on disk."""
        place = self._place
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(place.run_dir, INFO))
            sync_file(place.data)
            if locker(lock_fd) is None:
                write_owner(place.folder, replace(self._prepared.owner, clean=True))
        except OSError as error:
            say(f"cannot write down that the store was closed in order: {error}")


def _own_bell(run_dir: str) -> Bell:
    """In the place of an earlier keeper's: who rang for that one is not missed, as all is looked at from the start."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(run_dir, MBOX, KEEPER_BELL))
    return Bell(run_dir, KEEPER_BELL)
