"""Who can have spares: what is settled when they are made must be the same for all whom they may become."""

from __future__ import annotations

from collections.abc import Sequence

from regrow.config.spec import Kind, Restart, WorkerSpec
from regrow.config.values import At

SETTLED = {
    "target": "its module",
    "import_path": "where its module is found",
    "cwd": "cwd",
    "credentials": "user or group",
    "umask": "umask",
    "nice": "nice",
    "limits": "limits",
    "stdout": "stdout",
    "stderr": "stderr",
    "sockets": "sockets",
}
"""What a process has before it has a name, as fields of its spec and in words."""

UNDER_DYNAMIC = "the children of a dynamic supervisor have no spares"


def check(at: At, kind: Kind | None, restart: Restart | None) -> None:
    """Report a worker for which no spare could ever stand in."""
    at = at.down("standby")
    if kind is Kind.COMMAND:
        said = "a command has no module that a spare could import beforehand: standby is for agents and functions"
        at.wrong(said, code="bad_combination")
    elif restart is Restart.TEMPORARY:
        said = 'a worker with restart = "temporary" is never restarted: no spare is ever used'
        at.wrong(said, code="bad_combination")


def check_alike(at: At, workers: Sequence[WorkerSpec]) -> None:
    """Report replicas that differ in what a spare has before it becomes one of them."""
    first = workers[0]
    differing = [
        words
        for field, words in SETTLED.items()
        if any(getattr(worker, field) != getattr(first, field) for worker in workers)
    ]
    if differing:
        said = f"the replicas differ in {', '.join(differing)}, so no spare could become any of them"
        at.down("standby").wrong(said, "write it without {name} and {index}, or drop standby", "bad_combination")
