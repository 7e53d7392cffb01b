"""
Regrow's own part of the tree: the top supervisor, and the workers that serve all others.

The logger is always there. The hub is there where somebody could use it: in a tree with agents, or whose file says so.
"""

from __future__ import annotations

import msgspec
from msgspec.structs import replace

from regrow.config.spec import (
    AutoShutdown,
    Backoff,
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
from regrow.daemon import forked, nested
from regrow.daemon.tree import ROOT

INTENSITY, PERIOD_S = 50, 10.0
"""How often the two subtrees may be lost before the daemon gives up: it is the last to do so."""


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


def system_spec(daemon: DaemonSpec, hub: HubSpec | None) -> SupervisorSpec:
    """Regrow's own workers. They are restarted for ever: without them the tree still lives, if less is seen of it."""
    return SupervisorSpec(
        name=nested.SYSTEM,
        intensity=1_000_000,
        period_s=1.0,
        children=(_logger(), _hub(daemon, hub)) if hub is not None else (_logger(),),
        backoff=Backoff(first_s=0.01, factor=2.0, max_s=5.0, jitter=0.0, reset_s=10.0),
        escalate=Escalate.NEVER,
    )


def _logger() -> WorkerSpec:
    return WorkerSpec(
        name=forked.LOGGER,
        kind=Kind.FUNCTION,
        target="regrow.workers.system.logger:run",
        ready=Ready(Probe(ReadyKind.STARTED), timeout_s=30.0),
        shutdown=Shutdown(ShutdownKind.TIMEOUT, 10.0),
        stdout=Output(OutputKind.INHERIT),
        stderr=Output(OutputKind.INHERIT),
    )


def _hub(daemon: DaemonSpec, hub: HubSpec) -> WorkerSpec:
    arguments = {"run_dir": daemon.run_dir, "state_dir": daemon.state_dir, **msgspec.structs.asdict(hub)}
    return WorkerSpec(
        name=forked.HUB,
        kind=Kind.FUNCTION,
        target="regrow.workers.system.hub:run",
        args_json=msgspec.json.encode(arguments).decode(),
        ready=Ready(Probe(ReadyKind.STARTED), timeout_s=30.0),
        shutdown=Shutdown(ShutdownKind.TIMEOUT, 5.0),
    )


def wanted_hub(plan: Plan) -> HubSpec | None:
    """The hub that the tree of this plan is to have."""
    return plan.hub or (HubSpec() if Kind.AGENT in forked.kinds_in(plan.root) else None)
