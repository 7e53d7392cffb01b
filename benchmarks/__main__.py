"""
Run the benchmarks and print one table. Exit status: 0 when every goal was met, 1 when one was not.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys
import time
from dataclasses import asdict

from benchmarks.measure import Row, Size, Summary

NAMES = (
    "restart_function",
    "standby",
    "restart_command",
    "start_stop",
    "mass_death",
    "memory",
    "idle",
    "status",
    "growth",
    "down",
    "call",
    "send",
    "publish",
    "handling",
    "task",
    "run_command",
    "state",
    "post",
    "growth_store",
    "queue_rivals",
    "rivals",
)
HEADINGS = ("", "floor p50", "p99", "regrow p50", "p99", "ratio", "goal", "")


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks/run", description="What regrow costs, beside its floors.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"which (default: all): {', '.join(NAMES)}")
    parser.add_argument("--quick", action="store_true", help="see that everything works; the figures mean little")
    parser.add_argument("--large", action="store_true", help="growth_store with a store of 10 GB too, below $TMPDIR")
    parser.add_argument("--format", choices=("text", "json"), default="text")
    options = parser.parse_args()
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(NAMES)}")
    load = os.getloadavg()
    rows: dict[str, list[Row]] = {}
    for name in options.names or NAMES:
        began_s = time.monotonic()
        size = Size(quick=options.quick, large=options.large)
        rows[name] = importlib.import_module(f"benchmarks.{name}").measure(size)
        print(f"{name}: {time.monotonic() - began_s:.0f} s", file=sys.stderr, flush=True)
    found = [row for several in rows.values() for row in several]
    if options.format == "json":
        print(json.dumps(as_json(rows, load), indent=2, ensure_ascii=False))
    else:
        print(f"{os.cpu_count()} processors, {platform.release()}, Python {platform.python_version()},", end=" ")
        print(f"load before {load[0]:.2f}, after {os.getloadavg()[0]:.2f}")
        print_table(found)
    return int(any(row.met is False for row in found))


def as_json(rows: dict[str, list[Row]], load: tuple[float, float, float]) -> dict[str, object]:
    """Everything that the table shows, with stable keys."""
    return {
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": load[0],
        "load_after": os.getloadavg()[0],
        "rows": [
            {"benchmark": name, **asdict(row), "ratio": row.ratio} for name, several in rows.items() for row in several
        ],
    }


def print_table(rows: list[Row]) -> None:
    """Columns as wide as they need to be."""
    lines = [HEADINGS, *(cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    for line in lines:
        first, *rest = (
            cell.ljust(width) if column in (0, 6, 7) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join((first, *rest)).rstrip())


def cells(row: Row) -> tuple[str, ...]:
    """What one line shows, as in `HEADINGS`."""
    floor = ("", "") if row.floor is None else (shown(row.floor.p50), shown(row.floor.p99))
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    name = f"{row.name} ({row.unit})" if row.unit else row.name
    return (name, *floor, shown(row.regrow.p50), spread(row.regrow), ratio, row.goal, verdict)


def spread(summary: Summary) -> str:
    """The p99 where it says more than the median."""
    return shown(summary.p99) if summary.count > 1 else ""


def shown(number: float) -> str:
    """Three figures that count, or all of a large number."""
    return f"{number:.0f}" if number >= 100 or number == int(number) else f"{number:.3g}"


if __name__ == "__main__":
    sys.exit(main())
