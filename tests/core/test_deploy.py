"""An apply, played in a small world: what it leads to, whatever fails on the way."""

from __future__ import annotations

from deployment import World, play, supervisors_in
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import SUPERVISORS, WORKERS, trees

from regrow.config.diff import needs_restart, places
from regrow.config.spec import ChildSpec, SupervisorSpec, WorkerSpec
from regrow.daemon.core import deploy, deploy_step
from regrow.daemon.core.deploy import Outcome, Phase
from regrow.daemon.core.effects import Code
from regrow.daemon.core.waves import waves

NAMES = (*WORKERS, *(f"{name}.{index}" for name in WORKERS for index in range(4)), *SUPERVISORS)

DISTURBANCES = ("", "", "crash ", "kill ", "make ", "back", "fail ", "cancel ")


def assert_is(world: World, tree: SupervisorSpec, *, except_for: frozenset[str] = frozenset()) -> None:
    """The world runs this tree and nothing else; every supervisor has the specs of it."""
    runs = world.runs()
    wanted = {name: place for name, place in places(tree).items() if name not in except_for}
    assert set(runs) - except_for == set(wanted)
    for name, place in wanted.items():
        supervisor, spec = runs[name]
        assert supervisor == place.supervisor
        assert not needs_restart(spec, place.spec)
    for spec in supervisors_in(tree):
        assert world.sups[spec.name].spec == spec
        assert tuple(world.sups[spec.name].slots.values()) == spec.children


@given(trees(), trees())
def test_an_apply_leads_there(a: SupervisorSpec, b: SupervisorSpec) -> None:
    """Applying the difference of two trees to the one yields the other."""
    world = World(a)
    state, finish = play(world, deploy_step.begin(a, b, frozenset()), iter(()))
    assert finish.outcome is Outcome.DONE
    assert state.now == b
    assert_is(world, b)


@given(trees())
def test_an_apply_of_what_runs_does_nothing(a: SupervisorSpec) -> None:
    """No wave between a tree and itself."""
    assert waves(a, a) == ()


@given(trees(), trees())
def test_who_stays_keeps_the_process(a: SupervisorSpec, b: SupervisorSpec) -> None:
    """Whoever is in both trees at the same place, and need not be restarted, is not stopped."""
    old, new = places(a), places(b)
    stopped = {member.name for wave in waves(a, b) for member in wave.stop}
    for name in stopped & set(new):
        moved = old[name].supervisor != new[name].supervisor
        assert moved or a.name != b.name or needs_restart(old[name].spec, new[name].spec)


@given(trees(), trees(), st.sets(st.sampled_from(NAMES)), st.data())
@settings(max_examples=300)
def test_a_failure_brings_the_old_plan_back(
    a: SupervisorSpec, b: SupervisorSpec, bad: set[str], data: st.DataObject
) -> None:
    """Whatever cannot be started, fails later, crashes, or is cancelled: in the end one tree runs, whole."""
    world = World(a, frozenset(name for name in bad if not _runs_new(a, name)))
    disturb = data.draw(st.lists(st.sampled_from(DISTURBANCES), max_size=12))
    words = [word + data.draw(st.sampled_from(_names_for(word))) if word.endswith(" ") else word for word in disturb]
    state, finish = play(world, deploy_step.begin(a, b, frozenset()), iter(words))
    if finish.outcome is Outcome.DONE:
        assert_is(world, b)
    else:
        assert finish.outcome is Outcome.ROLLED_BACK, finish
        assert finish.reason
        assert_is(world, a)
    assert state.phase is Phase.OVER
    assert deploy_step.step(state, deploy.Begun()) == (state, ())


@given(trees(), trees(), st.integers(0, 30))
@settings(max_examples=300)
def test_a_cancel_brings_the_old_plan_back(a: SupervisorSpec, b: SupervisorSpec, answers: int) -> None:
    """Before any answer that it comes: the plan of before runs, with the reason; or the new one, if that was faster."""
    world = World(a)
    happens = [*[""] * answers, "cancel uid 7", "cancel uid 8"]
    state, finish = play(world, deploy_step.begin(a, b, frozenset()), iter(happens))
    if state.back:
        assert (finish.outcome, finish.reason) == (Outcome.ROLLED_BACK, "cancelled by uid 7")
    else:
        assert finish.outcome is Outcome.DONE
    assert_is(world, a if state.back else b)


