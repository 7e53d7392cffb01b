"""Whether a limit can ever be exceeded under a backoff."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from regrow.config.backoff import backoff_s
from regrow.config.reach import can_trip, trips_after_s
from regrow.config.spec import Backoff

HALF_SECOND = Backoff(0.5, 2.0, 30.0, 0.0)


@pytest.mark.parametrize(
    ("intensity", "period_s", "trips"), [(5, 5.0, None), (10, 60.0, None), (3, 5.0, 3.5), (0, 1.0, 0.0), (1, 0.5, 0.5)]
)
def test_known_figures(intensity: int, period_s: float, trips: float | None) -> None:
    """0.5 s doubled to 30 s: 5 in 5 s never trips, nor 10 in 60 s; 3 in 5 s after 3.5 s; the edge counts."""
    assert trips_after_s(intensity, period_s, HALF_SECOND) == trips


def test_without_backoff_every_limit_trips() -> None:
    """A child that dies at once exceeds any limit at once."""
    assert can_trip(1_000, 0.001, None)


def naive(intensity: int, period_s: float, backoff: Backoff, deaths: int) -> float | None:
    """Let a child die at once again and again, count its deaths in the window, and see when the limit is passed."""
    now_s, stamps = 0.0, [0.0]
    for failures in range(1, deaths):
        stamps = [stamp for stamp in stamps if stamp >= now_s - period_s]
        if len(stamps) > intensity:
            return now_s
        now_s += backoff_s(failures, backoff, -1.0)
        stamps.append(now_s)
    return None


@given(
    st.integers(0, 12),
    st.integers(1, 600).map(lambda tenths: tenths / 10),
    st.builds(
        Backoff,
        first_s=st.integers(1, 50).map(lambda tenths: tenths / 10),
        factor=st.sampled_from([1.0, 1.1, 1.5, 2.0, 3.0, 10.0]),
        max_s=st.integers(1, 600).map(lambda tenths: tenths / 10),
        jitter=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    ),
)
def test_equals_naive_simulation(intensity: int, period_s: float, backoff: Backoff) -> None:
    """The answer equals that of simulating two hundred deaths."""
    span_s = sum(backoff_s(failures, backoff, -1.0) for failures in range(1, intensity + 1))
    assume(abs(span_s - period_s) > 1e-6)  # at the very edge, later windows differ by a rounding
    simulated = naive(intensity, period_s, backoff, 200)
    assert can_trip(intensity, period_s, backoff) == (simulated is not None)
    if simulated is not None:
        assert trips_after_s(intensity, period_s, backoff) == pytest.approx(simulated)


@given(st.integers(0, 30), st.floats(0.1, 100.0))
def test_longer_periods_and_lower_limits_trip_sooner(intensity: int, period_s: float) -> None:
    """What trips, trips in a longer period too, and with a lower intensity."""
    if can_trip(intensity, period_s, HALF_SECOND):
        assert can_trip(intensity, period_s * 2, HALF_SECOND)
        assert can_trip(max(0, intensity - 1), period_s, HALF_SECOND)
