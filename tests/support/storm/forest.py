"""
The tree of a storm: 60 processes with the root, supervisors of every strategy, workers of every manner.

Workers differ in kind (function, command, shell script), in what they leave behind (0 to 2 escapees), and in whether
they listen to SIGTERM. Intensities are so high that nothing ever gives up.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from configs import Config

PROGRAMS = Path(__file__).parents[2] / "programs"

DYNAMIC = "dyn"
DYNAMIC_CHILDREN = 4

SUPERVISORS: dict[str, tuple[str, dict[str, Any]]] = {
    "app": ("ofo ofa rfo par dyn nest", {}),
    "ofo": ("ofo-f1 ofo-f2 ofo-f3 ofo-deaf ofo-c1 ofo-c2 ofo-s1 ofo-s2 ofo-talk1 ofo-talk2", {}),
    "ofa": ("ofa-f1 ofa-f2 ofa-deaf ofa-c1 ofa-s1 ofa-talk", {"strategy": "one_for_all"}),
    "rfo": ("rfo-f1 rfo-s1 rfo-f2 rfo-deaf rfo-f3 rfo-c1 rfo-talk", {"strategy": "rest_for_one"}),
    "par": ("par-s1 par-s2 par-s3 par-f1 par-f2 par-c1 par-sdeaf par-f3", {"start": "parallel"}),
    "nest": ("nest-f1 nest2 nest-s1", {"strategy": "rest_for_one"}),
    "nest2": ("nest2-f1 nest3 nest2-f2 nest2-c1 nest2-s1", {"strategy": "one_for_all"}),
    "nest3": ("nest3-f1 nest3-s1 nest3-f2 nest3-deaf nest3-c1 nest3-f3 nest3-talk", {}),
}
"""All but the dynamic one: its children in start order, and its keys."""

INTERNAL = {"regrow.system": None, "regrow.logger": "regrow.system"}
"""regrow's own part of the tree, and whose children they are (None: the root's)."""

ESCAPEES = {"ofo-f2": 1, "ofo-c1": 2, "ofo-s1": 1, "ofa-f1": 1, "ofa-s1": 2, "rfo-s1": 1, "rfo-deaf": 1,
            "par-s1": 1, "par-f1": 1, "par-sdeaf": 1, "nest-s1": 1, "nest2-f2": 2, "nest3-f1": 1, "nest3-s1": 1,
            "nest3-deaf": 1}  # fmt: skip
DYNAMIC_ESCAPEES = 1
TALK_EVERY_MS = {"ofo-talk1": 20, "ofo-talk2": 50, "ofa-talk": 70, "rfo-talk": 90, "nest3-talk": 110}

_LOG = {"max_size": "64KiB", "keep": 1000}
_HIGH = {"intensity": 100_000, "period": "1s"}


class Forest:
    """The tree in `directory`; `parents` maps each configured name to its supervisor's."""

    def __init__(self, directory: Path, *, talk: bool = True) -> None:
        self.directory = directory
        self.parents: dict[str, str | None] = {"app": None, DYNAMIC: "app", **INTERNAL}
        for name, (children, _) in SUPERVISORS.items():
            self.parents |= dict.fromkeys(children.split(), name)
        self.supervisors = frozenset({*SUPERVISORS, DYNAMIC, "regrow.system"})
        self._talk = talk

    def write(self) -> None:
        """Put the file and all that its programs need into the directory."""
        for folder in ("locks", "printed"):
            (self.directory / folder).mkdir()
        shutil.copy(PROGRAMS / "chaos_worker.py", self.directory)
        os.mkfifo(self.directory / "never")
        config = Config(self.directory)
        for name, (children, keys) in SUPERVISORS.items():
            config.supervisors[name] = {**_HIGH, **keys, "children": children.split()}
        config.supervisors[DYNAMIC] = {**_HIGH, "strategy": "dynamic", "template": "dynamic-worker"}
        config.workers = {name: self._worker(name) for name in self.parents if self._is_worker(name)}
        config.workers["dynamic-worker"] = self.function(escapees=DYNAMIC_ESCAPEES)
        config.write()

    def escapees(self, name: str) -> int:
        """How many processes `name` has besides its main one."""
        if name not in self.parents:
            return DYNAMIC_ESCAPEES
        return ESCAPEES.get(name, 0)

    def _is_worker(self, name: str) -> bool:
        return name not in self.supervisors and name not in INTERNAL

    def _worker(self, name: str) -> dict[str, Any]:
        kind, escapees, deaf = name.rpartition("-")[2], ESCAPEES.get(name, 0), "deaf" in name
        if kind.startswith("s"):
            return self.script(escapees, deaf=deaf)
        if kind.startswith("c"):
            return self.command(escapees)
        every_ms = TALK_EVERY_MS.get(name, 0) if self._talk else 0
        return self.function(escapees=escapees, every_ms=every_ms, deaf=deaf)

    def function(self, *, escapees: int = 0, every_ms: int = 0, deaf: bool = False) -> dict[str, Any]:
        args = {"directory": str(self.directory), "escapees": escapees, "every_ms": every_ms, "deaf": deaf}
        return {"function": "chaos_worker:work", "args": args, "ready": "notify", **self._common(deaf=deaf)}

    def command(self, escapees: int) -> dict[str, Any]:
        program = [sys.executable, "-I", "-S", str(PROGRAMS / "chaos_worker.py")]
        return {
            "command": [*program, str(self.directory), str(escapees)],
            "ready": "notify",
            **self._common(deaf=False),
        }

    def script(self, escapees: int, *, deaf: bool) -> dict[str, Any]:
        program = ["/bin/sh", str(PROGRAMS / "chaos_worker.sh"), str(self.directory), str(escapees)]
        return {
            "command": [*program, *(["deaf"] if deaf else [])],
            "ready": {"line": "^READY$", "timeout": "60s"},
            **self._common(deaf=deaf),
        }

    def _common(self, *, deaf: bool) -> dict[str, Any]:
        return {"log": _LOG, "shutdown": "150ms" if deaf else "10s"}
