"""`python -m tests.sim`: many scenarios in a row, and a short story of the first that breaks a rule."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from msgspec import Struct

from regrow.config.spec import SupervisorSpec, WorkerSpec
from regrow.daemon.core.effects import Outcome, Report
from simulator.invariants import RULES
from simulator.scenario import CALM_EVENTS, Result, Scenario
from simulator.trees import Size
from simulator.world import Line

SMALLER = 400
"""How many small scenarios are tried in order to tell a violation with fewer events."""


def run(seed: int, events: int) -> tuple[Counter[str], Result]:
    """
    Run scenarios until `events` were handled or a rule is broken.

    Returns:
        The sums over all scenarios, transitions taken among them, and the last result.
    """
    sums: Counter[str] = Counter()
    while True:
        result = Scenario(f"{seed}/{sums['trees']}").run()
        sums["trees"] += 1
        sums["events"] += result.events
        sums["checks"] += result.checks
        sums["supervisors"] += result.supervisors
        sums["processes"] += result.processes
        sums[result.outcome or "broken"] += 1
        sums.update(result.seen)
        if result.violation is not None or sums["events"] >= events:
            return sums, result


def smaller(result: Result) -> Result:
    """Look for a shorter story of the same violation among small trees; without one, the story itself."""
    assert result.violation is not None
    best = result
    for attempt in range(SMALLER):
        size, events = Size(1 + attempt % 2, 1 + attempt % 3), 5 + attempt // 4
        candidate = Scenario(f"{result.seed}/{attempt}", size=size, events=events).run()
        same = candidate.violation is not None and candidate.violation.rule == result.violation.rule
        if same and candidate.events < best.events:
            best = candidate
    return best


def story(result: Result) -> list[str]:
    """The last steps before a violation, a few lines each."""
    lines = [f"scenario {result.seed}: {result.events} events, then {result.violation}"]
    for line in result.trace:
        lines.extend(_told(line))
    return lines


def _told(line: Line) -> list[str]:
    at_s, supervisor, event, effects = line
    told = [f"{at_s:10.3f} {supervisor}: {short(event)}"]
    for effect in effects:
        if isinstance(effect, Report):
            told.append(f"           {effect.number} {effect.event} {effect.child or '-'} {dict(effect.extra) or ''}")
        else:
            told.append(f"           -> {short(effect)}")
    return told


def short(what: object) -> str:
    """One event or effect, child specs as their names."""
    if not isinstance(what, Struct):
        return str(what)
    if isinstance(what, WorkerSpec | SupervisorSpec):
        return f"<{what.name}>"
    values = ", ".join(f"{name}={short(getattr(what, name))}" for name in what.__struct_fields__)
    return f"{type(what).__name__}({values})"


def main(arguments: list[str] | None = None) -> int:
    """Run the simulator from a command line; the exit status is 1 when a rule was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="how many events to handle (default 1000000)")
    parser.add_argument("--seed", type=int, default=1, help="where all randomness comes from (default 1)")
    parser.add_argument("--scenario", help="tell the whole story of one scenario, as a violation names it")
    options = parser.parse_args(arguments)
    say = sys.stdout.write
    if options.scenario:
        result = Scenario(options.scenario, trace=CALM_EVENTS).run()
        say("\n".join(story(result)) + "\n")
        return int(result.violation is not None)
    say(f"seed {options.seed}\n")
    sys.stdout.flush()
    start_s = time.perf_counter()
    sums, last = run(options.seed, options.events)
    took_s = time.perf_counter() - start_s
    ends = ", ".join(f"{sums[outcome]} {outcome}" for outcome in Outcome if sums[outcome])
    say(
        f"{sums['events']:,} events in {sums['trees']:,} trees with {sums['supervisors']:,} supervisors and "
        f"{sums['processes']:,} processes; {took_s:.0f} s, {sums['events'] / took_s:,.0f} events/s\n"
        f"{sums['checks']:,} checks of {len(RULES)} invariants; tops ended: {ends}\n"
    )
    if last.violation is None:
        say("every invariant held\n")
        return 0
    say("\n".join(story(smaller(last))) + "\n")
    return 1
