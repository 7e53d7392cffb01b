"""The table of states and events: total, and every state is reached; `step` is total over whole supervisors too."""

from __future__ import annotations

import msgspec
import pytest
from bench import ONE_FOR_ALL, Backoff, Bench, supervisor, within, worker

from regrow.daemon.core import events as ev
from regrow.daemon.core.state import Phase, SlotState, SupervisorState, initial
from regrow.daemon.core.supervisor import EVENT_KINDS, TRANSITIONS, ProcessEvent, event_kind, step

EVENTS: tuple[ProcessEvent, ...] = (
    ev.Spawned("a", 1, 100),
    ev.SpawnFailed("a", 1, ev.Exit(ev.ExitReason.EXEC_FAILED)),
    ev.ChildReady("a", 1),
    ev.ChildIgnored("a", 1),
    ev.ChildExited("a", 1, ev.Exit(ev.ExitReason.EXIT, code=1)),
    ev.ChildUnhealthy("a", 1, ev.Exit(ev.ExitReason.WATCHDOG)),
    *(ev.TimerElapsed(kind, "a", 1) for kind in ev.TimerKind),
)


def test_table_is_total() -> None:
    """Every state of a child has an answer to every event about its process."""
    assert set(TRANSITIONS) == {(state, kind) for state in SlotState for kind in EVENT_KINDS}
    assert {event_kind(event) for event in EVENTS} == set(EVENT_KINDS)


def states() -> dict[SlotState, SupervisorState]:
    """Bring a child into each of its states by events alone."""
    spec = supervisor([worker("a", shutdown=within(5.0))], backoff=Backoff())
    bench = Bench(spec)
    found = {SlotState.UNDEFINED: bench.state}
    bench.script("a", "hang")
    found[SlotState.STARTING] = bench.start().state
    found[SlotState.RUNNING] = bench.feed(bench.ready("a")).state
    found[SlotState.WAITING] = bench.exits("a").state
    bench.advance(5.0)
    bench.kernel.held.add("a")
    found[SlotState.STOPPING] = bench.stop().state
    return found


def test_every_state_is_reached() -> None:
    """The states are not only names: events lead to each."""
    reached = states()
    assert {state: found.slots["a"].state for state, found in reached.items()} == {state: state for state in SlotState}


@pytest.mark.parametrize("slot_state", SlotState)
def test_step_is_total(slot_state: SlotState) -> None:
    """No event about a process, of whatever incarnation, makes `step` raise in any state."""
    state = states()[slot_state]
    current = state.slots["a"].incarnation
    for event in EVENTS:
        for incarnation in (current - 1, current, current + 1):
            after, effects = step(state, msgspec.structs.replace(event, incarnation=incarnation), 200.0)
            if incarnation != current:
                assert after == state
                assert effects == ()


def test_step_changes_nothing_in_place() -> None:
    """A state is a value: taking a step from it twice gives the same, and leaves it as it was."""
    state = initial(supervisor("a b c", ONE_FOR_ALL))
    written = msgspec.json.encode(state)
    assert step(state, ev.Started(), 1.0) == step(state, ev.Started(), 1.0)
    assert msgspec.json.encode(state) == written


def test_every_phase_is_reached() -> None:
    """new, starting, running, stopping, ended."""
    bench = Bench(supervisor("a"))
    bench.script("a", "hang")
    seen = [bench.state.phase, bench.start().state.phase, bench.feed(bench.ready("a")).state.phase]
    bench.kernel.held.add("a")
    seen.append(bench.stop().state.phase)
    seen.append(bench.exits("a").state.phase)
    assert seen == list(Phase)


def test_requests_before_the_start_wait() -> None:
    """A request that comes before the supervisor was started is served when it runs."""
    bench = Bench(supervisor("a"))
    number = bench.begin(ev.CountChildren)
    assert bench.answer(number) is None
    bench.start()
    assert bench.answer(number) == {"specs": 1, "active": 1, "supervisors": 0, "workers": 1}


def test_stop_before_the_start_ends_at_once() -> None:
    """A supervisor that is stopped before it started has nothing to stop, and does not start any more."""
    bench = Bench(supervisor("a")).stop()
    assert bench.end is not None
    assert bench.start().effects == []
