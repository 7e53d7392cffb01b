"""[workflow.X]: what it becomes, and what is wrong with one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regrow.config.errors import ConfigErrors
from regrow.config.load import load, worker_spec
from regrow.config.spec import RUN_TARGET, Escalate, Kind, Restart, Strategy, SupervisorSpec

SHOP = """
from regrow.workers import Workflow

class Order(Workflow):
    def run(self): ...
"""

TREE = """
[supervisor.app]
children = ["order"]

[workflow.order]
workflow = "shop:Order"
"""


def problems(folder: Path, text: str) -> list[str]:
    """What is wrong with the file."""
    (folder / "shop.py").write_text(SHOP)
    (folder / "shop.toml").write_text(text)
    with pytest.raises(ConfigErrors) as caught:
        load([folder / "shop.toml"])
    return [f"{problem.key}: {problem.problem}; {problem.hint}" for problem in caught.value.problems]


def workflow(folder: Path, text: str) -> SupervisorSpec:
    """The supervisor `order` of a right file."""
    (folder / "shop.py").write_text(SHOP)
    (folder / "shop.toml").write_text(text)
    (found,) = load([folder / "shop.toml"]).root.children
    assert isinstance(found, SupervisorSpec)
    return found


def test_a_workflow_is_a_supervisor_with_two_children(tmp_path: Path) -> None:
    """The runs, under a dynamic supervisor that never gives up, and behind it the desk."""
    order = workflow(tmp_path, TREE + 'limit = 3\nkeep = "2d"\n')
    runs, desk = order.children
    assert (order.name, order.strategy) == ("order", Strategy.REST_FOR_ONE)
    assert isinstance(runs, SupervisorSpec)
    assert (runs.name, runs.strategy, runs.escalate) == ("order.runs", Strategy.DYNAMIC, Escalate.NEVER)
    assert not isinstance(desk, SupervisorSpec)
    assert (desk.name, desk.kind) == ("order.desk", Kind.AGENT)
    expected = {"workflow": "order", "target": "shop:Order", "folder": str(tmp_path), "limit": 3, "keep_s": 172_800.0}
    assert json.loads(desk.args_json) == expected


def test_its_other_keys_are_those_of_the_runs(tmp_path: Path) -> None:
    """Environment, limits and the like are laid into what each start builds upon."""
    folder = tmp_path / "with {braces}"
    folder.mkdir()
    order = workflow(folder, TREE + 'env = { A = "{name}" }\nlimits = { open_files = 100 }\nnice = 3\n')
    runs = order.children[0]
    assert isinstance(runs, SupervisorSpec)
    (folder / "shop.toml").write_text(TREE)
    plan = load([folder / "shop.toml"])
    args = {"workflow": "order", "target": "shop:Order", "folder": "", "id": "o-17"}
    raw = {"id": "order-17", "agent": RUN_TARGET, "args": args}
    spec = worker_spec(raw, supervisor=runs, daemon=plan.daemon)
    assert (spec.kind, spec.restart, spec.nice, spec.limits.open_files) == (Kind.AGENT, Restart.TRANSIENT, 3, 100)
    assert spec.env == {"A": "order-17"}
    assert json.loads(spec.args_json) == args


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('workflow = "shop:Ordre"', "workflow.order.workflow: the module shop has no Ordre; did you mean `Order`?"),
        ('workflow = "stop:Order"', "workflow.order.workflow: there is no module stop in "),
        ("", "workflow.order: says not what to run; "),
        ('workflow = "shop:Order"\nlimit = 0', "workflow.order.limit: "),
        ('workflow = "shop:Order"\nlimits = { open = 5 }', "workflow.order.limits.open: unknown key `open`"),
        ('workflow = "shop:Order"\nrestart = "permanent"', "workflow.order.restart: unknown key `restart`"),
        ('workflow = "shop:Order"\npreload = ["nowhere_at_all"]', "workflow.order.preload[0]: there is no module"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    """Where it stands, once, and what was meant."""
    (found,) = problems(tmp_path, f'[supervisor.app]\nchildren = ["order"]\n[workflow.order]\n{text}\n')
    assert found.startswith(said)


def test_its_name_is_a_name_in_the_tree(tmp_path: Path) -> None:
    """It has one supervisor, and nothing else is called so."""
    found = problems(tmp_path, TREE + '[worker.order]\ncommand = ["true"]\n')
    assert any("is a worker of the same name" in problem for problem in found)
    (found_one,) = problems(tmp_path, TREE.replace('"order"', '"ordre"'))
    assert "there is no worker or supervisor `ordre`; did you mean `order`?" in found_one
    alone = '[supervisor.app]\nchildren = []\n[workflow.order]\nworkflow = "shop:Order"\n'
    (found_one,) = problems(tmp_path, alone)
    assert "is nobody's child" in found_one
