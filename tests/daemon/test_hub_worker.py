"""The hub as a worker of the daemon: where it runs, when it comes, and what its end changes."""

from __future__ import annotations

import json
import os
from typing import Any

import procs
import pytest
from configs import Config
from tree import SUP, Tree

HUB = "regrow.hub"

AGENT = """
from regrow.workers import Agent, handler

class Quiet(Agent):
    def init(self) -> None:
        pass
"""


def names(tree: Tree) -> list[str]:
    """All names, regrow's own among them."""
    return [entry["name"] for entry in tree.call("status", all=True)]


def hub(config: Config, **keys: Any) -> None:
    """Give the file a [hub] table."""
    config.sections["hub"] = keys


def agent(config: Config) -> dict[str, Any]:
    """The keys of an agent's worker; its module is written beside the file."""
    (config.directory / "quiet.py").write_text(AGENT)
    return {"agent": "quiet:Quiet"}


def serving(tree: Tree, incarnation: int = 1) -> int:
    """The pid of the hub, once it has told the root that it follows what happens."""
    tree.wait("ready", HUB, count=incarnation)
    entry = tree.entry(HUB)
    assert (entry["incarnation"], entry["ready"]) == (incarnation, True), entry
    return int(entry["pid"])


def test_no_hub_where_nobody_needs_one(config: Config, tree: Tree) -> None:
    """A tree of programs has no hub."""
    config.supervisor(SUP, "a:P")
    tree.grow()
    assert HUB not in names(tree)


def test_hub_of_a_table(config: Config, tree: Tree) -> None:
    """The file can ask for one; it is regrow's own and shown as such, and stops with the rest."""
    config.supervisor(SUP, "a:P")
    hub(config)
    tree.grow()
    serving(tree)
    entry = tree.entry(HUB)
    assert (entry["kind"], entry["supervisor"], entry["path"]) == ("function", "regrow.system", f"regrow.system/{HUB}")
    assert HUB not in [entry["name"] for entry in tree.call("status")]


def test_hub_of_an_agent(config: Config, tree: Tree) -> None:
    """A tree with an agent, or with a template for agents, has one."""
    config.workers["quiet"] = agent(config)
    config.supervisor("pool", strategy="dynamic", template="quiet")
    config.supervisor(SUP, "pool")
    tree.grow()
    serving(tree)
    tree.call("start_child", supervisor="pool", spec={"id": "one"})
    assert tree.entry("one")["kind"] == "agent"


def test_hub_killed(config: Config, tree: Tree) -> None:
    """A new one comes; nobody else notices."""
    config.supervisor(SUP, "a:P")
    hub(config)
    tree.grow()
    before = tree.entry("a")["pid"]
    procs.kill(serving(tree))
    serving(tree, 2)
    assert tree.call("exit_reason", name=HUB, incarnation=1)["signal"] == "SIGKILL"
    assert tree.entry("a")["pid"] == before


def test_hub_comes_with_a_reload(config: Config, tree: Tree) -> None:
    """A table that appears starts it; a crash of regrow's own supervisor brings it back."""
    config.supervisor(SUP, "a:P")
    tree.grow()
    before = tree.entry("a")["pid"]
    hub(config)
    tree.reload()
    serving(tree)
    procs.kill(tree.entry("regrow.system")["pid"])
    serving(tree, 2)
    assert tree.entry("a")["pid"] == before


def test_hub_changes_with_a_reload(config: Config, tree: Tree) -> None:
    """Another place to listen is a new hub; a table that goes leaves one that listens nowhere."""
    config.workers["quiet"] = agent(config)
    config.supervisor(SUP, "quiet")
    tree.grow()
    serving(tree)
    hub(config, listen="tcp://127.0.0.1:1", clients=["laptop"])
    tree.reload()
    serving(tree, 2)
    assert arguments(tree) == ["tcp://127.0.0.1:1", ["laptop"]]
    config.sections.clear()
    tree.reload()
    serving(tree, 3)
    assert arguments(tree) == ["", []]


def arguments(tree: Tree) -> list[Any]:
    """Where the hub was told to listen, and for whom."""
    spec = tree.call("get_childspec", supervisor="regrow.system", child=HUB)
    told = json.loads(spec["start"]["args_json"])
    return [told["listen"], told["clients"]]


def test_hub_comes_with_the_first_agent(config: Config, tree: Tree) -> None:
    """An agent that comes at run time, in a tree that had none, has its hub."""
    config.supervisor(SUP, "a:P")
    keys = agent(config)
    tree.grow()
    assert HUB not in names(tree)
    tree.call("start_child", supervisor=SUP, spec={"id": "late", **keys})
    serving(tree)
    tree.call("start_child", supervisor=SUP, spec={"id": "later", **keys})
    assert tree.entry(HUB)["incarnation"] == 1


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="names another user")
def test_hub_hears_of_new_members(config: Config, tree: Tree) -> None:
    """Who may come in is told to the hub at its start: there is a new one when that has changed, and only then."""
    config.supervisor(SUP, "a:P")
    hub(config)
    tree.grow()
    serving(tree)
    config.sections["access"] = {"operators": ["user:daemon"]}
    tree.reload()
    serving(tree, 2)
    tree.reload()
    assert tree.entry(HUB)["incarnation"] == 2
