"""Supervisors that end during an apply, at every point: what they begin anew with, and what it leads to."""

from __future__ import annotations

from deployment import World, play, supervisors_in
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.config.diff import places
from regrow.config.spec import ChildSpec, Strategy, SupervisorSpec, WorkerSpec
from regrow.daemon.core import deploy_step
from regrow.daemon.core.anew import anew, as_told
from regrow.daemon.core.deploy import Outcome

SUPERVISORS = ("top", "mid", "left", "right")


def worker(name: str, command: str = "old") -> WorkerSpec:
    """A command."""
    return WorkerSpec(name=name, kind="command", command=(command,))  # type: ignore[arg-type]


def sup(name: str, *children: ChildSpec, strategy: Strategy = Strategy.ONE_FOR_ONE) -> SupervisorSpec:
    """A supervisor."""
    return SupervisorSpec(name, children=children, strategy=strategy)


def tree(web: str = "old", app: str = "old", db: str = "old", *, cache: str = "left", more: str = "") -> SupervisorSpec:
    """Three levels; the commands of three workers, where a fourth is, and what is new under `right`."""
    workers = [worker("web", web), worker("app", app)]
    left = sup("left", *workers, *([worker("cache")] if cache == "left" else []))
    new = [sup("new", worker("extra", "new"))] if more else []
    right = sup("right", worker("db", db), *([worker("cache")] if cache == "right" else []), *new)
    return sup("top", sup("mid", left), right)


BEFORE = tree()
AFTER = st.builds(
    tree,
    st.sampled_from(("old", "new")), st.sampled_from(("old", "new")), st.sampled_from(("old", "new")),
    cache=st.sampled_from(("left", "right", "")), more=st.sampled_from(("", "new")),
)  # fmt: skip
HAPPENS = st.tuples(
    st.sampled_from(("crash", "kill", "make")), st.sampled_from((*SUPERVISORS, "new"))
).map(" ".join)  # fmt: skip


@given(AFTER, st.integers(0, 20), st.lists(HAPPENS | st.sampled_from(("", "back")), min_size=1, max_size=4))
@settings(max_examples=500)
def test_supervisors_end_at_any_time(after: SupervisorSpec, answers: int, happens: list[str]) -> None:
    """What begins anew is what was before; in the end there is the one tree or the other, whole, and a reason."""
    world = World(BEFORE)
    _, finish = play(world, deploy_step.begin(BEFORE, after, frozenset()), iter([*[""] * answers, *happens]))
    assert finish.outcome in (Outcome.DONE, Outcome.ROLLED_BACK), finish
    is_now = BEFORE if finish.outcome is Outcome.ROLLED_BACK else after
    assert {name: runs[0] for name, runs in world.runs().items()} == {
        name: place.supervisor for name, place in places(is_now).items()
    }
    for spec in supervisors_in(is_now):
        assert world.sups[spec.name].running == {child.name: told(child, world) for child in spec.children}
        assert world.sups[spec.name].slots == {child.name: child for child in spec.children}
    if finish.outcome is Outcome.ROLLED_BACK:
        assert " ended" in finish.reason


def told(spec: ChildSpec, world: World) -> ChildSpec:
    """A worker as it runs; a supervisor as it was begun, whatever it was told since."""
    if isinstance(spec, SupervisorSpec):
        return next(sup.running[spec.name] for sup in world.sups.values() if spec.name in sup.running)
    return spec


def test_nobody_holds_back_what_is_new_when_it_is_over() -> None:
    """Also where an operator has stopped all of it meanwhile, and nothing is left to be watched."""
    world, after = World(BEFORE), tree("new")
    _, finish = play(world, deploy_step.begin(BEFORE, after, frozenset()), iter(["", "", "", "stop web"]))
    assert finish.outcome is Outcome.DONE
    assert world.sups["top"].slots["mid"] == after.children[0]
    assert set(world.sups["left"].running) == {"app", "cache"}


def test_with_what_they_begin_anew() -> None:
    """Who is above what is new as before; others as it is now; who is elsewhere by now is not brought back."""
    now = tree("new", cache="right")
    begins = anew(now, BEFORE, ["web"])
    left = sup("left", worker("web"), worker("app"))
    top = sup("top", sup("mid", left), sup("right", worker("db")))
    assert begins == {"top": top, "mid": sup("mid", left), "left": left}
    assert as_told(now, begins).children == (sup("mid", left), now.children[1])
    assert anew(now, BEFORE, []) == {}
    assert anew(BEFORE, BEFORE, [], back=True) == {spec.name: spec for spec in supervisors_in(BEFORE)}


def test_who_is_new_is_only_started() -> None:
    """The one above a new supervisor has its new spec."""
    now = tree(more="new")
    assert "new" not in anew(now, BEFORE, ["new", "extra"])
    assert anew(now, BEFORE, ["mid", "left", "web"]).keys() == {"top"}
