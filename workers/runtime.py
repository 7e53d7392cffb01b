"""
Running `agent = "module:Class"` in a process that was forked for it and never exec'd.

One message after the other, in the main thread. An exception ends the process, unless the class says that it is for
the caller; a stop lets the present handler finish and refuses the rest.

Source: Erlang/OTP gen_server.erl (loop, terminate); otp-rules S183-S199.
"""

from __future__ import annotations

import regrow.workers.forkhooks  # isort: skip  # before anything loads threading
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from regrow.config import exits
from regrow.ipc.down import Down
from regrow.ipc.errors import StoreError
from regrow.ipc.mailbox import Envelope, Item, Signal, unknown_handler
from regrow.ipc.node import CHAIN, MailboxSpec, Node
from regrow.ipc.posting import Posting
from regrow.ipc.signals import Signals
from regrow.ipc.statekeys import limit_of
from regrow.ipc.transaction import Overtaken
from regrow.ipc.wire import EMPTY_ARRAY, EMPTY_MAP, SHUTDOWN
from regrow.workers import place
from regrow.workers.agent import Agent, handlers_of, is_async
from regrow.workers.answers import Answers, Complaints
from regrow.workers.box import PostBox
from regrow.workers.circles import Circles
from regrow.workers.doorkeeper import Doorkeeper
from regrow.workers.ending import ASKED, Ending, of_exit, of_reason
from regrow.workers.errors import Ignore
from regrow.workers.function import MAX_TRACEBACK, FunctionProcess, Named, load, report_exception, take_name
from regrow.workers.handlers import Arguments, Handler
from regrow.workers.mismatch import BadArguments
from regrow.workers.news import News
from regrow.workers.notify import notify, ready, stopping
from regrow.workers.posthandling import PostHandling
from regrow.workers.state_type import declared_state
from regrow.workers.stop_signals import StopSignals
from regrow.workers.unit import UNIT, Owner, Unit
from regrow.workers.watchdog import Watchdog
from regrow.workers.whole import Whole

if TYPE_CHECKING:
    from regrow.workers.agent_aio import AgentVerbs


def run(
    name: str,
    target: str,
    args_json: str,
    import_path: str,
    started: Callable[[], None],
    named: Named | None = None,
) -> int:
    """
    Import `target`, run it as the agent `name` until it ends, and return the exit status.

    `named`, where given, is waited for when all is there that needs no name: it has the name then, and the arguments.

    `started()` and READY=1 are said when `init` has returned and others can find the agent. An exception is reported
    to the supervisor with its traceback, printed, and ends the process with status 1; `Ignore` in `init` says that
    the agent is not needed.
    """

    def body() -> None:
        try:
            agent = load_agent(target, import_path)
            runtime = runtime_of(agent)(agent, place.run_dir())
            try:
                mine, arguments = name, args_json
                if named is not None:
                    init_of(agent)
                    mine, arguments = take_name(named)
                runtime.bind(place.mailbox(mine))
            except BaseException:
                runtime.node.close()
                raise
        except SystemExit:
            raise
        except BaseException:
            report_exception()
            raise
        sys.exit(runtime.run(arguments, started))

    regrow.workers.forkhooks.restore()
    gc.enable()
    return FunctionProcess(name, body).bootstrap()


def load_agent(target: str, import_path: str) -> type[Agent]:
    """
    The agent class that `module:Class` names.

    Raises:
        TypeError: it is no agent, or something is wrong with a handler; and whatever its import raises.
    """
    found: Any = load(target, import_path)
    if not (isinstance(found, type) and issubclass(found, Agent)):
        raise TypeError(f"cannot run {target}: it is not a class derived from regrow.workers.Agent")
    handlers_of(found)
    return found


_inits: dict[type, Arguments] = {}


def init_of(agent: type[Agent]) -> Arguments:
    """
    What reads the arguments of its `init`; made once.

    Raises:
        TypeError, NameError: what is wrong with the annotations.
    """
    if agent not in _inits:
        _inits[agent] = Arguments(agent.init, f"{agent.__name__}.init")
    return _inits[agent]


def runtime_of(agent: type[Agent]) -> type[Runtime]:
    """What runs this class: with an event loop if something in it is `async def`."""
    own: type[Runtime] | None = agent._runtime
    if own is not None:
        return own
    if not is_async(agent):
        return Runtime
    from regrow.workers.async_runtime import AsyncRuntime

    return AsyncRuntime


