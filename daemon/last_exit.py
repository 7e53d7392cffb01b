"""
How an end is shown: as `last_exit` in status, and in events.
"""

from __future__ import annotations

from typing import Any

from regrow.config.spec import signal_name
from regrow.daemon.core.events import Exit, ExitReason

MAX_TEXT = 8 * 1024


def story(reason: str, known: str, printed: str) -> str:
    """
    What is known of an end and what was printed before it, as one text.

    A traceback comes last, once: multiprocessing has printed it too.
    """
    if reason != ExitReason.EXCEPTION:
        return "\n".join(part for part in (known, printed) if part)
    end = printed.rfind("\nProcess ")
    before = printed[:end] if end >= 0 else ("" if printed.startswith("Process ") else printed)
    return "\n".join(part for part in (before, known) if part)


def exit_object(exit: Exit, *, text: str, at: float) -> dict[str, Any]:
    """An exit as `last_exit` and events show it."""
    name = signal_name(exit.signal) if exit.signal is not None else None
    return {
        "reason": str(exit.reason),
        "code": exit.code,
        "signal": name,
        "at": round(at, 3),
        "text": text[-MAX_TEXT:],
    }
