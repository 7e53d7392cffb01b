"""What calling the command line in this process gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Done(NamedTuple):
    """What one command line did."""

    status: int
    out: str
    err: str


Cli = Callable[..., Done]
