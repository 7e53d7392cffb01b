"""What a worker may raise to say something to its supervisor."""

from __future__ import annotations


class Ignore(Exception):
    """This worker is not needed: its start counts as a success and nothing runs (S30)."""
