"""Supervisors that end while something new is below them: the plan of before comes back, and no limit is used up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from applying import Gated, bad
from configs import Config
from tree import Tree
from wire import TIMEOUT_S

from regrow.ipc.control import ControlClient


@contextmanager
def bad_web(tree: Tree, config: Config) -> Iterator[Gated]:
    """An apply of a version of `web` that is at the gate, and would fail at every start."""
    tree.grow()
    tree.forget()
    bad(config, "web", "gate")
    config.write()
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        yield Gated(client, client.submit("apply"), tree.gate.next())


def rolled_back(told: dict[str, Any], who: str) -> None:
    """What an apply answers that was rolled back because `who` has ended."""
    assert told["outcome"] == "rolled_back", told
    assert told["reason"].startswith(f"{who} (incarnation "), told


@pytest.mark.parametrize("killed", ["top", "mid", "left"])
def test_a_supervisor_above_a_bad_version_is_killed(tree: Tree, config: Config, killed: str) -> None:
    """However far above: who begins anew begins with the plan of before, so one restart is all that is used."""
    config.supervisor("top", "mid", intensity=1).supervisor("mid", "left", intensity=1)
    config.supervisor("left", "web:P", intensity=1)
    with bad_web(tree, config) as going:
        tree.crash(killed)
        rolled_back(going.answer(), killed)
    assert tree.children("left") == [("web", "running")]
    assert tree.entry("web")["restarts"] <= 1
    assert not [event for event in tree.stream.events if event["event"] in ("gave_up", "start_failed")]
