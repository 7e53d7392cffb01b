"""Saying something on the daemon's own standard error, as far as there is one."""

from __future__ import annotations

import sys


def complain(text: str) -> None:
    """Write one message; a closed or full standard error is no reason to stop."""
    try:
        sys.stderr.write(f"regrow: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass
