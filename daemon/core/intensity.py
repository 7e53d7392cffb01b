"""
Restart intensity: how often a supervisor restarts before it gives up.
"""

from __future__ import annotations


def add_restart(
    restarts_s: tuple[float, ...], now_s: float, intensity: int, period_s: float
) -> tuple[tuple[float, ...], bool]:
    """
    Record one restart and say whether the supervisor may go on.

    Times are monotonic seconds, oldest first; the clock is continuous. A restart exactly `period_s` old
    still counts. A group restart (one_for_all, rest_for_one) is recorded once, a failed start once more.

    Returns:
        The window including this restart, at most `intensity + 1` long, and True while it holds no
        more than `intensity` entries.
    Raises:
        Nothing.
    Source:
        otp-rules S63-S70 (add_restart/1 of OTP's supervisor), T7.
    """
    window = tuple(at_s for at_s in restarts_s if at_s >= now_s - period_s)
    window = (*window, now_s)[-(intensity + 1) :]
    return window, len(window) <= intensity
