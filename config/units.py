"""Times and sizes as written in the file: a number with its unit, always."""

from __future__ import annotations

import math
import re

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}

LONGEST_S = 3650 * 86400.0  # ten years: beyond it a timer is a mistake, and arithmetic starts to lose milliseconds
LARGEST_BYTES = 2**62

DURATION_PATTERN = r"^[0-9]+(\.[0-9]+)?(ms|s|m|h|d)$"
SIZE_PATTERN = r"^[0-9]+(\.[0-9]+)?(B|KiB|MiB|GiB|TiB)$"

_NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-zµ]*)", re.ASCII)
_MEANT_UNITS = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "min": "m", "mins": "m", "minute": "m", "minutes": "m",
    "hour": "h", "hours": "h", "hr": "h", "day": "d", "days": "d", "msec": "ms", "millis": "ms",
    "k": "KiB", "kb": "KiB", "kib": "KiB", "m": "MiB", "mb": "MiB", "mib": "MiB", "g": "GiB", "gb": "GiB",
    "gib": "GiB", "t": "TiB", "tb": "TiB", "tib": "TiB", "b": "B", "bytes": "B", "byte": "B",
    "h": "h", "s": "s", "ms": "ms",
}  # fmt: skip


class UnitError(ValueError):
    """The text is no quantity; `hint` says what was probably meant."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


def duration_s(text: str) -> float:
    """
    Return the seconds that `"250ms"`, `"5s"`, `"2m"`, `"1.5h"` or `"1d"` mean.

    Raises:
        UnitError for anything else, a number without a unit included.
    """
    return _quantity(text, SECONDS, "a time", "5s", LONGEST_S)


def whole_s(seconds: float, shown: str) -> int:
    """
    Return a time in whole seconds, which is all that RLIMIT_CPU knows; `shown` is what was written.

    Raises:
        UnitError: it is none.
    """
    if seconds != int(seconds):
        raise UnitError(f"must be whole seconds, not {shown}", f'write "{math.ceil(seconds)}s"')
    return int(seconds)


def size_bytes(text: str) -> int:
    """
    Return the bytes that `"64KiB"`, `"512MiB"` or `"1.5GiB"` mean, rounded to whole ones.

    Raises:
        UnitError for anything else, a number without a unit included.
    """
    return round(_quantity(text, BYTES, "a size", "512MiB", LARGEST_BYTES))


def _quantity(text: str, units: dict[str, float] | dict[str, int], noun: str, example: str, most: float) -> float:
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise UnitError(f'must be {noun} such as "{example}", not "{text[:40]}"')
    number, unit = match[1], match[2]
    if not unit:
        raise UnitError(f'must be {noun} with its unit, such as "{example}", not the bare number "{text[:40]}"')
    if unit not in units or " " in text:
        meant = unit if unit in units else _MEANT_UNITS.get(unit.lower(), "")
        hint = f'did you mean "{number}{meant}"?' if meant in units else f"units: {', '.join(units)}"
        raise UnitError(f'must be {noun} such as "{example}", not "{text[:40]}"', hint)
    value = float(number) * units[unit] if "." in number or len(number) > 300 else int(number) * units[unit]
    if value > most:
        raise UnitError(f'"{text[:40]}" is too much')
    return value


def duration_text(seconds: float) -> str:
    """Write seconds as the file does, in the largest unit that divides them: 90.0 is `90s`, 120.0 is `2m`."""
    milliseconds = round(seconds * 1000)
    for unit, factor_ms in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds and milliseconds % factor_ms == 0:
            return f"{milliseconds // factor_ms}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def size_text(size: int) -> str:
    """Write bytes as the file does, in the largest unit that divides them."""
    for unit, factor in reversed(BYTES.items()):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return "0B"
