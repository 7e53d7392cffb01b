"""Plans for Hypothesis: small trees over few names, so that two of them have much in common and much that is not."""

from __future__ import annotations

from hypothesis import strategies as st

from regrow.config.spec import (
    AccessSpec,
    ChildSpec,
    DaemonSpec,
    Kind,
    Plan,
    Restart,
    Strategy,
    SupervisorSpec,
    WorkerSpec,
)

WORKERS = ("a", "b", "c", "d", "e")
SUPERVISORS = ("s", "t", "u")
STATIC = (Strategy.ONE_FOR_ONE, Strategy.ONE_FOR_ALL, Strategy.REST_FOR_ONE)


@st.composite
def workers(draw: st.DrawFn, name: str) -> tuple[WorkerSpec, ...]:
    """A worker, or its replicas."""
    replicas = draw(st.integers(0, 4))
    first = WorkerSpec(
        name=name,
        kind=Kind.COMMAND,
        group=name,
        command=(draw(st.sampled_from(("old", "new"))),),
        restart=draw(st.sampled_from(Restart)),
        nice=draw(st.sampled_from((None, 5))),
    )
    if not replicas:
        return (first,)
    fields = {field: getattr(first, field) for field in first.__struct_fields__}
    return tuple(
        WorkerSpec(**{**fields, "name": f"{name}.{index}", "index": index, "replicas": replicas})
        for index in range(replicas)
    )


@st.composite
def trees(draw: st.DrawFn, *, root: str | None = None) -> SupervisorSpec:
    """A tree whose names come from the few."""
    top = root or draw(st.sampled_from(("top", "top", "head")))
    below = {top: list[ChildSpec](), **{name: list[ChildSpec]() for name in draw(st.permutations(SUPERVISORS))[:2]}}
    order = list(below)
    dynamic = {name: draw(st.integers(0, 5)) == 0 for name in order[1:]}
    for name in draw(st.permutations(WORKERS))[: draw(st.integers(0, len(WORKERS)))]:
        homes = [home for home in order if not dynamic.get(home)]
        below[draw(st.sampled_from(homes))].extend(draw(workers(name)))
    made: dict[str, SupervisorSpec] = {}
    for name in reversed(order):
        strategy = Strategy.DYNAMIC if dynamic.get(name) else draw(st.sampled_from(STATIC))
        made[name] = SupervisorSpec(
            name,
            strategy,
            intensity=draw(st.integers(1, 3)),
            children=tuple(below[name]),
            preload=draw(st.sampled_from(((), (), ("json",)))),
        )
        if name != top:
            above = [home for home in order[: order.index(name)] if not dynamic.get(home)]
            below[draw(st.sampled_from(above))].append(made[name])
    return made[top]


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan of the daemon "test"."""
    access = AccessSpec(operator_uids=draw(st.sampled_from(((), (7,)))))
    return Plan(DaemonSpec("test", "/run", "/state", "/log"), draw(trees()), access)
