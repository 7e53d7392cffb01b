"""
The names table: which process has a name now, and where its mailbox is.

One LMDB environment in run_dir, written by the processes that have the names, read by anyone without asking anyone.
A record says who had the name last; whether that process lives is the kernel's to say (`open_pidfd`).

Source: architecture section 6; otp-rules S220-S229.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from regrow.ipc.control import HOW_IN, owners
from regrow.ipc.errors import Refused, Unreachable
from regrow.ipc.names_open import ENVIRONMENTS, inode_of
from regrow.ipc.process import cannot_tell, open_pidfd

if TYPE_CHECKING:
    from collections.abc import Callable

    import lmdb

T = TypeVar("T")

FOLDER = "names"

MAX_NAME_BYTES = 480
"""LMDB's keys end at 511."""


class Record(Struct, frozen=True, array_like=True):
    """
    Who has a name. `name` is the agent's own, also under a name that it registered besides.

    `started` is as of `start_time`; `mailbox` the file name below `<run_dir>/mbox`; a group of `replicas` members
    is called `group` ("": it is in none).
    """

    name: str
    incarnation: int
    pid: int
    started: int
    mailbox: str
    group: str = ""
    replicas: int = 1

    def open_pidfd(self) -> int:
        """A descriptor of the process, -1 when it is dead; raises OSError as `process.open_pidfd` does."""
        return open_pidfd(self.pid, self.started)

    def is_alive(self) -> bool:
        """
        What the kernel says.

        Raises:
            OSError: it cannot be told: too many open files, or too little memory.
        """
        try:
            fd = self.open_pidfd()
        except OSError as error:
            raise OSError(error.errno, f"{self.name} (pid {self.pid}): {cannot_tell(error)}") from None
        if fd < 0:
            return False
        try:
            return not _is_readable(fd)
        finally:
            os.close(fd)


