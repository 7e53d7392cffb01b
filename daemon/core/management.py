"""
The management calls, with OTP's names and OTP's refusals.

Source: otp-rules S129-S166, S175-S182.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from regrow.config.spec import AutoShutdown, Kind, Restart, SupervisorSpec, WorkerSpec
from regrow.daemon.core.effects import Code
from regrow.daemon.core.events import (
    CountChildren,
    DeleteChild,
    GetChildspec,
    PlanChanged,
    ProbationOver,
    Request,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from regrow.daemon.core.state import Slot, SlotState, StartFor, Starting, Terminate
from regrow.daemon.core.turn import Turn


def serve(turn: Turn, request: Request) -> None:
    """Answer one request, at once or when the process it is about has come or gone."""
    match request:
        case StartChild():
            _start_child(turn, request)
        case RestartChild():
            _restart_child(turn, request)
        case TerminateChild():
            _terminate_child(turn, request)
        case DeleteChild():
            _delete_child(turn, request)
        case WhichChildren():
            turn.reply(request.request, which_children(turn))
        case CountChildren():
            turn.reply(request.request, count_children(turn))
        case GetChildspec():
            _get_childspec(turn, request)
        case PlanChanged():
            _plan_changed(turn, request)
        case ProbationOver():
            for child in turn.slots:
                turn.change(child, probation=False)
            turn.reply(request.request, {})


def _restarting(slot: Slot) -> bool:
    """OTP's `restarting`: a retry is queued, or the attempt is under way."""
    return slot.state is SlotState.WAITING or (
        slot.state is SlotState.STARTING and slot.start_for is StartFor.RESTART
    )


def _not_found(turn: Turn, request: int, child: str | int) -> None:
    turn.refuse(request, Code.NOT_FOUND, f"{turn.spec.name} has no child {child}")


def _is_dynamic(turn: Turn, request: int, verb: str) -> bool:
    if turn.dynamic:
        text = f"{turn.spec.name} is dynamic: {verb} does not apply, use start_child and terminate_child"
        turn.refuse(request, Code.BAD_REQUEST, text)
    return turn.dynamic


def _start_child(turn: Turn, request: StartChild) -> None:
    spec = request.spec
    fault = _combination_fault(turn, spec)
    if fault:
        turn.refuse(request.request, Code.BAD_REQUEST, fault)
        return
    if turn.dynamic:
        limit = turn.spec.max_children
        if limit is not None and len(turn.order) >= limit:
            text = f"{turn.spec.name} has its max_children of {limit} already"
            turn.refuse(request.request, Code.MAX_CHILDREN, text)
            return
        spec = replace(spec, name=_free_name(turn, spec.name))
    elif spec.name in turn.slots:
        _refuse_known(turn, request.request, spec.name)
        return
    turn.slots[spec.name] = Slot(spec, added=True, incarnation=max(request.incarnation, _used(turn, spec.name)))
    turn.order = (*turn.order, spec.name)
    turn.report("child_added", spec.name, extra={"kind": str(spec.kind), "request": request.request})
    _start(turn, spec.name, request.request)


def _combination_fault(turn: Turn, spec: WorkerSpec | SupervisorSpec) -> str:
    """S12, S13, S128; empty when there is none."""
    if not spec.significant:
        return ""
    if turn.spec.auto_shutdown is AutoShutdown.NEVER:
        return f"bad combination: significant = true under {turn.spec.name}, whose auto_shutdown is never"
    if spec.restart is Restart.PERMANENT:
        return "bad combination: significant = true with restart = permanent"
    return ""


def _used(turn: Turn, name: str) -> int:
    """The newest incarnation this supervisor ever made under a name that has no slot."""
    return turn.forgotten.get(name, 0)


def _free_name(turn: Turn, name: str) -> str:
    """A dynamic supervisor takes the same id again (S157); each child still needs an address of its own."""
    if name not in turn.slots:
        return name
    number = 2
    while f"{name}.{number}" in turn.slots:
        number += 1
    return f"{name}.{number}"


def _refuse_known(turn: Turn, request: int, child: str) -> None:
    slot = turn.slots[child]
    if slot.state is SlotState.UNDEFINED or _restarting(slot):
        turn.refuse(request, Code.ALREADY_PRESENT, f"{child} is a child already, {slot.state}")
    else:
        turn.refuse(request, Code.ALREADY_STARTED, f"{child} is running already", slot.pid)


