"""
Children that come at run time, by start_child: checked, and refused where their name is somebody else's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from regrow.config.spec import Kind, SupervisorSpec, WorkerSpec
from regrow.daemon import errand, reload
from regrow.daemon.channel_messages import ReplyUp
from regrow.daemon.checked import Checked, key_of
from regrow.daemon.core.effects import Code
from regrow.daemon.core.events import StartChild
from regrow.daemon.tree import ROOT
from regrow.daemon.verbs import Answer

if TYPE_CHECKING:
    from regrow.daemon.root import Root


class Additions:
    """Those of one root."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._checked = Checked()

    def start_child(self, supervisor: str, raw: Mapping[str, Any], by: str, answer: Answer) -> None:
        """Check the spec in a process of its own, unless its like was, then have `supervisor` start it."""
        above = self._root.tree.nodes[supervisor].spec
        assert isinstance(above, SupervisorSpec)
        key = key_of(raw, above)

        def checked(result: bytes | errand.Failed) -> None:
            if isinstance(result, errand.Failed):
                answer(ReplyUp(0, code=Code.BAD_REQUEST, message=str(result)))
                return
            spec = msgspec.msgpack.decode(result, type=WorkerSpec)
            self._checked.keep(key, spec)
            start(spec)

        def start(spec: WorkerSpec) -> None:
            refusal = self._refusal(supervisor, spec.name)
            if refusal is not None:
                answer(refusal)
                return
            if spec.kind is Kind.AGENT:
                self._root.replanning.provide_for(spec)
            used = self._root.books.incarnation_of(spec.name)

            def request(number: int) -> StartChild:
                self._root.tree.announced[number] = spec
                return StartChild(number, spec, used)

            self._root.asking.ask(supervisor, request, answer, by=by, about=spec.name)

        known = self._checked.like(key, raw)
        if known is not None:
            start(known)
        else:
            self._root.errands.run(lambda: reload.worker(self._root.plan, raw, above), checked)

    def _refusal(self, supervisor: str, name: str) -> ReplyUp | None:
        """A name is an address in the whole tree; one that is taken elsewhere is refused (S135)."""
        if supervisor not in self._root.tree.nodes:
            return ReplyUp(0, code=Code.NOPROC, message=f"{supervisor} is gone")
        found = self._root.tree.find(name)
        if self._root.deploying.claims(name):
            return ReplyUp(0, code=Code.ALREADY_PRESENT, message=f"{name} is in the plan that is being applied")
        other = self._root.tree.nodes[found[0]] if found else None
        if other is None or other.parent == supervisor:
            return None
        above = other.parent or ROOT
        if other.pid is not None:
            return ReplyUp(0, code=Code.ALREADY_STARTED, message=f"{name} runs under {above}", pid=other.pid)
        return ReplyUp(0, code=Code.ALREADY_PRESENT, message=f"{name} is a child of {above}")
