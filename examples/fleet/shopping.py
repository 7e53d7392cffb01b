"""One customer, one script: `python shopping.py`, while the fleet runs."""

from __future__ import annotations

import os
import signal

from sales import Receipt

from regrow.ipc import Client, NoProcess, Ok, ProcessDown, RemoteError, by_key

with Client() as regrow:  # the only daemon that runs, or that of $REGROW_RUN_DIR
    grace = by_key("cart", "Grace")

    print("an apple:", regrow.call("pricer", "quote", sku="apple"), "EUR")
    regrow.call(grace, "add", customer="Grace", sku="apple", quantity=3)
    print("in the cart:", regrow.call(grace, "add", customer="Grace", sku="pear"))

    # What the agent's class lists in `replies` is an answer. The agent lives on.
    try:
        regrow.call(grace, "add", customer="Grace", sku="cheese")
    except RemoteError as error:
        print("refused:", error.text)

    receipt = regrow.call(grace, "checkout", customer="Grace", returns=Receipt)
    print(f"paid: {receipt.total:.2f} EUR for {sum(receipt.items.values())} pieces")

    # Be told of a death. Here we cause it, and find out whom to call next.
    with regrow.monitor("pricer.0") as monitor:
        os.kill(monitor.pid, signal.SIGKILL)
        down = monitor.wait(timeout=10.0)
        print("pricer.0 ended:", down.reason if down else "not yet")
    try:
        print("and yet a pear is", regrow.call("pricer", "quote", sku="pear"), "EUR")  # the other one answers
    except (NoProcess, ProcessDown) as error:
        print("nobody answers:", error)

    # Work that may take long, or crash: each piece in a process of its own.
    jobs = regrow.tasks("jobs")
    for outcome in jobs.async_stream_nolink("sales:label", ["apple", "pear", "melon"]):
        if isinstance(outcome, Ok):
            print("label:", outcome.value)
        else:
            print("no label:", outcome.text.splitlines()[-1])
    jobs.close()
