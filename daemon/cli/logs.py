"""
`regrow logs`: what children printed, read from the files themselves.

The daemon is asked only where they are and what names stand for; following goes on when it ends and comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from regrow.daemon.cli.output import dumps, screen
from regrow.daemon.cli.report import say_if_none
from regrow.daemon.cli.status import ask
from regrow.ipc.errors import Refused
from regrow.workers.system.logs import Follower, logged_names, tail_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

    from regrow.daemon.cli.output import Screen
    from regrow.daemon.cli.shapes import Hello
    from regrow.ipc.control import ControlClient

PREFIX_COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")


class Printer:
    """Prints lines, each under its child's name unless there is only one."""

    def __init__(self, to: Screen, *, prefixed: bool, as_json: bool) -> None:
        self._to = to
        self._prefixed = prefixed
        self._as_json = as_json
        self._colours: dict[str, str] = {}
        self.names: set[str] = set()
        """Whose lines were printed."""

    def line(self, name: str, text: str) -> None:
        """Print one line at once: somebody may be waiting for it."""
        self.names.add(name)
        if self._as_json:
            print(dumps({"name": name, "line": text}), flush=True)
        elif self._prefixed:
            colour = self._colours.setdefault(name, PREFIX_COLOURS[len(self._colours) % len(PREFIX_COLOURS)])
            print(f"{self._to.paint(f'{name} |', colour)} {text}", flush=True)
        else:
            print(text, flush=True)


def _chosen(client: ControlClient, names: Sequence[str], log_dir: str) -> list[str]:
    """
    Whose logs are meant: children, and those who have left the tree, as long as their logs are there.

    Raises:
        ControlError: one of `names` is unknown.
    """
    found: dict[str, None] = {}
    for name in names:
        try:
            found |= dict.fromkeys(entry["name"] for entry in ask(client, [name]) if entry["kind"] != "supervisor")
        except Refused as error:
            left = [known for known in logged_names(log_dir) if known == name or _is_replica(known, name)]
            if error.code != "not_found" or not left:
                raise
            found |= dict.fromkeys(left)
    return list(found)


def _is_replica(known: str, name: str) -> bool:
    group, _, index = known.rpartition(".")
    return group == name and index.isdecimal()


def show_logs(client: ControlClient, names: Sequence[str], *, follow: bool, limit: int, as_json: bool) -> None:
    """
    Print the last `limit` lines of each child, then go on if `follow`.

    Raises:
        OSError: a log cannot be read; ControlError: no daemon, or an unknown name.
    """
    hello: Hello = client.request("ping")
    log_dir = hello["log_dir"]
    chosen = _chosen(client, names, log_dir) if names else None
    client.close()
    printer = Printer(screen(), prefixed=chosen is None or len(chosen) > 1, as_json=as_json)
    if not follow:
        for name in logged_names(log_dir) if chosen is None else chosen:
            for text in tail_lines(log_dir, name, limit):
                printer.line(name, text)
        if limit and not as_json:
            say_if_none(printer.names, "nothing has been printed yet")
        return
    try:
        with Follower(log_dir, chosen, limit) as follower:
            for name, text in follower:
                printer.line(name, text)
    except KeyboardInterrupt:
        pass  # the way to end it
