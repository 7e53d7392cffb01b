"""Times and sizes: read exactly, written back alike, never without a unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config import units

TIMES = [("250ms", 0.25), ("5s", 5.0), ("2m", 120.0), ("1h", 3600.0), ("1.5h", 5400.0), ("1d", 86400.0), ("0s", 0.0)]
SIZES = [("64KiB", 65536), ("512MiB", 2**29), ("1GiB", 2**30), ("1.5KiB", 1536), ("10B", 10), ("2TiB", 2**41)]
NO_TIMES = ["", "5", "s", "5 s", "-5s", "5sec", "5S", "1e3s", "٥s", "5s ", "5.s", "inf", "5MiB", "9" * 400 + "h"]
NO_SIZES = ["", "5", "5MB", "5 MiB", "-1KiB", "5mib", "KiB", "9" * 5000 + "KiB", "5TiB5"]


@pytest.mark.parametrize(("text", "seconds"), TIMES)
def test_time_is_seconds(text: str, seconds: float) -> None:
    """Each unit of time has its meaning."""
    assert units.duration_s(text) == seconds


@pytest.mark.parametrize(("text", "size"), SIZES)
def test_size_is_bytes(text: str, size: int) -> None:
    """Each unit of size has its meaning."""
    assert units.size_bytes(text) == size


@pytest.mark.parametrize("text", NO_TIMES)
def test_no_time_is_refused(text: str) -> None:
    """What is no number with a unit of time is refused, whatever digits it has."""
    with pytest.raises(units.UnitError):
        units.duration_s(text)


@pytest.mark.parametrize("text", NO_SIZES)
def test_no_size_is_refused(text: str) -> None:
    """What is no number with a unit of size is refused."""
    with pytest.raises(units.UnitError):
        units.size_bytes(text)


@pytest.mark.parametrize(("text", "hint"), [("5sec", '"5s"'), ("10 s", '"10s"'), ("2mins", '"2m"')])
def test_near_time_gets_a_hint(text: str, hint: str) -> None:
    """A unit spelt otherwise is recognised."""
    with pytest.raises(units.UnitError) as caught:
        units.duration_s(text)
    assert hint in caught.value.hint


@pytest.mark.parametrize(("text", "hint"), [("5MB", '"5MiB"'), ("10k", '"10KiB"'), ("1 GiB", '"1GiB"')])
def test_near_size_gets_a_hint(text: str, hint: str) -> None:
    """A decimal unit is answered with the binary one."""
    with pytest.raises(units.UnitError) as caught:
        units.size_bytes(text)
    assert hint in caught.value.hint


@given(st.integers(0, 10**9))
def test_time_round_trip(milliseconds: int) -> None:
    """Whole milliseconds survive writing and reading."""
    assert round(units.duration_s(units.duration_text(milliseconds / 1000)) * 1000) == milliseconds


@given(st.integers(0, 2**60))
def test_size_round_trip(size: int) -> None:
    """Sizes survive writing and reading."""
    assert units.size_bytes(units.size_text(size)) == size


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text raises anything but UnitError."""
    for read in (units.duration_s, units.size_bytes):
        try:
            assert read(text) >= 0
        except units.UnitError:
            pass
