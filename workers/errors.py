"""What a worker may raise to say something to its supervisor."""

from __future__ import annotations


class Ignore(Exception):
    """Raised by a worker that is not needed: its start counts as a success and nothing runs (S30)."""
