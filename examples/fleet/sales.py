"""Carts and the ledger: state by key, calls and sends between agents, values with types; and the work of a task."""

from __future__ import annotations

import time
from dataclasses import dataclass

from regrow.ipc import MessageError
from regrow.workers import Agent, handler


@dataclass
class Receipt:
    """What a customer bought. Dataclasses, datetimes, Decimals and so on travel as what they are."""

    customer: str
    items: dict[str, int]
    total: float


class Cart(Agent):
    """Keeps the carts of its customers; `by_key("cart", customer)` finds the one whose they are."""

    # Answers for whoever called, also where the fault is further down: a cart must not be lost because a pricer was
    # asked for what it does not have, or is not there now. Any other exception ends this process, as it should.
    replies = (LookupError, MessageError)

    def init(self) -> None:
        self.carts: dict[str, dict[str, int]] = {}

    @handler
    def add(self, customer: str, sku: str, quantity: int = 1) -> dict[str, int]:
        self.call("pricer", "quote", sku)  # nothing without a price gets into a cart
        cart = self.carts.setdefault(customer, {})
        cart[sku] = cart.get(sku, 0) + quantity
        return cart

    @handler
    def checkout(self, customer: str, currency: str = "EUR") -> Receipt:
        if customer not in self.carts:
            raise LookupError(f"the cart of {customer} is empty")
        cart = self.carts[customer]
        total = sum(self.call("pricer", "quote", sku, currency, returns=float) * cart[sku] for sku in cart)
        receipt = Receipt(customer, cart, round(total, 2))
        self.send("ledger", "record", receipt).wait()  # it is in the ledger's mailbox, or this cart is not emptied
        del self.carts[customer]
        return receipt


class Ledger(Agent):
    """Writes down what was sold."""

    def init(self) -> None:
        self.receipts: list[Receipt] = []

    @handler
    def record(self, receipt: Receipt) -> None:
        self.receipts.append(receipt)
        print(f"{receipt.customer} pays {receipt.total:.2f}", flush=True)

    @handler
    def sold(self) -> dict[str, int]:
        """How many of what."""
        counts: dict[str, int] = {}
        for receipt in self.receipts:
            for sku, quantity in receipt.items.items():
                counts[sku] = counts.get(sku, 0) + quantity
        return counts


def label(sku: str) -> str:
    """Work for a task: slow, and in a process of its own, so it may take a core, leak or crash."""
    time.sleep(0.05)
    if sku == "melon":
        raise RuntimeError("melons are too round for labels")
    return f"*** {sku.upper()} ***"
