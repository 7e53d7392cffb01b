"""
A process that posts: it is given a run_dir, and lines `posts TO TOTAL BATCH SIZE` on standard input.
"""

from __future__ import annotations

import os
import sys

from regrow.ipc import Client


def posts(client: Client, to: str, total: int, batch: int, size: int) -> None:
    """Post `total` messages, `batch` in a transaction."""
    text = "x" * size
    if batch == 1:
        for _ in range(total):
            client.post(to, "note", text)
        return
    for first in range(0, total, batch):
        with client.transaction():
            for _ in range(min(batch, total - first)):
                client.post(to, "note", text)


def main(run_dir: str) -> None:
    """Do what each line says, and answer with a line."""
    with Client(run_dir) as client:
        print("ready", flush=True)
        for line in sys.stdin:
            _, to, *numbers = line.split()
            total, batch, size = map(int, numbers)
            posts(client, to, total, batch, size)
            print("done", flush=True)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        os.sched_setaffinity(0, {int(sys.argv[2])})
    main(sys.argv[1])
