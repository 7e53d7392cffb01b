"""Test bodies in a subtree of control groups of their own."""

from __future__ import annotations

import os
from collections.abc import Callable

import forks
import pytest

from regrow.daemon.linux import cgroup_subtree, identity, procfs
from regrow.daemon.linux.cgroup import Group


def in_subtree(body: Callable[[Group], None]) -> None:
    """Run `body` in a fork inside a subtree of its own, which must be empty and removable afterwards."""
    token = identity.new_token()
    path, reason = cgroup_subtree.place(token)
    if reason:
        pytest.skip(reason)

    def inside() -> None:
        subtree, why = cgroup_subtree.open_subtree(path)
        assert subtree is not None, why
        try:
            body(subtree)
        finally:
            for pid in procfs.children_of_self():
                forks.kill_and_reap(pid)
            closed = cgroup_subtree.close_subtree(subtree)
        assert closed == ""

    forks.in_fork(inside)
    assert not os.path.exists(path)
