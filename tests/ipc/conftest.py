"""What tests of messages begin with: a run_dir without a daemon, a box in it, a client; or a tree that has tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from boxes import Box, NewBox, make_run_dir
from storehouse import make_store
from storeuse import SMALL
from taskdesk import Jobs, jobs_tree
from timerworld import World

from regrow.ipc import Client
from regrow.ipc.node import MailboxSpec, Node
from regrow.ipc.store import Store


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run_dir with nobody in it."""
    return make_run_dir(tmp_path / "run")


@pytest.fixture
def new_box(run_dir: Path) -> Iterator[NewBox]:
    """Makes boxes."""
    boxes: list[Box] = []

    def make(name: str = "box", incarnation: int = 1, **spec: Any) -> Box:
        boxes.append(Box(run_dir, name, incarnation, **spec))
        return boxes[-1]

    yield make
    for box in boxes:
        box.close()


@pytest.fixture
def new_node(run_dir: Path) -> Iterator[Callable[[str], Node]]:
    """Makes nodes of this process that have a name."""
    nodes: list[Node] = []

    def make(name: str) -> Node:
        nodes.append(Node(str(run_dir), MailboxSpec(name, 1)))
        nodes[-1].announce()
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


@pytest.fixture
def box(run_dir: Path) -> Iterator[Box]:
    """One box."""
    with Box(run_dir) as made:
        yield made


@pytest.fixture
def client(box: Box, run_dir: Path) -> Iterator[Client]:
    """A client, made after the box was."""
    with Client(run_dir) as made:
        yield made


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[Jobs]:
    """One tree for all tests of a module; what its `describe` puts into the file is in it as well."""
    describe = getattr(request.module, "describe", None)
    with jobs_tree(describe) if describe is not None else jobs_tree() as jobs:
        yield jobs


@pytest.fixture
def jobs(shared: Jobs) -> Iterator[Jobs]:
    """That tree, with a client of the test's own; afterwards its supervisor must come to be without children."""
    shared.reopen()
    yield shared
    shared.let_go()
    for name in shared.listed():
        shared.wait_gone(name)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A new store, on New Year's Day."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def folder(run_dir: Path, tmp_path: Path) -> Path:
    """Of a store whose map is soon full."""
    return Path(make_store(run_dir, tmp_path / "state", map_bytes=SMALL))


@pytest.fixture
def opened(run_dir: Path, folder: Path) -> Iterator[Store]:
    """The same, open."""
    with closing(Store.open(str(run_dir))) as made:
        yield made
