"""The net under all tests: a leaked process or descriptor is found, and costs next to nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
SUPPORT = Path(__file__).parents[1] / "support"

LEAKS = {
    "descriptor": "import os\ndef test_it():\n    os.open('/dev/null', os.O_RDONLY)\n",
    "child": "import subprocess\nkept = []\ndef test_it():\n"
    "    kept.append(subprocess.Popen(['cat'], stdin=subprocess.PIPE))\n",
    "zombie": "import os\ndef test_it():\n    pid = os.fork()\n    if pid == 0:\n        os._exit(0)\n"
    "    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)\n",
    "orphan": "import os, subprocess\ndef test_it():\n"
    "    subprocess.run(['sh', '-c', 'setsid cat /dev/zero >/dev/null 2>&1 & :'], check=True)\n",
}


@pytest.mark.parametrize("leak", LEAKS)
def test_leak_fails_its_test(leak: str, tmp_path: Path) -> None:
    """Each kind of leftover makes the test that left it fail, and is gone afterwards."""
    (tmp_path / "conftest.py").write_text(CONFTEST.read_text())
    (tmp_path / "test_leak.py").write_text(LEAKS[leak])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "left " in done.stdout
    processes.await_no_children()


def test_net_is_cheap() -> None:
    """Looking for leftovers takes far less than a millisecond per test."""
    rounds = 200
    start_s = time.process_time()  # ours alone: the machine may be busy
    for _ in range(rounds):
        processes.children()
        processes.descriptors()
    assert (time.process_time() - start_s) / rounds < 0.0005
