"""
What the regrow of an interpreter answers to the running one: its version, and whether it can take over.

Each is asked in a process of its own (`errand`): an interpreter may be on a disk that does not answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from regrow.config import exits
from regrow.daemon.reexec import execute

if TYPE_CHECKING:
    import subprocess

WITHIN_S = 15.0

_VERSION = "from regrow.config.version import VERSION; print(VERSION)"


def version(python: str) -> bytes:
    """
    Which regrow belongs to that interpreter now.

    Raises:
        RuntimeError: nobody can say.
    """
    ran = _run(execute.program(python, _VERSION), b"")
    if ran.returncode != exits.DONE:
        raise RuntimeError(f"{python} cannot say which regrow it has: {_said(ran)}")
    return ran.stdout.strip()


def check(python: str, values: list[bytes]) -> bytes:
    """
    Have the regrow of that interpreter look at everything that would be carried.

    Raises:
        RuntimeError: it cannot be run, or will not.
    """
    ran = _run(execute.program(python, execute.CHECK), msgspec.msgpack.encode(values))
    if ran.returncode != exits.DONE:
        raise RuntimeError(f"{python} cannot take over: {_said(ran)}")
    return ran.stdout


def _run(argv: tuple[str, ...], data: bytes) -> subprocess.CompletedProcess[bytes]:
    import subprocess  # never in the root itself: threads, which come with it, make every fork dearer

    try:
        return subprocess.run(argv, input=data, capture_output=True, timeout=WITHIN_S, check=False)
    except OSError as error:
        raise RuntimeError(f"cannot run {argv[0]}: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{argv[0]} has not answered within {WITHIN_S:g} s") from None


def _said(ran: subprocess.CompletedProcess[bytes]) -> str:
    """Its last line."""
    said = ran.stderr.decode(errors="replace").strip().rpartition("\n")[2]
    return said or f"it ended with status {ran.returncode}"
