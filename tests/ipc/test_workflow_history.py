"""What a run does next, over all histories: with and without crashes it comes to the same end."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from msgspec.structs import replace

from regrow.ipc.workflow_history import (
    MAX_CRASHES,
    Act,
    OtherName,
    Policy,
    Settled,
    Wait,
    again,
    begun,
    failed,
    interrupted,
    key_of,
    next_of,
    pause_s,
    to_undo,
)
from regrow.ipc.workflow_rows import NO_ARGS, NO_KWARGS, Fault, Run, Status, Step, StepState, process_of

ARGS = (NO_ARGS, NO_KWARGS)
FAULT = Fault("Refusal", "no")

names = st.sampled_from("abc")
plans = st.lists(st.tuples(names, st.integers(0, 4)), max_size=6)
"""Steps, and how many attempts of each fail before one does not."""

policies = st.builds(Policy, retries=st.integers(0, 3), backoff_s=st.sampled_from([0.0, 0.5, 1.0, 1000.0]))
places = st.sampled_from(["begun", "returned", "kept", ""])


class Crash(Exception):
    """The process has ended."""


class World:
    """A run that is replayed until it is over. `crashes` says for each passage of a place whether it ends there."""

    def __init__(self, plan: list[tuple[str, int]], policy: Policy, crashes: list[str]) -> None:
        self.plan, self.policy, self.crashes = plan, policy, crashes
        self.steps: dict[int, Step] = {}
        self.now = 0.0
        self.attempts: Counter[int] = Counter()
        self.results: dict[int, str] = {}

    def live(self) -> str:
        """The status that it comes to."""
        while True:
            self.now += 1.0
            for number, step in self.steps.items():
                if step.is_begun:
                    self.steps[number] = interrupted(step, None, self.policy, self.now, is_late=False)
            try:
                return self.run()
            except Crash:
                pass

    def pass_by(self, place: str) -> None:
        if self.crashes and self.crashes[0] in (place, "") and self.crashes.pop(0) == place:
            raise Crash

    def run(self) -> str:
        for number, (name, failures) in enumerate(self.plan):
            if not self.step(number, name, failures):
                return f"failed at {number}"
        return "finished"

    def step(self, number: int, name: str, failures: int) -> bool:
        while True:
            match next_of(self.steps.get(number), name, self.now):
                case Settled(step):
                    return step.state is StepState.DONE
                case Wait(until):
                    assert until > self.now
                    self.now = until
                case Act():
                    self.act(number, name, failures)
                case OtherName():
                    raise AssertionError("the plan is the same")

    def act(self, number: int, name: str, failures: int) -> None:
        assert number not in self.results, "what is kept is not done again"
        step = self.steps[number] = begun(self.steps.get(number), name, ARGS, self.now)
        self.pass_by("begun")
        fails = step.attempts < failures
        self.attempts[number] += 1
        self.pass_by("returned")
        if fails:
            self.steps[number] = failed(step, FAULT, self.policy, self.now)
        else:
            self.results[number] = name
            self.steps[number] = replace(step, state=StepState.DONE, is_begun=False)
        self.pass_by("kept")


@given(plans, policies, st.lists(places, max_size=30))
def test_crashes_change_nothing(plan: list[tuple[str, int]], policy: Policy, crashes: list[str]) -> None:
    """The same end, the same failures on record, and no step is made again that was kept."""
    calm, wild = World(plan, policy, []), World(plan, policy, list(crashes))
    assert calm.live() == wild.live()
    assert calm.results == wild.results
    assert {n: (s.state, s.attempts) for n, s in calm.steps.items()} == {
        n: (s.state, s.attempts) for n, s in wild.steps.items()
    }
    assert all(count <= policy.retries + 1 for count in calm.attempts.values())


@given(policies, st.integers(1, 5000))
def test_pauses_grow_to_a_limit(policy: Policy, attempts: int) -> None:
    """Never shorter than the one before, never negative, and bounded."""
    pauses = pause_s(attempts, policy), pause_s(attempts + 1, policy)
    assert 0.0 <= pauses[0] <= pauses[1] <= max(300.0, policy.backoff_s)
    assert pause_s(1, policy) == policy.backoff_s


states = st.sampled_from(StepState)
histories = st.lists(st.tuples(names, states, st.sampled_from([None, *StepState])), max_size=8)


def history(made: list[tuple[str, StepState, StepState | None]]) -> tuple[dict[int, Step], dict[int, Step]]:
    """Steps, and the undoing of those that are done."""
    steps = {number: Step(name, state=state, began_at=1.0) for number, (name, state, _) in enumerate(made)}
    undone = {
        number: Step("undo", state=undoing)
        for number, (_, state, undoing) in enumerate(made)
        if undoing is not None and state is StepState.DONE
    }
    return steps, undone


@given(histories, st.sets(names))
def test_what_is_done_is_undone_in_reverse(made: list[Any], undoable: set[str]) -> None:
    """The last first; nothing that is not done, cannot be undone, or was undone."""
    steps, undone = history(made)
    order = to_undo(steps, undone, undoable)
    assert order == sorted(order, reverse=True)
    expected = {
        number
        for number, step in steps.items()
        if step.state is StepState.DONE and step.name in undoable
        and (number not in undone or undone[number].state is StepState.OPEN)
    }  # fmt: skip
    assert set(order) == expected


@given(histories, st.sampled_from(Status), st.integers(-1, 7))
def test_a_retry_goes_on_at_the_right_place(made: list[Any], status: Status, at: int) -> None:
    """With what could not be undone; else with nothing undone on record, and what is before it as it was kept."""
    steps, undone = history(made)
    run = Run("order", "p", status=status, fault=replace(FAULT, number=at) if at >= 0 else None)
    found = again(run, steps, undone)
    if status not in (Status.FAILED, Status.CANCELLED):
        assert found is None
        return
    stuck = {number for number, step in undone.items() if step.state is StepState.FAILED}
    if stuck:
        assert found is not None
        assert set(found.undone) == stuck
        assert found.steps == {}
        return
    assert (found is None) == (status is Status.CANCELLED)
    if found is not None:
        assert found.run.fault is None
        assert found.undone == dict.fromkeys(undone)
        first = min((number for number, step in undone.items() if step.state is StepState.DONE), default=len(steps))
        assert all(number >= first or number == at for number in found.steps)
        assert all(step.state is StepState.OPEN for step in found.steps.values())
        for number in range(first, len(steps)):
            assert key_of("o", number, found.steps[number], undo=False) != key_of("o", number, None, undo=False) or (
                number not in undone
            )


def test_another_name_is_found_out() -> None:
    """Unless nothing was ever done under that number."""
    assert next_of(Step("a", began_at=1.0), "b", 2.0) == OtherName("a")
    assert next_of(Step("a", state=StepState.DONE, began_at=1.0), "b", 2.0) == OtherName("a")
    assert next_of(Step("a", round=1), "b", 2.0) == Act()
    assert begun(Step("a", round=1), "b", ARGS, 2.0).round == 1


def test_a_step_that_ends_its_process_is_given_up() -> None:
    """After many times; a time limit counts as an exception does."""
    step = begun(None, "a", (Raw(b"\x90"), Raw(b"\x80")), 1.0)
    late = interrupted(step, FAULT, Policy(retries=0), 2.0, is_late=True)
    assert (late.state, late.attempts) == (StepState.FAILED, 1)
    for count in range(1, MAX_CRASHES + 1):
        assert step.state is StepState.OPEN
        step = interrupted(step, FAULT, Policy(retries=0), 2.0, is_late=False)
        assert step.crashes == count
    assert step.state is StepState.FAILED


@given(st.text(max_size=60), st.text(max_size=60))
def test_each_run_has_a_name_of_its_own(id: str, other: str) -> None:
    """That a process may have, whatever its id is."""
    import re

    name = process_of("order", id)
    assert re.fullmatch(r"[a-z][a-z0-9_-]{0,70}", name)
    assert (name == process_of("order", other)) == (id == other)
