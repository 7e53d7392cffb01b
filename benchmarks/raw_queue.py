"""
The floors of state and posts: bare LMDB, and sqlite3 doing the same, one process each.

    KIND PATH LEVEL [CPU]    KIND is `lmdb` or `sqlite`; LEVEL one of those below

On standard input, each answered with a line:

    commits COUNT              seconds of each transaction that changes one key
    reads COUNT                seconds of each transaction that reads one
    puts TOTAL BATCH SIZE NR   put messages into the queue, BATCH in a transaction, as sender NR; rings after each
    takes TOTAL BATCH          take them out, up to BATCH in a transaction, each with a change of the same key
    both TOTAL BATCH SIZE      each batch put, then taken
    effects                    how often the key was changed
    among ROWS                 from now on, commits and reads are of any of the rows that raw_fill.py has put

It ends when its standard input is closed.
"""

from __future__ import annotations

import os
import random
import socket
import sqlite3
import sys
import time
from typing import Any, Protocol

LEVELS: dict[str, tuple[dict[str, bool], str]] = {
    "nosync": ({"sync": False, "metasync": False}, "OFF"),
    "nometasync": ({"sync": True, "metasync": False}, "NORMAL"),
    "sync": ({"sync": True, "metasync": True}, "FULL"),
}
"""What LMDB is opened with, and `PRAGMA synchronous` of sqlite3 in WAL mode."""

MAP_BYTES = 1 << 36
KEYS, ANY = 100, 50_000
VALUE = b"\xce\x00\x00\x00\x01"
LOCKED_S = 60.0


class Queue(Protocol):
    """A queue and a counter in one file."""

    def commit(self, number: int) -> None: ...
    def read(self, number: int) -> None: ...
    def put(self, first: int, count: int, message: bytes) -> None: ...
    def take(self, count: int) -> int: ...
    def effects(self) -> int: ...


class Lmdb:
    """Messages in one database, state in another, as regrow has them."""

    def __init__(self, path: str, level: str) -> None:
        import lmdb

        flags: Any = LEVELS[level][0]
        self._env = lmdb.open(path, map_size=MAP_BYTES, max_dbs=8, readahead=False, **flags)
        self._state, self._queue = (self._env.open_db(name) for name in (b"state", b"raw"))
        self._keys = [b"agent\0 key%02d\0" % number for number in range(KEYS)]

    def among(self, rows: int) -> None:
        some = random.Random(rows)
        self._keys = [b"ledger\0 k%09d\0" % some.randrange(rows) for _ in range(ANY)]

    def commit(self, number: int) -> None:
        with self._env.begin(write=True) as txn:
            txn.put(self._keys[number % len(self._keys)], VALUE, db=self._state)

    def read(self, number: int) -> None:
        with self._env.begin() as txn:
            txn.get(self._keys[number % len(self._keys)], db=self._state)

    def put(self, first: int, count: int, message: bytes) -> None:
        queue = self._queue
        with self._env.begin(write=True) as txn:
            for number in range(first, first + count):
                txn.put(b"qagent\0%b" % number.to_bytes(8, "big"), message, db=queue)

    def take(self, count: int) -> int:
        state, queue, taken = self._state, self._queue, []
        with self._env.begin() as txn, txn.cursor(db=queue) as cursor:
            for key, _ in cursor.iternext():
                taken.append(key)
                if len(taken) == count:
                    break
        if taken:
            with self._env.begin(write=True) as txn:
                total = int.from_bytes(txn.get(b"agent\0 total\0", VALUE[:0], db=state), "big")
                for key in taken:
                    txn.delete(key, db=queue)
                    total += 1
                    txn.put(b"agent\0 total\0", total.to_bytes(8, "big"), db=state)
        return len(taken)

    def effects(self) -> int:
        with self._env.begin() as txn:
            return int.from_bytes(txn.get(b"agent\0 total\0", b"", db=self._state), "big")


