"""
Runs of workflows as the store has them: each with its arguments, its steps and what came of it.

Everything here works inside a transaction of whoever calls it. `wr` + id is the run; `ws` its steps; `wq` those of a
workflow that wait for a place, in their order; `wn` those that have one; `we` those that are over, by their time; `ww`
the bells of those who wait for the end of one.

Source: architecture section 7; the saga of Garcia-Molina and Salem, 1987.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from regrow.ipc.posts import BOX, EACH, Box
from regrow.ipc.store import Txn

RUN, STEP, QUEUE, PLACED, ENDED, AWAITED = b"wr", b"ws", b"wq", b"wn", b"we", b"ww"
NIL = Raw(b"\xc0")
NO_ARGS, NO_KWARGS = Raw(b"\x90"), Raw(b"\x80")

LOOK = "look"
"""What the desk is posted when there may be something to start."""

_WORD = re.compile(r"[^a-z0-9_-]+")
_WORD_CHARS = 24


class Status(StrEnum):
    """Where a run is."""

    QUEUED = "queued"
    """It waits for a place."""

    RUNNING = "running"
    UNDOING = "undoing"
    """It has failed or was cancelled, and what it had done is being undone."""

    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"


OVER = frozenset({Status.FINISHED, Status.FAILED, Status.CANCELLED})


class StepState(StrEnum):
    """`open`: it was begun, or will be tried again, or waits."""

    OPEN = "open"
    DONE = "done"
    FAILED = "failed"


class Fault(Struct, frozen=True, array_like=True):
    """What went wrong: in the step `step`, which is the call `number`; "" and -1: between steps."""

    type: str
    text: str
    step: str = ""
    number: int = -1
    trace: str = ""


class Run(Struct, frozen=True, array_like=True):
    """
    One run. `args` is an encoded array, `kwargs` an encoded map, `value` what `run` has returned.

    `place` is its ordinal in the queue; times are in seconds since the epoch. `fault` says why it has failed, `unfault`
    what could not be undone then. `is_cancelled`: somebody has asked for it.
    """

    workflow: str
    process: str
    args: Raw = NO_ARGS
    kwargs: Raw = NO_KWARGS
    status: Status = Status.QUEUED
    place: int = 0
    created_at: float = 0.0
    began_at: float = 0.0
    ended_at: float = 0.0
    value: Raw = NIL
    fault: Fault | None = None
    unfault: Fault | None = None
    is_cancelled: bool = False


class Step(Struct, frozen=True, array_like=True):
    """
    One call of a step, or a wait.

    `attempts` have failed, and in `crashes` the process has ended; `due_at`: it goes on then. `is_begun`: an attempt
    is under way. `round` counts how often it was undone and begun anew.
    """

    name: str
    state: StepState = StepState.OPEN
    args: Raw = NO_ARGS
    kwargs: Raw = NO_KWARGS
    attempts: int = 0
    crashes: int = 0
    is_begun: bool = False
    due_at: float = 0.0
    began_at: float = 0.0
    ended_at: float = 0.0
    value: Raw = NIL
    fault: Fault | None = None
    round: int = 0


_run_decoder = msgspec.msgpack.Decoder(Run)
_step_decoder = msgspec.msgpack.Decoder(Step)
_encode = msgspec.msgpack.Encoder().encode


def process_of(workflow: str, id: str) -> str:
    """
    The name that the process of a run has: what can be told of the id, and a hash.

    So any id may be used, and no two runs have the same name, whatever their workflows are called.
    """
    import hashlib  # not in every process that may start a run: it loads OpenSSL

    word = _WORD.sub("-", id.lower()).strip("-")[:_WORD_CHARS]
    digest = hashlib.blake2b(f"{workflow}\0{id}".encode(), digest_size=6).hexdigest()
    return "-".join(part for part in (workflow[:_WORD_CHARS], word, digest) if part)


# runs


def get(txn: Txn, db: Any, id: str) -> Run | None:
    """The run of this id; None when there is none."""
    found = txn.get(RUN + id.encode(), db=db)
    return None if found is None else _run_decoder.decode(found)


def put(txn: Txn, db: Any, id: str, run: Run) -> None:
    """Keep it as it is now."""
    txn.put(RUN + id.encode(), _encode(run), db=db)


def listed(txn: Txn, db: Any) -> Iterator[tuple[str, Run]]:
    """All runs, by their ids."""
    for key, value in _rows(txn, db, RUN):
        yield key.decode(), _run_decoder.decode(value)


def add(txn: Txn, db: Any, id: str, run: Run) -> Run | None:
    """
    Put a run at the end of the queue, unless there is one of that id.

    Returns:
        The run that there is already; None when it was added.
    """
    known = get(txn, db, id)
    if known is None:
        enqueue(txn, db, id, run)
        txn.put(BOX + run.process.encode() + b"\0", EACH, db=db)  # from now on it can be posted to
    return known


def enqueue(txn: Txn, db: Any, id: str, run: Run) -> Run:
    """Let it wait for a place, behind all others."""
    prefix = _below(QUEUE, run.workflow)
    with txn.cursor(db=db) as cursor:
        found = cursor.prev() if cursor.set_range(_end(prefix)) else cursor.last()
        last = cursor.key() if found and cursor.key().startswith(prefix) else None
        place = txn.id() << 16 if last is None else int.from_bytes(last[-8:], "big") + 1
    txn.put(prefix + place.to_bytes(8, "big"), id.encode(), db=db)
    queued = replace(run, status=Status.QUEUED, place=place)
    put(txn, db, id, queued)
    return queued


def queued(txn: Txn, db: Any, workflow: str, count: int) -> list[str]:
    """The ids of up to `count` that wait for a place, in their order."""
    found: list[str] = []
    for _, value in _rows(txn, db, _below(QUEUE, workflow)):
        if len(found) >= count:
            break
        found.append(value.decode())
    return found


def placed(txn: Txn, db: Any, workflow: str) -> list[str]:
    """The ids of those that run."""
    return [key.decode() for key, _ in _rows(txn, db, _below(PLACED, workflow))]


def begin(txn: Txn, db: Any, id: str, run: Run, now: float) -> Run:
    """Its process is there: it has a place from now on. A run whose undoing is to be gone on with goes on with that."""
    txn.delete(_below(QUEUE, run.workflow) + run.place.to_bytes(8, "big"), db=db)
    txn.put(_below(PLACED, run.workflow) + id.encode(), b"", db=db)
    status = Status.UNDOING if run.unfault is not None else Status.RUNNING
    begun = replace(run, status=status, began_at=run.began_at or now)
    put(txn, db, id, begun)
    return begun


def end(txn: Txn, db: Any, id: str, run: Run, now: float) -> list[str]:
    """
    It is over, with the status that `run` has: its place is free, and nothing more can be sent to it. What was sent
    before stays for one that may be tried again.

    Returns:
        The bells of those who wait for it, which are to be rung.
    """
    txn.delete(_below(QUEUE, run.workflow) + run.place.to_bytes(8, "big"), db=db)
    txn.delete(_below(PLACED, run.workflow) + id.encode(), db=db)
    ended = replace(run, ended_at=now)
    txn.put(_ended_key(id, ended), b"", db=db)
    put(txn, db, id, ended)
    if run.status is Status.FINISHED:
        _empty(txn, db, run)
    return _pop_bells(txn, db, id)


def reopen(txn: Txn, db: Any, id: str, run: Run) -> Run:
    """One that is over waits for a place again."""
    txn.delete(_ended_key(id, run), db=db)
    return enqueue(txn, db, id, replace(run, ended_at=0.0))


def ended_before(txn: Txn, db: Any, workflow: str, before: float, count: int) -> list[str]:
    """The ids of up to `count` runs that were over at that time, the oldest first."""
    prefix = _below(ENDED, workflow)
    limit = int(before * 1e6)
    found: list[str] = []
    for key, _ in _rows(txn, db, prefix):
        if int.from_bytes(key[:8], "big") >= limit or len(found) >= count:
            break
        found.append(key[8:].decode())
    return found


def forget_all(txn: Txn, messages: Any, state: Any, ids: Iterable[str]) -> None:
    """Remove all that is known of these runs, which are over."""
    for id in ids:
        _forget(txn, messages, state, id)


def _forget(txn: Txn, messages: Any, state: Any, id: str) -> None:
    run = get(txn, messages, id)
    if run is None:
        return
    txn.delete(_ended_key(id, run), db=messages)
    txn.delete(RUN + id.encode(), db=messages)
    txn.delete(BOX + run.process.encode() + b"\0", db=messages)
    _empty(txn, messages, run)
    for db, prefix in ((messages, _below(STEP, id)), (state, run.process.encode() + b"\0")):
        for key in [prefix + key for key, _ in _rows(txn, db, prefix)]:
            txn.delete(key, db=db)


def _empty(txn: Txn, db: Any, run: Run) -> None:
    """Nobody takes any more what was sent to it."""
    box = Box(db, run.process)
    while rest := box.after(txn, -1, 256, 1 << 24):
        for ordinal, _ in rest:
            box.take(txn, ordinal)


# steps


def put_step(txn: Txn, db: Any, id: str, number: int, step: Step, *, undo: bool = False) -> None:
    """Keep the call `number` as it is now, or its undoing."""
    txn.put(_step_key(id, number, undo), _encode(step), db=db)


def drop_step(txn: Txn, db: Any, id: str, number: int, *, undo: bool = False) -> None:
    """As if it had never been begun."""
    txn.delete(_step_key(id, number, undo), db=db)


def steps(txn: Txn, db: Any, id: str) -> tuple[dict[int, Step], dict[int, Step]]:
    """What is kept of the calls of a run by their numbers, and of what undoes them."""
    done: dict[int, Step] = {}
    undone: dict[int, Step] = {}
    for key, value in _rows(txn, db, _below(STEP, id)):
        (undone if key[4] else done)[int.from_bytes(key[:4], "big")] = _step_decoder.decode(value)
    return done, undone


def _step_key(id: str, number: int, undo: bool) -> bytes:
    return _below(STEP, id) + number.to_bytes(4, "big") + (b"\1" if undo else b"\0")


# those who wait


def await_end(txn: Txn, db: Any, id: str, bell: str) -> None:
    """Have this bell rung at the end of the run."""
    txn.put(_below(AWAITED, id) + bell.encode(), b"", db=db)


def await_no_more(txn: Txn, db: Any, id: str, bell: str) -> None:
    """Nobody listens to this bell any more."""
    txn.delete(_below(AWAITED, id) + bell.encode(), db=db)


def _pop_bells(txn: Txn, db: Any, id: str) -> list[str]:
    prefix = _below(AWAITED, id)
    bells = [key for key, _ in _rows(txn, db, prefix)]
    for bell in bells:
        txn.delete(prefix + bell, db=db)
    return [bell.decode() for bell in bells]


# keys


def _below(family: bytes, name: str) -> bytes:
    return family + name.encode() + b"\0"


def _end(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def _ended_key(id: str, run: Run) -> bytes:
    return _below(ENDED, run.workflow) + int(run.ended_at * 1e6).to_bytes(8, "big") + id.encode()


def _rows(txn: Txn, db: Any, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
    """What is below a prefix, without it; nothing may be changed there before the end."""
    with txn.cursor(db=db) as cursor:
        if cursor.set_range(prefix):
            for key, value in cursor.iternext():
                if not key.startswith(prefix):
                    return
                yield bytes(key[len(prefix) :]), bytes(value)
