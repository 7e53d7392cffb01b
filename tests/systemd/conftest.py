"""One boot for all tests of the units; skipped, with the reason, where there cannot be one."""

from __future__ import annotations

from collections.abc import Iterator

import booted
import pytest


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[booted.Machine]:
    """Return a booted systemd on which `regrow systemd install` has been done for no tree yet."""
    if reason := booted.why_not():
        pytest.skip(f"no systemd can be booted here: {reason}")
    made = booted.Machine(tmp_path_factory.mktemp("systemd"))
    try:
        try:
            made.boot()
        except RuntimeError as error:
            pytest.skip(f"no systemd can be booted here: {error}")
        yield made
    finally:
        made.close()
