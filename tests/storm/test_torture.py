"""A short torture; `python -m tests.storm.torture` is the long one."""

from __future__ import annotations

import pytest
from torture import Torture, torments
from tree import short_directory

SHORT = ("deaf to signals", "makes itself a daemon", "chmods its directory", "fills /tmp", "flood of 10 GB")


@pytest.mark.slow
def test_calls_go_on() -> None:
    """Beside commands that misbehave every call is answered; each of them ends as it must, and nothing is left."""
    with short_directory() as directory:
        torture = Torture(directory)
        try:
            for torment in torments():
                if torment.name in SHORT:
                    found, results = torture.run(torment, 0.5)
                    assert found.failed == 0, torment.name
                    assert all(torment.ended(result) for result in results), (torment.name, [str(r) for r in results])
        finally:
            torture.close()
