"""
Running `agent = "module:Class"` in a process that was forked for it and never exec'd.

One message after the other, in the main thread. An exception ends the process, unless the class says that it is for
the caller; a stop lets the present handler finish and refuses the rest.

Source: Erlang/OTP gen_server.erl (loop, terminate); otp-rules S183-S199.
"""

from __future__ import annotations

import regrow.workers.forkhooks  # isort: skip  # before anything loads threading
import gc
import sys
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from regrow.config import exits
from regrow.ipc.down import Down
from regrow.ipc.mailbox import Envelope, Item, Signal
from regrow.ipc.node import CHAIN, Node
from regrow.ipc.signals import Signals
from regrow.ipc.wire import BAD_REQUEST, REMOTE_ERROR, SHUTDOWN
from regrow.workers.agent import Agent, handlers_of, is_async
from regrow.workers.doorkeeper import Doorkeeper
from regrow.workers.ending import ASKED, Ending, of_exit, of_reason
from regrow.workers.errors import Ignore
from regrow.workers.function import FunctionProcess, load, report_exception
from regrow.workers.handlers import Arguments, Handler, Signature
from regrow.workers.mismatch import BadArguments, BadReply, mismatch
from regrow.workers.notify import notify, ready, status, stopping
from regrow.workers.place import Place, place
from regrow.workers.stop_signals import StopSignals
from regrow.workers.watchdog import Watchdog

if TYPE_CHECKING:
    from regrow.ipc.aio import AsyncVerbs

MAX_COMPLAINTS = 50
"""Different faults that are written to the log; a sender that is wrong is wrong often."""


def run(name: str, target: str, args_json: str, import_path: str, started: Callable[[], None]) -> int:
    """
    Import `target`, run it as the agent `name` until it ends, and return the exit status.

    `started()` and READY=1 are said when `init` has returned and others can find the agent. An exception is reported
    to the supervisor with its traceback, printed, and ends the process with status 1; `Ignore` in `init` says that
    the agent is not needed.
    """

    def body() -> None:
        try:
            runtime = new_runtime(load_agent(target, import_path), place(name))
        except Exception:
            report_exception()
            raise
        sys.exit(runtime.run(args_json, started))

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


def new_runtime(agent: type[Agent], where: Place) -> Runtime:
    """What runs this class: with an event loop if something in it is `async def`."""
    if not is_async(agent):
        return Runtime(agent, where)
    from regrow.workers.async_runtime import AsyncRuntime

    return AsyncRuntime(agent, where)


