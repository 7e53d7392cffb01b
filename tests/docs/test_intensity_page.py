"""The numbers in docs/intensity.md are those that the daemon's own arithmetic gives."""

from __future__ import annotations

import re
import tomllib

from pages import TOP

from regrow.config.backoff import backoff_s
from regrow.config.reach import can_trip
from regrow.config.spec import Backoff
from regrow.config.units import duration_s

PAGE = (TOP / "docs" / "intensity.md").read_text()


def _rows(columns: int) -> list[list[str]]:
    lines = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
    return [cells for cells in lines if len(cells) == columns]


def _backoff(written: str) -> Backoff | None:
    table = re.search(r"\{.*?\}", written)
    if table is None:
        return None
    keys = tomllib.loads(f"backoff = {table[0]}")["backoff"]
    return Backoff(**{f"{key}_s": duration_s(value) for key, value in keys.items()})


def _span_s(intensity: int, backoff: Backoff) -> float:
    return sum(backoff_s(number, backoff, 0.0) for number in range(1, intensity + 1))


def test_cases() -> None:
    """Each recommended case is accepted by check, or says that it never escalates, and gives up when the page says."""
    cases = [row for row in _rows(5) if row[1].isdecimal() and "s" in row[2] and "death" in f"{row[4]}never death"]
    cases = [row for row in cases if row[4].startswith(("never", f"{int(row[1]) + 1} deaths"))]
    assert len(cases) == 6
    for _, intensity, period, written, after in cases:
        backoff = _backoff(written)
        trips = can_trip(int(intensity), duration_s(period), backoff)
        assert trips is ('escalate = "never"' not in written)
        if backoff is not None and trips:
            seconds = re.search(r"in ([\d.]+)s", after)
            assert seconds is not None
            assert float(seconds[1]) == round(_span_s(int(intensity), backoff), 1)


def test_worked_numbers() -> None:
    """The table of delays has the sums and the verdicts of the daemon."""
    worked = [row for row in _rows(5) if row[0].isdecimal()]
    assert len(worked) == 5
    for intensity, period, first, death, verdict in worked:
        backoff = Backoff(first_s=duration_s(first))
        seconds = re.search(r"after ([\d.]+)s", death)
        assert seconds is not None
        assert float(seconds[1]) == _span_s(int(intensity), backoff)
        assert death.startswith(f"the {int(intensity) + 1}th")
        assert can_trip(int(intensity), duration_s(period), backoff) is (verdict == "yes")
