"""
What an agent is made of: a class with handlers, and the verbs that they use.

Source: contract section 4; Erlang/OTP gen_server.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from regrow.workers.handlers import Handler

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
    def verbs(self) -> Any: ...
    @property
    def aio(self) -> Any: ...
    def stop(self, reason: str) -> None: ...
    def progress(self) -> None: ...


class Agent:
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

    def on_down(self, down: Any) -> Any:
        """Something that the agent monitors has ended."""

    def on_signal(self, topic: str, message: Any) -> Any:
        """Something was published that the agent has subscribed to."""

    # -- what it is --------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The address of this agent, such as `pricer.0`."""
        return self._hosted.name

    @property
    def incarnation(self) -> int:
        """How often a process was started under this name, this one included."""
        return self._hosted.incarnation

    @property
    def aio(self) -> Any:
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

    # -- verbs, each as in `regrow.ipc.Client` -----------------------------------------------------

    def cast(self, to: Any, handler: str, /, *args: Any, **kwargs: Any) -> None:
        """Send and await nothing; a name that is known to be dead is not passed over in silence."""
        self._hosted.verbs.cast(to, handler, *args, **kwargs)

    def send(self, to: Any, handler: str, /, *args: Any, **kwargs: Any) -> Any:
        """Send; returns a Delivery, whose `wait(timeout)` returns once the message is in the receiver's mailbox."""
        return self._hosted.verbs.send(to, handler, *args, **kwargs)

    def call(
        self, to: Any, handler: str, /, *args: Any, timeout: float = 5.0, returns: Any = None, **kwargs: Any
    ) -> Any:
        """Send and wait for the reply, read as `returns`; this agent handles nothing meanwhile."""
        return self._hosted.verbs.call(to, handler, *args, timeout=timeout, returns=returns, **kwargs)

    def send_request(self, to: Any, handler: str, /, *args: Any, **kwargs: Any) -> Any:
        """Send; returns a Request, whose reply may be waited for later (S197)."""
        return self._hosted.verbs.send_request(to, handler, *args, **kwargs)

    def monitor(self, name: str) -> Any:
        """Be told of the end of what has this name now: `on_down` is called, once."""
        return self._hosted.verbs.monitor(name)

    def publish(self, topic: str, message: Any) -> None:
        """Tell everybody who has subscribed to the topic."""
        self._hosted.verbs.publish(topic, message)

    def subscribe(self, pattern: str) -> None:
        """Have `on_signal` called for what is published on topics of this pattern."""
        self._hosted.verbs.subscribe(pattern)

    def unsubscribe(self, pattern: str) -> None:
        """Take back one `subscribe` of exactly this pattern."""
        self._hosted.verbs.unsubscribe(pattern)

    def whereis(self, name: str) -> Any:
        """Who has the name now, None for nobody."""
        return self._hosted.verbs.whereis(name)

    def register(self, name: str) -> None:
        """Take another name besides the own one, until it is given back or this process ends (S220-S229)."""
        self._hosted.verbs.register(name)

    def unregister(self, name: str) -> None:
        """Give a name back; nothing happens where it is not this agent's (S225)."""
        self._hosted.verbs.unregister(name)


VERBS = frozenset(name for name in vars(Agent) if not name.startswith("_")) - {*HOOKS, "concurrency", "replies"}
"""What no handler may be called: it would hide the agent's own."""


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
        if name in VERBS or name in HOOKS:
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
