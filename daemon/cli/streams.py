"""
The standard streams of a command line: each of them open, and a fault of the output known as one.

Light, because the fast path of `regrow status` pays for it too.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class OutputLost(Exception):
    """
    What is printed cannot be; `why` says it.

    No OSError: those are about files of ours, and click makes of one that is about a pipe a status of its own.
    """

    def __init__(self, why: OSError) -> None:
        super().__init__(str(why))
        self.why = why


class Output(io.FileIO):
    """What is printed; raises OutputLost."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise OutputLost(error) from error


def prepare() -> None:
    """
    Before anything is printed.

    A stream that whoever called us has closed leads nowhere, instead of to the next file that is opened.
    """
    _open_all()
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper) and out.fileno() == 1:
        sys.stdout = io.TextIOWrapper(
            io.BufferedWriter(Output(1, "w", closefd=False)),
            encoding=out.encoding,
            errors=out.errors,
            line_buffering=out.line_buffering,
            write_through=out.write_through,
        )


def _open_all() -> None:
    missing = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    if not missing:
        return
    fd = os.open(os.devnull, os.O_RDWR)
    while fd < 3:
        os.set_inheritable(fd, True)  # also what is executed in our place finds it
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
    for name in missing:
        number = ("stdin", "stdout", "stderr").index(name)
        setattr(sys, name, open(number, "r" if number == 0 else "w", closefd=False))  # noqa: SIM115 - for as long as we run
