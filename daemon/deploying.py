"""
Going from the plan that runs to another: what would be done, and doing it.

Whatever reads files does so in a process of its own (`errand`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from regrow.config.diff import PlanDiff, diff
from regrow.config.spec import Plan
from regrow.daemon import errand
from regrow.daemon.control import ControlError

if TYPE_CHECKING:
    from regrow.daemon.root import Root

MAX_FILES = 100

Done = Callable[[Any], None]
Refuse = Callable[[ControlError], None]


def load(files: Sequence[str]) -> bytes:
    """
    The plan of these files.

    Raises:
        regrow.config.errors.ConfigErrors
    """
    from regrow.config import load as loading

    return msgspec.msgpack.encode(loading.load(files))


class Deploying:
    """`base` is the plan that the processes were made by: what was started, or applied last."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self.base = root.plan

    def plan(self, files: Sequence[str], done: Done, refuse: Refuse) -> None:
        """Say what an apply of these files, of the daemon's own where there are none, would do."""

        def loaded(plan: Plan) -> None:
            found = diff(self.base, plan)
            if found.refused:
                refuse(ControlError("bad_request", found.refused))
            else:
                done(told(found, plan))

        self._load(files, loaded, refuse)

    def _load(self, files: Sequence[str], loaded: Callable[[Plan], None], refuse: Refuse) -> None:
        chosen = tuple(files) or self._root.plan.files

        def read(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                refuse(unreadable(result))
            else:
                loaded(msgspec.msgpack.decode(result, type=Plan))

        self._root.errands.run(lambda: load(chosen), read)


def told(found: PlanDiff, plan: Plan) -> dict[str, Any]:
    """A difference as it is answered."""
    children: list[dict[str, Any]] = msgspec.to_builtins(found.children)
    for child in children:
        for change in child["why"]:
            del change["field"]
    return {"files": list(plan.files), "changes": children, "tables": list(found.tables)}


def unreadable(result: errand.Failed) -> ControlError:
    """What is answered where files are wrong."""
    if not result.problems:
        return ControlError("bad_request", str(result))
    return ControlError("bad_request", f"nothing has changed: {result}", problems=result.problems)
