"""
The applies of a daemon, each a file in `<state_dir>/applies`, with the plan that it brought.

Everything here touches the disk, and so is called in a process of its own (`errand`).
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from regrow.config.spec import Plan
from regrow.daemon.core.deploy import Outcome

FOLDER = "applies"
KEPT = 20
"""The newest ones; older ones are forgotten with their plans."""

UNDER_WAY = "under_way"
STARTED = "started"
"""The outcome of what is no apply, but the plan that the daemon was started with."""

ENDED_MEANWHILE: dict[str, Any] = {"outcome": str(Outcome.INTERRUPTED), "reason": "the daemon ended meanwhile"}
"""What is said of one that an earlier daemon has not brought to its end."""

GOOD = frozenset({"done", STARTED})
"""Outcomes after which the tree was what the plan says."""


class NoApply(Exception):
    """There is none to go back to; the text says why."""


class Record(Struct, frozen=True):
    """
    One apply: `at` is when it began, `by` who asked for it, `back_to` the earlier one whose plan it brings again.

    `changes` and `tables` are as `regrow plan` shows them.
    """

    id: int
    at: float
    by: str
    files: tuple[str, ...]
    outcome: str
    plan: Plan
    reason: str = ""
    failures: tuple[str, ...] = ()
    seconds: float = 0.0
    back_to: int | None = None
    changes: Any = ()
    tables: tuple[str, ...] = ()


def newest_id(state_dir: str) -> int:
    """The highest number that is taken; 0 where there was none yet."""
    return max(_ids(state_dir), default=0)


def write(state_dir: str, record: Record) -> None:
    """
    Keep a record, whole or not at all, and forget the oldest.

    Raises:
        OSError
    """
    folder = os.path.join(state_dir, FOLDER)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    path = os.path.join(folder, f"{record.id}.json")
    fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)  # env may hold secrets
    with open(fd, "wb") as file:
        file.write(msgspec.json.encode(record))
        file.flush()
        os.fsync(fd)
    os.rename(f"{path}.new", path)
    directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    for old in sorted(_ids(state_dir))[:-KEPT]:
        os.unlink(os.path.join(folder, f"{old}.json"))


def listed(state_dir: str) -> list[dict[str, Any]]:
    """All that are kept, the oldest first, without their plans."""
    found = []
    for id in sorted(_ids(state_dir)):
        try:
            record = read(state_dir, id)
        except NoApply as error:
            found.append({"id": id, "outcome": "unreadable", "reason": str(error)})
            continue
        found.append({key: value for key, value in msgspec.to_builtins(record).items() if key != "plan"})
    return found


def read(state_dir: str, id: int) -> Record:
    """
    One record.

    Raises:
        NoApply: there is no such one, or it cannot be read.
    """
    path = os.path.join(state_dir, FOLDER, f"{id}.json")
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=Record)
    except FileNotFoundError:
        kept = ", ".join(map(str, sorted(_ids(state_dir))))
        why = f"is not kept (there are: {kept})" if kept else "is not there: none has been made yet"
        raise NoApply(f"apply {id} {why}; see `regrow applies`") from None
    except OSError as error:
        raise NoApply(f"cannot read {path}: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise NoApply(f"cannot read {path}: it is damaged, or of another version of regrow ({error})") from None


def earlier(state_dir: str, id: int | None, present: Plan) -> Record:
    """
    The apply to go back to: that one, or the newest good one with another plan than the present one.

    Raises:
        NoApply
    """
    if id is not None:
        record = read(state_dir, id)
        if record.outcome not in GOOD:
            raise NoApply(f"apply {id} was never whole ({record.outcome}); choose one that is done")
        return record
    for known in sorted(_ids(state_dir), reverse=True):
        try:
            record = read(state_dir, known)
        except NoApply:
            continue
        if record.outcome in GOOD and not same(record.plan, present):
            return record
    raise NoApply("there is no earlier plan to go back to; see `regrow applies`")


def end_unfinished(plan: Plan, before_at: float) -> str:
    """
    Write down that the last apply was interrupted, if it began before that time and has no end: the daemon had ended.
    What is to be told of it by a daemon that begins with `plan`; empty where there is none.

    Raises:
        OSError
    """
    state_dir = plan.daemon.state_dir
    try:
        record = read(state_dir, newest_id(state_dir))
    except NoApply:
        return ""
    if record.outcome != UNDER_WAY or record.at >= before_at:
        return ""
    write(state_dir, replace(record, **ENDED_MEANWHILE))
    told = f"apply {record.id}: it was under way when the daemon before ended; this one begins with its files"
    if not same(record.plan, plan):
        return told
    return f"{told}, which are what it was to bring, and watched by nobody now: `regrow rollback` goes back"


def same(one: Plan, other: Plan) -> bool:
    """Whether two plans are the same tree, whatever files they are from."""
    keys = ("root", "access", "commands", "hub", "sockets")
    return all(getattr(one, key) == getattr(other, key) for key in keys)


def _ids(state_dir: str) -> list[int]:
    try:
        names = os.listdir(os.path.join(state_dir, FOLDER))
    except OSError:
        return []
    stems = (name.removesuffix(".json") for name in names if name.endswith(".json"))
    return [int(stem) for stem in stems if stem.isdecimal() and len(stem) < 16]
