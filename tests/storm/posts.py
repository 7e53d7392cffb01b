"""The storm of posts at length: `python -m tests.storm.posts --posts 20000 --kills 2000 --seed 1`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

if __name__ == "__main__":
    from poststorm import main

    raise SystemExit(main())