def test_a_cancel_touches_nobody_else() -> None:
    """Who was stopped is started again; whose turn had not come keeps the process."""
    before, now = (tree(*(worker(name, command) for name in "abc")) for command in ("old", "new"))
    state, _ = deploy_step.step(deploy_step.begin(before, now, frozenset()), deploy.Begun())
    state, effects = deploy_step.step(state, deploy.Cancelled("cancelled by uid 7"))
    assert isinstance(effects[0], deploy.RollBack)
    assert effects[0].reason == "cancelled by uid 7"
    (wave,) = state.waves
    assert [member.name for member in (*wave.stop, *wave.start)] == ["a", "a"]
    assert wave.tree == before


def test_a_cancel_of_what_goes_back_changes_nothing() -> None:
    """Nor does one of what is over."""
    before, now = tree(worker("a")), tree(worker("a", "new"))
    state, _ = deploy_step.step(deploy_step.begin(before, now, frozenset()), deploy.Begun())
    back, _ = deploy_step.step(state, deploy.Cancelled("the first"))
    assert deploy_step.step(back, deploy.Cancelled("the second")) == (back, ())
    over, _ = deploy_step.step(state, deploy.Abandoned("the daemon ends"))
    assert deploy_step.step(over, deploy.Cancelled("too late")) == (over, ())


def _names_for(word: str) -> tuple[str, ...]:
    return SUPERVISORS if word in ("crash ", "kill ", "make ") else NAMES


def _runs_new(tree: SupervisorSpec, name: str) -> bool:
    """Whether the old tree has the new command there already."""
    place = places(tree).get(name)
    return place is not None and isinstance(place.spec, WorkerSpec) and place.spec.command == ("new",)


@given(trees(), trees(), st.data())
def test_who_is_down_stays_down(a: SupervisorSpec, b: SupervisorSpec, data: st.DataObject) -> None:
    """What an operator has stopped gets its new spec, and no process."""
    workers = [name for name, place in places(a).items() if isinstance(place.spec, WorkerSpec)]
    down = frozenset(data.draw(st.sets(st.sampled_from(workers)))) if workers else frozenset[str]()
    started = {member.name for wave in waves(a, b, down) for member in wave.start}
    assert not started & down


def worker(name: str, command: str = "old", **keys: object) -> WorkerSpec:
    """A command."""
    return WorkerSpec(name=name, kind="command", command=(command,), **keys)  # type: ignore[arg-type]


def tree(*children: ChildSpec, **keys: object) -> SupervisorSpec:
    """A tree of one level."""
    return SupervisorSpec("top", children=children, **keys)  # type: ignore[arg-type]


def test_a_supervisor_that_does_not_come_back_is_awaited_once() -> None:
    """Not by each of those that were to be started below it, on the way there or back."""
    names = [f"w{number}" for number in range(3)]
    before, now = (tree(*(worker(name, command) for name in names)) for command in ("old", "new"))
    state, effects = deploy_step.step(deploy_step.begin(before, now, frozenset()), deploy.Begun())
    todo, waited = list(effects), list[float]()
    while not isinstance(effect := todo.pop(0), deploy.Finish):
        event: deploy.Event | None = None
        match effect:
            case deploy.Arm():
                waited.append(effect.after_s)
                event = deploy.Elapsed(effect.serial)
            case deploy.StopChild() | deploy.Tell() | deploy.StartChild():
                event = deploy.Answered(effect.serial, Code.NOPROC, "top is gone")
        if event is not None:
            state, more = deploy_step.step(state, event)
            todo += more
    assert effect.outcome is Outcome.FAILED
    assert waited == [deploy_step.RECOVERY_S]
