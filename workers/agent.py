"""
What an agent is made of: a class with handlers, and the verbs that they use.

Source: contract section 4; Erlang/OTP gen_server.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from regrow.ipc.verbs import Verbs
from regrow.workers.handlers import Handler

if TYPE_CHECKING:
    from regrow.ipc.aio import AsyncVerbs
    from regrow.ipc.down import Down
    from regrow.ipc.node import Node
    from regrow.ipc.signals import Signals

F = TypeVar("F", bound=Callable[..., Any])

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
    def aio(self) -> AsyncVerbs: ...
    def stop(self, reason: str) -> None: ...
    def progress(self) -> None: ...


class Agent(Verbs):
    """
    A process that handles one message after the other. Derive from it, and mark methods with `@handler`.

    Class attributes:
        concurrency: how many `async def` handlers may be under way at once.
        replies: exceptions that are told to the caller as RemoteError. Any other one ends the agent: let it crash.
    """

    concurrency: ClassVar[int] = 1
    replies: ClassVar[tuple[type[Exception], ...]] = ()

    _handlers: ClassVar[Mapping[str, Handler] | None] = {}
    _host: Host | None = None

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
    def aio(self) -> AsyncVerbs:
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

    # -- verbs besides those of a client -----------------------------------------------------------

    @property
    def _node(self) -> Node:  # type: ignore[override]  # known once the agent is run
        return self._hosted.node

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
    replies: Any = agent.replies
    if type(replies) is not tuple or not all(isinstance(one, type) and issubclass(one, Exception) for one in replies):
        raise TypeError(f"{agent.__name__}.replies must be a tuple of exception classes, not {replies!r}")
