"""One [supervisor.X] table: its fields, and what excludes what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from regrow.config.context import Context
from regrow.config.keys import SUPERVISOR
from regrow.config.reach import can_trip
from regrow.config.sources import Source
from regrow.config.spec import AutoShutdown, Escalate, Restart, Start, Strategy, SupervisorSpec
from regrow.config.system import SystemProblem
from regrow.config.units import duration_text
from regrow.config.values import At
from regrow.config.worker import import_folders

_DEFAULTS = SupervisorSpec("")


def read_supervisor(context: Context, source: Source, name: str, table: dict[str, Any]) -> dict[str, Any]:
    """
    Return the fields of a SupervisorSpec that the table gives. `children` and `template` are still names.

    Everything wrong with the table by itself has been reported.
    """
    at = context.at(source, ("supervisor", name), name=name)
    fields: dict[str, Any] = SUPERVISOR.read(table, at)
    fields["base_dir"] = source.folder
    strategy = fields.get("strategy", Strategy.ONE_FOR_ONE)
    _check_dynamic(at, strategy, fields, table)
    if fields.get("start") is Start.PARALLEL and strategy is not Strategy.ONE_FOR_ONE and "strategy" in fields:
        said = f'start = "parallel" is for one_for_one only: {strategy} needs an order'
        at.down("start").wrong(said, code="bad_combination")
    _check_reach(at, fields, table)
    check_preload(context, at, fields)
    return fields


def _check_dynamic(at: At, strategy: Strategy, fields: Mapping[str, Any], table: Mapping[str, Any]) -> None:
    """Report keys that a dynamic supervisor excludes, or that only it has (S25, S128)."""
    if strategy is not Strategy.DYNAMIC:
        for key in ("template", "max_children"):
            if key in table and not ("strategy" in table and "strategy" not in fields):
                hint = 'write strategy = "dynamic"'
                at.down(key).wrong(f"`{key}` is for dynamic supervisors only", hint, "bad_combination")
        return
    if "children" in table:
        said = "a dynamic supervisor takes no children: they come through start_child"
        at.down("children").wrong(said, "name a `template`", "bad_combination")
    if fields.get("auto_shutdown", AutoShutdown.NEVER) is not AutoShutdown.NEVER:
        said = "a dynamic supervisor has no significant children, so its auto_shutdown is never"
        at.down("auto_shutdown").wrong(said, code="bad_combination")


def _check_reach(at: At, fields: Mapping[str, Any], table: Mapping[str, Any]) -> None:
    """Report a limit that cannot be exceeded under the backoff, unless that is meant."""
    if ("period" in table and "period_s" not in fields) or any(
        key in table and key not in fields for key in ("intensity", "backoff", "escalate")
    ):
        return  # one of the numbers is wrong and reported: nothing follows from the others
    backoff = fields.get("backoff")
    intensity = fields.get("intensity", _DEFAULTS.intensity)
    period_s = fields.get("period_s", _DEFAULTS.period_s)
    if backoff is not None and backoff.first_s > backoff.max_s:
        first, longest = duration_text(backoff.first_s), duration_text(backoff.max_s)
        said = f"the first delay, {first}, is above the longest, {longest}"
        at.down("backoff").wrong(said, code="bad_combination")
    elif fields.get("escalate") is not Escalate.NEVER and not can_trip(intensity, period_s, backoff):
        said = f"more than {intensity} restarts in {duration_text(period_s)} can never happen under this backoff"
        hint = 'lower intensity, raise period, or write escalate = "never"'
        at.down("intensity" if "intensity" in fields else "backoff").wrong(said, hint, "cannot_trip")


def check_preload(context: Context, at: At, fields: Mapping[str, Any]) -> None:
    """Report modules that are nowhere."""
    if not context.check_system:
        return
    folders = import_folders(context, at.source.folder, at.source.folder, {})
    for index, module in enumerate(fields.get("preload", ())):
        try:
            context.modules.import_path(module, folders)
        except SystemProblem as error:
            at.down("preload", index).wrong(str(error), error.hint)


def check_significant(at: At, fields: Mapping[str, Any], parent: Mapping[str, Any] | None) -> None:
    """
    Report a significant child that cannot be one. `parent` is None for the root.

    Source: S12, S13 (tested first), S128.
    """
    if not fields.get("significant", False):
        return
    at = at.down("significant")
    if parent is None:
        at.wrong("the root supervisor has no supervisor in the file that its end could end", code="bad_combination")
    elif parent.get("strategy") is Strategy.DYNAMIC:
        at.wrong("a dynamic supervisor has no significant children")
    elif parent.get("auto_shutdown", AutoShutdown.NEVER) is AutoShutdown.NEVER:
        said = 'a significant child means nothing under auto_shutdown = "never"'
        at.wrong(said, "set auto_shutdown on its supervisor", "bad_combination")
    elif fields.get("restart", Restart.PERMANENT) is Restart.PERMANENT:
        said = "a significant child cannot be permanent: it would be restarted instead of ending anything"
        at.wrong(said, 'write restart = "transient" or "temporary"', "bad_combination")
