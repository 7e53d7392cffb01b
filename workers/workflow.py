"""
What a workflow is made of: a class whose `run` calls steps.

Source: architecture section 7; Temporal and DBOS for replay, Garcia-Molina and Salem for compensation.
"""

from __future__ import annotations

import datetime
import functools
import inspect
from collections.abc import Callable, Mapping
from types import FunctionType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, overload

from regrow.ipc.workflow_history import RECEIVE, SLEEP, Policy
from regrow.workers.agent import HOOKS, Agent, handlers_of

F = TypeVar("F", bound=Callable[..., Any])

UNDO_POLICY = Policy(retries=10, backoff_s=1.0)
"""Of a method that undoes and is no step by itself."""

_MARK = "__regrow_step__"


class Spec:
    """What `@step` says of one method. `undo` names the method that undoes it."""

    __slots__ = ("final", "function", "name", "policy", "timeout_s", "undo")

    def __init__(
        self,
        function: Callable[..., Any],
        policy: Policy,
        timeout_s: float | None = None,
        undo: str | None = None,
        final: tuple[type[Exception], ...] = (),
    ) -> None:
        self.final = final
        self.function = function
        self.name = function.__name__
        self.policy = policy
        self.timeout_s = timeout_s
        self.undo = undo


@overload
def step(function: F, /) -> F: ...


@overload
def step(
    *,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    undo: str | None = None,
    final: tuple[type[Exception], ...] = (),
) -> Callable[[F], F]: ...


def step(
    function: Any = None,
    /,
    *,
    retries: int = 0,
    backoff: float = 1.0,
    timeout: float | None = None,
    undo: str | None = None,
    final: tuple[type[Exception], ...] = (),
) -> Any:
    """
    Keep what this method returns: in each replay of `run`, a call that has returned once is answered with it.

    Args:
        retries: how often it is tried again after an exception.
        backoff: seconds until the first of these; twice as long until each further one, and at most 5 minutes.
        timeout: seconds that an attempt may take. The process of the run is killed then, and its successor counts the
            attempt as a failed one.
        undo: the name of the method that undoes it, when the run fails or is cancelled later on. It is called with the
            result; or with the result and the arguments, if it takes more than one argument.
        final: exceptions after which it is not tried again.
    Raises:
        TypeError: it is no method, or is `async def`, or one of these is no such thing.
    """
    _check(retries, backoff, timeout, undo, final)
    policy = Policy(retries, float(backoff))

    def decorate(method: Any) -> Any:
        if not isinstance(method, FunctionType):
            raise TypeError(f"cannot make a step of {method!r}: @step goes on a plain method, and comes first")
        if inspect.iscoroutinefunction(method) or inspect.isgeneratorfunction(method):
            raise TypeError(f"cannot make a step of {method.__qualname__}: its call returns its value")
        spec = Spec(method, policy, None if timeout is None else float(timeout), undo, final)

        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            course = self._course
            if course is None:
                return method(self, *args, **kwargs)
            return course.call(spec, args, kwargs)

        setattr(call, _MARK, spec)
        return call

    return decorate if function is None else decorate(function)


def _check(retries: object, backoff: object, timeout: object, undo: object, final: Any) -> None:
    if type(retries) is not int or retries < 0:
        raise TypeError(f"retries of a step is a whole number from 0 up, not {retries!r}")
    if type(backoff) not in (int, float) or not 0 <= backoff < float("inf"):  # type: ignore[operator]
        raise TypeError(f"backoff of a step is a number of seconds from 0 up, not {backoff!r}")
    if timeout is not None and (type(timeout) not in (int, float) or not 0 < timeout < float("inf")):  # type: ignore[operator]
        raise TypeError(f"timeout of a step is a number of seconds above 0, not {timeout!r}")
    if undo is not None and not isinstance(undo, str):
        raise TypeError(f"undo of a step is the name of a method, not {undo!r}")
    if type(final) is not tuple or not all(isinstance(one, type) and issubclass(one, Exception) for one in final):
        raise TypeError(f"final of a step is a tuple of exception classes, not {final!r}")


