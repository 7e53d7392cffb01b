"""
Regrow's own part of the tree: the top supervisor, and the workers that serve all others.

The logger is always there; the keeper in a tree with agents, who keep state and get posts; the hub where somebody could
use it: in a tree with agents, or whose file says so; and so the worker that runs commands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from regrow.config import internal
from regrow.config.spec import (
    AutoShutdown,
    Backoff,
    CommandsSpec,
    DaemonSpec,
    Escalate,
    HubSpec,
    Kind,
    Output,
    OutputKind,
    Plan,
    Probe,
    Ready,
    ReadyKind,
    Restart,
    Shutdown,
    ShutdownKind,
    SupervisorSpec,
    WorkerSpec,
)
from regrow.daemon import commons, forked
from regrow.daemon.tree import ROOT

INTENSITY, PERIOD_S = 50, 10.0
"""How often the two subtrees may be lost before the daemon gives up: it is the last to do so."""


class Commands(Struct, frozen=True):
    """What is to be known to run commands: the rules, and whom they do not bind."""

    spec: CommandsSpec = CommandsSpec()
    operator_uids: tuple[int, ...] = ()
    operator_gids: tuple[int, ...] = ()


class Wanted(Struct, frozen=True):
    """
    What a tree is to have of regrow's own, besides the logger.

    `agents` are those of the file by their addresses, with how many replicas each has (0: it is in no group); None
    where there can be none, and so no store.
    """

    hub: HubSpec | None = None
    agents: Mapping[str, int] | None = None
    commands: Commands | None = None


def top_spec(user: SupervisorSpec, system: SupervisorSpec) -> SupervisorSpec:
    """The root's own supervisor: a crash of the user's root supervisor is repaired, its giving up is final."""
    user = replace(user, restart=Restart.TRANSIENT, significant=True)
    return SupervisorSpec(
        name=ROOT,
        intensity=INTENSITY,
        period_s=PERIOD_S,
        auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
        children=(system, user),
    )


def system_spec(daemon: DaemonSpec, wanted: Wanted) -> SupervisorSpec:
    """Regrow's own workers. They are restarted for ever: without them the tree still lives, if less is seen of it."""
    children = [_logger()]
    if wanted.agents is not None:
        children.append(_keeper(daemon, wanted.agents))
    if wanted.hub is not None:
        children.append(_hub(daemon, wanted.hub))
    if wanted.commands is not None:
        children.append(_commands(daemon, wanted.commands))
    return SupervisorSpec(
        name=internal.SYSTEM,
        intensity=1_000_000,
        period_s=1.0,
        children=tuple(children),
        backoff=Backoff(first_s=0.01, factor=2.0, max_s=5.0, jitter=0.0, reset_s=10.0),
        escalate=Escalate.NEVER,
    )


def _logger() -> WorkerSpec:
    return WorkerSpec(
        name=internal.LOGGER,
        kind=Kind.FUNCTION,
        target="regrow.workers.system.logger:run",
        ready=Ready(Probe(ReadyKind.STARTED), timeout_s=30.0),
        shutdown=Shutdown(ShutdownKind.TIMEOUT, 10.0),
        stdout=Output(OutputKind.INHERIT),
        stderr=Output(OutputKind.INHERIT),
    )


def _keeper(daemon: DaemonSpec, agents: Mapping[str, int]) -> WorkerSpec:
    """Its start may copy or look through the whole store, and its end bring all of it to disk."""
    arguments = {"durability": daemon.durability, "daemon": daemon.name, "agents": agents}
    ready = Ready(Probe(ReadyKind.NOTIFY), timeout_s=1800.0)
    return replace(_worker(internal.KEEPER, "keeper", daemon, arguments), ready=ready, shutdown=_within(60.0))


def _hub(daemon: DaemonSpec, hub: HubSpec) -> WorkerSpec:
    return _worker(internal.HUB, "hub", daemon, msgspec.structs.asdict(hub))


def _commands(daemon: DaemonSpec, commands: Commands) -> WorkerSpec:
    return _worker(internal.COMMANDS, "commands", daemon, msgspec.structs.asdict(commands))


def _worker(name: str, module: str, daemon: DaemonSpec, arguments: Mapping[str, Any]) -> WorkerSpec:
    """A worker that is told where the daemon is, and the rest by these arguments."""
    told = {"run_dir": daemon.run_dir, "state_dir": daemon.state_dir, **arguments}
    return WorkerSpec(
        name=name,
        kind=Kind.FUNCTION,
        target=f"regrow.workers.system.{module}:run",
        args_json=msgspec.json.encode(told).decode(),
        ready=Ready(Probe(ReadyKind.STARTED), timeout_s=30.0),
        shutdown=_within(5.0),
    )


def _within(timeout_s: float) -> Shutdown:
    return Shutdown(ShutdownKind.TIMEOUT, timeout_s)


def wanted(plan: Plan) -> Wanted:
    """What the tree of this plan is to have."""
    access = plan.access
    commands = Commands(plan.commands or CommandsSpec(), access.operator_uids, access.operator_gids)
    if Kind.AGENT not in forked.kinds_in(plan.root):
        return Wanted(plan.hub, commands=commands if plan.commands is not None else None)
    return Wanted(plan.hub or HubSpec(), _addresses(commons.workers_in(plan.root)), commands)


def with_agents(before: Wanted) -> Wanted:
    """The same, and what agents need; who once had it keeps it."""
    agents = before.agents if before.agents is not None else {}
    return Wanted(before.hub or HubSpec(), agents, before.commands or Commands())


def kept(wanted: Wanted, before: Wanted) -> Wanted:
    """What is wanted, and what there was: agents that came at run time may be there still."""
    hub = wanted.hub or (HubSpec() if before.hub is not None else None)
    commands = wanted.commands or (Commands() if before.commands is not None else None)
    return Wanted(hub, {} if wanted.agents is None and before.agents is not None else wanted.agents, commands)


def between(before: Wanted, after: Wanted) -> Wanted:
    """
    What is wanted on the way from the one to the other: all addresses, and no key for a member that is not there.
    """
    if before.agents is None or after.agents is None:
        return after
    agents = {**before.agents, **after.agents}
    for name in before.agents.keys() & after.agents.keys():
        agents[name] = min(before.agents[name], after.agents[name])
    return replace(after, agents=agents)


def to_restart(before: SupervisorSpec, now: SupervisorSpec, *, admitted: bool) -> Iterator[tuple[str, bool]]:
    """
    Whose spec has changed, in start order, and whether it was there before; `admitted`: others may come in than did.
    """
    known = {child.name: child for child in before.children}
    for child in now.children:
        concerned = admitted and child.name not in (internal.LOGGER, internal.COMMANDS)
        if child.name != internal.LOGGER and (concerned or known.get(child.name) != child):
            yield child.name, child.name in known


def _addresses(workers: Iterable[WorkerSpec]) -> dict[str, int]:
    found = {}
    for spec in workers:
        if spec.kind is Kind.AGENT:
            found[spec.name] = 0
            if spec.index is not None:
                found[spec.group] = spec.replicas
    return found
