"""
Where an agent stands: what its supervisor tells it through the environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from regrow.ipc.node import MailboxSpec


def run_dir(environ: Mapping[str, str] = os.environ) -> str:
    """
    The daemon's.

    Raises:
        RuntimeError: this process was not started by regrow.
    """
    found = environ.get("REGROW_RUN_DIR", "")
    if not found:
        raise RuntimeError("cannot run an agent: REGROW_RUN_DIR is not set, so this is no process of a regrow daemon")
    return found


def mailbox(name: str, environ: Mapping[str, str] = os.environ) -> MailboxSpec:
    """The one that the agent is to have there."""
    return MailboxSpec(
        name=name,
        incarnation=int(environ.get("REGROW_INCARNATION", "1")),
        group=environ.get("REGROW_GROUP", ""),
        replicas=int(environ.get("REGROW_REPLICAS", "1")),
        admit=admitted(environ.get("REGROW_MAILBOX", "")),
    )


def admitted(text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Who may send here: the user ids and the group ids of a text such as `u0,u1000,g27`."""
    words = [word for word in text.split(",") if word]
    users = tuple(int(word[1:]) for word in words if word.startswith("u"))
    groups = tuple(int(word[1:]) for word in words if word.startswith("g"))
    return users, groups
