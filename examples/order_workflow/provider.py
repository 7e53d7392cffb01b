"""
A payment provider as there are many: somewhere else, sometimes down, and with idempotency keys.

Its ledger is a file, one line for each payment: key, pieces of money. Refunds are negative.
"""

from __future__ import annotations

import fcntl
import os


class Declined(Exception):
    """The provider takes no payment of this size."""


def pay(key: str, amount: int) -> str:
    """
    Take money, once for each key; returns the number of the payment.

    Raises:
        Declined.
    """
    if amount > 50:
        raise Declined(f"{amount} is more than the card allows")
    with open(os.environ["LEDGER"], "a+") as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        ledger.seek(0)
        keys = [line.split()[0] for line in ledger if line.endswith("\n")]
        if key not in keys:
            ledger.write(f"{key} {amount}\n")
            keys.append(key)
        return f"payment {keys.index(key) + 1}"
