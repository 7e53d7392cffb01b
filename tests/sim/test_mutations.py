"""
The simulator is worth something only if it finds bugs: each bug planted here must be found.

A mutation is a change in the source text of one function of the core. Those marked with an issue were real.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import textwrap
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from simulator.command import run, smaller, story

import regrow.daemon.core
from regrow.daemon.core.supervisor import TRANSITIONS

WITHIN = 100_000
"""Events within which a planted bug has to be found."""

CORE: list[ModuleType] = [
    importlib.import_module(f"regrow.daemon.core.{module.name}")
    for module in pkgutil.iter_modules(regrow.daemon.core.__path__)
]


@dataclass(frozen=True)
class Mutation:
    """In `function` (module.name or module.Class.name) `old` becomes `new`; one of `rules` must notice."""

    name: str
    function: str
    old: str
    new: str
    rules: tuple[str, ...]


MUTATIONS = (
    Mutation(
        "a retry is not counted", "outcomes.retry",
        "_count(turn, child, slot.report)", "True",
        ("budget",),
    ),
    Mutation(
        "the scope of a restart is off by one", "strategy.restart_scope",
        "order[order.index(failed) :]", "order[order.index(failed) + 1 :]",
        ("comes to rest",),
    ),
    Mutation(
        "the incarnation is not looked at", "supervisor._process_event",
        "slot is None or slot.incarnation != event.incarnation", "slot is None",
        ("late events change nothing", "slots know their processes"),
    ),
    Mutation(
        "a supervisor stops its children in start order", "lifecycle._end_advance",
        "reversed(turn.order)", "turn.order",
        ("stop order",),
    ),
    Mutation(
        "a batch is charged for each of its children", "outcomes._count",
        "add_restart(turn.restarts_s, ",
        "add_restart((*turn.restarts_s, *(turn.now_s for _ in restart_scope(spec.strategy, turn.order, child)[1:])), ",
        ("budget",),
    ),
    Mutation(
        "a batch stops its children in start order", "group._stop_next",
        "reversed(batch.scope)", "batch.scope",
        ("stop order",),
    ),
    Mutation(
        "one restart too few is allowed", "intensity.add_restart",
        "len(window) <= intensity", "len(window) < intensity",
        ("budget",),
    ),
    Mutation(
        "temporary children are restarted", "restart.wants_restart",
        "return False", "return True",
        ("restarts are wanted",),
    ),
    Mutation(
        "transient children are restarted after shutdown", "restart.wants_restart",
        "exit is ExitClass.ABNORMAL", "exit is not ExitClass.NORMAL",
        ("restarts are wanted",),
    ),
    Mutation(
        "ready leaves its timer armed", "outcomes.started",
        "turn.cancel_start(child)", "pass",
        ("no timer outlives its purpose",),
    ),
    Mutation(
        "children start without waiting for each other", "lifecycle._init_advance",
        "if operation.starting:", "if False:",
        ("start order", "restarts are charged"),
    ),
    Mutation(
        "an ending supervisor leaves requests unanswered", "lifecycle._refuse_waiting",
        "if isinstance(event, Request)", "if False",
        ("every request is answered once",),
    ),
    Mutation(
        "infinity is not for ever", "turn.Turn.begin_stop",
        "if shutdown.kind is ShutdownKind.TIMEOUT:", "if True:",
        ("kills have a reason",),
    ),
    Mutation(
        "a death during an operation is lost", "supervisor._death",
        "turn.postpone(event)", "pass",
        ("comes to rest",),
    ),
    Mutation(
        "a supervisor ends while children live", "lifecycle._begin_end",
        "slot.state in HOLDS_PROCESS", "slot.state is SlotState.STOPPING",
        ("nothing outlives its supervisor", "slots know their processes"),
    ),
    Mutation(
        "a request is served while stopping", "supervisor._dispatch",
        "turn.phase in (Phase.STOPPING, Phase.ENDED)", "turn.phase is Phase.ENDED",
        ("every request is answered once",),
    ),
    Mutation(
        "a failing start arms a retry while everything stops", "supervisor._failed_start",
        "turn.phase is Phase.STOPPING", "False",
        ("nothing is spawned after stop",),
    ),
    Mutation(
        "a name that comes again counts from one", "turn.Turn.forget",
        "self.forgotten = newest", "pass",
        ("slots know their processes", "late events change nothing", "comes to rest"),
    ),
    Mutation(
        "a broken batch leaves its pivot waiting", "group._stop_next",
        "turn.change(batch.pivot, state=SlotState.UNDEFINED, counted=False)", "pass",
        ("who waits is waited for",),
    ),
)  # fmt: skip


def plant(monkeypatch: pytest.MonkeyPatch, mutation: Mutation) -> None:
    """Put the changed function everywhere the old one is known."""
    module_name, *path = mutation.function.split(".")
    module = next(module for module in CORE if module.__name__.endswith(f".{module_name}"))
    owner: Any = module
    for name in path[:-1]:
        owner = getattr(owner, name)
    old = getattr(owner, path[-1])
    source = textwrap.dedent(inspect.getsource(old))
    assert source.count(mutation.old) == 1, f"{mutation.function} holds {mutation.old!r} {source.count(mutation.old)}x"
    made: dict[str, Any] = {}
    exec(compile(source.replace(mutation.old, mutation.new), mutation.function, "exec"), vars(module), made)
    new = made[path[-1]]
    monkeypatch.setattr(owner, path[-1], new)
    for other in CORE:
        for name, value in list(vars(other).items()):
            if value is old:
                monkeypatch.setattr(other, name, new)
    for key, handler in TRANSITIONS.items():
        if handler is old:
            monkeypatch.setitem(TRANSITIONS, key, new)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=[mutation.name.replace(" ", "_") for mutation in MUTATIONS])
def test_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch, mutation: Mutation) -> None:
    """The bug breaks an invariant that fits it, soon, and its story is short."""
    plant(monkeypatch, mutation)
    sums, last = run(11, WITHIN)
    assert last.violation is not None, "not found"
    short = smaller(last)
    found = f"{mutation.name}: found after {sums['events']} events by '{last.violation.rule}', told in {short.events}"
    print(found)  # noqa: T201
    assert last.violation.rule in mutation.rules, found
    assert short.events <= 100, found
    assert len(story(short)) > short.events


def test_without_a_planted_bug_nothing_is_found() -> None:
    """The same seed finds nothing in the core as it is."""
    assert run(11, WITHIN)[1].violation is None
