"""Loading is quick: `regrow up` and `check` wait for it."""

from __future__ import annotations

import time
from pathlib import Path

from trees import ENVIRON, write

from regrow.config.load import load

WORKER = """
[worker.w{number}]
command = ["true", "{number}", "{{run_dir}}/x"]
ready = {{ tcp = 8000, timeout = "5s" }}
liveness = {{ tcp = 6379, every = "5s", timeout = "1s", failures = 3 }}
env = {{ LANG = "C.UTF-8", N = "{{name}}" }}
limits = {{ memory = "512MiB", open_files = 4096 }}
shutdown = "10s"
"""


def load_s(folder: Path, workers: int) -> float:
    """Return the processor time of the fastest of three loads of that many workers."""
    children = ", ".join(f'"w{number}"' for number in range(workers))
    text = f"[supervisor.app]\nchildren = [{children}]\n" + "".join(WORKER.format(number=n) for n in range(workers))
    path = write(folder, text)
    durations = []
    for _ in range(3):
        start_s = time.process_time()
        load([path], environ=ENVIRON)
        durations.append(time.process_time() - start_s)
    return min(durations)


def test_hundred_workers_load_in_far_less_than_a_tenth_of_a_second(tmp_path: Path) -> None:
    """A hundred workers with a dozen keys each take some ten milliseconds."""
    assert load_s(tmp_path, 100) < 0.1


def test_loading_grows_with_the_number_of_workers(tmp_path: Path) -> None:
    """Ten times the workers take about ten times as long, not a hundred times."""
    assert load_s(tmp_path, 1000) < 30 * load_s(tmp_path, 100)
