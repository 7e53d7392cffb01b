"""The functions of shop.toml. Each runs in a process of its own; what it prints is in `regrow logs NAME`."""

from __future__ import annotations

import json
import os
import random
import time
import urllib.request
from pathlib import Path


def rates(file: str, every_s: float) -> None:
    """Write fresh exchange rates for ever, whole each time. One process writes, so many may read."""
    Path(file).unlink(missing_ok=True)  # an old one would make us ready too early
    while True:
        content = json.dumps({"EUR": 1.0, "USD": round(random.uniform(1.05, 1.15), 4)})
        new = Path(f"{file}.new")
        new.write_text(content)
        new.replace(file)
        print(f"rates: {content}", flush=True)
        time.sleep(every_s)


def pricer(file: str, currency: str) -> None:
    """Quote prices in one currency for ever."""
    name = os.environ.get("REGROW_NAME", "pricer")
    while True:
        rate = json.loads(Path(file).read_text())[currency]
        print(f"{name}: an apple is {0.5 * rate:.2f} {currency}", flush=True)
        time.sleep(random.uniform(1.0, 3.0))


def customer(url: str, every_s: float) -> None:
    """Visit a web page for ever. A page that is not there is a crash: the supervisor deals with it."""
    while True:
        with urllib.request.urlopen(url, timeout=5.0) as page:
            print(f"customer: {page.status}, {len(page.read())} bytes", flush=True)
        time.sleep(every_s)