class Course(Protocol):
    """What answers the calls of a run."""

    @property
    def id(self) -> str: ...
    @property
    def key(self) -> str: ...
    def call(self, spec: Spec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any: ...
    def sleep(self, until: float | None, seconds: float) -> None: ...
    def receive(self, name: str, timeout_s: float | None, returns: Any) -> Any: ...


class Workflow(Agent):
    """
    Something that is done in steps, each exactly once as far as can be told, whoever is killed when.

    Derive from it, write `run`, and mark with `@step` what has effects or may come out differently another time. A run
    has a process of its own; after its end, `run` is called anew and gets the kept results of the steps that are done.
    Without a daemon, a workflow is a plain object: `Order().run(…)` runs all steps, as a test may want.
    """

    steps: ClassVar[Mapping[str, Spec]] = {}
    _course: Course | None = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if handlers_of(cls):
            raise TypeError(f"{cls.__name__} is a workflow and has handlers: a run takes messages with `receive`")
        hook = next((hook for hook in HOOKS if getattr(cls, hook) is not getattr(Agent, hook)), None)
        if hook is not None:
            raise TypeError(f"{cls.__name__} is a workflow and has `{hook}`: all that a run does is in `run`")
        if inspect.iscoroutinefunction(getattr(cls, "run", None)):
            raise TypeError(f"{cls.__name__}.run is `async def`: a run does one thing after the other")
        cls.steps = {spec.name: spec for spec in _specs(cls)}
        for spec in cls.steps.values():
            _check_spec(cls, spec)

    if TYPE_CHECKING:

        def run(self, *args: Any, **kwargs: Any) -> Any:
            """
            What is done: called with the arguments of the start, in each process of the run. To raise is to fail.

            Between steps, it may depend on its arguments, on the results of steps and on messages, and on nothing else.
            """

    @property
    def id(self) -> str:
        """The id of this run."""
        return self._running.id

    @property
    def key(self) -> str:
        """
        In a step: what tells whoever is outside that two attempts are of the same call, as an idempotency key does.

        It is the same for all attempts of a call, and for no other call; one that was undone and is made again is
        another.
        """
        return self._running.key

    def sleep(self, seconds: float) -> None:
        """Wait; if the process ends meanwhile, its successor waits for the rest."""
        self._running.sleep(None, _seconds(seconds))

    def wait_until(self, when: datetime.datetime) -> None:
        """Wait for a time, which needs a time zone; one that has passed is not waited for."""
        if when.tzinfo is None:
            raise TypeError(f"a run waits for a datetime with a time zone, not for {when!r}")
        self._running.sleep(when.timestamp(), 0.0)

    def receive(self, name: str, *, timeout: float | None = None, returns: Any = None) -> Any:
        """
        Take the next message that was sent to this run under this name (`send_to_run`), waiting for it.

        Args:
            timeout: seconds, counted from the first call on, through all deaths; None: however long it takes.
            returns: the type to make of it.
        Returns:
            The value that was sent; None after the time.
        """
        return self._running.receive(name, None if timeout is None else _seconds(timeout), returns)

    @property
    def _running(self) -> Course:
        if self._course is None:
            raise RuntimeError(f"{type(self).__name__} is not run by regrow: it has no id, and nobody to wait for")
        return self._course


def _seconds(value: object) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):  # type: ignore[operator]
        raise TypeError(f"a run waits for a number of seconds from 0 up, not {value!r}")
    return float(value)  # type: ignore[arg-type]


def _specs(workflow: type[Workflow]) -> list[Spec]:
    names = {name for base in workflow.__mro__ for name, value in vars(base).items() if hasattr(value, _MARK)}
    return [spec for name in sorted(names) if (spec := spec_of(getattr(workflow, name))) is not None]


def spec_of(method: Any) -> Spec | None:
    """What `@step` says of a method; None where it is no step."""
    spec: Spec | None = getattr(method, _MARK, None)
    return spec


def _check_spec(workflow: type[Workflow], spec: Spec) -> None:
    if spec.name in _OWN or spec.name == SLEEP or spec.name.startswith(RECEIVE):
        raise TypeError(f"cannot make a step of {workflow.__name__}.{spec.name}: every workflow has its own")
    if spec.undo is not None and not callable(getattr(workflow, spec.undo, None)):
        raise TypeError(f"{workflow.__name__}.{spec.name} is undone by `{spec.undo}`, and there is no such method")


def undoing_of(workflow: type[Workflow], spec: Spec) -> Spec:
    """How what `spec` has done is undone: a step like any other."""
    assert spec.undo is not None
    method = getattr(workflow, spec.undo)
    return spec_of(method) or Spec(method, UNDO_POLICY)


_OWN = frozenset(name for name in (*dir(Agent), "id", "key", "receive", "run", "sleep", "steps", "wait_until"))
