"""The installed `regrow` command, run to its end."""

from __future__ import annotations

import subprocess
from pathlib import Path

from harness import REGROW
from wire import TIMEOUT_S

BAD_CONFIG = 78


def regrow(*arguments: str | Path, pass_fds: tuple[int, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run one command, which inherits `pass_fds`; its output and exit status."""
    return subprocess.run(
        [REGROW, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
        pass_fds=pass_fds,
    )


def problems(file: Path) -> str:
    """What `regrow check` finds wrong; "" for nothing. The exit status is checked to agree."""
    done = regrow("check", file)
    assert "Traceback" not in done.stderr, done.stderr
    if done.returncode == 0:
        return ""
    assert done.returncode == BAD_CONFIG, done
    return done.stdout + done.stderr
