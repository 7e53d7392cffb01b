"""The suite covers the scenarios: each public number is a test or has its reason not to be one."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

HERE = Path(__file__).parent


def numbers_of_tests() -> set[int]:
    """Numbers in the names of the test functions beside this file."""
    sources = (file.read_text() for file in HERE.glob("test_*.py"))
    return {int(number) for source in sources for number in re.findall(r"^def test_c(\d+)_", source, re.MULTILINE)}


def test_each_public_scenario_is_tested_or_listed() -> None:
    """Every public scenario of sections A to Q is a test named after its number, or has a reason, and not both."""
    facts = runpy.run_path(str(HERE / "not_applicable.py"))
    public, reasons = facts["PUBLIC"], facts["NOT_APPLICABLE"]
    assert public - numbers_of_tests() - reasons.keys() == set()
    assert numbers_of_tests() & reasons.keys() == set()
    assert reasons.keys() <= public
