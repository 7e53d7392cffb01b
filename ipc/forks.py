"""
Hooks around forks, registered when there is something for them to look after.

A supervisor loads what its agents run, and uses none of it. Each hook that it had would be called in all its children,
for nothing: 10 to 50 page faults each.

Source: Python's os.register_at_fork.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import Any


def from_first_use(**hooks: Any) -> Callable[[], None]:
    """What is to be called before each use of what the hooks look after; the first call registers them."""

    @cache
    def heed() -> None:
        os.register_at_fork(**hooks)

    return heed
