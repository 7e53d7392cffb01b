"""Place orders and say what becomes of them: `python place.py 3 apple 1 pear`."""

from __future__ import annotations

import sys

from regrow.ipc import Client, RunFailed

words = sys.argv[1:]
with Client() as regrow:
    placed = [
        regrow.start_workflow("order", sku=sku, pieces=int(pieces))
        for pieces, sku in zip(words[::2], words[1::2], strict=True)
    ]
    for id in placed:
        try:
            print(regrow.workflow_result(id, timeout=60.0))
        except RunFailed as failed:
            print(f"no order: {failed.type}: {failed.text}")
