"""What may be an agent, and what its handlers are."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from regrow.workers import Agent, handler
from regrow.workers.agent import handlers_of, is_async


class Base(Agent):
    @handler
    def quote(self, sku: str) -> float:
        return 1.0

    @handler
    def gone(self) -> None: ...

    def helper(self) -> None:
        """No handler: not marked."""


def test_handlers_are_what_is_marked() -> None:
    """Only marked methods may be called by messages."""
    assert sorted(handlers_of(Base)) == ["gone", "quote"]


def test_handlers_are_inherited() -> None:
    """A subclass has its bases' handlers; an override is one without being marked; None takes one away."""

    class Derived(Base):
        gone = None  # type: ignore[assignment]

        def quote(self, sku: str, quantity: int = 1) -> float:
            return 2.0

        @handler
        def more(self) -> None: ...

    class Again(Derived):
        pass

    assert sorted(handlers_of(Derived)) == ["more", "quote"]
    assert str(handlers_of(Derived)["quote"]) == "handler quote(sku: str, quantity: int = 1)"
    assert handlers_of(Again)["quote"] is handlers_of(Derived)["quote"]
    assert sorted(handlers_of(Base)) == ["gone", "quote"]


def test_several_bases() -> None:
    """Handlers of several bases come together, as methods do."""

    class Other(Agent):
        @handler
        def more(self) -> None: ...

    class Both(Base, Other): ...

    assert sorted(handlers_of(Both)) == ["gone", "more", "quote"]


def test_annotation_of_what_comes_later() -> None:
    """A handler may name a class that is defined further down."""

    class Early(Agent):
        @handler
        def take(self, thing: Later) -> None: ...  # type: ignore[name-defined]  # noqa: F821 - that is the point

    assert Early._handlers is None
    with pytest.raises(NameError, match="Later"):
        handlers_of(Early)
    globals()["Later"] = int
    try:
        assert list(handlers_of(Early)) == ["take"]
    finally:
        del globals()["Later"]


@pytest.mark.parametrize("name", ["call", "name", "stop", "init", "on_down", "monitor"])
def test_handler_may_not_hide_what_every_agent_has(name: str) -> None:
    """A handler named like a verb or a hook would take that away from the class's own code."""

    def method(self: Any) -> None: ...

    with pytest.raises(TypeError, match=f"cannot make a handler of Wrong.{name}: every agent has"):
        type("Wrong", (Agent,), {name: handler(method)})


@pytest.mark.parametrize("wrong", [staticmethod(len), classmethod(lambda cls: None), property(lambda self: 1), 3])
def test_what_is_no_method(wrong: Any) -> None:
    """Only a plain method can be a handler."""
    with pytest.raises(TypeError, match="@handler goes on a plain method"):
        handler(wrong)


def test_generators_are_no_handlers() -> None:
    """A reply is one value."""

    def yields(self: Any) -> Any:
        yield 1

    async def yields_too(self: Any) -> Any:
        yield 1

    for wrong in (yields, yields_too):
        with pytest.raises(TypeError, match="it yields, and a reply is one value"):
            handler(wrong)


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.5, "3"])
def test_concurrency_is_a_count(concurrency: Any) -> None:
    """A wrong number is refused when the class is made."""
    with pytest.raises(TypeError, match=r"Wrong\.concurrency must be a whole number from 1 up"):
        type("Wrong", (Agent,), {"concurrency": concurrency})


@pytest.mark.parametrize("replies", [ValueError, [ValueError], (int,), (BaseException,), ("ValueError",)])
def test_replies_are_exceptions(replies: Any) -> None:
    """A tuple of exception classes, none of which would keep a process from ending."""
    with pytest.raises(TypeError, match=r"Wrong\.replies must be a tuple of exception classes"):
        type("Wrong", (Agent,), {"replies": replies})


def test_one_async_method_needs_a_loop() -> None:
    """A handler or a hook that is `async def` makes the whole agent one with an event loop; a helper does not."""

    class Handler(Agent):
        @handler
        async def quote(self) -> None: ...

    class Hook(Agent):
        async def on_down(self, down: Any) -> None: ...

    class Helper(Agent):
        async def help(self) -> None: ...

    assert [is_async(each) for each in (Base, Handler, Hook, Helper)] == [False, True, True, False]


def test_agent_that_is_not_run() -> None:
    """Methods can be tested as such; only verbs need a daemon, and say so."""
    agent = Base()
    assert agent.quote("A1") == 1.0
    for use in (lambda: agent.call("x", "y"), lambda: agent.name, agent.progress, agent.stop, lambda: agent.aio):
        with pytest.raises(RuntimeError, match="Base is not run by regrow"):
            use()


def test_name_is_the_agents_own() -> None:
    """An attribute of that name is refused with the reason, not with Python's."""
    with pytest.raises(AttributeError, match="`name` is the agent's address"):
        Base().name = "mine"


@pytest.mark.parametrize(("use", "loaded"), [("notify", False), ("Agent", True)])
def test_functions_need_nothing_of_agents(use: str, loaded: bool) -> None:
    """`regrow.workers` loads messages and what they need only where an agent is written."""
    program = (
        f"from regrow.workers import {use}\nimport sys\n"
        "print('regrow.ipc.verbs' in sys.modules, 'zmq' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(loaded), "False"]
