"""
Fills a store with state of one owner, as nobody does it: row behind row, in the order of the keys, without a sync.

    PATH OWNER COUNT SIZE
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

TOGETHER = 20_000


def key(number: int) -> str:
    """The keys of what is put there."""
    return f"k{number:09}"


def main(path: str, owner: str, count: int, size: int) -> None:
    """Put `count` values of `size` bytes; nothing may be behind them in the store, so that its pages are full."""
    import lmdb

    room = 2 * count * (size + 100) + (1 << 30)
    flags: Any = {"sync": False, "metasync": False, "readahead": False, "create": False}
    with lmdb.open(path, map_size=room, max_dbs=8, **flags) as env:
        state, value = env.open_db(b"state", create=False), b"\xc5" + size.to_bytes(2, "big") + bytes(size)
        start = owner.encode() + b"\0 "

        def rows(first: int) -> Iterator[tuple[bytes, bytes]]:
            for number in range(first, min(count, first + TOGETHER)):
                yield b"%b%b\0" % (start, key(number).encode()), value

        for first in range(0, count, TOGETHER):
            with env.begin(write=True) as txn, txn.cursor(db=state) as cursor:
                cursor.putmulti(rows(first), append=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
