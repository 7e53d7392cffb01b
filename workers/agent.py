"""
What an agent is made of: a class with handlers, and the verbs that they use.

Source: contract section 4; Erlang/OTP gen_server.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from regrow.ipc.errors import BadRequest
from regrow.ipc.mailbox import unknown_handler
from regrow.ipc.verbs import Verbs
from regrow.ipc.workflow_verbs import WorkflowVerbs
from regrow.ipc.workflows import Workflows
from regrow.workers.handlers import Handler
from regrow.workers.once import once
from regrow.workers.state_type import check_state
from regrow.workers.unit import UNIT, current

if TYPE_CHECKING:
    from datetime import datetime

    from regrow.ipc.down import Down
    from regrow.ipc.groups import Address
    from regrow.ipc.node import Node
    from regrow.ipc.signals import Signals
    from regrow.ipc.transaction import Transaction
    from regrow.workers.agent_aio import AgentVerbs
    from regrow.workers.state import State

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_MARK = "__regrow_handler__"
HOOKS = ("init", "terminate", "on_down", "on_signal")


def handler(function: F) -> F:
    """
    Let messages call this method: its name is the handler's, its annotations are what arguments are checked against.

    Raises:
        TypeError: it is no method that could be called with an agent.
    """
    if not isinstance(function, FunctionType):
        raise TypeError(f"cannot make a handler of {function!r}: @handler goes on a plain method, and comes first")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"cannot make a handler of {function.__qualname__}: it yields, and a reply is one value")
    setattr(function, _MARK, True)
    return function


class Host(Protocol):
    """What runs an agent gives to it."""

    @property
    def name(self) -> str: ...
    @property
    def incarnation(self) -> int: ...
    @property
    def node(self) -> Node: ...
    @property
    def signals(self) -> Signals: ...
    @property
    def aio(self) -> AgentVerbs: ...
    def stop(self, reason: str) -> None: ...
    def progress(self) -> None: ...


class Agent(WorkflowVerbs, Verbs):
    """
    A process that handles one message after the other. Derive from it, and mark methods with `@handler`.

    Class attributes:
        concurrency: how many `async def` handlers may be under way at once.
        replies: exceptions that are told to the caller as RemoteError. Any other one ends the agent: let it crash.
        max_attempts: how often the handler of one post may fail before the post becomes a dead letter; 0: for ever.
    """

    concurrency: ClassVar[int] = 1
    replies: ClassVar[tuple[type[Exception], ...]] = ()
    max_attempts: ClassVar[int] = 3

    _handlers: ClassVar[Mapping[str, Handler] | None] = {}
    _host: Host | None = None
    _runtime: ClassVar[Any] = None
    """Of a class of regrow's own that is not run as others are."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _check_attributes(cls)
        try:
            cls._handlers = _compiled(cls)
        except NameError:
            cls._handlers = None  # an annotation names what is defined further down: `handlers_of` tries again

    # -- to be overridden --------------------------------------------------------------------------

    if TYPE_CHECKING:

        def init(self, *args: Any, **kwargs: Any) -> Any:
            """
            Called with the arguments from the file, before the agent is ready. To raise is to fail the start;
            `Ignore` says that the agent is not needed.
            """

    else:

        def init(self): ...

    def terminate(self, reason: str) -> Any:
        """Called at an orderly stop, and not when the agent crashes or is killed."""

    def on_down(self, down: Down) -> Any:
        """Something that the agent monitors has ended."""

    def on_signal(self, topic: str, message: Any) -> Any:
        """Something was published that the agent has subscribed to."""

    # -- what it is --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The address of this agent, such as `pricer.0`."""
        return self._hosted.name

    @name.setter
    def name(self, value: object) -> None:
        raise AttributeError("`name` is the agent's address, which the file gives it: keep yours under another name")

    @property
    def incarnation(self) -> int:
        """How often a process was started under this name, this one included."""
        return self._hosted.incarnation

    @property
    def aio(self) -> AgentVerbs:
        """The verbs for `async def` handlers: each returns an awaitable, and lets other handlers run meanwhile."""
        return self._hosted.aio

    @property
    def _hosted(self) -> Host:
        if self._host is None:
            raise RuntimeError(f"{type(self).__name__} is not run by regrow: there is nobody to talk to")
        return self._host

    def stop(self, reason: str = "normal") -> None:
        """
        End the agent when the present handler has returned: `terminate(reason)` runs, then the caller gets the reply.

        `normal` ends with status 0 and `shutdown` with 82; any other reason is an abnormal end, status 1, with the
        reason as its text (S193).
        """
        self._hosted.stop(reason)

    def progress(self) -> None:
        """Say in the middle of long work that it goes forward (`watchdog`). Between messages this happens by itself."""
        self._hosted.progress()

    # -- what it keeps -----------------------------------------------------------------------------

    if TYPE_CHECKING:
        state: Any
        """What survives it: a mapping, or one object of the type that the class says (`state: Cart`)."""

    else:

        @property
        def state(self):
            unit = UNIT.get()
            if unit is None or unit.is_over:
                unit = current("state")
            mapping = unit.mapping
            if mapping is not None:
                return mapping
            return unit.state if unit.owner.whole is None else unit.read_whole()

        @state.setter
        def state(self, value):
            unit = current("state")
            whole = unit.owner.whole
            if whole is None:
                raise AttributeError("`state` is a mapping: change what is in it, or say what it is (`state: Cart`)")
            unit.read_whole()
            whole.value = value

    @property
    def group_state(self) -> State[Any]:
        """What the replicas of a group keep together. A handler whose reads another has overtaken is run again."""
        return current("group_state").group_state

    def transaction(self) -> AbstractContextManager[None]:
        """
        A part of a long handler: what was changed until its end is committed there. An exception undoes the part.

        Raises:
            StoreError: nothing was committed.
        """
        return current("transaction()").block()

    def once(self, key: str, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """
        What `function` returned when it was called under this key; it is called if it never was.

        Its result is kept at once, whatever becomes of the handler, so an effect outside the store is not had twice. If
        the process ends in the middle of it, it is called again: hand the key to whoever can tell the two apart.

        Raises:
            BadState: the result cannot be kept; StoreError; and whatever `function` raises, which is not kept.
        """
        return once(current("once()"), key, function, *args, **kwargs)

    def post(
        self,
        to: str | Address,
        handler: str,
        /,
        *args: Any,
        id: str | None = None,
        expires: float | None = None,
        delay: float | None = None,
        at: datetime | None = None,
        **kwargs: Any,
    ) -> str:
        """
        Send what takes effect exactly once, whoever is killed when; it leaves when this handler commits.

        Args:
            id: posts to one agent with the same id are one post; returned, or made up.
            expires: seconds, from when it is due, after which it becomes a dead letter instead.
            delay: seconds until it is due, of time that passes, whatever the clock is set to.
            at: the time by the clock at which it is due, a datetime with its zone.
        Raises:
            NoProcess: nothing of that name is known; BadRequest; Backpressure; StoreError.
        """
        unit = current("post()")
        out = unit.posting.write(to, handler, args, kwargs, id, expires, delay, at)
        unit.is_used = True
        unit.transaction.post(out)
        return out.id

    def schedule(
        self,
        when: str | datetime,
        handler: str,
        /,
        *args: Any,
        id: str | None = None,
        missed: str = "once",
        zone: str | None = None,
        **kwargs: Any,
    ) -> str:
        """
        Have a handler of this agent called by a post whenever it is time, until `cancel`; from this commit on.

        The same schedule again changes nothing, so `init` may say it at each start; another one of the same id takes
        its place. While a post of it waits, no second one joins it, unless `missed` is "all".

        Args:
            when: "every 5m"; the five fields of cron, or six with the second first; or a datetime with its zone.
            id: the handler's name where it is not said; returned.
            missed: what becomes of times at which nobody was there: "once" for all of them, "all" or "skip".
            zone: that of a cron text, such as "Europe/Berlin"; the local one where it is not said.
        Raises:
            BadSchedule: that is no time; BadRequest: no such handler, or its arguments cannot be encoded; Backpressure;
            StoreError.
        """
        from regrow.ipc.timed import scheduling

        unit = current("schedule()")
        known = handlers_of(type(self))
        if handler not in known:
            raise BadRequest(self.name, unknown_handler(handler, type(self), known))
        unit.posting.check_put_off(self.name, schedules=True)
        change = scheduling(self.name, id, when, handler, args, kwargs, missed, zone)
        unit.is_used = True
        unit.transaction.post(change)
        return change.id

    def cancel(self, id: str, /, *, to: str | Address | None = None) -> bool:
        """
        End a schedule of this agent; with `to`, have a post that is put off never come. With this handler's commit.

        Returns:
            Whether there was one. When True, it will not come any more.
        Raises:
            StoreError; with `to`: NoProcess.
        """
        from regrow.ipc.timed import cancelling, cancelling_post

        unit = current("cancel()")
        posting = unit.posting
        if to is None:
            change = cancelling(unit.transaction, posting.store, self.name, id, of_schedule=True)
        else:
            change = cancelling_post(unit.transaction, posting.store, posting.names(to), id)
        unit.is_used = True
        unit.transaction.post(change)
        return change.was_there

    def _workflows(self) -> Workflows:
        return Workflows(current("a workflow's run").posting)

    def _change(self, change: Callable[[Transaction], T]) -> T:
        unit = current("a workflow's run")
        unit.is_used = True
        return change(unit.transaction)

    # -- verbs besides those of a client -----------------------------------------------------------

    @property
    def _node(self) -> Node:  # type: ignore[override]  # known once the agent is run
        host = self._host
        return host.node if host is not None else self._hosted.node

    def publish(self, topic: str, message: Any, *, timeout: float | None = None) -> int | None:
        """
        Tell everybody who has subscribed to the topic. With a `timeout`, wait for the hub: returns how many they are.

        Raises:
            BadRequest, Backpressure, DeliveryTimeout.
        """
        return self._hosted.signals.publish(topic, message, timeout=timeout)

    def subscribe(self, pattern: str, *, timeout: float = 5.0) -> bool:
        """
        Have `on_signal` called for what is published from now on; False when the hub is not there to confirm it.

        Raises:
            BadRequest, Backpressure.
        """
        return self._hosted.signals.subscribe(pattern, timeout=timeout)

    def unsubscribe(self, pattern: str, *, timeout: float = 5.0) -> bool:
        """End a subscription; whether there was one. What has come already is still handed to `on_signal`."""
        return self._hosted.signals.unsubscribe(pattern, timeout=timeout)

    def register(self, name: str) -> None:
        """
        Take another name besides the own one, until it is given back or this process ends (S220-S229).

        Raises:
            Refused: `already_registered`, with the holder's pid; OSError: whether its holder lives cannot be told.
        """
        self._node.register(name)

    def unregister(self, name: str) -> None:
        """Give a name back; nothing happens where it is not this agent's (S225)."""
        self._node.unregister(name)


OWN = frozenset(name for name in dir(Agent) if not name.startswith("_"))
"""What no handler may be called: it would hide what every agent has."""


def handlers_of(agent: type[Agent]) -> Mapping[str, Handler]:
    """
    The handlers of a class, those that it inherits included.

    Raises:
        TypeError, NameError: what is wrong with the annotations of one.
    """
    if agent._handlers is None:
        agent._handlers = _compiled(agent)
    return agent._handlers


def is_async(agent: type[Agent]) -> bool:
    """Whether the class needs an event loop: some handler or hook is `async def`."""
    hooks = any(inspect.iscoroutinefunction(getattr(agent, hook)) for hook in HOOKS)
    return hooks or any(each.is_async for each in handlers_of(agent).values())


def _compiled(agent: type[Agent]) -> dict[str, Handler]:
    """A method that overrides a handler is one too; `None` in its place takes the handler away."""
    check_state(agent)
    marked = {
        name for base in agent.__mro__ for name, value in vars(base).items() if getattr(value, _MARK, False) is True
    }
    inherited = {
        handler.method: handler
        for base in agent.__mro__[1:]
        for handler in (getattr(base, "_handlers", None) or {}).values()
    }
    compiled = {}
    for name in sorted(marked):
        method = getattr(agent, name)
        if method is None:
            continue
        if name in OWN:
            raise TypeError(f"cannot make a handler of {agent.__name__}.{name}: every agent has a {name} of its own")
        compiled[name] = inherited.get(method) or Handler(name, handler(method))
    return compiled


def _check_attributes(agent: type[Agent]) -> None:
    concurrency: object = agent.concurrency
    if type(concurrency) is not int or concurrency < 1:
        raise TypeError(f"{agent.__name__}.concurrency must be a whole number from 1 up, not {concurrency!r}")
    attempts: object = agent.max_attempts
    if type(attempts) is not int or attempts < 0:
        raise TypeError(f"{agent.__name__}.max_attempts must be a whole number from 0 up, not {attempts!r}")
    replies: Any = agent.replies
    if type(replies) is not tuple or not all(isinstance(one, type) and issubclass(one, Exception) for one in replies):
        raise TypeError(f"{agent.__name__}.replies must be a tuple of exception classes, not {replies!r}")
