"""What is done once in a supervisor, instead of in each of its children."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import trees

from regrow.daemon import forked
from regrow.workers import runtime

MODULE = """
from __future__ import annotations

from regrow.workers import Agent

class Good(Agent):
    def init(self, count: int) -> None: ...

class Bad(Agent):
    def init(self, count: Unheard) -> None: ...
"""

FILE = """
[supervisor.sup]
children = ["good", "bad", "gone", "elsewhere"]
preload = ["preloaded_agents"]

[worker.good]
agent = "preloaded_agents:Good"
args = { count = 1 }

[worker.bad]
agent = "preloaded_agents:Bad"

[worker.gone]
agent = "preloaded_agents:Gone"

[worker.elsewhere]
agent = "not_preloaded:Agent"
"""


def test_the_init_of_a_preloaded_agent_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its children find it read; one with a mistake waits for its start, others are not imported."""
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "preloaded_agents.py").write_text(MODULE)
    (tmp_path / "not_preloaded.py").write_text("raise RuntimeError")
    spec = trees.plan(tmp_path, FILE, check_system=False).root
    before = dict(runtime._inits)
    monkeypatch.setattr(runtime, "_inits", dict(before))
    assert forked.preload(spec) == ""
    module = sys.modules.pop("preloaded_agents")
    assert set(runtime._inits) - set(before) == {module.Good}
    assert "not_preloaded" not in sys.modules
