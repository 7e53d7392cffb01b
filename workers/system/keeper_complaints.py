"""What the keeper has to say to the operator: in the log, as an event, and as its status for as long as it holds."""

from __future__ import annotations

import sys

from regrow.workers.notify import notify, status


class Complaints:
    """What is wrong now, by what it is about."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}

    def set(self, about: str, text: str) -> None:
        """Say once what is wrong; no more of it when it is over (empty)."""
        before = self._texts.get(about, "")
        if text == before:
            return
        if text and not before:
            say(text)
        if text:
            self._texts[about] = text
        else:
            del self._texts[about]
        status("; ".join(self._texts.values()))


def say(text: str) -> None:
    """A line in the log, and an event."""
    sys.stderr.write(f"{text}\n")
    notify(f"X_REGROW_EVENT=store\nX_REGROW_TEXT={text}")
