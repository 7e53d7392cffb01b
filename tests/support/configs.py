"""
Configurations of scripted children, written in the notation of the scenarios.

`"a:P b:T! c:M sub"` is a child list in start order: `a` permanent, `b` transient and significant, `c`
temporary, `sub` a supervisor described on its own. Unless said otherwise a supervisor is one_for_one with
intensity 10 in 10 s, and a worker has shutdown 1 s and is ready when it says so.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ACTOR = str(Path(__file__).parents[1] / "programs" / "actor.py")
RESTARTS = {"P": "permanent", "T": "transient", "M": "temporary"}

Table = dict[str, Any]


def toml(value: object) -> str:
    """One TOML value; JSON's strings, numbers, booleans and arrays are TOML's."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return json.dumps(value)


class Config:
    """The tables of one file; `write` puts them where the daemon reads them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.supervisors: dict[str, Table] = {}
        self.workers: dict[str, Table] = {}
        self.sections: dict[str, Table] = {}
        self.daemon: Table = {
            "name": "test",
            "run_dir": str(directory / "run"),
            "state_dir": str(directory / "state"),
            "log_dir": str(directory / "log"),
        }

    def actor(self, name: str, *, plan: str = "", stop: str = "", args: tuple[str, ...] = (), **keys: object) -> Table:
        """The keys of a [worker.NAME] table for tests/programs/actor.py; also what start_child's spec holds."""
        command = [sys.executable, "-I", "-S", ACTOR, str(self.directory), name]
        command += [f"plan={plan}"] if plan else []
        command += [f"stop={stop}"] if stop else []
        return {"command": [*command, *args], "ready": "notify", "shutdown": "1s", **keys}

    def worker(self, name: str, **options: Any) -> Config:
        """Describe one worker; options as for `actor`."""
        self.workers[name] = self.actor(name, **options)
        return self

    def supervisor(self, name: str, children: str = "", *, actors: Any = None, **keys: Any) -> Config:
        """
        Describe one supervisor and the workers of its child list that are not described yet.

        `actors` holds the options of such workers by name; they are those of `actor`.
        """
        table: Table = {"strategy": "one_for_one", "intensity": 10, "period": "10s", **keys}
        names = []
        for word in children.split():
            child, _, kind = word.partition(":")
            names.append(child)
            if kind and child not in self.workers:
                options: Table = {"restart": RESTARTS[kind[0]], **(actors or {}).get(child, {})}
                self.worker(child, **({"significant": True} if kind.endswith("!") else {}), **options)
        if table["strategy"] != "dynamic":
            table["children"] = names
        self.supervisors[name] = table
        return self

    def text(self) -> str:
        """The whole file; a key that is `None` is left out, so its default applies."""
        tables = {"daemon": self.daemon, **self.sections}
        tables |= {f"supervisor.{name}": keys for name, keys in self.supervisors.items()}
        tables |= {f"worker.{name}": keys for name, keys in self.workers.items()}
        lines = []
        for title, keys in tables.items():
            lines += [f"[{title}]", *(f"{k} = {toml(v)}" for k, v in keys.items() if v is not None), ""]
        return "\n".join(lines)

    def write(self) -> Path:
        file = self.directory / "regrow.toml"
        file.write_text(self.text())
        return file
