"""The delay before a restart."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.backoff import backoff_s
from regrow.config.spec import Backoff

POLICIES = st.builds(
    Backoff,
    first_s=st.floats(0.001, 1000.0),
    factor=st.floats(1.0, 1000.0),
    max_s=st.floats(0.001, 100_000.0),
    jitter=st.floats(0.0, 1.0),
)
JITTERS = st.floats(-1.0, 1.0)


def test_doubles_up_to_the_cap() -> None:
    """Half a second, doubled, at most thirty."""
    policy = Backoff(0.5, 2.0, 30.0, 0.0)
    assert [backoff_s(failures, policy) for failures in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 30, 30]


@given(POLICIES, st.integers(1, 1_000_000), JITTERS)
def test_never_negative_never_above_the_cap(policy: Backoff, failures: int, jitter: float) -> None:
    """Whatever the numbers, the delay lies between nothing and the cap."""
    assert 0.0 <= backoff_s(failures, policy, jitter) <= policy.max_s


@given(POLICIES, JITTERS)
def test_monotone_and_positive_to_attempt_6000(policy: Backoff, jitter: float) -> None:
    """Without jitter no delay is shorter than the one before or zero, far beyond where floats overflow."""
    attempts = [*range(1, 60), *range(60, 6000, 97), 1023, 1024, 1025, 5000, 6000]
    delays = [backoff_s(failures, policy) for failures in sorted(attempts)]
    assert delays == sorted(delays)
    assert delays[0] > 0


@given(POLICIES, st.integers(1, 6000), JITTERS)
def test_jitter_moves_by_its_part_at_most(policy: Backoff, failures: int, jitter: float) -> None:
    """A jitter of 0.1 moves a delay by at most a tenth, but for what floats round: two steps."""
    plain = backoff_s(failures, policy)
    assert abs(backoff_s(failures, policy, jitter) - plain) <= plain * policy.jitter * 1.000001 + 2 * math.ulp(plain)


def test_before_any_failure_is_a_bug() -> None:
    """There is no delay before the first failure: who asks is wrong."""
    with pytest.raises(ValueError, match="internal error"):
        backoff_s(0, Backoff())
