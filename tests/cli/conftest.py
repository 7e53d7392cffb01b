"""A fake daemon, and the command line called in this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fake_daemon
import pytest
from cli_calls import Cli, Done

from regrow.daemon.cli import app
from regrow.ipc import daemons


@pytest.fixture(autouse=True)
def nobody_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Daemons of this machine are out of sight, and so is the environment of the test run."""
    monkeypatch.setattr(daemons, "SYSTEM_PLACE", str(tmp_path / "system"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("REGROW_RUN_DIR", "XDG_RUNTIME_DIR", "NO_COLOR", "_REGROW_COMPLETE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[fake_daemon.FakeDaemon]:
    """A daemon called shop with a small tree."""
    made = fake_daemon.FakeDaemon(tmp_path / "shop")
    made.entries = [
        fake_daemon.supervisor("app", strategy="rest_for_one"),
        fake_daemon.entry("redis", pid=4001, detail="12 clients"),
        fake_daemon.supervisor("pricing", "app", path="app/pricing"),
        fake_daemon.entry(
            "pricer.0", "pricing", path="app/pricing/pricer.0", kind="agent", pid=4003, restarts=2,
            last_exit=fake_daemon.last_exit("oom", None, "SIGKILL", "line one\nline two"),
        ),
        fake_daemon.entry(
            "pricer.1", "pricing", path="app/pricing/pricer.1", kind="agent", state="waiting", ready=False, pid=None,
            uptime_s=None, last_exit=fake_daemon.last_exit("exit", 3),
        ),
    ]  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def cli(daemon: fake_daemon.FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run `regrow ARGS` through click, meant for the fake daemon."""
    monkeypatch.setenv("REGROW_RUN_DIR", str(daemon.run_dir))

    def run(*args: str) -> Done:
        status = app.run(args)
        out, err = capsys.readouterr()
        return Done(status, out, err)

    return run
