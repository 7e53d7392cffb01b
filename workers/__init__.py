"""What runs in a worker process: functions, agents, and regrow's own system workers."""

if not __name__.startswith("regrow."):
    raise ImportError(f"{__name__} is part of regrow: import it as regrow.workers (the repository is on sys.path)")

from regrow.workers.errors import Ignore, NotDeterministic, StepFailed
from regrow.workers.listening import sockets
from regrow.workers.notify import notify, progress, ready, status, stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from regrow.workers.agent import Agent, handler
    from regrow.workers.state import State
    from regrow.workers.workflow import Workflow, step

__all__ = [
    "Agent", "Ignore", "NotDeterministic", "State", "StepFailed", "Workflow", "handler", "notify", "progress", "ready",
    "sockets", "status", "step", "stopping",
]  # fmt: skip

_HOMES = {"Agent": "agent", "handler": "agent", "State": "state", "Workflow": "workflow", "step": "workflow"}


def __getattr__(name: str) -> object:
    """Load what agents need only where one is written: functions and the logger do without (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
