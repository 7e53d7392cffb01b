"""One boot for all tests of the units; skipped, with the reason, where there cannot be one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import booted
import pytest
from services import Tree


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[booted.Machine]:
    """Return a booted systemd on which `regrow systemd install` has been done for no tree yet."""
    if reason := booted.why_not():
        pytest.skip(f"no systemd can be booted here: {reason}")
    made = booted.Machine(tmp_path_factory.mktemp("systemd"))
    try:
        try:
            made.boot()
        except RuntimeError as error:
            pytest.skip(f"no systemd can be booted here: {error}")
        yield made
    finally:
        made.close()


@pytest.fixture
def tree(machine: booted.Machine, request: pytest.FixtureRequest) -> Iterator[Tree]:
    """Return the instance of a test, named after it; stopped and uninstalled afterwards."""
    made = Tree(machine, re.sub("[^a-z0-9]+", "-", request.node.name.removeprefix("test_"))[:40].strip("-"))
    machine.heard()
    yield made
    made.remove()
