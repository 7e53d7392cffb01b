"""The orders of the example, whose runs are told by their ids where who is killed: `VICTIM-POINT-PASSAGE-…`."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter

import orders

from regrow.ipc import points
from regrow.ipc.control import ControlClient
from regrow.ipc.points import Point
from regrow.workers import step

passed: Counter[Point] = Counter()


class Order(orders.Order):
    """As in the example; pears are lost on the way."""

    def run(self, sku: str, pieces: int = 1) -> str:
        self._victim, point, passage = self.id.split("-")[:3]
        self._point, self._passage = Point(point), int(passage)
        passed.clear()
        points.install(self._reached)
        return super().run(sku, pieces)

    @step
    def ship(self, sku: str, pieces: int) -> None:
        if sku == "pear":
            raise LookupError("no pear has ever arrived")
        super().ship(sku, pieces)

    def _reached(self, point: Point) -> None:
        passed[point] += 1
        if point is not self._point or passed[point] != self._passage:
            return
        try:
            os.close(os.open(f"{os.environ['KILLS']}/{self.id}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return  # it was done in an earlier process
        kill(self._victim)


def kill(victim: str) -> None:
    """And wait for the own end, where that is a consequence."""
    if victim == "self":
        os.kill(os.getpid(), signal.SIGKILL)
    elif victim == "runs":
        os.kill(os.getppid(), signal.SIGKILL)
        signal.pause()
    else:
        with ControlClient(os.environ["REGROW_RUN_DIR"]) as control:
            if victim == "root":
                os.kill(control.peer_pid(), signal.SIGKILL)
                signal.pause()
            (desk,) = control.request("status", names=["order.desk"])
            if desk["pid"] is not None:
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    os.kill(desk["pid"], signal.SIGKILL)
