"""What runs in a worker process: functions, agents, and regrow's own system workers."""

if not __name__.startswith("regrow."):
    raise ImportError(f"{__name__} is part of regrow: import it as regrow.workers (the repository is on sys.path)")

from regrow.workers.errors import Ignore
from regrow.workers.notify import notify, progress, ready, status, stopping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from regrow.workers.agent import Agent, handler

__all__ = ["Agent", "Ignore", "handler", "notify", "progress", "ready", "status", "stopping"]


def __getattr__(name: str) -> object:
    """Load what agents need only where one is written: functions and the logger do without (PEP 562)."""
    if name in ("Agent", "handler"):
        from regrow.workers import agent

        return getattr(agent, name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
