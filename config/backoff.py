"""How long to wait before a restart. Pure: randomness comes in as a number, nothing is read or kept."""

from __future__ import annotations

from math import inf

from regrow.config.spec import Backoff


def backoff_s(failures: int, policy: Backoff, jitter_unit: float = 0.0) -> float:
    """
    Return the delay in seconds before the restart that follows the `failures`-th failure in a row.

    `jitter_unit` in [-1, 1] is drawn by the caller and moves the delay by that part of `policy.jitter`.
    The result is never negative and never above `policy.max_s`, however large `failures` is; without
    jitter it never decreases with `failures`.

    Raises:
        ValueError when `failures` is below 1.
    """
    if failures < 1:
        raise ValueError("internal error: backoff asked for before any failure")
    delay_s = min(policy.max_s, policy.first_s * _power(policy.factor, failures - 1)) if policy.first_s > 0 else 0.0
    spread = 1.0 + policy.jitter * max(-1.0, min(1.0, jitter_unit))
    return max(0.0, min(policy.max_s, delay_s * spread))


def _power(factor: float, exponent: int) -> float:
    """Return `factor**exponent`, infinity where floats end (beyond 2.0**1023 Python raises)."""
    try:
        return factor**exponent
    except OverflowError:
        return inf
