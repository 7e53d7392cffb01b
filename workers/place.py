"""
Where an agent stands: what its supervisor tells it through the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NamedTuple

from regrow.ipc.node import MailboxSpec


class Place(NamedTuple):
    """The daemon's run_dir, and the mailbox that the agent is to have there."""

    run_dir: str
    mailbox: MailboxSpec


def place(name: str, environ: Mapping[str, str] = os.environ) -> Place:
    """
    Read it.

    Raises:
        RuntimeError: this process was not started by regrow.
    """
    run_dir = environ.get("REGROW_RUN_DIR", "")
    if not run_dir:
        raise RuntimeError(f"cannot run {name}: REGROW_RUN_DIR is not set, so this is no process of a regrow daemon")
    mailbox = MailboxSpec(
        name=name,
        incarnation=int(environ.get("REGROW_INCARNATION", "1")),
        group=environ.get("REGROW_GROUP", ""),
        replicas=int(environ.get("REGROW_REPLICAS", "1")),
        admit=admitted(environ.get("REGROW_MAILBOX", "")),
    )
    return Place(run_dir, mailbox)


def admitted(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Who may send here: the user ids and the group ids of a text such as `u0,u1000,g27`."""
    words = [word for word in text.split(",") if word]
    users = tuple(int(word[1:]) for word in words if word.startswith("u"))
    groups = tuple(int(word[1:]) for word in words if word.startswith("g"))
    return users, groups
