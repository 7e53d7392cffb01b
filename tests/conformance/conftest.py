"""Fixtures of the conformance tests: an empty configuration, and trees that must leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from configs import Config
from tree import SUP, Grow, Tree, short_directory


@pytest.fixture
def directory() -> Iterator[Path]:
    """A short-named directory of this test's own."""
    with short_directory() as path:
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
def plant(tree: Tree, config: Config) -> Grow:
    """
    Describe the usual tree of the scenarios: the supervisor `sup` with the given children, below `top`.

    `sup` is temporary, so when it gives up its spec is gone from `top`, `top` lives and can be asked.
    """

    def describe(children: str = "", *, actors: dict[str, dict[str, Any]] | None = None, **keys: Any) -> Tree:
        config.supervisor("top", SUP)
        config.supervisor(SUP, children, actors=actors, **{"restart": "temporary", **keys})
        return tree

    return describe


@pytest.fixture
def grow(plant: Grow) -> Grow:
    """Describe the usual tree and start it; its trace begins when all of it is ready."""

    def start(children: str = "", **keys: Any) -> Tree:
        tree = plant(children, **keys).grow()
        tree.forget()
        return tree

    return start
