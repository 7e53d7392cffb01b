"""
The same durable queue by other means: sqlite3 in WAL mode, and Celery with Redis where they are installed.

sqlite3: put in one transaction for each batch, then delete and count in one for each batch, in two processes, with
`synchronous` alike. Celery: one worker in one process (`--pool solo`), `acks_late`, a task increments a counter in
Redis, whose log is synced alike; its tasks are sent one by one. The floor is that of `post`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.contenders import HERE, TIMEOUT_S, clean_environ
from benchmarks.keeping import FLOORS, keeping
from benchmarks.measure import Row, Size
from benchmarks.post import PAYLOAD, RawQueue, regrow
from benchmarks.raw import Told
from benchmarks.send import in_turn
from regrow.config.spec import Durability

BATCHES = (1, 100)
SYNCED = {Durability.PROCESS: "no", Durability.SYSTEM: "everysec", Durability.FULL: "always"}
"""`appendfsync` of Redis; "no" leaves it to the kernel."""


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    rows = []
    for level in Durability:
        for batch in BATCHES:
            total = size.of(8_000 if batch > 1 or level is Durability.PROCESS else 2_000, 200)
            rows += one_level(level, batch, total, size.of(5, 1))
    return rows


def one_level(level: Durability, batch: int, total: int, rounds: int) -> list[Row]:
    """All of them, one to one."""
    with ExitStack() as stack:
        house = stack.enter_context(keeping(level))
        # sqlite3 in WAL mode with NORMAL may lose the last moment, as `system` may: it syncs at checkpoints
        sqlite = "sync" if level is Durability.FULL else "nometasync" if level is Durability.SYSTEM else "nosync"
        sides: dict[str, Callable[[], float]] = {
            "": partial(stack.enter_context(RawQueue("lmdb", house, FLOORS[level])).run_s, 1, total, batch),
            "regrow": partial(stack.enter_context(regrow(house)), 1, total, batch),
            "sqlite3": partial(stack.enter_context(RawQueue("sqlite", house, sqlite)).run_s, 1, total, batch),
        }
        if batch == 1 and (python := with_celery()):
            sides["Celery"] = partial(stack.enter_context(Celery(python, house.directory, level)).run_s, total)
        floor, *found = in_turn(list(sides.values()), rounds, total)
        names = list(sides)[1:]
    label = f"durable queue, {level}, {batch} at once"
    return [Row(f"{label}: {name}", "µs each", floor, each) for name, each in zip(names, found, strict=True)]


def with_celery() -> str:
    """The interpreter that has Celery and Redis' client, $CELERY_PYTHON or this one; "" where there is none."""
    if shutil.which("redis-server") is None:
        print("queue_rivals: no Celery, for want of redis-server", file=sys.stderr)
        return ""
    if python := os.environ.get("CELERY_PYTHON", ""):
        return python
    if all(importlib.util.find_spec(name) for name in ("celery", "redis")):
        return sys.executable
    print("queue_rivals: no Celery, for want of celery and redis (or of CELERY_PYTHON)", file=sys.stderr)
    return ""


class Celery:
    """Redis on a socket of its own, a worker, and a process that sends; a context manager."""

    def __init__(self, python: str, directory: Path, level: Durability) -> None:
        self._stack = ExitStack()
        place = directory / "redis"
        place.mkdir()
        socket = place / "socket"
        options = ["--port", "0", "--unixsocket", socket, "--dir", place, "--save", "", "--appendonly", "yes"]
        self._start("redis-server", *options, "--appendfsync", SYNCED[level])
        while not socket.exists():
            time.sleep(0.01)
        environ = {**clean_environ(), "CELERY_SOCKET": str(socket)}
        options = ["--pool", "solo", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
        self._start(python, "-m", "celery", "-A", "benchmarks.celery_queue", "worker", *options, environ=environ)
        self._sender = self._stack.enter_context(Told("celery_queue", python=python, environ=environ))

    def run_s(self, total: int) -> float:
        """Seconds until `total` tasks have taken effect."""
        return float(self._sender.ask(f"tasks {total} {PAYLOAD}"))

    def _start(self, *command: object, environ: dict[str, str] | None = None) -> None:
        process = subprocess.Popen(
            list(map(str, command)), cwd=HERE.parent, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._stack.callback(process.wait, TIMEOUT_S)
        self._stack.callback(process.terminate)

    def __enter__(self) -> Celery:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