class Sqlite:
    """Two tables, WAL."""

    def __init__(self, path: str, level: str) -> None:
        self._file = sqlite3.connect(path + ".sqlite", timeout=LOCKED_S, isolation_level=None)
        do = self._file.execute
        do("PRAGMA journal_mode = WAL")
        do(f"PRAGMA synchronous = {LEVELS[level][1]}")
        do("CREATE TABLE IF NOT EXISTS queue (number INTEGER PRIMARY KEY, message BLOB)")
        do("CREATE TABLE IF NOT EXISTS state (key TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID")

    def commit(self, number: int) -> None:
        self._file.execute("INSERT OR REPLACE INTO state VALUES (?, ?)", (f"key{number % KEYS}", number))

    def read(self, number: int) -> None:
        self._file.execute("SELECT value FROM state WHERE key = ?", (f"key{number % KEYS}",)).fetchone()

    def put(self, first: int, count: int, message: bytes) -> None:
        do = self._file.execute
        do("BEGIN IMMEDIATE")
        self._file.executemany(
            "INSERT INTO queue VALUES (?, ?)", [(number, message) for number in range(first, first + count)]
        )
        do("COMMIT")

    def take(self, count: int) -> int:
        do = self._file.execute
        rows = do("SELECT number, message FROM queue ORDER BY number LIMIT ?", (count,)).fetchall()
        if rows:
            do("BEGIN IMMEDIATE")
            for number, _ in rows:
                do("DELETE FROM queue WHERE number = ?", (number,))
                do("INSERT INTO state VALUES ('total', 1) ON CONFLICT DO UPDATE SET value = value + 1")
            do("COMMIT")
        return len(rows)

    def effects(self) -> int:
        found = self._file.execute("SELECT value FROM state WHERE key = 'total'").fetchone()
        return int(found[0]) if found else 0


def timed(what: Any, count: int) -> list[float]:
    """Seconds that each took."""
    taken = []
    for number in range(count):
        began_s = time.perf_counter()
        what(number)
        taken.append(time.perf_counter() - began_s)
    return taken


def puts(queue: Queue, bell: str, total: int, batch: int, size: int, sender: int) -> None:
    """Put `total` messages; whoever takes them is rung for after each transaction."""
    rope = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    message, start = b"x" * size, (sender << 40) + time.monotonic_ns() % (1 << 40)
    for first in range(start, start + total, batch):
        queue.put(first, min(batch, start + total - first), message)
        try:
            rope.sendto(b".", bell)
        except OSError:
            pass  # it has rung already, or nobody listens
    rope.close()


def takes(queue: Queue, bell: socket.socket, total: int, batch: int) -> None:
    """Take `total` messages, as they come."""
    while total > 0:
        taken = queue.take(batch)
        total -= taken
        if not taken and total > 0:
            bell.recv(16)


def both(queue: Queue, total: int, batch: int, size: int) -> None:
    """Each batch put and then taken."""
    message = b"x" * size
    for first in range(0, total, batch):
        queue.put(first, batch, message)
        queue.take(batch)


def main(kind: str, path: str, level: str) -> None:
    """Do what each line says."""
    queue: Queue = Lmdb(path, level) if kind == "lmdb" else Sqlite(path, level)
    bell: socket.socket | None = None
    place = path + ".bell"
    print("ready", flush=True)
    for line in sys.stdin:
        verb, *words = line.split()
        numbers = [int(word) for word in words]
        if verb == "listen":
            bell = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            bell.bind(place)
        answer = "done"
        if verb == "commits":
            answer = " ".join(map(str, timed(queue.commit, numbers[0])))
        elif verb == "reads":
            answer = " ".join(map(str, timed(queue.read, numbers[0])))
        elif verb == "puts":
            puts(queue, place, *numbers)
        elif verb == "takes" and bell is not None:
            takes(queue, bell, *numbers)
        elif verb == "both":
            both(queue, *numbers)
        elif verb == "among" and isinstance(queue, Lmdb):
            queue.among(numbers[0])
        elif verb == "effects":
            answer = str(queue.effects())
        print(answer, flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 4:
        os.sched_setaffinity(0, {int(sys.argv[4])})
    main(*sys.argv[1:4])
