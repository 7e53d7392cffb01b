"""
What the root asks supervisors, and who waits for the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from regrow.daemon.channel_messages import ReexecDown, ReplyUp, RequestDown
from regrow.daemon.core.effects import Code
from regrow.daemon.core.events import Request
from regrow.daemon.tree import ROOT
from regrow.daemon.verbs import Answer

if TYPE_CHECKING:
    from regrow.daemon.root import Root


Asked = tuple[str | None, Callable[[int], Request]]
"""Whom to ask, None for the root's own supervisor, and for what."""


class Asking:
    """The requests of one root; `newest` is the number of the last one."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._asked: dict[int, tuple[str, Answer, str]] = {}
        self.newest = 0

    def __len__(self) -> int:
        return len(self._asked)

    def ask(
        self,
        supervisor: str | None,
        make: Callable[[int], Request],
        answer: Answer,
        *,
        by: str = "",
        about: str = "",
        cause: int | None = None,
    ) -> None:
        """
        Send a request to `supervisor` (None: the root's own); `answer` is called exactly once.

        What is then told of `about` was asked for `by` somebody, and comes of the event `cause`.
        """
        if by and about:
            self._root.books.asked(about, by, cause)
        self.send_down(supervisor, lambda route, number: RequestDown(route, make(number)), answer, about=about)

    def send_down(
        self,
        supervisor: str | None,
        make: Callable[[tuple[str, ...], int], RequestDown | ReexecDown],
        answer: Answer,
        *,
        about: str = "",
    ) -> None:
        """Send what is to be answered to `supervisor`, by its route and a number; `answer` is called exactly once."""
        self.newest += 1
        number = self.newest
        self._asked[number] = (supervisor or ROOT, answer, about)
        if supervisor and supervisor not in self._root.tree.nodes:
            self.answered(ReplyUp(number, code=Code.NOPROC, message=f"{supervisor} is gone"))
            return
        route = self._root.tree.route(supervisor) if supervisor else ()
        self._root.runtime.relay.from_parent(make(route, number))

    def answered(self, reply: ReplyUp) -> None:
        """The answer to a request has come up."""
        asked = self._asked.pop(reply.request, None)
        self._root.tree.announced.pop(reply.request, None)
        if asked is not None:
            _, answer, about = asked
            if reply.code is not None:
                self._root.books.not_done(about)
            answer(reply)

    def ended(self, name: str) -> None:
        """Whoever still waits for it, or for one below it, is told."""
        below = {node.name for node in self._root.tree.subtree(name)}
        for number, (supervisor, answer, _) in list(self._asked.items()):
            if supervisor in below:
                del self._asked[number]
                self._root.tree.announced.pop(number, None)
                answer(ReplyUp(number, code=Code.SHUTDOWN, message=f"{supervisor} ended"))

    def all_of(self, requests: Sequence[Asked], done: Callable[[list[str]], None]) -> None:
        """Ask them all, and go on when each has answered; `done` gets what was refused."""
        waiting, refused = len(requests), list[str]()

        def answered(name: str) -> Answer:
            def answer(reply: ReplyUp) -> None:
                nonlocal waiting
                waiting -= 1
                if reply.code is not None:
                    refused.append(f"{name}: {reply.message}")
                if not waiting:
                    done(refused)

            return answer

        for name, make in requests:
            self.ask(name, make, answered(name or ROOT))
        if not requests:
            done(refused)

    def tell(self, supervisor: str | None, make: Callable[[int], Request]) -> None:
        """A request of the root's own, whose answer changes nothing."""
        self.ask(supervisor, make, lambda _reply: None)
