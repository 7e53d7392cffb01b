"""
Finding the processes that have names, and being told of their deaths.

Source: architecture section 6 (names, monitors); otp-rules S200-S211.
"""

from __future__ import annotations

import os
import select
from collections.abc import Collection

from regrow.ipc.bell import MBOX
from regrow.ipc.down import NOPROC, Down
from regrow.ipc.errors import NoProcess, Unreachable
from regrow.ipc.explain import process_of
from regrow.ipc.groups import Address, ByKey, choose
from regrow.ipc.monitor import Monitor
from regrow.ipc.names import Record
from regrow.ipc.peers import Peer
from regrow.ipc.process import cannot_tell
from regrow.ipc.waits import Waits

MEETINGS = 4
"""How often another member of a group is looked for, when the one that was chosen has just died."""


class Seeker(Waits):
    """An engine that knows whom a name means."""

    def _peer(self, to: str | Address) -> Peer:
        if isinstance(to, str):
            known = self.peers.by_name.get(to)
            if known is not None and known.lived_lately():
                return known
        try:
            return self._seek(to)
        except OSError as error:
            raise NoProcess(str(to), cannot_tell(error)) from None

    def _seek(self, to: str | Address) -> Peer:
        """Raises NoProcess, BadRequest; OSError: it cannot be told whether it lives."""
        if isinstance(to, str):
            found = self._find(to)
            if found is not None:
                return found
        return self._member(to)

    def _member(self, to: str | Address, tried: Collection[str] = ()) -> Peer:
        """One of a group that lives; raises as `_seek`."""
        name = None
        for _ in range(MEETINGS):
            name = choose(self, to, self._turns, tried)
            if name is None:
                break
            found = self._find(name)
            if found is not None and found.record.mailbox not in tried:
                return found
            if isinstance(to, ByKey):  # another one would not have what belongs to the key
                break
        if isinstance(to, ByKey) and self.names.get(to.group) is not None:
            raise NoProcess(str(to), "it is no group, and only groups have keys")
        raise NoProcess(name or str(to))

    def _find(self, name: str) -> Peer | None:
        """The living process that has the name now."""
        peer = self._lookup(name)
        if peer is None and self.names.is_stale():
            self._reopen_names(name)
            peer = self._lookup(name)
        return peer

    def _lookup(self, name: str) -> Peer | None:
        record = self.names.get(name)
        if record is None:
            return None
        peer = self.peers.meet(record)
        if peer is None:
            return None
        self._witness(peer)
        if record.name == name:  # another name may be given up, or passed on, while its holder lives
            self.peers.by_name[name] = peer
        return peer

    def _witness(self, peer: Peer) -> None:
        try:
            self.transport.epoll.register(peer.pidfd, select.EPOLLIN)
        except FileExistsError:
            pass  # it is one that is known

    def _reopen_names(self, name: str) -> None:
        """The daemon was started anew: its table and its mailboxes are others."""
        try:
            # In this order: while the table is the old one, whatever fails here is tried again.
            self.transport.turn_to(os.path.join(self.run_dir, MBOX))
            self.names.reopen()
        except FileNotFoundError:
            why = f"no daemon has its mailboxes at {self.run_dir}; start it with `regrow up FILE`"
            raise NoProcess(name, why) from None
        except (Unreachable, OSError) as error:
            raise NoProcess(name, str(error)) from None

    def whereis(self, name: str) -> Record | None:
        """
        The record of the living process that has the name now.

        Raises:
            OSError: whether it lives cannot be told.
        """
        if self.forked:
            self._begin_anew()
        with self._lock:
            if self.closed:
                return None
            try:
                record = self.names.get(name)
                if (record is None or not record.is_alive()) and self.names.is_stale():
                    self._reopen_names(name)
                    record = self.names.get(name)
            except NoProcess:
                return None
            return record if record is not None and record.is_alive() else None

    def members(self, group: str) -> list[str]:
        """
        The names in a group of those that live, by their number; none where there is no daemon.

        Raises:
            NoProcess: of some it cannot be told whether they live.
        """
        names, unknown = self._members(group)
        if unknown is not None:
            raise NoProcess(group, cannot_tell(unknown))
        return names

    def reachable(self, group: str) -> list[str]:
        """
        The members that are known to live: whom a message can go to.

        Raises:
            OSError: there are none, and of some it cannot be told.
        """
        names, unknown = self._members(group)
        if unknown is not None and not names:
            raise unknown
        return names

    def _members(self, group: str) -> tuple[list[str], OSError | None]:
        if self.forked:
            self._begin_anew()
        with self._lock:
            if self.closed:
                return [], None
            names, unknown = self._those_up(group)
            if not names and self.names.is_stale():
                try:
                    self._reopen_names(group)
                except NoProcess:
                    return [], unknown
                names, unknown = self._those_up(group)
            return names, unknown

    def _those_up(self, group: str) -> tuple[list[str], OSError | None]:
        names: list[str] = []
        unknown = None
        for name in self.names.members(group):
            try:
                if self._is_up(name):
                    names.append(name)
            except OSError as error:
                unknown = error
        return names, unknown

    def replicas(self, group: str) -> int:
        """How many members a group has, living or dead; 0 where nobody has been in it yet."""
        if self.names.is_stale():
            self._reopen_names(group)
        for name in self.names.members(group):
            record = self.names.get(name)
            if record is not None:
                return max(record.replicas, 1)
        return 0

    def mailbox_of(self, name: str) -> str:
        """That of the process which was met last under this name; "" for none."""
        peer = self.peers.by_name.get(name)
        return peer.record.mailbox if peer is not None else ""

    def _is_up(self, name: str) -> bool:
        peer = self.peers.by_name.get(name)
        if peer is not None and not peer.is_dead():
            return True
        return self._lookup(name) is not None

    def outstanding(self, name: str) -> int:
        """How many of this process's messages `name` has not answered yet."""
        peer = self.peers.by_name.get(name)
        return len(peer.ledger.open) if peer is not None else 0

    # monitors

    def monitor(self, name: str) -> Monitor:
        """
        Be told of the death of whoever has the name now; at once, and with `noproc`, where nobody has (S201).

        Raises:
            NoProcess: it cannot be told whether it lives.
        """
        found = self.monitor_named(name)
        return found if found is not None else self.monitor_process(name, self.process_of(name))

    def monitor_named(self, name: str) -> Monitor | None:
        """The monitor of one that has a record; None when nobody of that name has. Raises as `monitor` does."""
        if self.forked:
            self._begin_anew()
        with self._lock:
            try:
                return self._monitor(name, None if self.closed else self._seek(name))
            except NoProcess:
                return None
            except OSError as error:
                raise NoProcess(name, cannot_tell(error)) from None

    def process_of(self, name: str) -> Record | None:
        """
        A command or a function has no record of its own: the root of the daemon knows its process.

        Blocks for up to 3 s; needs no lock. Raises as `monitor` does.
        """
        try:
            return process_of(self.run_dir, name)
        except OSError as error:
            raise NoProcess(name, cannot_tell(error)) from None

    def monitor_process(self, name: str, record: Record | None) -> Monitor:
        """The monitor of what `process_of` has found. Raises as `monitor` does."""
        with self._lock:
            try:
                peer = self.peers.meet(record) if record is not None and not self.closed else None
                if peer is not None:
                    self._witness(peer)
            except OSError as error:
                raise NoProcess(name, cannot_tell(error)) from None
            return self._monitor(name, peer)

    def _monitor(self, name: str, peer: Peer | None) -> Monitor:
        monitor = Monitor(self, name, peer)
        if peer is None:
            self._tell(monitor, Down(name, 0, reason=NOPROC))
        else:
            peer.monitors.append(monitor)
        return monitor

    def heard(self, down: Down) -> None:
        """Somebody has waited for this one, and need not be told again."""
        with self._lock:
            self.mailbox.untell(down)

    def demonitor(self, monitor: Monitor, flush: bool) -> bool:
        with self._lock:
            if monitor.done:
                if flush and monitor.down is not None:
                    self.mailbox.untell(monitor.down)
                return False
            if monitor.peer is not None:
                monitor.peer.monitors.remove(monitor)
            monitor.settle(None)
            return True
