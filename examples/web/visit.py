"""Visits the page five hundred times, each time over a new connection, and counts what comes of it: visit.py [PORT]."""

import sys
import urllib.request

VISITS = 500
PORT = sys.argv[1] if len(sys.argv) > 1 else "8472"

answered: dict[str, int] = {}
failed: list[str] = []
for _ in range(VISITS):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/", timeout=10) as page:
            name = page.read().decode().split()[0]
            answered[name] = answered.get(name, 0) + 1
    except OSError as error:
        failed.append(str(error))
print(f"{sum(answered.values())} of {VISITS} visits answered, {len(failed)} failed", *set(failed))
