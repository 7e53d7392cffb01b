"""
What workers printed, and what the logger wrote: every line of the first once in the second, in order.

A worker writes down a line after it has printed it, so a log may be ahead by the one line during which its worker
was killed. Only the death of a *root* may cost lines, those in pipes at that moment: then what is in the log has
to be a beginning without gaps.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Container
from pathlib import Path
from typing import NamedTuple


class Writer(NamedTuple):
    """One worker process."""

    name: str
    token: str
    incarnation: str
    pid: str


class Ledger:
    """Reads both sides as they grow. `wrong` collects what can never come right any more."""

    def __init__(self, directory: Path) -> None:
        self._printed_dir = directory / "printed"
        self._log_dir = directory / "log"
        self._offsets: dict[tuple[str, int], int] = {}
        self._rest: dict[str, bytes] = {}
        self.printed: dict[Writer, int] = {}
        self.logged: dict[Writer, int] = defaultdict(int)
        self.wrong: list[str] = []
        self.in_flight = 0
        self._open: set[Writer] = set()

    @property
    def lines(self) -> int:
        """How many lines were found in the logs."""
        return sum(self.logged.values())

    def missing(self) -> list[str]:
        """Read on, and tell what was printed before this call and is not in the logs yet."""
        self._read_printed()
        self._read_logs()
        self._open = {writer for writer in self._open if self.logged[writer] < self.printed[writer]}
        return [
            f"{':'.join(writer)}: {self.printed[writer]} lines printed, {self.logged[writer]} logged"
            for writer in sorted(self._open)
        ]

    def new_root(self, token: str) -> None:
        """A root with this token is ready: what was on its way when an earlier one was killed is not waited for."""
        self.missing()
        gone = {writer for writer in self._open if writer.token != token}
        self.in_flight += sum(self.printed[writer] - self.logged[writer] for writer in gone)
        self._open -= gone

    def finish(self, told: Container[str]) -> None:
        """
        At the very end, with nothing running: no log may hold what was never printed.

        No number may name two processes of which the daemon has told (the pids in `told`). One that was born and died
        with its supervisor before anybody heard of it leaves its number to another: docs/deaths.md says so.
        """
        self.missing()
        self.wrong += [
            f"{':'.join(writer)}: {count} lines logged, only {self.printed.get(writer, 0)} printed"
            for writer, count in self.logged.items()
            if count > self.printed.get(writer, 0) + 1
        ]
        used: dict[tuple[str, str, str], str] = {}
        for writer in self.printed:
            other = used.setdefault(writer[:3], writer.pid)
            if other != writer.pid and other in told and writer.pid in told:
                self.wrong.append(f"{':'.join(writer[:3])} names two processes: {other} and {writer.pid}")

    def _read_printed(self) -> None:
        for path in self._printed_dir.iterdir():
            inode, added = self._added(path)
            for line in self._lines(f"printed {path.name}", ("printed", inode), added):
                token, incarnation, pid, number = line.split()
                writer = Writer(path.name, token, incarnation, pid)
                self.printed[writer] = int(number)
                self._open.add(writer)

    def _read_logs(self) -> None:
        names = {writer.name for writer in self.printed}
        for name, files in self._log_files().items():
            if name in names:
                for inode, added in self._added_to_all(files):
                    for line in self._lines(f"log {name}", ("log", inode), added):
                        self._logged(name, line)

    def _log_files(self) -> dict[str, list[Path]]:
        """The files of each name, oldest first."""
        files: dict[str, list[tuple[int, Path]]] = defaultdict(list)
        for path in self._log_dir.iterdir():
            name, found, number = path.name.partition(".log")
            if found and (number == "" or number[1:].isdigit()):
                files[name].append((-int(number[1:] or 0), path))
        return {name: [path for _, path in sorted(numbered)] for name, numbered in files.items()}

    def _added_to_all(self, files: list[Path]) -> list[tuple[int, bytes]]:
        """What was added to each, unless they are being rotated under our eyes: then nothing for now."""
        try:
            added = [self._added(path) for path in files]
            unmoved = [path.stat().st_ino for path in files] == [inode for inode, _ in added]
        except FileNotFoundError:
            return []
        return added if unmoved else []

    def _added(self, path: Path) -> tuple[int, bytes]:
        with path.open("rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            file.seek(self._offsets.get(("log" if path.parent == self._log_dir else "printed", inode), 0))
            return inode, file.read()

    def _lines(self, rest: str, key: tuple[str, int], added: bytes) -> list[str]:
        """Whole lines that were added; what is begun is kept for later."""
        self._offsets[key] = self._offsets.get(key, 0) + len(added)
        *lines, self._rest[rest] = (self._rest.get(rest, b"") + added).split(b"\n")
        return [line.decode(errors="replace") for line in lines]

    def _logged(self, name: str, line: str) -> None:
        words = line.split()
        if not words or words[0] == "READY":
            return
        if len(words) != 5 or words[0] != "L":
            self.wrong.append(f"{name}.log holds a line that nobody printed: {line!r}")
            return
        writer = Writer(name, *words[1:4])
        if int(words[4]) != self.logged[writer] + 1:
            self.wrong.append(f"{':'.join(writer)}: line {words[4]} follows line {self.logged[writer]}")
        self.logged[writer] = int(words[4])
