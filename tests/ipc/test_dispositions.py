"""Signals without the wrappers of Python's `signal`."""

from __future__ import annotations

import signal

from regrow.ipc.dispositions import set_handler, set_mask


def test_a_handler_is_set_and_the_one_before_is_given() -> None:
    """As `signal.signal` does, and `signal` sees it too; dispositions are plain numbers."""
    heard: list[int] = []
    before = set_handler(signal.SIGUSR1, lambda number, _frame: heard.append(number))
    try:
        assert before == signal.getsignal(signal.SIGUSR1) or callable(signal.getsignal(signal.SIGUSR1))
        signal.raise_signal(signal.SIGUSR1)
        assert heard == [signal.SIGUSR1]
        assert callable(set_handler(signal.SIGUSR1, int(signal.SIG_IGN)))
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    finally:
        set_handler(signal.SIGUSR1, before)


def test_a_mask_is_set_and_the_one_before_is_given() -> None:
    """As `signal.pthread_sigmask` does, in plain numbers."""
    before = set_mask(signal.SIG_BLOCK, (signal.SIGUSR1,))
    try:
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        assert signal.SIGUSR1 not in before
    finally:
        set_mask(signal.SIG_SETMASK, before)
