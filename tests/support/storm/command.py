"""`python -m tests.chaos`: a storm from a command line, and its report."""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

import processes

from storm.driver import Report, Storm
from storm.garden import Garden
from storm.growth import table
from storm.violation import Violation


def main(arguments: list[str] | None = None) -> int:
    """Run a storm; the exit status is 1 when something did not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=2000, help="how many processes to kill (default 2000)")
    parser.add_argument(
        "--calm", type=float, default=0.5, help="the last part of them spares the root and the upper supervisors, "
        "so that their growth would show (default 0.5)",
    )  # fmt: skip
    parser.add_argument("--reexecs", type=int, help="how often to re-execute, to 100 other things (default: 6, then 0)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where all choices come from")
    options = parser.parse_args(arguments)
    processes.become_subreaper()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
    say = sys.stdout.write
    say(f"seed {options.seed}\n")
    sys.stdout.flush()
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="regrow-", dir="/tmp") as directory:
        storm = Storm(Path(directory), options.seed, reexecs=options.reexecs)
        try:
            report = storm.run(options.kills, calm=options.calm)
        except Violation as violation:
            say(f"{violation}\n")
            return 1
        finally:
            storm.dispose()
        say("\n".join(lines(report, storm.garden, time.monotonic() - begun_s)) + "\n")
    return 0


def lines(report: Report, garden: Garden, took_s: float) -> list[str]:
    """The report of a storm in which everything held."""
    calm = [one.seconds for one in report.recoveries if "regrow.logger" not in one.after]
    return [
        f"{report.killed} kills in {took_s:.0f} s; everything held",
        f"killed: {_listed(report.kills)}",
        f"re-executions asked for: {report.reexecs}, done: {garden.events['reexecuted']}",
        f"stopped (SIGSTOP): {_listed(report.stops)}; supervisors continued by regrow: {garden.events['continued']}",
        f"lives of the root: {garden.lives.count}; events: {_listed(garden.events)}",
        f"checked: {_listed(garden.checks)}, {garden.ledger.lines} lines in the logs",
        f"in pipes when a root was killed, and lost: {garden.ledger.in_flight} lines",
        _times("whole again after a burst", [one.seconds for one in report.recoveries]),
        _times("  without bursts that hit the logger, who has a backoff of up to 5 s", calm),
        f"  slowest: {max(report.recoveries, key=lambda one: one.seconds).after}",
        _times("`up` after a kill of the root, until ready", [one.seconds for one in report.root_recoveries]),
        "descriptors and memory of those who live through the last part:",
        *table(report.samples),
    ]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items()) or "none"


def _times(what: str, seconds: list[float]) -> str:
    if not seconds:
        return f"{what}: never"
    p99 = sorted(seconds)[int(len(seconds) * 0.99)]
    return f"{what}: median {statistics.median(seconds):.3f} s, p99 {p99:.3f} s, max {max(seconds):.3f} s"
