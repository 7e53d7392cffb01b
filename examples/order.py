"""Orders for the shop that runs, each a child of `orders`: `.venv/bin/python examples/order.py apples pears`."""

from __future__ import annotations

import sys

from regrow.ipc import daemons
from regrow.ipc.errors import Refused

with daemons.connect() as shop:
    for name in sys.argv[1:]:
        try:
            child = shop.request("start_child", supervisor="orders", spec={"id": name})
            print(f"{name}: in work (pid {child['pid']})")
        except Refused as refusal:
            print(f"{name}: refused, {refusal}")
