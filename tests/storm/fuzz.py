"""Mailboxes fuzzed at length: `python -m tests.storm.fuzz --inputs 1000000 --seed 1`."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))


def main() -> int:
    """Run it; whatever a frame makes the node raise is shown as it is."""
    import fuzz

    parser = argparse.ArgumentParser(prog="python -m tests.storm.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many frames (default 1,000,000)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="where all choices come from")
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    sys.stdout.flush()
    with tempfile.TemporaryDirectory(prefix="regrow-") as folder:
        sys.stdout.write(f"{fuzz.run(Path(folder) / 'run', options.inputs, options.seed)}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
