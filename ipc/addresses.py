"""
What a client is told about where to go: an address of a hub, a run_dir, or nothing.
"""

from __future__ import annotations

import os


def address_of(where: str | os.PathLike[str] | None) -> str | None:
    """The address where a hub listens, such as `tcp://HOST:PORT`; None when `where` is no address."""
    return where if isinstance(where, str) and "://" in where else None


def run_dir_of(where: str | os.PathLike[str] | None, key: str | os.PathLike[str] | None) -> str:
    """
    The run_dir that is meant: `where`, or that of the only daemon there is. There is no `key` to it.

    Raises:
        Unreachable, Ambiguous; ValueError: a key is given.
    """
    if key is not None:
        raise ValueError("a key is for tcp:// only: who may talk to a daemon on this host is said by [access]")
    if where is not None:
        return os.fspath(where)
    from regrow.ipc.daemons import connect

    with connect() as control:
        return control.run_dir
