"""
Samples, what they sum up to, and rows of the table.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

Sample: TypeAlias = Callable[[], float]
"""Does one thing once and returns what it took."""

SETTLE_S = 0.03
"""Between two samples: what the one has set going is not to be paid for by the other."""


@dataclass(frozen=True)
class Summary:
    """Median and 99th percentile (nearest rank) of `count` samples."""

    p50: float
    p99: float
    count: int

    @classmethod
    def of(cls, samples: Sequence[float]) -> Summary:
        ordered = sorted(samples)
        middle = len(ordered) // 2
        p50 = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
        return cls(p50, ordered[math.ceil(0.99 * len(ordered)) - 1], len(ordered))


@dataclass(frozen=True)
class Row:
    """
    One line of the table: `name` of what was measured, in `unit`.

    `floor` is None where there is nothing to compare with; `goal` is the goal in words, `met` whether it was
    reached (None: no goal was set).
    """

    name: str
    unit: str
    floor: Summary | None
    regrow: Summary
    goal: str = ""
    met: bool | None = None

    @property
    def ratio(self) -> float | None:
        return self.regrow.p50 / self.floor.p50 if self.floor is not None and self.floor.p50 > 0 else None


@dataclass(frozen=True)
class Size:
    """
    How long to measure; `quick` shows whether everything works, its figures mean little. `large`: with what takes
    gigabytes of disk.
    """

    quick: bool = False
    large: bool = False

    def of(self, full: int, quick: int) -> int:
        return quick if self.quick else full


def ratio_row(name: str, unit: str, floor: Summary, regrow: Summary, most: float, spread: float | None = None) -> Row:
    """A row whose goal is a ratio of medians, and with `spread` also a p99 of at most that many own medians."""
    goal = f"≤ {most:g} x"
    met = regrow.p50 <= most * floor.p50
    if spread is not None:
        goal += f", p99 ≤ {spread:g} p50"
        met = met and regrow.p99 <= spread * regrow.p50
    return Row(name, unit, floor, regrow, goal, met)


def most_row(name: str, unit: str, regrow: Summary, most: float, floor: Summary | None = None) -> Row:
    """A row whose goal is a largest value, above the median of the floor if there is one."""
    base = floor.p50 if floor is not None else 0.0
    goal = f"≤ {most:g} {unit}" + (" above" if floor is not None else "")
    return Row(name, unit, floor, regrow, goal, regrow.p50 - base <= most)


def interleave(
    contenders: Mapping[str, Sample], rounds: int, *, warm_up: int = 1, settle_s: float = SETTLE_S
) -> dict[str, Summary]:
    """
    Sample all contenders in turn (A B A B …), so that whatever else the machine does hits all alike.

    The first `warm_up` rounds are not counted.
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(-warm_up, rounds):
        for name, sample in contenders.items():
            time.sleep(settle_s)
            taken = sample()
            if number >= 0:
                samples[name].append(taken)
    return {name: Summary.of(taken) for name, taken in samples.items()}


def timed_ms(call: Callable[[], object]) -> float:
    """Milliseconds that `call` takes."""
    began_s = time.perf_counter()
    call()
    return (time.perf_counter() - began_s) * 1e3
