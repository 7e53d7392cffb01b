"""
`regrow top`: the tree, live, with CPU and memory of each process.

States come from the daemon. CPU and memory are read here from /proc, so watching costs the daemon nothing but
one `status` per repaint. An event repaints at once.

Source: proc(5), /proc/PID/stat and /proc/PID/statm.
"""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from regrow.daemon.cli.lines import STATE_COLOURS, state_words, tree_labels
from regrow.daemon.cli.output import exit_words, one_line, screen, span
from regrow.daemon.cli.status import ask
from regrow.ipc.process import stat_fields

if TYPE_CHECKING:
    from regrow.daemon.cli.output import Screen
    from regrow.daemon.cli.shapes import Entry
    from regrow.ipc.control import ControlClient

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
COLUMNS = "{:<15}  {:>7}  {:>11}  {:>5}  {:>8}  {:>8}  {:<16}  {}"

LEAST_S = 0.1
"""A storm of events repaints at most this often."""


class Usage:
    """CPU of processes between one look and the next; identified by pid and start time."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, int], int] = {}
        self._looked_s = 0.0

    def look(self, pids: list[int], now_s: float) -> dict[int, tuple[float | None, int]]:
        """For each living pid: CPU in per cent since the last look (None at the first), resident bytes."""
        ticks: dict[tuple[int, int], int] = {}
        found: dict[int, tuple[float | None, int]] = {}
        elapsed_s = now_s - self._looked_s
        for pid in pids:
            facts = _facts(pid)
            if facts is None:
                continue
            used, started, resident = facts
            ticks[pid, started] = used
            before = self._before.get((pid, started))
            percent = None if before is None else 100 * (used - before) / TICKS_PER_S / elapsed_s
            found[pid] = (percent, resident)
        self._before, self._looked_s = ticks, now_s
        return found


def run_top(client: ControlClient, interval_s: float, *, everything: bool) -> None:
    """Repaint until q or ^C; on something that is no terminal, print one picture and return."""
    usage = Usage()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        print("\n".join(picture(client, usage, everything, screen())))
        return
    from rich.live import Live
    from rich.text import Text

    client.submit("events", follow=True, limit=0)
    try:
        with _keys(), Live(screen=True, auto_refresh=False) as live:
            while True:
                lines = picture(client, usage, everything, screen())
                live.update(Text.from_ansi("\n".join(lines), no_wrap=True), refresh=True)
                if _wait(client, interval_s) == "q":
                    return
    except KeyboardInterrupt:
        pass  # the other way to end it


def picture(client: ControlClient, usage: Usage, everything: bool, to: Screen) -> list[str]:
    """One whole picture: a line of titles, then a line for each child."""
    entries = ask(client, everything=everything)
    used = usage.look([entry["pid"] for entry in entries if entry["pid"] is not None], time.monotonic())
    rows = tree_labels(entries, wide=to.wide)
    width = max([len("NAME"), *(len(label) for label, _ in rows)])
    titles = ("STATE", "PID", "UP", "CPU", "MEMORY", "RESTARTS", "LAST EXIT", "DETAIL")
    lines = [to.cut(f"{'NAME':<{width}}  {COLUMNS.format(*titles)}")]
    for label, entry in rows:
        line = to.cut(f"{label:<{width}}  {COLUMNS.format(*_cells(entry, used))}".rstrip())
        begin = width + 2
        end = begin + len(state_words(entry))
        colour = STATE_COLOURS.get(entry["state"], "")
        lines.append(line[:begin] + to.paint(line[begin:end], colour) + line[end:])
    return lines


def _cells(entry: Entry, used: dict[int, tuple[float | None, int]]) -> Iterator[str]:
    yield state_words(entry)
    pid = entry["pid"]
    yield str(pid) if pid is not None else "-"
    uptime_s = entry.get("uptime_s")
    yield span(uptime_s) if pid is not None and uptime_s is not None else "-"
    percent, resident = used.get(pid or 0, (None, 0))
    yield f"{percent:.0f}%" if percent is not None else "-"
    yield f"{resident / 1024**2:.1f}M" if resident else "-"
    yield str(entry["restarts"])
    yield one_line(exit_words(entry["last_exit"])) or "-"
    yield one_line(entry["detail"] or "")


def _wait(client: ControlClient, interval_s: float) -> str:
    """Until a key, an event or the interval; the key, if one was pressed. Events in a row make one repaint."""
    begun_s = time.monotonic()
    watched = [sys.stdin, client]
    while True:
        ready = select.select(watched, [], [], max(begun_s + interval_s - time.monotonic(), 0.0))[0]
        if sys.stdin in ready:
            return os.read(sys.stdin.fileno(), 1).decode(errors="replace")
        if client not in ready:
            return ""
        while client.receive(0) is not None:
            pass
        interval_s = min(interval_s, LEAST_S)


@contextmanager
def _keys() -> Iterator[None]:
    """Let single keys through, without echo."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _facts(pid: int) -> tuple[int, int, int] | None:
    """(CPU ticks used, start time in ticks, resident bytes), or None when the process is gone."""
    try:
        fields = stat_fields(pid)
        with open(f"/proc/{pid}/statm", "rb") as statm:
            resident = int(statm.read().split()[1]) * PAGE_BYTES
    except OSError:
        return None
    return int(fields[11]) + int(fields[12]), int(fields[19]), resident