class Names:
    """
    The table of one daemon.

    Raises:
        Unreachable: no daemon has its run_dir there, or this user may not look into it.
    """

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._path = os.path.join(run_dir, FOLDER)
        self._env: lmdb.Environment
        self._env, self._inode = self._open()
        self._pid = os.getpid()

    def get(self, name: str) -> Record | None:
        """The record of `name`, of a living or a dead process; None when there is none."""
        found = self._read(lambda txn: txn.get(_key(name)))
        return _decode(found) if found is not None else None

    def members(self, group: str) -> list[str]:
        """
        The agents of a group that have a record, by their number.

        Other names that begin like theirs, and those that somebody has registered, are not among them.
        """
        first = _key(f"{group}.")
        if first == _NOBODY:
            return []

        def scan(txn: Any) -> list[str]:
            cursor = txn.cursor()
            names: list[str] = []
            if cursor.set_range(first):
                for key, value in cursor:
                    if not key.startswith(first):
                        break
                    record = _decode(value)
                    if record.group == group and record.name.encode() == key:
                        names.append(record.name)
            return names

        return sorted(self._read(scan), key=_number)

    def __iter__(self) -> Iterator[tuple[str, Record]]:
        """All records, sorted by name; those of the dead too."""
        items = self._read(lambda txn: [(bytes(key), bytes(value)) for key, value in txn.cursor()])
        for key, value in items:
            if not key.startswith(b"\0"):
                yield key.decode(), _decode(value)

    def announce(self, name: str, record: Record) -> Record | None:
        """Give the agent its own name; returns the record that was there, of an earlier incarnation."""
        def give(txn: Any) -> bytes | None:
            before: bytes | None = txn.pop(_key(name))
            txn.put(_key(name), _encode(record))
            return before

        before = self._write(give)
        return _decode(before) if before is not None else None

    def register(self, name: str, record: Record) -> None:
        """
        Give the process another name, if nobody alive has it (S221, S224).

        Raises:
            Refused: `already_registered`, with the holder's `pid`; `bad_request`: nothing can have that name.
            OSError: whether its holder lives cannot be told; nothing was changed.
        """
        if _key(name) == _NOBODY:
            raise Refused("bad_request", f"a name has 1 to {MAX_NAME_BYTES} bytes and does not begin with a zero byte")
        def give(txn: Any) -> Record | None:
            found = txn.get(_key(name))
            holder = _decode(found) if found is not None else None
            if holder is not None and holder.is_alive():
                return holder
            txn.put(_key(name), _encode(record))
            return None

        holder = self._write(give)
        if holder is not None:
            text = f"{name} is the name of {holder.name} (pid {holder.pid})"
            raise Refused("already_registered", text, {"pid": holder.pid, "name": holder.name})

    def resize(self, group: str, replicas: int) -> None:
        """Whoever is in the group was started when it had another number of members."""
        members = self.members(group)

        def tell(txn: Any) -> None:
            for name in members:
                found = txn.get(_key(name))
                record = _decode(found) if found is not None else None
                if record is not None and record.replicas != replicas:
                    txn.put(_key(name), _encode(replace(record, replicas=replicas)))

        if members:
            self._write(tell)

    def withdraw(self, name: str, record: Record) -> bool:
        """Remove the name if it is this process's; False when it was not (S225)."""
        def take(txn: Any) -> bool:
            found = txn.get(_key(name))
            if found is None or _decode(found).mailbox != record.mailbox:
                return False
            txn.delete(_key(name))
            return True

        return self._write(take)

    def look_up(self, key: bytes) -> bytes | None:
        """What others than names have under this key, which begins with a zero byte."""
        found: bytes | None = self._read(lambda txn: txn.get(key))
        return found

    def change(self, key: bytes, change: Callable[[bytes | None], bytes]) -> None:
        """Have under such a key what `change` makes of what is there; nobody else changes it meanwhile."""
        self._write(lambda txn: txn.put(key, change(txn.get(key))))

    def has_flag(self, key: bytes) -> bool:
        """Whether `set_flag` was called with this key, which begins with a zero byte, by anybody."""
        return bool(self._read(lambda txn: txn.get(key) is not None))

    def set_flag(self, key: bytes) -> None:
        """Leave a sign for all."""
        self._write(lambda txn: txn.put(key, b""))

    def is_stale(self) -> bool:
        """Whether the daemon was started anew since, with a new table; then `reopen`."""
        return self._pid != os.getpid() or self._inode != inode_of(self._path)

    def reopen(self) -> None:
        """
        Open the table that is there now; also what a forked process does with its parent's.

        Raises:
            Unreachable: there is none, and the one that was open stays so.
        """
        env, inode = self._open()
        self.close()
        self._env, self._inode, self._pid = env, inode, os.getpid()

    def close(self) -> None:
        ENVIRONMENTS.give_back(self._env)

    def lose(self) -> None:
        """The same, soon, from where nothing may be waited for: a finalizer runs in the middle of anything."""
        ENVIRONMENTS.lose(self._env)

    @property
    def env(self) -> lmdb.Environment:
        """For what others keep beside the names, under keys that begin with a zero byte."""
        return self._env

    @contextmanager
    def borrowed(self) -> Iterator[lmdb.Environment]:
        """
        The table that is there now, open for as long as the block lasts whoever closes this meanwhile.

        Raises:
            lmdb.Error: there is none.
        """
        env, _ = ENVIRONMENTS.take(self._path)
        try:
            yield env
        finally:
            ENVIRONMENTS.give_back(env)

    def _open(self) -> tuple[lmdb.Environment, tuple[int, int]]:
        import lmdb

        try:
            return ENVIRONMENTS.take(self._path)
        except (lmdb.Error, OSError) as error:
            told = str(error).removeprefix(f"{self._path}: ")  # LMDB names the path as well
            what, why = f"cannot reach the daemon at {self._run_dir}", f"its names table {self._path}: {told}"
            absent = not os.path.isdir(self._path)
            denied = not absent and not os.access(self._path, os.R_OK | os.W_OK | os.X_OK)
            remedy = "start it with `regrow up FILE`" if absent else "see `regrow status`"
            if denied:
                whom = f"only {owners(self._path)} and the operators in [access] of its file send messages"
                remedy = f"{whom}; {HOW_IN}, and start the agents anew"
            raise Unreachable(what, why, remedy, absent=absent, denied=denied) from None

    def _read(self, look: Callable[[Any], T]) -> T:
        import lmdb

        try:
            with self._env.begin() as txn:
                return look(txn)
        except (lmdb.ReadersFullError, lmdb.BadRslotError):
            self._env.reader_check()
        with self._env.begin() as txn:
            return look(txn)

    def _write(self, change: Callable[[Any], T]) -> T:
        """Change the table. Pages that somebody was reading when he was killed are in use until his slot is cleared."""
        import lmdb

        try:
            with self._env.begin(write=True) as txn:
                return change(txn)
        except lmdb.MapFullError:
            self._env.reader_check()
        with self._env.begin(write=True) as txn:
            return change(txn)


_NOBODY = b"\1"
"""Where a name is looked up that nobody can have."""


_decoder = msgspec.msgpack.Decoder(Record)


def _decode(value: bytes) -> Record:
    return _decoder.decode(value)


def _encode(record: Record) -> bytes:
    return msgspec.msgpack.encode(record)


def _key(name: str) -> bytes:
    try:
        key = name.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return _NOBODY
    if not 0 < len(key) <= MAX_NAME_BYTES or key.startswith(b"\0"):
        return _NOBODY
    return key


def _number(name: str) -> tuple[int, str]:
    tail = name.rpartition(".")[2]
    return (int(tail), "") if tail.isdigit() and tail.isascii() else (1 << 62, tail)


def _is_readable(fd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
