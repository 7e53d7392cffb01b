"""
What must hold after every step of every supervisor, whatever the kernel does.

The checker keeps its own, naive account from the events and effects that pass; it trusts the core's state for
nothing but what is compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from regrow.config.spec import ShutdownKind, Start, SupervisorSpec
from regrow.daemon.core.effects import ArmTimer, Effect, End, Ready, Refuse, Reply, Report, Signal, SignalKind, Spawn
from regrow.daemon.core.events import ChildReady, Event, StopRequested, TimerKind
from regrow.daemon.core.state import Batch, Init, Phase, SlotState, StopAll, SupervisorState
from regrow.daemon.core.supervisor import ProcessEvent, step
from simulator.account import Account
from simulator.violation import Violation

if TYPE_CHECKING:
    from simulator.world import Node, Process

RULES = (
    "one incarnation",
    "nothing is spawned after stop",
    "signals go to ours",
    "asked once",
    "kills have a reason",
    "stop order",
    "start order",
    "timers are armed once",
    "no timer outlives its purpose",
    "budget",
    "restarts are wanted",
    "restarts are charged",
    "every request is answered once",
    "state can be written down",
    "steps are repeatable",
    "nothing follows the end",
    "nothing outlives its supervisor",
    "late events change nothing",
    "reports are numbered",
    "slots know their processes",
    "who waits is waited for",
    "ready is said once",
    "comes to rest",
)

TIMER_STATES = {
    TimerKind.START: SlotState.STARTING,
    TimerKind.STOP: SlotState.STOPPING,
    TimerKind.RETRY: SlotState.WAITING,
}
HOLDS = (SlotState.STARTING, SlotState.RUNNING, SlotState.STOPPING)

WRITE_EVERY = 16
"""Every so many steps the state is written, read back and the step repeated."""

_decode_json = msgspec.json.Decoder(SupervisorState).decode
_encode_json = msgspec.json.Encoder().encode
_decode_msgpack = msgspec.msgpack.Decoder(SupervisorState).decode
_encode_msgpack = msgspec.msgpack.Encoder().encode


def must(rule: str, holds: bool, text: object = "") -> None:
    """Raise `Violation` unless the rule holds."""
    if not holds:
        raise Violation(rule, str(text))


class Checker:
    """The invariants of one supervisor. Each call returns how many were checked."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.account = Account(node)
        self.steps = 0
        self.reports = 0
        self.stopping = False
        self.at_once = False
        self.ended = False
        self.ready = False

    def decided(
        self, before: SupervisorState, event: Event, after: SupervisorState, effects: tuple[Effect, ...], now_s: float
    ) -> int:
        """Check one decision before anything is done about it."""
        self.steps += 1
        if isinstance(event, StopRequested):
            self.stopping = True
            self.at_once |= event.now
        if self.ended:
            left = [effect for effect in effects if not isinstance(effect, Refuse)]
            must("nothing follows the end", not left and after == before, left)
        if isinstance(event, ProcessEvent):
            self._late(before, event, after, effects)
        self.account.event(before, event)
        if isinstance(event, ChildReady):
            process = self.node.children.get(event.child)
            if process is not None and process.incarnation == event.incarnation:
                process.ready = True
        for effect in effects:
            self._effect(after, effect, now_s)
        spawns = [effect for effect in effects if isinstance(effect, Spawn)]
        if spawns:
            self._start_order(after, spawns[-1])
        if self.steps % WRITE_EVERY == 0:
            self._repeat(before, event, after, effects, now_s)
        return 12 + len(effects)

    def _late(self, before: SupervisorState, event: ProcessEvent, after: SupervisorState, effects: Any) -> None:
        slot = before.slots.get(event.child)
        if slot is None or slot.incarnation != event.incarnation or slot.state is SlotState.UNDEFINED:
            must("late events change nothing", not effects and after == before, event)

    def _repeat(
        self, before: SupervisorState, event: Event, after: SupervisorState, effects: tuple[Effect, ...], now_s: float
    ) -> None:
        for name, decoded in (
            ("JSON", _decode_json(_encode_json(after))),
            ("msgpack", _decode_msgpack(_encode_msgpack(after))),
        ):
            must("state can be written down", decoded == after, name)
        again = step(_decode_msgpack(_encode_msgpack(before)), event, now_s)
        must("steps are repeatable", again == (after, effects), event)

    def _effect(self, after: SupervisorState, effect: Effect, now_s: float) -> None:
        match effect:
            case Report():
                self.reports += 1
                must("reports are numbered", effect.number == self.reports, effect)
                must("reports are numbered", effect.cause is None or effect.cause < effect.number, effect)
                self.account.report(effect, after, now_s)
                self.stopping |= effect.child == "" and effect.event in ("stopping", "gave_up", "auto_shutdown")
            case Spawn():
                must("nothing is spawned after stop", not self.stopping, effect)
                self.account.spawned(effect, after)
            case Signal():
                self._stop_order(after, effect)
            case ArmTimer():
                must("no timer outlives its purpose", effect.after_s >= 0, effect)
                wanted = effect.kind is TimerKind.STOP or not self.stopping
                must("nothing is spawned after stop", wanted, effect)
            case Reply() | Refuse():
                known = self.node.requests.pop(effect.request, None)
                must("every request is answered once", known is not None, effect)
                self.account.answered(known, effect, after)
            case Ready():
                must("ready is said once", not self.ready and not self.stopping, effect)
                self.ready = True
            case End():
                must("nothing follows the end", not self.ended, effect)
                self.ended = True

    def _start_order(self, after: SupervisorState, effect: Spawn) -> None:
        """Check the last start of a step: the only one that can be the operation's."""
        operation = after.operation
        scope = after.order if isinstance(operation, Init) else ()
        if isinstance(operation, Batch) and not operation.stopping:
            scope = operation.scope
        if effect.child not in scope or after.spec.start is Start.PARALLEL:
            return
        later = scope[scope.index(effect.child) + 1 :]
        up = [child for child in later if child in self.node.children]
        must("start order", not up, f"{effect.child} is started while {up} are up")
        unready = [
            child for child in scope if (process := self.node.children.get(child)) and not process.ready
        ]
        must("start order", not unready, f"{effect.child} is started before {unready} concluded")

    def _stop_order(self, after: SupervisorState, effect: Signal) -> None:
        process = self.node.children.get(effect.child)
        operation = after.operation
        if process is None or process.asked_at_s is not None or self.at_once:
            return
        if isinstance(operation, StopAll):
            if after.dynamic or after.spec.start is Start.PARALLEL:
                return
            scope = after.order
        elif isinstance(operation, Batch) and operation.stopping:
            scope = operation.scope
        else:
            return
        if effect.child not in scope or after.slots[effect.child].state is not SlotState.STOPPING:
            return
        later = [child for child in scope[scope.index(effect.child) + 1 :] if child in self.node.children]
        must("stop order", not later, f"{effect.child} is stopped while {later} are up")

    def signalled(self, process: Process, kind: SignalKind, now_s: float) -> None:
        """Check that a kill comes where it may: told to, provoked, or after the time the child has."""
        if kind is SignalKind.STOP:
            must("kills have a reason", process.spec.shutdown.kind is not ShutdownKind.BRUTAL_KILL, process.name)
            return
        shutdown = process.spec.shutdown
        if self.at_once or process.may_be_killed or self.account.reloaded or not process.alive:
            return
        if shutdown.kind is ShutdownKind.TIMEOUT:
            asked_s = process.asked_at_s
            in_time = asked_s is None or now_s < asked_s + shutdown.timeout_s - 1e-6
            must("kills have a reason", not in_time, f"{process.name} is killed before its {shutdown.timeout_s} s")
        else:
            must("kills have a reason", shutdown.kind is ShutdownKind.BRUTAL_KILL, f"{process.name} is killed")

    def settled(self) -> int:
        """Check the supervisor against the kernel, now that everything decided has been done."""
        node = self.node
        state = node.state
        for kind, child, incarnation in node.timers:
            slot = state.slots.get(child)
            must(
                "no timer outlives its purpose",
                slot is not None and slot.incarnation == incarnation and slot.state is TIMER_STATES[kind],
                f"{kind} of {child} {incarnation} of {node.name} is armed in state {slot and slot.state}",
            )
        for child, process in node.children.items():
            slot = state.slots.get(child)
            known = slot is not None and slot.incarnation == process.incarnation and slot.state in HOLDS
            must("slots know their processes", known, f"{node.name} has no account of {child}")
        must("slots know their processes", len(state.order) == len(state.slots), state.order)
        must("slots know their processes", all(child in state.slots for child in state.order), state.order)
        if state.phase is Phase.RUNNING and state.operation is None:
            must("comes to rest", not state.mailbox, "work waits although nothing is in its way")
            for child, slot in state.slots.items():
                armed = (TimerKind.RETRY, child, slot.incarnation) in node.timers
                must("who waits is waited for", armed == (slot.state is SlotState.WAITING), f"{child} is {slot.state}")
        if state.phase is Phase.ENDED:
            down = all(slot.state is SlotState.UNDEFINED for slot in state.slots.values())
            must("nothing outlives its supervisor", down, f"{node.name} ended and knows better")
            must("no timer outlives its purpose", not node.timers, f"{node.name} ended with {list(node.timers)} armed")
            must("every request is answered once", not node.requests, f"{node.name} ended with {node.requests} open")
        return 5 + len(node.timers) + len(node.children)

    def at_rest(self) -> int:
        """Check a supervisor to which nothing can happen any more: it runs exactly what it should."""
        node, state = self.node, self.node.state
        name = node.name
        must("comes to rest", state.phase is Phase.RUNNING, f"{name} is {state.phase}")
        must("comes to rest", state.operation is None, f"{name} is stuck in {state.operation}")
        must("comes to rest", not node.timers, f"{name} still has {list(node.timers)} armed")
        must("every request is answered once", not node.requests, f"{name} never answered {node.requests}")
        for child, slot in state.slots.items():
            up = child in node.children
            must("comes to rest", slot.state in (SlotState.RUNNING, SlotState.UNDEFINED), f"{child} is {slot.state}")
            must("comes to rest", up == (slot.state is SlotState.RUNNING), f"{child} is {slot.state}, process: {up}")
            must("comes to rest", up or child in self.account.down, f"{child} of {name} should be up, and is not")
            if up and isinstance(slot.spec, SupervisorSpec):
                process = node.children[child]
                must("comes to rest", process.node is not None and process.node.alive, f"{child} is dead")
        return 5 + 4 * len(state.slots)
