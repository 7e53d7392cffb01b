"""
How facts look: times, exits, colours, JSON. Pure but for one look at the terminal.

Everything here is imported by the fast path of `regrow status`: standard library only, and little of it.
"""

from __future__ import annotations

import json
import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any, TextIO

    from regrow.daemon.cli.shapes import LastExit

COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36", "dim": "2"}

EXIT_WORDS = {
    "start_timeout": "not ready in time",
    "start_failed": "start failed",
    "watchdog": "watchdog: no progress",
    "liveness": "failed its liveness checks",
    "memory": "over its memory limit",
    "oom": "out of memory",
    "exec_failed": "cannot execute",
    "exception": "exception",
    "shutdown": "shutdown",
    "stopped": "stopped",
}


class Screen:
    """
    Where lines go.

    `colour` says whether to paint, `width` where to cut (None: nowhere), `wide` whether ├ can be written.
    """

    __slots__ = ("colour", "wide", "width")

    def __init__(self, colour: bool = False, width: int | None = None, wide: bool = True) -> None:
        self.colour = colour
        self.width = width
        self.wide = wide

    def paint(self, text: str, colour: str) -> str:
        if not self.colour or not colour:
            return text
        return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m"

    def cut(self, text: str) -> str:
        """`text` as far as it fits."""
        if self.width is None or len(text) <= self.width:
            return text
        return text[: max(self.width - 1, 1)] + ("…" if self.wide else ">")


def screen(stream: TextIO | None = None, environ: Mapping[str, str] = os.environ) -> Screen:
    """What `stream` (default: stdout) can show; a pipe gets neither colour nor a cut line."""
    stream = stream or sys.stdout
    wide = (stream.encoding or "").lower().replace("-", "") == "utf8"
    try:
        if not stream.isatty():
            return Screen(wide=wide)
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return Screen(wide=wide)
    # no-color.org: any value that is not empty switches colour off.
    colour = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
    return Screen(colour, columns or None, wide)


def span(seconds: float) -> str:
    """A running time: `3:02:11`, `2d 03:02:11`."""
    minutes, second = divmod(max(int(seconds), 0), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{days}d {hour:02}:{minute:02}:{second:02}" if days else f"{hour}:{minute:02}:{second:02}"


def about(seconds: float) -> str:
    """A time in one unit: `250ms`, `4s`, `3m`, `3h`, `2d`."""
    if seconds < 1:
        return f"{max(round(seconds * 1000), 0)}ms"
    for limit_s, unit_s, unit in ((120, 1, "s"), (7200, 60, "m"), (172_800, 3600, "h")):
        if seconds < limit_s:
            return f"{int(seconds / unit_s)}{unit}"
    return f"{int(seconds / 86_400)}d"


def amount(size: int) -> str:
    """Bytes in one unit: `812B`, `4.1KiB`, `23MiB`."""
    if size < 1024:
        return f"{size}B"
    found, unit = float(size), "B"
    for unit in ("KiB", "MiB", "GiB", "TiB"):  # noqa: B007 - the last one that was reached
        found /= 1024
        if found < 1024:
            break
    return f"{found:.1f}{unit}" if found < 10 else f"{found:.0f}{unit}"


def clock(at: float, now: float | None = None) -> str:
    """A moment for people: the time of day, with the date unless it is today."""
    then, today = time.localtime(at), time.localtime(now)
    same_day = then[:3] == today[:3]
    return time.strftime("%H:%M:%S" if same_day else "%Y-%m-%d %H:%M:%S", then)


def exit_words(last_exit: LastExit | None) -> str:
    """How a process ended: `exit 1`, `SIGKILL`, `SIGKILL (out of memory)`; empty when none has ended."""
    if last_exit is None:
        return ""
    reason, code, signal = last_exit.get("reason", ""), last_exit.get("code"), last_exit.get("signal")
    word = EXIT_WORDS.get(reason, reason)
    if signal:
        return signal if reason in ("signal", "") else f"{signal} ({word})"
    if reason == "exit":
        return f"exit {code}"
    if reason in ("exec_failed", "exception", "start_failed"):
        last = (last_exit.get("text") or "").strip().rpartition("\n")[2].strip()
        if last:
            return f"{word}: {last}"
    return word if code is None or reason in ("shutdown", "stopped") else f"exit {code} ({word})"


def dumps(fact: Any) -> str:
    """One fact as JSON on one line."""
    return json.dumps(fact, ensure_ascii=False)


def json_list(facts: Iterable[Any]) -> str:
    """A list with one fact a line, for `jq` and `grep` alike."""
    lines = ",\n ".join(dumps(fact) for fact in facts)
    return f"[{lines}]"


def one_line(text: str) -> str:
    """`text` without line ends and control characters, which a child may have put there."""
    return "".join(c if c.isprintable() else " " for c in text).strip()
