"""
Which children a strategy concerns.

Source: otp-rules S51-S53.
"""

from __future__ import annotations

from regrow.config.spec import Strategy


def restart_scope(strategy: Strategy, order: tuple[str, ...], failed: str) -> tuple[str, ...]:
    """
    The children to be stopped (in reverse) and started (as listed) for the death of `failed`.

    `order` is start order and holds `failed`; so is the result. one_for_one is part of rest_for_one is
    part of one_for_all.
    """
    match strategy:
        case Strategy.ONE_FOR_ALL:
            return order
        case Strategy.REST_FOR_ONE:
            return order[order.index(failed) :]
        case Strategy.ONE_FOR_ONE | Strategy.DYNAMIC:
            return (failed,)
