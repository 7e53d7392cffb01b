"""
A task of Celery, and a process that sends it: `tasks TOTAL SIZE` on standard input, answered with the seconds that it
took until all had taken effect. `$CELERY_SOCKET` is the socket of Redis.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import celery  # type: ignore[import-not-found,import-untyped,unused-ignore]  # where it is installed
import redis  # type: ignore[import-not-found,unused-ignore]

SOCKET = os.environ["CELERY_SOCKET"]

app: Any = celery.Celery("bench", broker=f"redis+socket://{SOCKET}")
app.conf.task_acks_late = True
app.conf.task_ignore_result = True
app.conf.worker_prefetch_multiplier = 100
counts: Any = redis.Redis(unix_socket_path=SOCKET)


@app.task(name="note")  # type: ignore[untyped-decorator,unused-ignore]
def note(text: str, goal: int) -> None:
    """Count it, and say when it was the last."""
    if counts.incr("total") == goal:
        counts.lpush("done", 1)


def main() -> None:
    """Do what each line says, and answer with a line."""
    print("ready", flush=True)
    for line in sys.stdin:
        _, total, size = line.split()
        text, goal = "x" * int(size), int(counts.get("total") or 0) + int(total)
        began_s = time.perf_counter()
        for _ in range(int(total)):
            note.delay(text, goal)
        counts.blpop("done")
        print(time.perf_counter() - began_s, flush=True)


if __name__ == "__main__":
    main()
