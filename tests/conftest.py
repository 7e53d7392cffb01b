"""What holds for every test: it leaves no process, no zombie and no descriptor behind."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator

import processes
import pytest
from hypothesis import HealthCheck, settings


def pytest_configure(config: pytest.Config) -> None:
    """
    Adopt every orphan that a test makes, so that it is seen; and let SIGINT end what tests start.

    A shell that runs us in the background has it ignored, and so would all that we start. Others may use the machine:
    how long an example takes says nothing.
    """
    settings.register_profile("regrow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("regrow")
    processes.become_subreaper()
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what only root can do, where we are not root."""
    if os.geteuid() != 0 and item.get_closest_marker("root") is not None:
        pytest.skip("needs root")


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """
    Fail a test that leaves a child (its own, or an orphan that fell to us), a zombie or a descriptor.

    What existed before, for instance from a session fixture, may stay. Leftovers are killed, so that
    only the guilty test fails.
    """
    children_before = processes.children()
    descriptors_before = processes.descriptors()
    yield
    left = processes.children() - children_before
    if left:
        described = [processes.describe(pid) for pid in sorted(left)]
        processes.kill_children(left)
        pytest.fail(f"processes left behind: {', '.join(described)}")
    if processes.descriptors() - descriptors_before:
        gc.collect()  # an object in a reference cycle may hold one: not a leak
        if opened := processes.descriptors() - descriptors_before:
            described = [processes.describe_descriptor(number) for number in sorted(opened)]
            pytest.fail(f"descriptors left open: {', '.join(described)}")
