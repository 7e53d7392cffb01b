"""
Whether anybody grows with the number of deaths.

Measured in the second half of a storm, whose root and upper supervisors live through all of it. Anonymous memory
is the steady measure. What is private changes with every fork, as pages are shared with a child and fall back to the
parent; RSS would count the pages of libraries that are touched for the first time.
The root keeps its last 10,000 events, so it may grow with their number until it has them.
"""

from __future__ import annotations

from msgspec import Struct

from storm.gauges import Size

KIB = 1024
WARM_UP = 4
"""One in so many samples is before the comparison begins."""

ANONYMOUS_TOLERANCE_BYTES = 256 * KIB
PRIVATE_TOLERANCE_BYTES = 1024 * KIB
KEPT_EVENTS = 10_000
EVENT_BYTES = 1536
ROOT = "regrow"


class Sample(Struct, frozen=True):
    """The sizes of the root and all supervisors after so many kills and events."""

    kills: int
    events: int
    sizes: dict[str, Size]


def grown(samples: list[Sample]) -> list[str]:
    """Who is larger at the end than after the warm-up, beyond tolerance."""
    if len(samples) < 2:
        return []
    first, last = samples[len(samples) // WARM_UP], samples[-1]
    wrong = []
    for name, before in first.sizes.items():
        after = last.sizes[name]
        kept = EVENT_BYTES * min(KEPT_EVENTS, last.events - first.events) if name == ROOT else 0
        anonymous = after.anonymous_bytes - before.anonymous_bytes
        private = after.private_bytes - before.private_bytes
        if after.descriptors > before.descriptors:
            wrong.append(f"{name} had {before.descriptors} descriptors and has {after.descriptors}")
        if anonymous > ANONYMOUS_TOLERANCE_BYTES + kept or private > PRIVATE_TOLERANCE_BYTES + kept:
            wrong.append(
                f"{name} grew by {anonymous // KIB} KiB of anonymous and {private // KIB} KiB of private memory in "
                f"{last.kills - first.kills} kills and {last.events - first.events} events"
            )
    return wrong


def table(samples: list[Sample]) -> list[str]:
    """All of it, a line for each measure and a column for each sample."""
    found = [f"{'kills':>14}" + "".join(f"{sample.kills:>7}" for sample in samples)]
    for name in samples[0].sizes:
        sizes = [sample.sizes[name] for sample in samples]
        found.append(f"{name:>14}" + "".join(f"{size.descriptors:>7}" for size in sizes))
        found.append(f"{'anonymous KiB':>14}" + "".join(f"{size.anonymous_bytes // KIB:>7}" for size in sizes))
        found.append(f"{'private KiB':>14}" + "".join(f"{size.private_bytes // KIB:>7}" for size in sizes))
    return found
