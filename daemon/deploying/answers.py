"""
What clients are told of a difference, and of an apply.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from regrow.config.diff import PlanDiff
from regrow.config.spec import Plan
from regrow.daemon import errand
from regrow.daemon.control import ControlError
from regrow.daemon.deploying.records import Record

Done = Callable[[Any], None]
Refuse = Callable[[ControlError], None]


def told(found: PlanDiff, plan: Plan) -> dict[str, Any]:
    """A difference as it is answered."""
    children: list[dict[str, Any]] = msgspec.to_builtins(found.children)
    sockets: list[dict[str, Any]] = msgspec.to_builtins(found.sockets)
    settings: list[dict[str, Any]] = msgspec.to_builtins(found.settings)
    for one in (*children, *sockets, *settings):
        for change in one["why"]:
            del change["field"]
    tables = list(found.tables)
    return {"files": list(plan.files), "changes": children, "tables": tables, "sockets": sockets, "settings": settings}


def told_of(record: Record) -> dict[str, Any]:
    """The same of an apply that is kept."""
    return {"files": list(record.files), "changes": record.changes, "tables": list(record.tables)}


def result_of(record: Record | None, summary: dict[str, Any]) -> dict[str, Any]:
    """What an apply answers; None for one that had nothing to do."""
    summary = {"notes": [], **summary}
    if record is None:
        return {"id": None, "outcome": "unchanged", "reason": "", "failures": [], "seconds": 0.0, **summary}
    told = {"id": record.id, "outcome": record.outcome, "reason": record.reason, "failures": list(record.failures)}
    return {**told, "seconds": record.seconds, **summary}


def in_short(found: PlanDiff) -> str:
    """`2 restart, 1 start, 3 change, [hub]`."""
    counted = Counter(str(child.action) for child in found.children)
    return ", ".join((*(f"{number} {word}" for word, number in counted.items()), *(f"[{t}]" for t in found.tables)))


def unreadable(result: errand.Failed) -> ControlError:
    """What is answered where files are wrong."""
    if not result.problems:
        return ControlError("bad_request", str(result))
    return ControlError("bad_request", f"nothing has changed: {result}", problems=result.problems)
