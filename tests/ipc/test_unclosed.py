"""Clients that nobody closes: whoever can be reached no more holds nothing, and nobody hangs."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import Box

from regrow.ipc import AsyncClient, Client

TIMEOUT_S = 20.0


@pytest.fixture
def quiet() -> Iterator[None]:
    """No other test's garbage is collected meanwhile."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def open_now() -> int:
    """How many descriptors this process has; those of LMDB are shared by all who have the same open."""
    return len(os.listdir("/proc/self/fd"))


def use(run_dir: Path) -> Client:
    """A client that has talked to somebody."""
    client = Client(run_dir)
    client.send("box", "echo").wait()
    client.monitor("box")
    return client


@pytest.mark.parametrize("in_a_cycle", [False, True])
def test_who_is_gone_is_closed(run_dir: Path, box: Box, quiet: None, in_a_cycle: bool) -> None:
    """With a warning, as files are; also where only the collector finds it, which must not wait for ZeroMQ."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = use(run_dir)  # what is loaded and opened once
        client.close()
        del client
        gc.collect()
    before = open_now()
    client = use(run_dir)
    threads = threading.active_count()
    if in_a_cycle:
        client.itself = client  # type: ignore[attr-defined]
    assert open_now() > before
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del client
        gc.collect()
    assert [str(one.message) for one in told if one.category is ResourceWarning] == [
        f"unclosed connections to {run_dir}: leave a client by `with`, or close() it"
    ]
    assert open_now() == before
    assert threading.active_count() == threads


def test_who_was_closed_warns_of_nothing(run_dir: Path, box: Box, quiet: None) -> None:
    """Nor does one that has failed to open."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        client = use(run_dir)
        client.close()
        del client
        gc.collect()


def test_in_a_forked_process(run_dir: Path, box: Box, quiet: None) -> None:
    """The child lets go of its copies only: its parent's client goes on."""
    client = use(run_dir)
    before = open_now()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            del client
            gc.collect()
            status = 0 if open_now() < before else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    client.send("box", "echo").wait()
    client.close()


PROGRAM = """
import asyncio, gc, sys, threading, warnings
from regrow.ipc import AsyncClient, Client
warnings.simplefilter("error" if "strict" in sys.argv else "default")
kept = Client(sys.argv[1])
kept.itself = kept
kept.subscribe("topic", timeout=0.0)
kept.send("box", "echo").wait()
other = AsyncClient(sys.argv[1])
waiting = threading.Thread(target=lambda: kept.next_signal(3600.0), daemon=True)
if "thread" in sys.argv:
    waiting.start()
if "drop" in sys.argv:
    del kept, waiting, other
    gc.collect()
print("the end")
"""


@pytest.mark.parametrize("how", [[], ["thread"], ["drop"], ["drop", "strict"]], ids=str)
def test_the_end_of_the_interpreter(run_dir: Path, box: Box, how: list[str]) -> None:
    """It comes, whoever is open, whoever waits, and whatever becomes of warnings."""
    command = [sys.executable, "-c", PROGRAM, str(run_dir), *how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "the end\n"), done.stderr
    assert ("unclosed connections" in done.stderr) is ("drop" in how)


def test_an_async_client(run_dir: Path, box: Box, quiet: None) -> None:
    """The same of one that was never used."""
    before = open_now()
    client = AsyncClient(run_dir)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        del client
        gc.collect()
    assert [one.category for one in told] == [ResourceWarning]
    assert open_now() == before
