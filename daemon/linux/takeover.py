"""Interim."""

from __future__ import annotations


def take(run_dir: str, token: str, title: str) -> None:
    """Interim."""
