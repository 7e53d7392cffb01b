"""
One [workflow.X] table to a supervisor: below it the dynamic one of the runs, and the desk that gives them their places.

The desk is the later child of a rest_for_one, so it looks anew whenever all runs have gone with their supervisor. A run
that crashes again and again waits longer each time, and brings no other down.
"""

from __future__ import annotations

import json
from typing import Any

from regrow.config.context import Context
from regrow.config.keys import WORKFLOW
from regrow.config.sources import Source
from regrow.config.spec import (
    DESK,
    DESK_TARGET,
    RUN_TARGET,
    RUNS,
    Backoff,
    Escalate,
    Kind,
    Probe,
    Ready,
    ReadyKind,
    Restart,
    Strategy,
    SupervisorSpec,
    WorkerSpec,
)
from regrow.config.supervisor import check_preload
from regrow.config.system import SystemProblem
from regrow.config.values import At
from regrow.config.worker import import_folders, read_worker

LIMIT, KEEP_S = 10, 30 * 86_400.0
INTENSITY, PERIOD_S = 10, 10.0
"""How often the desk, or the supervisor of the runs, may be lost before that is told to the supervisor above."""

_OWN_KEYS = ("workflow", "limit", "keep", "preload")
_BACKOFF = Backoff(first_s=0.02, factor=2.0, max_s=30.0, jitter=0.1, reset_s=10.0)


def read_workflow(context: Context, source: Source, name: str, table: dict[str, Any]) -> SupervisorSpec | None:
    """Return what a [workflow.X] table stands for; None when something is wrong with it, which has been reported."""
    path = ("workflow", name)
    at = context.at(source, path, name=name)
    fields: dict[str, Any] = WORKFLOW.read(table, at)
    if "workflow" not in table:
        at.wrong("says not what to run", 'workflow = "module:Class"', "missing_start")
    check_preload(context, at, fields)
    of_runs = {key: value for key, value in table.items() if key in WORKFLOW.keys and key not in _OWN_KEYS}
    args = {"workflow": name, "target": "", "folder": "", "id": ""}  # the desk gives them for each run
    template = {**of_runs, "agent": RUN_TARGET, "restart": str(Restart.TRANSIENT), "args": args}
    run = read_worker(context, source, path, template, name)
    if run is None or "workflow" not in fields:
        return None
    folder = _import_path(context, source, at.down("workflow"), fields["workflow"], run)
    return SupervisorSpec(
        name=name,
        strategy=Strategy.REST_FOR_ONE,
        intensity=INTENSITY,
        period_s=PERIOD_S,
        children=(_runs(name, source, fields, json.dumps(template)), _desk(name, source, fields, folder)),
        base_dir=source.folder,
    )


def _runs(name: str, source: Source, fields: dict[str, Any], template: str) -> SupervisorSpec:
    return SupervisorSpec(
        name=name + RUNS,
        strategy=Strategy.DYNAMIC,
        escalate=Escalate.NEVER,
        backoff=_BACKOFF,
        preload=fields.get("preload", ()),
        template=template,
        base_dir=source.folder,
    )


def _desk(name: str, source: Source, fields: dict[str, Any], folder: str) -> WorkerSpec:
    args = {
        "workflow": name,
        "target": fields["workflow"],
        "folder": folder,
        "limit": fields.get("limit", LIMIT),
        "keep_s": fields.get("keep_s", KEEP_S),
    }
    return WorkerSpec(
        name=name + DESK,
        kind=Kind.AGENT,
        group=name + DESK,
        target=DESK_TARGET,
        args_json=json.dumps(args),
        ready=Ready(Probe(ReadyKind.NOTIFY)),
        cwd=source.folder,
    )


def _import_path(context: Context, source: Source, at: At, target: str, run: WorkerSpec) -> str:
    """Return the folder of the module, "" where Python finds it by itself."""
    folders = import_folders(context, run.cwd, source.folder, run.env)
    try:
        return context.modules.check_agent(target, folders, None)
    except SystemProblem as error:
        if context.check_system:
            at.wrong(str(error), error.hint)
        return folders[0]