class Runtime:
    """One agent in its process."""

    def __init__(self, agent: type[Agent], where: Place) -> None:
        self.name = where.mailbox.name
        self.incarnation = where.mailbox.incarnation
        self.handlers = handlers_of(agent)
        self.node = Node(where.run_dir, where.mailbox)
        self.signals = Signals(self.node, self.node.deliver)
        self.ending: Ending | None = None
        self.watchdog = Watchdog()
        self.keeper = Doorkeeper(self.node, self._look_for_circles, self.relieved)
        self._replies = agent.replies
        self._deferred: list[Callable[[], None]] | None = None
        self._complaints: set[str] = set()
        self._looked_at = 0
        self.agent = agent.__new__(agent)
        self.agent._host = self
        self._signal_type = _signal_type(agent)

    # the life of an agent

    def run(self, args_json: str, started: Callable[[], None]) -> int:
        """
        From `init` to the end.

        Returns:
            The exit status.
        """
        CHAIN.set((self.name,))
        try:
            return self._live(args_json, started)
        except Exception:
            report_exception()
            raise
        finally:
            self.keeper.close()
            self.node.close()

    def _live(self, args_json: str, started: Callable[[], None]) -> int:
        try:
            self.begin(args_json)
        except Ignore:
            notify("X_REGROW_IGNORE=1")
            return exits.DONE
        with StopSignals(self.node, self._asked_to_stop):
            self.node.announce()
            started()
            ready()
            self.serve()
            self.end()
        assert self.ending is not None
        if self.ending.text:
            notify(f"X_REGROW_EXCEPTION={self.ending.text}")
        return self.ending.status

    def begin(self, args_json: str) -> None:
        """Make the agent. Until it is made, a stop signal ends it as it would any process."""
        self.agent.__init__()  # type: ignore[misc]  # not before it knows its host
        init, values = self.arguments(args_json)
        init(self.agent, *values)

    def arguments(self, args_json: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """
        `init`, and what it is given behind the agent.

        Raises:
            TypeError: the arguments in the file do not fit.
        """
        arguments = Arguments(type(self.agent).init, f"{type(self.agent).__name__}.init")
        try:
            return arguments.function, arguments.read(args_json)
        except BadArguments as error:
            raise TypeError(f"cannot start {self.name}: {error}") from None

    def serve(self) -> None:
        """Handle what comes, until there is a reason to end."""
        receive, handle, watchdog, keeper = self.node.receive, self.handle, self.watchdog, self.keeper
        timeout_s = None
        while self.ending is None:
            if watchdog.interval_s:
                timeout_s = watchdog.turn_s()
            item = receive(timeout_s)
            if item is not None:
                keeper.task = item
                if keeper.is_parked:
                    keeper.unpark()
                handle(item)
                keeper.task = None

    def end(self) -> None:
        """Refuse what was not begun, run `terminate`, and only then answer the call that has stopped us (S193)."""
        assert self.ending is not None
        self.refuse_rest()
        self.keeper.task = self.ending
        self.keeper.unpark()
        self.agent.terminate(self.ending.reason)
        self.keeper.task = None
        self.leave()

    def refuse_rest(self) -> None:
        """Take nothing more in."""
        assert self.ending is not None
        stopping()
        self.node.refuse_all(SHUTDOWN, f"{self.name} stops ({self.ending.reason})")

    def leave(self) -> None:
        """Give the name back, and answer what was held back."""
        self.node.withdraw()
        deferred, self._deferred = self._deferred, None
        for answer in deferred or ():
            answer()
        self.node.accept()

    # what the agent asks for

    @property
    def aio(self) -> AsyncVerbs:
        raise RuntimeError(f"{self.name} has no event loop: use the verbs without aio, or make handlers `async def`")

    def stop(self, reason: str) -> None:
        """End after the present handler, whose answer waits until `terminate` has run."""
        if self.ending is None:
            self._deferred = []
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

    def handle(self, item: Item) -> None:
        """Do what it asks for."""
        if type(item) is not Envelope:
            self._run(self.hear, item)
            return
        handler = self.handlers.get(item.handler)
        if handler is None:
            self.refuse_unknown(item)
            return
        values = self.read(handler, item)
        if values is None:
            return
        if item.chain:
            CHAIN.set((*item.chain, self.name))
        try:
            result = handler.function(self.agent, *values)
        except self._replies as error:
            self.answer_error(item, error)
        except SystemExit as error:
            self.exits(error)
        else:
            if item.is_call:
                self.answer(item, handler, result)
        if item.chain:
            CHAIN.set((self.name,))

    def read(self, handler: Handler, item: Envelope) -> tuple[Any, ...] | None:
        """The arguments; None when they do not fit, which has been said then."""
        try:
            return handler.arguments(item.args, item.kwargs)
        except BadArguments as error:
            self.refuse_arguments(item, error)
            return None

    def _run(self, hook: Callable[..., Any], *args: Any) -> None:
        try:
            hook(*args)
        except SystemExit as error:
            self.exits(error)

    def hear(self, item: Down | Signal) -> Any:
        """Hand a piece of news to its hook. A signal that is not what the hook takes is the publisher's fault."""
        if isinstance(item, Down):
            return self.agent.on_down(item)
        self.signals.handled()
        if item.lost:
            self.complain(f"signals are lost, {item.lost} before one of {item.topic}: it does not keep up with them")
        message = item.message
        if self._signal_type is not None:
            try:
                message = msgspec.convert(message, self._signal_type)
            except msgspec.ValidationError as error:
                self.complain("a signal of {} is dropped: {}: {}".format(item.topic, *mismatch(error)))
                return None
        return self.agent.on_signal(item.topic, message)

    def exits(self, error: SystemExit) -> None:
        """`sys.exit()` is an orderly end, without an answer to whoever has caused it (OTP: `exit/1` in a callback)."""
        self.ending = of_exit(error)

    def answer(self, item: Envelope, handler: Handler, result: Any) -> None:
        """Send what the handler returned."""
        try:
            value = handler.reply(result)
        except BadReply as error:
            self.complain(error.text, to_supervisor=True)
            self._send(self.node.refuse, item, REMOTE_ERROR, error.text, type=error.type)
            return
        if self._deferred is None:
            self.node.reply(item, value)
        else:
            self._send(self.node.reply, item, value)

    def answer_error(self, item: Envelope, error: BaseException) -> None:
        """An exception that belongs to the caller; where nobody waits for an answer, nobody is told."""
        if item.is_call:
            self._send(self.node.refuse, item, REMOTE_ERROR, str(error), type=type(error).__name__)

    def _send(self, answer: Callable[..., None], *args: Any, **details: Any) -> None:
        if self._deferred is None:
            answer(*args, **details)
        else:
            self._deferred.append(partial(answer, *args, **details))

    def refuse_unknown(self, item: Envelope) -> None:
        """There is no such handler."""
        text = f"no handler {item.handler}; {type(self.agent).__name__} has {', '.join(self.handlers) or 'none'}"
        self.refuse_arguments(item, BadArguments("", text))

    def refuse_arguments(self, item: Envelope, error: BadArguments) -> None:
        """Tell the caller; who does not wait for an answer is told of in the log."""
        if item.is_call:
            self._send(self.node.refuse, item, BAD_REQUEST, error.text, path=error.path)
        else:
            self.complain(f"a message to {item.handler} is dropped: {error.text}")

    def complain(self, text: str, *, to_supervisor: bool = False) -> None:
        """Write a fault to the log, once, and to the status line if it is the agent's own."""
        if text in self._complaints or len(self._complaints) >= MAX_COMPLAINTS:
            return
        self._complaints.add(text)
        sys.stderr.write(f"{self.name}: {text}\n")
        sys.stderr.flush()
        if to_supervisor:
            status(text)

    # in the doorkeeper's thread

    def relieved(self) -> None:
        """It has taken in what came, and the main thread does so again."""

    def _look_for_circles(self) -> None:
        """Look among what has come since the last look for calls that wait for us while we wait for them."""
        mailbox = self.node.mailbox
        if mailbox.accepted == self._looked_at:
            return
        with self.node.locked():
            new, self._looked_at = mailbox.accepted - self._looked_at, mailbox.accepted
            for item in islice(reversed(mailbox.waiting), new):
                if isinstance(item, Envelope) and self.name in item.chain:
                    self._close_circle(item)

    def _close_circle(self, item: Envelope) -> None:
        """Let both time-outs name the circle: that of its last call, and that of the call with which we began it."""
        self.node.waiting(item)
        circle = (*item.chain[item.chain.index(self.name) :], self.name)
        for peer in self.node.peers.by_process.values():
            if peer.record.name == circle[1]:
                for pending in peer.ledger.open.values():
                    pending.cycle = circle


def _signal_type(agent: type[Agent]) -> Any:
    """What the class wants `message` to be; None: as it comes."""
    signature = Signature(agent.on_signal, f"{agent.__name__}.on_signal")
    return signature.hints[1] if len(signature.hints) > 1 and signature.hints[1] is not Any else None


__all__ = ["Runtime", "load_agent", "new_runtime", "run"]
