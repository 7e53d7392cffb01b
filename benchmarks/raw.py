"""
Processes that are told what to do by lines, started and ended as context managers.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.contenders import HERE, TIMEOUT_S, clean_environ


class Told:
    """One of the programs here; constructed when it has said that it is ready."""

    def __init__(
        self, program: str, *arguments: object, python: str = sys.executable, environ: dict[str, str] | None = None
    ) -> None:
        self._process = subprocess.Popen(
            [python, "-m", f"benchmarks.{program}", *map(str, arguments)],
            cwd=HERE.parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environ or clean_environ(),
            text=True,
        )
        self.answer()

    def say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline()

    def ask(self, line: str) -> str:
        """Say a line and hear one."""
        self.say(line)
        return self.answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=TIMEOUT_S)


class Raw(Told):
    """Bare pyzmq; `mode` is `server` or `driver`, on one processor where that is said."""

    def __init__(self, mode: str, path: Path, processor: int | None = None) -> None:
        super().__init__("raw_zmq", mode, path, *(() if processor is None else (processor,)))
