"""`regrow status`: ask, and print. Shared by the fast path and the click command, so that both say the same."""

from __future__ import annotations

import os
import time

from regrow.daemon.cli.lines import block, fact, status_lines
from regrow.daemon.cli.nearby import Reached
from regrow.daemon.cli.output import json_list, screen
from regrow.ipc.daemons import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from regrow.daemon.cli.output import Screen
    from regrow.daemon.cli.shapes import Entry, Event, Hello
    from regrow.ipc.control import ControlClient

LOG_LINES = 10
"""How much of its log the block of one name shows, as `systemctl status` does."""


def show_status(
    names: Sequence[str], *, everything: bool, as_json: bool, run_dir: str | None = None, daemon: str | None = None
) -> None:
    """
    Print a line for each child, or the whole block when exactly one name is asked for.

    Raises:
        ControlError: nobody answered, or a name is unknown.
    """
    with Reached(connect(run_dir=run_dir, name=daemon)) as client:
        entries = ask(client, names, everything=everything)
        if as_json:
            print(json_list(fact(entry) for entry in entries))
            return
        lines = status_lines(entries, screen())
        if len(names) == 1 and entries and entries[0]["name"] == names[0]:
            lines = [*_whole(client, entries[0], screen()), *lines[1:]]
    if lines:
        print("\n".join(lines))


def ask(client: ControlClient, names: Sequence[str] = (), *, everything: bool = False) -> list[Entry]:
    """The entries of `names` (default: all) in tree order."""
    fields: dict[str, Any] = {"names": list(names)} if names else {}
    if everything:
        fields["all"] = True
    entries: list[Entry] = client.request("status", **fields)
    now = time.time()
    for entry in entries:
        if entry.get("uptime_s") is None:
            entry["uptime_s"] = max(now - entry["since"], 0.0) if entry["pid"] is not None else None
    return entries


def _whole(client: ControlClient, entry: Entry, to: Screen) -> list[str]:
    name = entry["name"]
    path, log = _log_of(client, name) if entry["kind"] != "supervisor" else ("", [])
    events: list[Event] = client.request("events", names=[name])
    budget = next((event for event in reversed(events) if event["name"] == name and "used" in event), None)
    return block(entry, to, time.time(), budget, log, path)


def _log_of(client: ControlClient, name: str) -> tuple[str, list[str]]:
    """Where the child's output is and its last lines; empty when there is none that we may read."""
    from regrow.workers.system.logs import log_path, tail_lines

    hello: Hello = client.request("ping")
    path = log_path(hello["log_dir"], name)
    if not os.path.exists(path):
        return "", []
    try:
        return path, tail_lines(hello["log_dir"], name, LOG_LINES)
    except OSError:
        return path, []
