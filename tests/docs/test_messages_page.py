"""docs/messages.md names the verbs and the errors that there are."""

from __future__ import annotations

import re

import pytest
from pages import TOP

from regrow import ipc
from regrow.ipc import errors
from regrow.ipc.aio import AsyncClient, AsyncVerbs
from regrow.ipc.client import Client
from regrow.ipc.remote import RemoteClient
from regrow.ipc.remote_aio import AsyncRemoteClient
from regrow.workers import Agent

PAGE = (TOP / "docs" / "messages.md").read_text()


def section(heading: str) -> str:
    """What is below a heading."""
    parts = re.split(r"^## (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[heading]


def verbs() -> set[str]:
    """The verbs in the first column of the table."""
    first = [line.split("|")[1] for line in section("The verbs").splitlines() if line.startswith("| `")]
    return {name for cell in first for name in re.findall(r"`(\w+)\(", cell)}


@pytest.mark.parametrize(
    ("kind", "lacks"),
    [
        (Client, set()),
        (Agent, set()),
        (AsyncClient, set()),
        (AsyncVerbs, set()),
        (RemoteClient, {"tasks", "members", "run_command", "start_command"}),
        (AsyncRemoteClient, {"tasks", "members", "run_command", "start_command"}),
    ],
)
def test_verbs_are_there(kind: type, lacks: set[str]) -> None:
    """Everybody has every verb of the table, but for those of which the page says so."""
    assert {verb for verb in verbs() if not hasattr(kind, verb)} == lacks


def test_no_verb_is_left_out() -> None:
    """The section has what can be called on a client, but for what is about the client itself."""
    own = {name for name in dir(Client) if not name.startswith("_")}
    named = verbs() | set(re.findall(r"`(\w+)`", section("The verbs"))) | {"next_signal", "demonitor"}
    assert own - named == {"close", "control", "run_dir", "signals"}


def test_errors_are_there() -> None:
    """Every error of a message stands in the table of what can happen, and is exported."""
    family = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, Exception)}
    outcomes = {name for name in family if issubclass(getattr(errors, name), errors.MessageError)} - {"MessageError"}
    assert {name for name in outcomes if f"`{name}" not in section("What can happen")} == set()
    assert outcomes <= set(ipc.__all__)
