"""What storms have in common: processes that call, a thread that disturbs them meanwhile, and a command line."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import processes
from siblings import Line, Sibling


class Wrong(Exception):
    """Something did not hold."""


class Callers:
    """So many processes, each of which runs `body(index, line)`. Made before there are threads, which a fork loses."""

    def __init__(self, count: int, body: Callable[[int, Line], object]) -> None:
        def begin(line: Line, index: int) -> None:
            line.say("ready")
            body(index, line)

        self._all = [Sibling(lambda line, index=index: begin(line, index)) for index in range(count)]  # type: ignore[misc]
        for caller in self._all:
            caller.hear()

    def __iter__(self) -> Iterator[Sibling]:
        return iter(self._all)

    def say(self, thing: Any) -> None:
        """The same to each of them."""
        for caller in self._all:
            caller.say(thing)

    def close(self) -> None:
        """End them, wherever they are."""
        for caller in self._all:
            caller.close()


class Meanwhile:
    """A thread that does `turn`, again and again, until the end; `failed` is why it has ended before that."""

    def __init__(self, turn: Callable[[threading.Event], None]) -> None:
        self._turn = turn
        self._end = threading.Event()
        self.failed = ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """No more of it; the turn that is under way comes to its end."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.is_set() and not self.failed:
            try:
                self._turn(self._end)
            except Exception as error:  # noqa: BLE001 - whatever it is, the storm is told
                self.failed = repr(error)


def from_command_line(
    parser: argparse.ArgumentParser,
    storm: Callable[[argparse.Namespace], Iterable[str]],
    arguments: list[str] | None,
) -> int:
    """Print what `storm` tells of a storm with these options; the exit status is 1 when something did not hold."""
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where all choices come from")
    options = parser.parse_args(arguments)
    processes.become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
    _say(f"seed {options.seed}")
    try:
        for line in storm(options):
            _say(line)
    except Wrong as wrong:
        _say(str(wrong))
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
