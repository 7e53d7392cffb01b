"""The simulator at length: `python -m tests.sim --events 1000000 --seed 1`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

if __name__ == "__main__":
    from simulator.command import main

    raise SystemExit(main())
