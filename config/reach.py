"""Whether a restart limit can ever be exceeded under a backoff. Pure."""

from __future__ import annotations

from regrow.config.backoff import backoff_s
from regrow.config.spec import Backoff


def trips_after_s(intensity: int, period_s: float, backoff: Backoff | None) -> float | None:
    """
    Return after how many seconds a child that dies at once exceeds `intensity` deaths in `period_s`.

    That child is the worst case: no other dies more often. Each death is counted when it happens, and one
    exactly `period_s` old still counts. Jitter is taken at its shortest, so that what can trip is accepted.
    Delays never shrink (`backoff.factor` is at least 1), so the first `intensity + 1` deaths are the closest
    together that there will ever be: if they do not fit into the period, none do.

    Returns:
        Seconds from the first death to the one that trips, or `None`: never. The supervisor would then
        restart for ever and its parent would never hear of it.
    Source:
        OTP supervisor.erl, add_restart/1.
    """
    if backoff is None:
        return 0.0
    span_s = 0.0
    for failures in range(1, intensity + 1):
        span_s += backoff_s(failures, backoff, -1.0)
        if span_s > period_s:
            return None
    return span_s


def can_trip(intensity: int, period_s: float, backoff: Backoff | None) -> bool:
    """Say whether the limit can be exceeded at all."""
    return trips_after_s(intensity, period_s, backoff) is not None
