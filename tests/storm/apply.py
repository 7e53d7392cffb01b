"""Calls to a group while it is replaced: `python -m tests.storm.apply --calls 20000 --applies 5`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

if __name__ == "__main__":
    from applystorm import main

    raise SystemExit(main())
