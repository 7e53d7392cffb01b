"""Using a store from this process and from others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from siblings import Line, Sibling

from regrow.ipc.store import Store, StoreUnusable, Txn

TIMEOUT_S = 20.0
SMALL = 1 << 17


def put(opened: Store, key: bytes, value: bytes) -> None:
    """One row, in a transaction of its own."""
    opened.write(lambda txn: txn.put(key, value, db=opened.state))


def get(opened: Store, key: bytes) -> bytes | None:
    """One row, read in both ways."""
    found: bytes | None = opened.read(lambda txn: txn.get(key, db=opened.state))
    assert found == opened.row(key)
    return found


def increment(opened: Store, key: bytes) -> None:
    """Read and write in one transaction."""

    def change(txn: Txn) -> None:
        txn.put(key, str(int(txn.get(key, b"0", db=opened.state)) + 1).encode(), db=opened.state)

    opened.write(change)


def fill(opened: Store, key: bytes, size: int) -> None:
    """A row of this size."""
    put(opened, key, bytes(size))


def size(opened: Store, key: bytes) -> int:
    """The size of a row."""
    return len(get(opened, key) or b"")


VERBS: dict[str, Callable[..., Any]] = {"put": put, "get": get, "fill": fill, "size": size}


def in_use(run_dir: Path, line: Line) -> None:
    """What another process does with the store on demand."""
    with closing(Store.open(str(run_dir))) as mine:
        for verb, *args in iter(line.hear, "end"):
            try:
                if verb == "hold":
                    mine.look(lambda _: line.ask("held"))
                    line.say(None)
                    continue
                line.say(VERBS[verb](mine, *args))
            except StoreUnusable as error:
                line.say(str(error))


def user(run_dir: Path) -> Sibling:
    """Another process that uses it."""
    return Sibling(lambda line: in_use(run_dir, line))


def done(sibling: Sibling) -> None:
    """Have it end."""
    sibling.say("end")
    assert sibling.wait() == 0
