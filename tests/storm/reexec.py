"""Calls under re-executions at length: `python -m tests.storm.reexec --calls 20000 --seed 1`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

if __name__ == "__main__":
    from reexecstorm import main

    raise SystemExit(main())
