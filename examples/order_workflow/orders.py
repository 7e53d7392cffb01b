"""An order as a workflow: reserve, charge, ship; and what undoes them when one of these cannot be done."""

from __future__ import annotations

import provider

from regrow.ipc import RemoteError
from regrow.workers import Agent, Workflow, handler, step

PRICE = 5


class SoldOut(Exception):
    """There are not so many pieces left."""


class Stock(Agent):
    """What there is. Who reserves says a key, so that a repeated call takes nothing twice."""

    replies = (SoldOut,)

    def init(self, pieces: dict[str, int]) -> None:
        for sku, number in pieces.items():
            self.state.setdefault(("left", sku), number)

    @handler
    def reserve(self, key: str, sku: str, pieces: int) -> None:
        if ("held", key) in self.state:
            return
        left = self.state.get(("left", sku), 0)
        if left < pieces:
            raise SoldOut(f"{left} of {sku} are left, not {pieces}")
        self.state["left", sku] = left - pieces
        self.state["held", key] = [sku, pieces]

    @handler
    def release(self, key: str) -> None:
        sku, pieces = self.state.pop(("held", key), ["", 0])
        if pieces:
            self.state.add(("left", sku), pieces)

    @handler
    def left(self, sku: str) -> int:
        return int(self.state.get(("left", sku), 0))


class Dispatch(Agent):
    """Packs what was paid for. It is posted to, so each order comes once."""

    @handler
    def pack(self, order: str, sku: str, pieces: int) -> None:
        if not pieces:
            raise ValueError("an empty parcel")
        self.state.add(("packed", order), 1)

    @handler
    def packed(self, order: str) -> int:
        return int(self.state.get(("packed", order), 0))


class Order(Workflow):
    """One order. What is a step is kept; what is between steps is done again in each process."""

    def run(self, sku: str, pieces: int = 1) -> str:
        reservation = self.reserve(sku, pieces)
        payment = self.charge(reservation, pieces * PRICE)
        self.ship(sku, pieces)
        return f"{pieces} {sku} on the way, {payment}"

    @step(retries=5, backoff=0.2, timeout=30.0, undo="release", final=(RemoteError,))
    def reserve(self, sku: str, pieces: int) -> str:
        self.call("stock", "reserve", self.key, sku, pieces)
        return self.key

    def release(self, reservation: str) -> None:
        self.call("stock", "release", reservation)

    @step(retries=3, backoff=0.2, timeout=30.0, undo="refund", final=(provider.Declined,))
    def charge(self, reservation: str, amount: int) -> str:
        return provider.pay(self.key, amount)

    def refund(self, payment: str, reservation: str, amount: int) -> None:
        provider.pay(self.key, -amount)

    @step
    def ship(self, sku: str, pieces: int) -> None:
        self.post("dispatch", "pack", self.id, sku, pieces)
