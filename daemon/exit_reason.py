"""
The verb `exit_reason`: how exactly this incarnation ended, as soon as it is known.

Who sees a process die, by its pidfd, is often faster than the supervisor's report: the answer waits for it, a while.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from regrow.daemon.control import Connection, ControlError
from regrow.daemon.ends import Ends, LastExit
from regrow.daemon.loop import Timer

if TYPE_CHECKING:
    from regrow.daemon.root import Root

WITHIN_S, MAX_WITHIN_S = 1.0, 30.0

UNSEEN_S = 0.25
"""How long an incarnation that nobody has heard of is waited for: reports of births take a moment, too."""

MAX_WAITING = 10_000


class Awaited(Struct, frozen=True):
    """A request that waits for an end, as it goes through an exec; `fd` is that of its connection."""

    fd: int
    id: Any
    name: str
    incarnation: int
    within_s: float


class ExitReason:
    """Answers from `ends`, or waits."""

    def __init__(self, root: Root, ends: Ends) -> None:
        self._root = root
        self._ends = ends

    def serve(self, connection: Connection, id: Any, request: Mapping[str, Any]) -> None:
        """
        Answer with the `last_exit` of `name`, `incarnation`, within `within_s`.

        Raises:
            ControlError: the request is none, this incarnation was forgotten, or too many wait already.
        """
        name, incarnation, within_s = _read(request)
        known = self._ends.get(name, incarnation)
        if known is not None:
            connection.answer(id, _answer(name, incarnation, known))
            return
        runs = self.runs(name, incarnation)
        if not runs and incarnation <= self._root.books.incarnation_of(name):
            raise _not_found(name, incarnation)
        if len(self._ends) >= MAX_WAITING:
            raise ControlError("internal", f"{MAX_WAITING} ends are waited for already")
        self._wait(connection, id, name, incarnation, within_s)

    def _wait(self, connection: Connection, id: Any, name: str, incarnation: int, within_s: float) -> None:
        wait = _Wait(self, connection, id, name, incarnation, within_s)
        self._ends.wait(wait, name, incarnation, wait.told)
        wait.rest(within_s if self.runs(name, incarnation) else min(within_s, UNSEEN_S))

    def carried(self) -> tuple[Awaited, ...]:
        """Who waits, to go through an exec."""
        return tuple(wait.carried() for wait in self._ends.waiting() if isinstance(wait, _Wait) and wait.is_open)

    def take_up(self, awaited: Awaited, connection: Connection) -> None:
        """Go on with one who was `carried`; an exec is short enough for its time to begin anew."""
        self._wait(connection, awaited.id, awaited.name, awaited.incarnation, awaited.within_s)

    def runs(self, name: str, incarnation: int) -> bool:
        """Whether that incarnation has begun and not ended, as far as has been reported."""
        node = self._root.tree.nodes.get(name)
        return node is not None and node.incarnation == incarnation and node.pid is not None

    def later(self, seconds: float, call: Callable[[], None]) -> Timer:
        return self._root.loop.call_later(seconds, call)

    def give_up(self, wait: _Wait) -> None:
        """Nobody waits for it any more."""
        self._ends.give_up(wait, wait.name, wait.incarnation)


class _Wait:
    """One client that waits for one end."""

    def __init__(
        self, owner: ExitReason, connection: Connection, id: Any, name: str, incarnation: int, within_s: float
    ) -> None:
        self._owner = owner
        self._connection = connection
        self._id = id
        self.name = name
        self.incarnation = incarnation
        self._within_s = within_s
        self._waited_s = 0.0
        self._timer: Timer | None = None

    @property
    def is_open(self) -> bool:
        """Whether whoever waits is still there."""
        return not self._connection.closed

    def carried(self) -> Awaited:
        """All of it, to go through an exec."""
        left_s = max(0.0, self._within_s - self._waited_s)
        return Awaited(self._connection.fd, self._id, self.name, self.incarnation, left_s or self._within_s)

    def rest(self, seconds: float) -> None:
        """Wait that long, from now on."""
        self._waited_s += seconds
        self._timer = self._owner.later(seconds, self._late)

    def told(self, last_exit: LastExit) -> None:
        """It has ended."""
        if self._timer is not None:
            self._timer.cancel()
        self._connection.answer(self._id, _answer(self.name, self.incarnation, last_exit))

    def _late(self) -> None:
        runs, left_s = self._owner.runs(self.name, self.incarnation), self._within_s - self._waited_s
        if runs and left_s > 0 and not self._connection.closed:
            self.rest(left_s)
            return
        self._owner.give_up(self)
        text = f"{self.name} (incarnation {self.incarnation}) has not ended within {self._within_s:g} s"
        error = ControlError("timeout", text) if runs else _not_found(self.name, self.incarnation)
        self._connection.refuse(self._id, error)


def _read(request: Mapping[str, Any]) -> tuple[str, int, float]:
    name, incarnation, within_s = request.get("name"), request.get("incarnation"), request.get("within_s", WITHIN_S)
    if not isinstance(name, str) or not name:
        raise ControlError("bad_request", '"name" is a name')
    if not isinstance(incarnation, int) or isinstance(incarnation, bool):
        raise ControlError("bad_request", '"incarnation" is a number, 1 or more')
    if not isinstance(within_s, int | float) or isinstance(within_s, bool) or not 0 <= within_s <= MAX_WITHIN_S:
        raise ControlError("bad_request", f'"within_s" is a number of seconds, at most {MAX_WITHIN_S:g}')
    return name, incarnation, float(within_s)


def _answer(name: str, incarnation: int, last_exit: LastExit) -> dict[str, Any]:
    return {"name": name, "incarnation": incarnation, **last_exit}


def _not_found(name: str, incarnation: int) -> ControlError:
    return ControlError("not_found", f"there was no incarnation {incarnation} of {name}, or it is forgotten")
