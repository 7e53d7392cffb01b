"""
Posts of several senders in one commit: for whoever posts for others, or has posts come faster than commits are done.

Source: architecture section 7.
"""

from __future__ import annotations

from collections.abc import Callable

from regrow.ipc.posting import Posting
from regrow.ipc.transaction import Outgoing, Transaction


def kept(posting: Posting, makes: list[Callable[[], Outgoing]]) -> list[str | Exception]:
    """Commit together what they make; each one's id, or why it is not kept."""
    outcomes: list[str | Exception] = []
    together = Transaction()
    for make in makes:
        try:
            out = make()
        except Exception as error:  # noqa: BLE001 - it is raised where it belongs, and is nobody else's
            outcomes.append(error)
        else:
            together.posts.append(out)
            outcomes.append(out.id)
    try:
        if together:
            posting.commit(together)
    except Exception as error:  # noqa: BLE001 - the same
        return [error if isinstance(outcome, str) else outcome for outcome in outcomes]
    return outcomes
