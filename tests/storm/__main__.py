"""The storm of calls at length: `python -m tests.storm --calls 200000 --kills-per-s 20 --seed 1`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

if __name__ == "__main__":
    from callstorm import main

    raise SystemExit(main())
