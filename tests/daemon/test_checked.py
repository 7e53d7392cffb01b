"""Specs of start_child that need no second check: which are alike, and that nothing else passes for checked."""

from __future__ import annotations

from typing import Any

import pytest

from regrow.config.spec import Kind, SupervisorSpec, WorkerSpec
from regrow.daemon.checked import KEPT, Checked, key_of

JOBS = SupervisorSpec(name="jobs")
RAW: dict[str, Any] = {
    "id": "one",
    "function": "regrow.workers.task:run",
    "args": {"owner": "@1", "pid": 1, "linked": False},
    "restart": "temporary",
}
SPEC = WorkerSpec(name="one", kind=Kind.FUNCTION, target="regrow.workers.task:run", group="one", args_json="{}")


def test_a_spec_like_one_that_was_checked() -> None:
    """Another name and other values: the rest is the same, and what differs is the new one's."""
    checked = Checked()
    checked.keep(key_of(RAW, JOBS), SPEC)
    other = {**RAW, "id": "two", "args": {"linked": True, "owner": "@2", "pid": 2}}
    found = checked.like(key_of(other, JOBS), other)
    assert found is not None
    assert (found.name, found.group, found.args_json) == ("two", "two", '{"linked":true,"owner":"@2","pid":2}')
    assert found.target == SPEC.target


def test_agents_of_our_own_are_alike_as_well() -> None:
    """Such as the runs of workflows; those of the user may have changed since."""
    raw = {"id": "one", "agent": "regrow.workers.workflow_run:RunAgent", "args": {"id": "o-1"}}
    assert key_of(raw, JOBS) == key_of({**raw, "id": "two", "args": {"id": "o-2"}}, JOBS) is not None
    assert key_of({**raw, "function": "regrow.workers.task:run"}, JOBS) != key_of(raw, JOBS)
    assert key_of({**raw, "agent": "shop:Order"}, JOBS) is None


@pytest.mark.parametrize(
    "change",
    [
        {"restart": "permanent"},
        {"function": "regrow.workers.task:run_alone"},
        {"shutdown": "1s"},
        {"args": {"owner": "@1", "pid": 1}},
        {"args": {"owner": "@1", "pid": 1, "linkd": False}},
    ],
)
def test_what_is_not_alike(change: dict[str, Any]) -> None:
    """Whatever else differs is checked."""
    checked = Checked()
    checked.keep(key_of(RAW, JOBS), SPEC)
    other = {**RAW, **change}
    assert checked.like(key_of(other, JOBS), other) is None


@pytest.mark.parametrize("supervisor", [SupervisorSpec(name="jobs", template='{"umask": "0"}'), SupervisorSpec("b")])
def test_another_supervisor(supervisor: SupervisorSpec) -> None:
    """Also the same one, after its file was read again and says something else."""
    assert key_of(RAW, JOBS) != key_of(RAW, supervisor)


@pytest.mark.parametrize(
    "change",
    [
        {"id": "No name"},
        {"id": 7},
        {"function": "shop.work:pack"},
        {"function": ["regrow.workers.task:run"]},
        {"args": {"owner": "{run_dir}"}},
        {"args": {"owner": "}"}},
        {"args": {"owner": None}},
        {"args": {"owner": ["@1"]}},
        {"args": "none"},
        {"env": {"WHO": "{name}"}},
        {"env_file": "jobs.env"},
    ],
)
def test_what_is_checked_each_time(change: dict[str, Any]) -> None:
    """What depends on the name, the values or other files, what is the user's, and what may be wrong."""
    assert key_of({**RAW, **change}, JOBS) is None


def test_templates_that_depend_on_the_name() -> None:
    """They are laid under each spec anew."""
    assert key_of(RAW, SupervisorSpec(name="jobs", template='{"env": {"WHO": "{name}"}}')) is None
    assert key_of(RAW, SupervisorSpec(name="jobs", template='{"env_file": "jobs.env"}')) is None


def test_what_is_kept_is_bounded() -> None:
    """The oldest is checked again."""
    checked = Checked()
    raws = [{**RAW, "shutdown": f"{number}s"} for number in range(KEPT + 1)]
    for raw in raws:
        checked.keep(key_of(raw, JOBS), SPEC)
    assert checked.like(key_of(raws[0], JOBS), raws[0]) is None
    assert checked.like(key_of(raws[1], JOBS), raws[1]) is not None