class Runtime:
    """One agent in its process: it is made, bound to its name, and run."""

    def __init__(self, agent: type[Agent], run_dir: str) -> None:
        self.kind = agent
        self.handlers = handlers_of(agent)
        self.node = Node(run_dir)
        self.node.mailbox.handlers, self.node.mailbox.owner = self.handlers, agent
        self.node.on_full = self._tell_full
        self.signals = Signals(self.node, self.node.deliver)
        self.ending: Ending | None = None
        self._pid = os.getpid()
        self._is_closed = False
        self.keeper = Doorkeeper(self.node, Circles(self.node).look, self.relieved)
        self._foreseen: tuple[type[BaseException], ...] = (Overtaken, StoreError, SystemExit, *agent.replies)

    def bind(self, mailbox: MailboxSpec) -> None:
        """
        Be the agent that has this mailbox.

        Raises:
            OSError: the mailbox cannot be made.
        """
        agent = self.kind
        self.name, self.incarnation = mailbox.name, mailbox.incarnation
        self.node.bind(mailbox)
        self.watchdog = Watchdog()
        self.complaints = Complaints(self.name)
        self.answers = Answers(self.node, self.complaints)
        self.posting = Posting(self.node, self.name)
        self.owner = Owner(self.name, mailbox.group, self.posting, concurrent=agent.concurrency > 1)
        self.unit = Unit(self.owner)
        self.posts = PostBox(self.node, self.posting, self.incarnation, agent.max_attempts, self.complaints.make)
        self.agent = agent.__new__(agent)
        self.agent._host = self
        self.news = News(self.agent, self.signals, self.complaints)
        self.handling = PostHandling(self.agent, self.handlers, self.posts, self.owner, self)

    # the life of an agent

    def run(self, args_json: str, started: Callable[[], None]) -> int:
        """
        From `init` to the end.

        Returns:
            The exit status.
        """
        CHAIN.set((self.name,))
        UNIT.set(self.unit)
        try:
            return self._live(args_json, started)
        except SystemExit:
            raise
        except BaseException as error:  # asyncio's CancelledError, KeyboardInterrupt, whatever a library has made
            error.__traceback__ = _theirs(error.__traceback__)
            report_exception()
            raise
        finally:
            self.close()

    def _live(self, args_json: str, started: Callable[[], None]) -> int:
        try:
            self.begin(args_json)
        except Ignore:
            notify("X_REGROW_IGNORE=1")
            return exits.DONE
        with StopSignals(self.node, self._asked_to_stop):
            self.node.announce()
            self.posts.begin()
            started()
            ready()
            self.serve()
            assert self.ending is not None
            if os.getpid() != self._pid:
                return self.ending.status  # a process that a handler has forked, and that has come up here
            self.end()
            self.close()  # a second stop signal must not end us before the last words have left
        if self.ending.text:
            notify("X_REGROW_EXCEPTION=" + self.ending.text[:MAX_TRACEBACK].replace("\n", "\x1f"))
        return self.ending.status

    def close(self) -> None:
        """Let go of all that is open, when what was said has left; harmless when repeated."""
        if not self._is_closed:
            self._is_closed = True
            self.keeper.close()
            self.posts.close()
            self.node.close()
            self.posting.close()

    def begin(self, args_json: str) -> None:
        """Make the agent. Until it is made, a stop signal ends it as it would any process."""
        self.load_state()
        self.until_kept(self.agent.__init__)  # type: ignore[misc]  # not before it knows its host
        init, values = self.arguments(args_json)
        self.until_kept(init, self.agent, *values)

    def until_kept(self, hook: Callable[..., Any], *args: Any) -> None:
        """
        Call it and commit; again, if others have changed what it has read.

        Raises:
            StoreError; and what it raises.
        """
        unit = self.unit
        while True:
            try:
                hook(*args)
                if unit.is_used:
                    unit.commit()
                return
            except Overtaken:
                unit.roll_back()

    def load_state(self) -> None:
        """The state, where the class says that it is one object."""
        declared = declared_state(type(self.agent))
        self.owner.of = declared.of
        if declared.whole is not None:
            self.owner.whole = Whole(declared.whole, self.unit.rows, limit=limit_of(self.name))
            self.owner.whole.load()
            self.unit.is_used = True

    def arguments(self, args_json: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """
        `init`, and what it is given behind the agent.

        Raises:
            TypeError: the arguments in the file do not fit.
        """
        arguments = init_of(type(self.agent))
        try:
            return arguments.function, arguments.read(args_json)
        except BadArguments as error:
            raise TypeError(f"cannot start {self.name}: {error}") from None

    def serve(self) -> None:
        """Handle what comes, until there is a reason to end."""
        receive, handle, watchdog, keeper = self.node.receive, self.handle, self.watchdog, self.keeper
        posts, handling, waiting, never_s = self.posts, self.handling, self.node.mailbox.waiting, float("inf")
        while self.ending is None:
            timeout_s = watchdog.turn_s() if watchdog.interval_s else None
            if posts.is_due:
                timeout_s = 0.0
            elif posts.due_s != never_s:
                timeout_s = posts.until_due_s(timeout_s)
            item = receive(timeout_s)
            if item is not None:
                keeper.task = item
                if keeper.is_parked:
                    keeper.unpark()
                handle(item)
                keeper.task = None
            if posts.is_due and (not waiting or time.monotonic() >= handling.next_s):
                handling.handle_some(self.unit, keeper)

    def end(self) -> None:
        """Refuse what was not begun, run `terminate`, and only then answer the call that has stopped us (S193)."""
        assert self.ending is not None
        self.refuse_rest()
        if type(self.agent).terminate is not Agent.terminate:
            self.keeper.task = self.ending
            self.keeper.unpark()
            self.until_kept(self.agent.terminate, self.ending.reason)
            self.keeper.task = None
        self.leave()

    def refuse_rest(self) -> None:
        """Take nothing more in."""
        assert self.ending is not None
        stopping()
        self.node.leave_group()
        dropped = self.node.refuse_all(SHUTDOWN, f"{self.name} stops ({self.ending.reason})")
        if dropped:
            self.complaints.make(_dropped(dropped, self.ending.reason))

    def leave(self) -> None:
        """Give the name back, and answer what was held back."""
        self.node.withdraw()
        self.answers.release()
        self.node.last_word()

    # what the agent asks for

    @property
    def aio(self) -> AgentVerbs:
        raise RuntimeError(f"{self.name} has no event loop: use the verbs without aio, or make handlers `async def`")

    def stop(self, reason: str) -> None:
        """End after the present handler, whose answer waits until `terminate` has run."""
        if self.ending is None:
            self.answers.hold()
            self.ending = of_reason(reason)
            self.nudge()

    def progress(self) -> None:
        self.watchdog.progress()

    def _asked_to_stop(self) -> None:
        if self.ending is None:
            self.ending = ASKED
            self.nudge()

    def nudge(self) -> None:
        """Have `ending` looked at, wherever the main thread waits."""
        self.node.wake()

    # one message

    def _tell_full(self, text: str) -> None:
        """An event: the mailbox has filled up. The supervisor takes no more of them than it can show."""
        refused = self.node.mailbox.refused
        notify(f"X_REGROW_EVENT=backpressure\nX_REGROW_TEXT={text}; {refused} refused since the start")

    def handle(self, item: Item) -> None:
        """Do what it asks for."""
        if not isinstance(item, Envelope):
            self._hear(item)
            return
        handler = self.handlers.get(item.handler)
        if handler is None:
            text = unknown_handler(item.handler, type(self.agent), self.handlers)
            self.answers.bad(item, BadArguments("", text))
            return
        values = self.read(handler, item)
        if values is None:
            return
        if item.chain:
            CHAIN.set((*item.chain, self.name))
        while not self._run(handler, item, values):
            pass
        if item.chain:
            CHAIN.set((self.name,))

    def _run(self, handler: Handler, item: Envelope, values: tuple[Any, ...]) -> bool:
        """Run it and commit; False when another process has changed what it has read, and it is to run again."""
        unit = self.unit
        try:
            result = handler.function(self.agent, *values)
            if unit.is_used:
                unit.commit()
        except self._foreseen as error:
            return self.failed(item, unit, error)
        if item.is_call:
            self.answers.result(item, handler, result)
        return True

    def failed(self, item: Envelope, unit: Unit, error: BaseException) -> bool:
        """Undo what its handler has changed, and tell who is to hear of it; False when it is to run again."""
        unit.roll_back()
        if isinstance(error, Overtaken):
            return False
        if isinstance(error, SystemExit):
            self.exits(error)
            return True
        if isinstance(error, StoreError):
            self.unkept(item.handler, error)
        self.answers.error(item, error)
        return True

    def unkept(self, what: str, error: StoreError) -> None:
        """What a handler has changed could not be kept, and is undone: the log hears of it, and the status line."""
        self.complaints.make(f"what {what} has changed is undone: {error}", to_supervisor=True)

    def _hear(self, item: Down | Signal) -> None:
        unit = self.unit
        hook = self.news.hook(item)
        while hook is not None:
            try:
                hook()
                if unit.is_used:
                    unit.commit()
                return
            except SystemExit as error:
                unit.roll_back()
                self.exits(error)
                return
            except Overtaken:
                unit.roll_back()
            except StoreError as error:
                unit.roll_back()
                self.unkept("a hook", error)
                return

    def read(self, handler: Handler, item: Envelope) -> tuple[Any, ...] | None:
        """The arguments; None when they do not fit, which has been said then."""
        try:
            values = handler.arguments(item.args, item.kwargs)
        except BadArguments as error:
            self.answers.bad(item, error)
            return None
        item.args, item.kwargs = EMPTY_ARRAY, EMPTY_MAP  # a large message need not stay while its handler runs
        return values

    def exits(self, error: SystemExit) -> None:
        """`sys.exit()` is an orderly end, without an answer to whoever has caused it (OTP: `exit/1` in a callback)."""
        self.ending = of_exit(error)

    def relieved(self) -> None:
        """The doorkeeper has taken in what came, and the main thread does so again; said in the doorkeeper's thread."""


def _dropped(handlers: list[str], reason: str) -> str:
    """What is said of accepted messages that nobody awaits an answer to, when they are not handled any more."""
    named = ", ".join(f"{name} ({count})" for name, count in Counter(handlers).most_common(10))
    return f"stops ({reason}) with {len(handlers)} accepted sends and casts in its mailbox, which are dropped: {named}"


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from where the agent's own code begins; all of it when that has no part in it."""
    part = trace
    while part is not None and part.tb_frame.f_globals.get("__name__", "").startswith("regrow."):
        part = part.tb_next
    return part or trace


__all__ = ["Runtime", "load_agent", "run", "runtime_of"]
