"""The keeper as a worker of the daemon: where it runs, when it comes, what its end and its refusal change."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import processes
import procs
import pytest
from configs import Config
from harness import DaemonEnded
from tree import SUP, Tree, short_directory

from regrow.ipc import Client
from regrow.ipc.levels import get_meta, read_owner
from regrow.ipc.store import Store

KEEPER, HUB = "regrow.keeper", "regrow.hub"
PROGRAM = """
from regrow.workers import Agent, handler

class Counter(Agent):
    @handler
    def count(self, n: int = 1) -> int:
        self.state["total"] = self.state.get("total", 0) + n
        return self.state["total"]

    @handler
    def total(self) -> int:
        return self.state.get("total", 0)
"""


def names(tree: Tree) -> list[str]:
    """All names, regrow's own among them."""
    return [entry["name"] for entry in tree.call("status", all=True)]


def counter(config: Config, *agents: str, **keys: Any) -> None:
    """Agents that keep state, under the supervisor `sup`."""
    (config.directory / "keeping.py").write_text(PROGRAM)
    for name in agents:
        config.workers[name] = {"agent": "keeping:Counter", "shutdown": "1s", **keys}
    config.supervisor(SUP, " ".join(agents))


def keeping(tree: Tree, incarnation: int = 1) -> int:
    """The pid of the keeper, once the store is fit for use."""
    tree.wait("ready", KEEPER, count=incarnation)
    return int(tree.entry(KEEPER)["pid"])


def call(tree: Tree, to: str, handler: str, *args: Any) -> Any:
    """Call an agent of the tree."""
    client = Client(tree.run_dir)
    try:
        return client.call(to, handler, *args, timeout=20.0)
    finally:
        client.close()


def told(tree: Tree) -> Any:
    """The agents of the file, as the store knows them."""
    store = Store.open(str(tree.run_dir))
    try:
        return store.read(lambda txn: get_meta(txn, store.meta, "agents"))
    finally:
        store.close()


def again(tree: Tree, config: Config) -> Tree:
    """A daemon of the same file, after the end of the one before."""
    tree.dispose()
    for path in config.directory.iterdir():
        if path.is_socket():
            path.unlink()
    return Tree(config.directory, config)


def test_no_keeper_where_nobody_needs_one(config: Config, tree: Tree) -> None:
    """A tree of programs keeps nothing, though it has a hub."""
    config.supervisor(SUP, "a:P")
    config.sections["hub"] = {}
    tree.grow()
    assert KEEPER not in names(tree)
    assert not (config.directory / "state" / "state").exists()


def test_keeper_of_an_agent(config: Config, tree: Tree) -> None:
    """A tree with agents has one, ready before they begin; the store knows their addresses."""
    counter(config, "shop")
    counter(config, "shop", "pool", replicas=2)
    config.workers["shop"].pop("replicas")
    tree.grow()
    order = [event["name"] for event in tree.call("events", limit=200) if event["event"] == "ready"]
    assert order.index(KEEPER) < order.index("shop")
    assert names(tree).index(KEEPER) < names(tree).index(HUB)
    assert told(tree) == {"shop": 0, "pool": 2, "pool.0": 0, "pool.1": 0}
    assert call(tree, "shop", "count", 3) == 3
    tree.down()
    owner = read_owner(str(config.directory / "state" / "state"))
    assert owner is not None
    assert owner.clean
    assert not (tree.run_dir / "store").exists()


def test_keeper_killed(config: Config, tree: Tree) -> None:
    """A new one comes; agents go on meanwhile and afterwards."""
    counter(config, "shop")
    tree.grow()
    before = tree.entry("shop")["pid"]
    assert call(tree, "shop", "count") == 1
    procs.kill(keeping(tree))
    assert call(tree, "shop", "count") == 2
    keeping(tree, 2)
    assert call(tree, "shop", "count") == 3
    assert tree.entry("shop")["pid"] == before


def test_root_killed(config: Config) -> None:
    """After the death of the root the next daemon goes on with what was committed."""
    counter(config, "shop")
    tree = Tree(config.directory, config).grow()
    assert call(tree, "shop", "count", 5) == 5
    procs.kill(tree.call("ping")["pid"])
    tree.wait_exit()
    later = again(tree, config).grow()
    assert call(later, "shop", "total") == 5
    later.finish()
    processes.await_no_children()


def test_keeper_comes_with_the_first_agent(config: Config, tree: Tree) -> None:
    """An agent that comes at run time, in a tree that had none, has its store."""
    config.supervisor(SUP, "a:P")
    (config.directory / "keeping.py").write_text(PROGRAM)
    tree.grow()
    assert KEEPER not in names(tree)
    tree.call("start_child", supervisor=SUP, spec={"id": "late", "agent": "keeping:Counter"})
    keeping(tree)
    assert call(tree, "late", "count") == 1
    assert told(tree) == {}
    tree.reload()
    assert tree.entry(KEEPER)["incarnation"] == 1


def test_reload_with_another_agent(config: Config, tree: Tree) -> None:
    """The store knows the agents of the file that holds; what runs goes on."""
    counter(config, "shop")
    tree.grow()
    keeping(tree)
    assert call(tree, "shop", "count") == 1
    counter(config, "shop", "bank")
    tree.reload()
    keeping(tree, 2)
    assert told(tree) == {"shop": 0, "bank": 0}
    assert call(tree, "shop", "count") == 2
    assert tree.entry("shop")["incarnation"] == 1


def text(folder: Path) -> None:
    """Something else in the place of the store."""
    (folder / "state").mkdir(parents=True)
    (folder / "state" / "data.mdb").write_text("not a database\n" * 1000)


def test_start_refused(config: Config, tree: Tree) -> None:
    """A store that cannot be used is the end of the start: exit status 1, and one line that says why."""
    line = "cannot use the store {}/state/data.mdb: it is no LMDB file; restore a backup"
    counter(config, "shop")
    text(config.directory / "state")
    with pytest.raises(DaemonEnded) as ended:
        tree.grow()
    assert ended.value.status == 1
    expected = "could not start: regrow.keeper could not be started: " + line.format(config.directory / "state")
    lines = [text for text in ended.value.output.splitlines() if "could not start" in text]
    assert len(lines) == 1
    assert expected in lines[0]
    assert lines[0] == ended.value.output.strip().splitlines()[-1]
    assert "Traceback" not in ended.value.output


def test_two_daemons_on_one_store(config: Config, tree: Tree) -> None:
    """The second one is refused, and says who has it; the first one goes on."""
    counter(config, "shop")
    tree.grow()
    with short_directory() as directory:
        other = Config(directory)
        other.daemon["state_dir"] = config.daemon["state_dir"]
        counter(other, "shop")
        second = Tree(directory, other)
        with pytest.raises(DaemonEnded) as ended:
            second.grow()
        root = tree.call("ping")["pid"]
        assert f"the daemon test at {tree.run_dir} (pid {root}) uses it; stop it" in str(ended.value)
        second.dispose()
    assert call(tree, "shop", "count") == 1


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="names another user")
def test_agent_of_another_user(config: Config, tree: Tree) -> None:
    """An agent that runs as somebody else keeps state too; nobody else can look into the store."""
    counter(config, "shop", user="daemon")
    tree.grow()
    assert call(tree, "shop", "count", 2) == 2
    folder = config.directory / "state" / "state"
    assert folder.stat().st_mode & 0o007 == 0
    assert (folder / "data.mdb").stat().st_mode & 0o007 == 0
