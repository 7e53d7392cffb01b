"""What tests of applies have in common: a small tree, a change, an apply that the test holds up."""

from __future__ import annotations

from typing import Any, NamedTuple

from configs import Config
from tree import Held, Tree

from regrow.ipc.control import ControlClient


class Gated(NamedTuple):
    """An apply that is under way: who has asked for it, and what holds it up."""

    client: ControlClient
    request: int
    held: Held

    def answer(self) -> dict[str, Any]:
        """What came of it."""
        told: dict[str, Any] = self.client.answer(self.request)
        return told


def small(tree: Tree, config: Config, children: str = "a:P b:P c:P", **keys: Any) -> None:
    """Actors under `sup`, which is under `top`."""
    config.supervisor("top", "sup")
    config.supervisor("sup", children, **keys)
    tree.grow()
    tree.forget()


def apply(tree: Tree, outcome: str = "done") -> dict[str, Any]:
    """Write the changed configuration and apply it; what came of it."""
    tree.config.write()
    told: dict[str, Any] = tree.call("apply")
    assert told["outcome"] == outcome, told
    return told


def change(config: Config, *names: str) -> None:
    """Give these workers a command with one more argument."""
    for name in names:
        config.workers[name]["command"] = [*config.workers[name]["command"], "changed"]


def bad(config: Config, name: str, plan: str) -> None:
    """The next command of this worker follows another plan."""
    command = [word for word in config.workers[name]["command"] if not word.startswith("plan=")]
    config.workers[name]["command"] = [*command, f"plan={plan}"]
