"""Fixtures of the daemon's tests: one running farm per file, trees of a test's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from applying import Gated, bad, small
from configs import Config
from farm import Farm, running_farm
from listening import FUNCTION, PROGRAM
from tree import Tree, short_directory
from wire import TIMEOUT_S

from regrow.ipc.control import ControlClient


@pytest.fixture(scope="module")
def running() -> Iterator[Farm]:
    """The farm of this file, running."""
    yield from running_farm()


@pytest.fixture
def farm(running: Farm) -> Iterator[Farm]:
    """The farm, which the test must not have harmed."""
    yield running
    running.assert_unharmed()


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short-named directory of this test's own, that other users may enter."""
    with short_directory() as path:
        path.chmod(0o755)
        yield path


@pytest.fixture
def config(directory: Path) -> Config:
    """An empty configuration in that directory."""
    return Config(directory)


@pytest.fixture
def tree(directory: Path, config: Config) -> Iterator[Tree]:
    """The tree of `config`, not started yet; after the test it is stopped and must have left nothing."""
    tree = Tree(directory, config)
    yield tree
    tree.finish()


@pytest.fixture
def gated(tree: Tree, config: Config) -> Iterator[Gated]:
    """An apply whose new `b` waits for the test."""
    small(tree, config, "a:P b:P")
    with ControlClient(str(tree.directory / "run"), timeout_s=TIMEOUT_S) as client:
        bad(config, "b", "gate")
        config.write()
        yield Gated(client, client.submit("apply"), tree.gate.next())


@pytest.fixture
def web(tree: Tree, config: Config, directory: Path) -> str:
    """The path of a socket `web` for the function `serve` below two supervisors; not started yet."""
    (directory / "listeners.py").symlink_to(PROGRAM)
    path = str(directory / "web.sock")
    config.sections["socket.web"] = {"unix": path}
    config.workers["serve"] = {"function": FUNCTION, "ready": "notify", "sockets": ["web"]}
    config.supervisor("top", "sup").supervisor("sup", "serve", intensity=10_000)
    return path
