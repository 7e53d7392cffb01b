"""What the simulator raises when the core breaks a rule."""

from __future__ import annotations


class Violation(AssertionError):
    """An invariant does not hold: which `rule`, and how it was broken."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule
