"""Commands that misbehave beside agents that answer calls, at length: `python -m tests.storm.torture --seconds 8`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

if __name__ == "__main__":
    from torture import main

    raise SystemExit(main())
