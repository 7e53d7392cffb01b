"""
Why a message has come to nothing, in one line: what, where, and what to do.

The errors say what happened; what could be done about it takes a look at the daemon, at the names that live, and at
what else was typed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from regrow.config.errors import nearest
from regrow.config.exits import REFUSED
from regrow.daemon.cli.output import exit_words
from regrow.daemon.cli.report import NOT_FOUND, TIMED_OUT
from regrow.ipc.errors import (
    Backpressure,
    BadRequest,
    CallTimeout,
    ControlError,
    DeliveryTimeout,
    MessageError,
    NoProcess,
    NoProgram,
    ProcessDown,
    Refused,
)

if TYPE_CHECKING:
    from regrow.daemon.cli.shapes import Entry
    from regrow.ipc.client import Client
    from regrow.ipc.control import ControlClient

SHOWN = 8
"""More names than this are no help."""

_TEXT_EXPECTED = re.compile(r"\$\.(?P<key>\w+): expected str, got (?P<got>\w+)")


class Misses:
    """
    Explains errors of messages sent with `client`; `verb` is what was typed.

    `control` is asked what the tree has under a name that no process has.
    """

    def __init__(self, verb: str, client: Client, control: ControlClient) -> None:
        self._verb = verb
        self._client = client
        self._control = control

    def explain(self, error: MessageError) -> str:
        """One line for people."""
        if self._verb == "run" and (told := self._of_command(error)):
            return told
        match error:
            case NoProcess():
                name, keyed, _ = error.to.partition(" by key ")
                return f"cannot {TO[self._verb]} {name}: {self._nobody(name, keyed=bool(keyed))}"
            case ProcessDown():
                return self._death(error)
            case CallTimeout(cycle=(_, *_)):
                return f"{error}; one of these calls has to become a send"
            case CallTimeout():
                return f"{error}; it may still do the work: see `regrow status {error.to}`, or wait with --timeout"
            case DeliveryTimeout():
                return f"{error}: see `regrow status {error.to}`"
            case Backpressure():
                return f"{error}, and see `regrow status {error.to}`"
            case BadRequest():
                return f"{error}{_how_to_write_text(error)}"
            case Refused():
                return f"cannot {self._verb}: {error}"
            case _:
                return str(error)

    def _of_command(self, error: MessageError) -> str:
        """The same of one that was to be run, as far as that differs."""
        match error:
            case NoProcess():
                return f"cannot run: {self._runs_none(error.to)}"
            case ProcessDown():
                return f"{error.down.text or error}; see `regrow events {error.down.name}`"
            case CallTimeout():
                return f"cannot run: its turn has not come within {error.within_s:g} s; see `regrow events {error.to}`"
            case BadRequest():
                return f"cannot run: {error.text}"
            case _:
                return ""

    def status(self, error: MessageError) -> int:
        """The exit status: 1, and of a command that was not run what a shell and timeout(1) say."""
        if self._verb != "run":
            return REFUSED
        match error:
            case NoProgram():
                return NOT_FOUND
            case CallTimeout():
                return TIMED_OUT
            case _:
                return REFUSED

    def _death(self, error: ProcessDown) -> str:
        name = error.down.name
        done = "" if self._verb == "send" else ", and whether the work was done is not known"
        how = exit_words(error.down.exit) or error.down.reason  # type: ignore[arg-type]  # a last_exit, or less
        return f"{name} ended before it {PAST[self._verb]} ({how}){done}; see `regrow why {name}`"

    def _runs_none(self, name: str) -> str:
        """Why nobody runs commands."""
        entries: list[Entry] = self._control.request("status", all=True)
        if any(entry["name"] == name for entry in entries):
            return f"it is between two processes; see `regrow why {name}`"
        return "this tree runs no commands; write [commands] into its file, and then `regrow apply`"

    def _nobody(self, name: str, *, keyed: bool = False) -> str:
        """Why nobody has the name, and whose name may have been meant."""
        try:
            entries: list[Entry] = self._control.request("status")
        except ControlError:
            return "no process has that name"
        members = [entry for entry in entries if entry["name"] == name or entry["name"].startswith(f"{name}.")]
        if members:
            return _not_there(members, name, keyed=keyed)
        agents = [entry["name"] for entry in entries if entry["kind"] == "agent"]
        known = sorted({*agents, *(agent.partition(".")[0] for agent in agents)})
        near = nearest(name, known)
        if near is not None:
            return f"no process has that name; did you mean {near}?"
        return f"no process has that name; {_listed('the agents are', known) or 'there are no agents'}"


TO = {"call": "call", "send": "send to", "post": "post to"}
PAST = {"call": "answered", "send": "accepted", "post": "took it"}


def _not_there(members: Sequence[Entry], name: str, *, keyed: bool) -> str:
    """The tree has that name, and yet no message can go there."""
    kinds = {member["kind"] for member in members}
    if "agent" not in kinds:
        return f"it is a {members[0]['kind']}, and only agents take messages"
    if keyed and members[0]["name"] == name:
        return "it is no group, and only groups have keys; leave --key out"
    remedy = f"`regrow why {members[0]['name']}` says why"
    if any(member["state"] in ("stopped", "failed") for member in members):
        remedy += f", `regrow start {name}` starts it"
    if len(members) == 1:
        return f"it is {members[0]['state']}; {remedy}"
    states = ", ".join(f"{member['name']} is {member['state']}" for member in members[:SHOWN])
    return f"none of its replicas is there: {states}; {remedy}"


def _listed(words: str, names: Iterable[str]) -> str:
    shown = list(names)
    more = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return f"{words} {', '.join(shown[:SHOWN])}{more}" if shown else ""


def _how_to_write_text(error: BadRequest) -> str:
    """A number that should have been text: `sku=42` is read as JSON."""
    found = _TEXT_EXPECTED.search(error.text)
    if found is None:
        return ""
    return f"; for text that reads as JSON write '{found['key']}=\"…\"', with the inner quotes"