def _start(turn: Turn, child: str, request: int) -> None:
    """Start one child for a caller; only in a group does everything else wait for it."""
    if not turn.independent:
        turn.operation = Starting(child)
    turn.spawn(child, StartFor.REQUEST, request)


def _restart_child(turn: Turn, request: RestartChild) -> None:
    if _is_dynamic(turn, request.request, "restart_child"):
        return
    slot = turn.slots.get(request.child)
    if slot is None:
        _not_found(turn, request.request, request.child)
    elif slot.state is SlotState.UNDEFINED:
        turn.change(request.child, added=False, report=None, probation=request.probation)
        _start(turn, request.child, request.request)
    else:
        _refuse_up(turn, request.request, request.child)


def _refuse_up(turn: Turn, request: int, child: str) -> None:
    slot = turn.slots[child]
    if _restarting(slot):
        turn.refuse(request, Code.RESTARTING, f"{child} is being restarted")
    else:
        turn.refuse(request, Code.RUNNING, f"{child} is running", slot.pid)


def _delete_child(turn: Turn, request: DeleteChild) -> None:
    if _is_dynamic(turn, request.request, "delete_child"):
        return
    slot = turn.slots.get(request.child)
    if slot is None:
        _not_found(turn, request.request, request.child)
    elif slot.state is SlotState.UNDEFINED:
        turn.report("child_deleted", request.child)
        turn.forget(request.child)
        turn.reply(request.request, {})
    else:
        _refuse_up(turn, request.request, request.child)


def _terminate_child(turn: Turn, request: TerminateChild) -> None:
    child = _named(turn, request.child)
    if child is None:
        _not_found(turn, request.request, request.child)
        return
    slot = turn.slots[child]
    if turn.alive(child):
        turn.operation = Terminate(child, request.request)
        turn.change(child, report=None)
        turn.begin_stop(child, None)
        return
    if slot.dead is not None:
        turn.report("exited", child, exit=slot.dead)
    elif slot.state is SlotState.WAITING:
        turn.report("stopped", child)
    turn.gone(child)
    turn.reply(request.request, {})


def _named(turn: Turn, child: str | int) -> str | None:
    """A child by name; by pid only under a dynamic supervisor (S97 as C97 has it, S153)."""
    if isinstance(child, str):
        return child if child in turn.slots else None
    if not turn.dynamic:
        return None
    for name, slot in turn.slots.items():
        if slot.pid == child:
            return name
    # a child that is being restarted is still known by its dead process (S88)
    return next((name for name, slot in turn.slots.items() if _restarting(slot) and slot.last_pid == child), None)


def which_children(turn: Turn) -> list[dict[str, Any]]:
    """Newest in start order first (S144)."""
    return [
        {
            "id": child,
            "pid": turn.slots[child].pid if _slot_word(turn.slots[child]) == "running" else None,
            "kind": str(turn.slots[child].spec.kind),
            "state": _slot_word(turn.slots[child]),
        }
        for child in reversed(turn.order)
    ]


def _slot_word(slot: Slot) -> str:
    if slot.state is SlotState.UNDEFINED:
        return "undefined"
    return "restarting" if _restarting(slot) else "running"


def count_children(turn: Turn) -> dict[str, int]:
    """`active` counts children whose process lives (S146, S163); the rest counts specs."""
    supervisors = sum(slot.spec.kind is Kind.SUPERVISOR for slot in turn.slots.values())
    return {
        "specs": len(turn.slots),
        "active": sum(turn.alive(child) and _slot_word(turn.slots[child]) == "running" for child in turn.slots),
        "supervisors": supervisors,
        "workers": len(turn.slots) - supervisors,
    }


def _get_childspec(turn: Turn, request: GetChildspec) -> None:
    slot = turn.slots.get(request.child)
    if slot is None:
        _not_found(turn, request.request, request.child)
    else:
        turn.reply(request.request, slot.spec)


def _plan_changed(turn: Turn, request: PlanChanged) -> None:
    """
    Take over new flags and specs (S175-S182): known children keep their process, new ones are added and
    not started, missing ones stay, behind the new list. The restart history is kept.
    """
    new = {child.name: child for child in request.spec.children}
    for name, spec in new.items():
        used = max(_used(turn, name), request.incarnations.get(name, 0))
        slot = turn.slots.get(name) or Slot(spec, incarnation=used)
        turn.slots[name] = replace(slot, spec=spec, added=False)
    turn.order = (*new, *(name for name in turn.order if name not in new))
    turn.set_spec(request.spec)
    if not request.applied:
        turn.report("reloaded")
    turn.reply(request.request, {})
