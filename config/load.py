"""The way in: files to a Plan, and a start_child spec to a WorkerSpec."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from regrow.config import standby
from regrow.config.context import Context
from regrow.config.keys import NAME
from regrow.config.plan import read_plan
from regrow.config.sources import Source, merge, read_sources
from regrow.config.spec import DaemonSpec, Plan, SocketSpec, Strategy, SupervisorSpec, WorkerSpec
from regrow.config.supervisor import check_significant
from regrow.config.tables import ListOf
from regrow.config.values import At, Literal, shown
from regrow.config.worker import KINDS, read_worker

_EXTRA_ARGS = ListOf(Literal())
_LAID_OVER = ("env", "args", "limits", "log")  # tables whose keys are laid over the template's one by one


def load(
    files: Sequence[str | Path], *, environ: Mapping[str, str] | None = None, check_system: bool = True
) -> Plan:
    """
    Read, check and resolve the files of one tree. Nothing is started, imported or written.

    Later files may only add tables. With `check_system` false, what depends on this host is not held against it:
    programs, modules, users, directories, addresses, env_files.

    Raises:
        ConfigErrors with all problems.
    """
    context = Context(os.environ if environ is None else environ, check_system=check_system)
    if not files:
        context.problems.add_line("", 0, "", "no file was named", code="unreadable")
    sources = read_sources(files, context.problems)
    context.problems.raise_if_any()  # whatever else would be said could be the fault of what could not be read
    tables = merge(sources, context.problems)
    plan = read_plan(context, tables, sources)
    context.problems.raise_if_any()
    if plan is None:
        raise AssertionError("internal error: no plan, and nothing said why")
    return plan


def worker_spec(
    raw: object,
    *,
    supervisor: SupervisorSpec,
    daemon: DaemonSpec,
    sockets: Sequence[SocketSpec] = (),
    environ: Mapping[str, str] | None = None,
    check_system: bool = True,
) -> WorkerSpec:
    """
    Return the worker that a start_child spec describes: `id`, and the keys of a [worker.X] table.

    Under a supervisor with a `template` the spec is laid over it: a key replaces the template's, in `env`, `args`,
    `limits` and `log` key by key, and `extra_args` is appended to `command`, taken literally. Relative paths begin in
    the supervisor's `base_dir`.

    Raises:
        ConfigErrors, whose codes are OTP's faults where it has one: `missing_id` before `missing_start`.
    """
    context = Context(os.environ if environ is None else environ, check_system=check_system)
    context.dirs = {"run_dir": daemon.run_dir, "state_dir": daemon.state_dir, "log_dir": daemon.log_dir}
    context.sockets, context.socket_names = tuple(sockets), tuple(spec.name for spec in sockets)
    source = Source("", supervisor.base_dir, "")
    at = context.at(source, ())
    if not isinstance(raw, dict) or "id" not in raw:
        said = "a spec needs an id" if isinstance(raw, dict) else f"a spec is an object, not {shown(raw)}"
        at.wrong(said, code="missing_id")
        context.problems.raise_if_any()
        raise AssertionError("internal error: a problem was not kept")
    name = NAME.read(raw["id"], at.down("id"))
    table = _laid_over(supervisor.template, {key: value for key, value in raw.items() if key != "id"}, at)
    worker = read_worker(context, source, (), table, name if isinstance(name, str) else "unnamed")
    if worker is not None:
        placement = {"strategy": supervisor.strategy, "auto_shutdown": supervisor.auto_shutdown}
        check_significant(at, {"significant": worker.significant, "restart": worker.restart}, placement)
        if worker.standby and supervisor.strategy is Strategy.DYNAMIC:
            at.down("standby").wrong(standby.UNDER_DYNAMIC, code="bad_combination")
    context.problems.raise_if_any()
    if worker is None:
        raise AssertionError("internal error: no worker, and nothing said why")
    return worker


def _laid_over(template: str, spec: dict[str, Any], at: At) -> dict[str, Any]:
    """Return the spec laid over the template's keys. Another kind replaces the template's kind."""
    table: dict[str, Any] = json.loads(template) if template else {}
    if any(kind in spec for kind in KINDS):
        table = {key: value for key, value in table.items() if key not in KINDS}
    extra = _EXTRA_ARGS.read(spec.pop("extra_args", []), at.down("extra_args"))
    for key in ("replicas", "update"):
        if spec.pop(key, None) is not None:
            at.down(key).wrong("start_child starts one child", code="bad_combination")
    for key, value in spec.items():
        beneath = table.get(key)
        if key in _LAID_OVER and isinstance(beneath, dict) and isinstance(value, dict):
            table[key] = {**beneath, **value}
        else:
            table[key] = value
    if isinstance(extra, tuple) and extra:
        command = table.get("command")
        if isinstance(command, list):
            table["command"] = [*command, *(part.replace("{", "{{").replace("}", "}}") for part in extra)]
        else:
            at.down("extra_args").wrong("there is no command to append them to", code="bad_combination")
    return table
