"""
Section P: the registry.

Interpretation: the keys of the registry are names, beside the name that each agent has from the file. They are unique
within one daemon; the kernel's word that a holder is dead frees them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import procs
import pytest
from configs import Config
from talk import Talk
from tree import SUP, Tree
from wire import TIMEOUT_S

from regrow.ipc.errors import NoProcess, Refused
from regrow.ipc.names import Names


@pytest.fixture
def talk(directory: Path, config: Config, tree: Tree) -> Iterator[Talk]:
    """A tree of agents that has not been started yet."""
    made = Talk(directory, config, tree)
    yield made
    made.close()


def table(talk: Talk) -> dict[str, str]:
    """Each name with the agent that has it."""
    names = Names(str(talk.tree.run_dir))
    try:
        return {name: record.name for name, record in names if not name.startswith("regrow.")}
    finally:
        names.close()


def test_c160_a_name_is_given_once(talk: Talk) -> None:
    """To the first; then it is taken for everybody, its holder too, and failed attempts leave no trace (S221)."""
    talk.grow("a:P b:P")
    pid = talk.tree.pid("a")
    assert talk.call("a", "take", ["k"]) == [None]
    before = table(talk)
    assert talk.call("a", "take", ["k"]) == [["already_registered", pid]]
    assert talk.call("b", "take", ["k"]) == [["already_registered", pid]]
    assert table(talk) == before == {"a": "a", "b": "b", "k": "a"}
    assert talk.call("k", "whoami") == ["a", 1, pid]


def test_c162_death_frees_all_names(talk: Talk) -> None:
    """The holder of several names dies: all are free; those of others are not touched (S223, S224)."""
    talk.grow("a:M b:P")
    assert talk.call("a", "take", ["k1", "k2", "k3"]) == [None] * 3
    assert talk.call("b", "take", ["m"]) == [None]
    assert procs.wait_dead(talk.tree.crash("a"), TIMEOUT_S)
    for name in ("k1", "k2", "k3", "a"):
        assert talk.client.whereis(name) is None
        with pytest.raises(NoProcess):
            talk.call(name, "whoami")
    assert talk.call("m", "whoami")[0] == "b"
    assert talk.call("b", "take", ["k1", "k2", "k3"]) == [None] * 3
    assert talk.call("k2", "whoami")[0] == "b"


def test_c163_unregister(talk: Talk) -> None:
    """By somebody else, by the holder, and again: always fine, and only the holder's frees the name (S225)."""
    talk.grow("a:P b:P")
    assert talk.call("a", "take", ["k"]) == [None]
    talk.call("b", "give_back", "k")
    assert talk.call("k", "whoami")[0] == "a"
    talk.call("a", "give_back", "k")
    assert talk.client.whereis("k") is None
    talk.call("a", "give_back", "k")
    assert table(talk) == {"a": "a", "b": "b"}


def test_c164_restart_has_the_same_name(talk: Talk) -> None:
    """A permanent agent that crashes or exits is found by its name again, as the new process."""
    talk.grow("a:P", intensity=10)
    pid = talk.call("a", "whoami")[2]
    for incarnation, end in enumerate(("crash", "leave", "kill"), start=2):
        if end == "kill":
            talk.tree.crash("a")
        else:
            talk.client.cast("a", end, *([3] if end == "leave" else []))
        pid = talk.tree.wait_new(a=pid)["a"]
        assert talk.call("a", "whoami") == ["a", incarnation, pid]


def test_c165_second_server_of_that_name(talk: Talk) -> None:
    """To start another child of a name that runs is refused, with the pid of the first (S226)."""
    talk.grow("a:P")
    spec = {"id": "a", "agent": "scenario_agents:Server"}
    with pytest.raises(Refused) as refused:
        talk.client.control.start_child(SUP, spec)
    assert (refused.value.code, refused.value.details["pid"]) == ("already_started", talk.tree.pid("a"))
    assert talk.call("a", "whoami")[1] == 1
