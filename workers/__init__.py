"""What runs in a worker process: functions, agents, and regrow's own system workers."""

if not __name__.startswith("regrow."):
    raise ImportError(f"{__name__} is part of regrow: import it as regrow.workers (the repository is on sys.path)")

from regrow.workers.errors import Ignore
from regrow.workers.notify import notify, progress, ready, status, stopping

__all__ = ["Ignore", "notify", "progress", "ready", "status", "stopping"]
