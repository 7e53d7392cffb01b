"""Forty customers at once, in one event loop: `python rush.py`, while the fleet runs."""

from __future__ import annotations

import asyncio

from sales import Receipt

from regrow.ipc import AsyncClient, MessageError, by_key


async def shop(regrow: AsyncClient, customer: str) -> Receipt | MessageError:
    """Whatever happens to the cart's agent meanwhile, there is one outcome: the receipt, or why there is none."""
    cart = by_key("cart", customer)
    try:
        await regrow.call(cart, "add", customer=customer, sku="apple", quantity=2)
        await regrow.call(cart, "add", customer=customer, sku="melon")
        receipt: Receipt = await regrow.call(cart, "checkout", customer=customer, currency="USD", returns=Receipt)
    except MessageError as error:
        return error
    return receipt


async def main() -> None:
    """Let all of them shop, then count."""
    async with AsyncClient() as regrow:
        outcomes = await asyncio.gather(*(shop(regrow, f"customer {number}") for number in range(40)))
        paid = [outcome for outcome in outcomes if isinstance(outcome, Receipt)]
        print(f"{len(paid)} of {len(outcomes)} paid {sum(receipt.total for receipt in paid):.2f} USD")
        print("sold so far:", await regrow.call("ledger", "sold"))


asyncio.run(main())
