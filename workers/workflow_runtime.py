"""What runs an agent of regrow's own that has something to do of itself, and whose posts are not handled one by one."""

from __future__ import annotations

from collections.abc import Callable

from regrow.config import exits
from regrow.workers.errors import Ignore
from regrow.workers.notify import notify, ready
from regrow.workers.runtime import Runtime
from regrow.workers.stop_signals import StopSignals


class OwnRuntime(Runtime):
    """`serve` is to be overridden; `posts` only says whether something may have come (`is_due`)."""

    def _live(self, args_json: str, started: Callable[[], None]) -> int:
        try:
            self.begin(args_json)
        except Ignore:
            notify("X_REGROW_IGNORE=1")
            return exits.DONE
        with StopSignals(self.node, self._asked_to_stop):
            self.node.announce()
            started()
            ready()
            self.serve()
            self.end()
            self.close()
        return self.ending.status if self.ending is not None else exits.DONE
