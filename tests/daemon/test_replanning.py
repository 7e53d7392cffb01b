"""How supervisors are told of a tree in the steps of an apply, while some of them are away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, cast

from regrow.config.spec import DaemonSpec, Kind, Plan, SupervisorSpec, WorkerSpec
from regrow.daemon import system
from regrow.daemon.asking import Asked
from regrow.daemon.replanning import Replanning
from regrow.daemon.tree import Tree

SYSTEM = SupervisorSpec("regrow.system")


def two(command: str) -> SupervisorSpec:
    """A supervisor over another, which has one worker."""
    worker = WorkerSpec("web", Kind.COMMAND, command=(command,))
    return SupervisorSpec("top", children=(SupervisorSpec("left", children=(worker,)),))


OLD, NEW = two("old"), two("new")


class Root:
    """Without a daemon, of a tree in which `top` runs and `left` does not; what it has asked is in `asked`."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str | None], Callable[[list[str]], None]]] = []
        self.told: list[str] = []
        self.plan = Plan(DaemonSpec("test", "/run", "/state", "/log"), OLD)
        self.tree = Tree(OLD, SYSTEM)
        self.tree.nodes["top"].pid = 1
        self.books = cast(Any, SimpleNamespace(incarnation_of=lambda _name: 0))
        self.asking = cast(Any, SimpleNamespace(all_of=self._ask))
        on = SimpleNamespace(system=SYSTEM, top=system.top_spec(OLD, SYSTEM), wanted=None, members=None)
        self.replanning = Replanning(cast(Any, self), cast(Any, on))

    def _ask(self, requests: Sequence[Asked], done: Callable[[list[str]], None]) -> None:
        self.asked.append(([name for name, _ in requests], done))

    def begin_to_tell(self, word: str, spec: SupervisorSpec) -> None:
        """`word` is noted when all have been told."""
        self.replanning.tell_tree(spec, ("top",), lambda: self.told.append(word))

    def answer(self) -> list[str | None]:
        """All of the oldest question have answered; returns who that were."""
        asked, done = self.asked.pop(0)
        done([])
        return asked


def test_who_is_back_is_told_too() -> None:
    """It may have begun with what the one above had before."""
    root = Root()
    root.begin_to_tell("new", NEW)
    root.tree.nodes["left"].pid = 2
    assert root.answer() == [None, "top"]
    assert not root.told
    assert root.answer() == ["left"]
    assert root.told == ["new"]


def test_nobody_is_told_of_what_holds_no_more() -> None:
    """The way back has begun before all had answered: who is back by then has nothing of the new tree."""
    root = Root()
    root.begin_to_tell("new", NEW)
    root.tree.nodes["left"].pid = 2
    root.begin_to_tell("old", OLD)
    assert root.answer() == [None, "top"]
    assert [asked for asked, _ in root.asked] == [[None, "top", "left"]]
    root.answer()
    assert root.told == ["new", "old"]
