"""
The course of one run in its process: what it is answered when it calls a step, and what becomes of it.

Source: architecture section 7; setitimer(2): without a handler, SIGALRM ends the process, whatever it is doing.
"""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from regrow.ipc import statekeys
from regrow.ipc import workflow_rows as rows
from regrow.ipc.errors import BadState, StoreError
from regrow.ipc.points import Point, hit
from regrow.ipc.posts import MAX_TEXT, Box, decode
from regrow.ipc.store import Store, Txn
from regrow.ipc.transaction import Transaction
from regrow.ipc.wire import UNSENDABLE
from regrow.ipc.workflow_history import (
    RECEIVE,
    SLEEP,
    Act,
    OtherName,
    Settled,
    Wait,
    begun,
    failed,
    key_of,
    next_of,
    to_undo,
)
from regrow.ipc.workflow_rows import NO_ARGS, NO_KWARGS, Fault, Run, Status, Step, StepState
from regrow.workers.alarm import Alarm
from regrow.workers.errors import NotDeterministic, RunIsCancelled, StepFailed
from regrow.workers.handlers import Handler, Signature
from regrow.workers.state_values import Values, values_of
from regrow.workers.unit import UNIT
from regrow.workers.workflow import Spec, Workflow, undoing_of

if TYPE_CHECKING:
    from regrow.workers.workflow_run import RunRuntime

T = TypeVar("T")

AGAIN_S = 1.0
"""When the store was full or broken, how long until the next try."""

_encode = msgspec.msgpack.Encoder().encode


class Stopped(BaseException):
    """The process is to end; its successor goes on."""


class RunCourse:
    """
    One run; `done` and `undone` are its calls as they are kept, by their numbers.

    Args:
        host: what runs it.
        workflow: its class.
    """

    def __init__(self, host: RunRuntime, id: str, workflow: type[Workflow]) -> None:
        self.id = id
        self._host = host
        self._kind = workflow
        self._store: Store = host.posting.store
        self._db = self._store.messages
        self._is_undoing = False
        self._number = 0
        self._now: tuple[int, bool] | None = None
        self._workflow = self._made()
        self.done, self.undone = self._store.read(lambda txn: rows.steps(txn, self._db, id))

    # the whole

    def go(self, run: Run) -> None:
        """
        Do what is left of it, up to its end.

        Raises:
            Stopped: before that.
        """
        if run.status is Status.UNDOING:
            self._undo_all(run)
            return
        fault: Fault | None = None
        try:
            value = self._run(run)
        except RunIsCancelled:
            pass
        except NotDeterministic as error:
            self._end(Status.FAILED, fault=_fault_of(error))  # its code is to be put right, and nothing to be undone
            return
        except StoreError:
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, it is what the run has come to
            fault = _fault_of(error)
        else:
            self._end(Status.FINISHED, value=value)
            return
        undoing = replace(run, status=Status.UNDOING, fault=fault)
        self._change(lambda run: replace(run, status=Status.UNDOING, fault=fault))
        self._undo_all(undoing)

    def _run(self, run: Run) -> Raw:
        workflow = self._workflow
        start = Handler("run", self._kind.run)
        result = start.function(workflow, *start.arguments(run.args, run.kwargs))
        return Raw(start.reply(result))

    def _made(self) -> Workflow:
        workflow = self._kind.__new__(self._kind)
        workflow._host = self._host
        workflow.__init__()  # type: ignore[misc]  # not before it knows its host
        workflow._course = self
        return workflow

    def _undo_all(self, run: Run) -> None:
        """Undo each call that can be undone, the last one first; one that cannot be keeps no other from it."""
        self._is_undoing = True
        workflow = self._workflow = self._made()  # it has nothing that `run` has left there: another process had not
        undoable = {name for name, spec in self._kind.steps.items() if spec.undo is not None}
        for number in to_undo(self.done, self.undone, undoable):
            try:
                self._undo(workflow, number)
            except StepFailed:
                pass  # it is on record, and told at the end
        stuck = [step.fault for step in self.undone.values() if step.state is StepState.FAILED]
        status = Status.FAILED if run.fault is not None else Status.CANCELLED
        self._end(status, fault=run.fault, unfault=stuck[0] if stuck else None)

    def _undo(self, workflow: Workflow, number: int) -> None:
        step = self.done[number]
        spec = undoing_of(self._kind, self._kind.steps[step.name])
        handler = Handler(spec.name, spec.function)
        if len(Signature(spec.function, spec.name).parameters) == 1:
            args, kwargs = Raw(_encode((step.value,))), NO_KWARGS
        else:
            args, kwargs = Raw(_encode((step.value, *msgspec.msgpack.decode(step.args, type=list[Raw])))), step.kwargs

        def undo() -> Any:
            return handler.function(workflow, *handler.arguments(args, kwargs))

        self._perform(number, spec, undo, (NO_ARGS, NO_KWARGS))

    # steps

    @property
    def key(self) -> str:
        """That of the step that runs."""
        if self._now is None:
            raise RuntimeError("`key` belongs to a step, and none runs here")
        number, undo = self._now
        return key_of(self.id, number, (self.undone if undo else self.done).get(number), undo=undo)

    def call(self, spec: Spec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """
        What a step has returned, now or earlier. Within another step, it is a part of that one.

        Raises:
            StepFailed, NotDeterministic, RunIsCancelled, Stopped.
        """
        workflow = self._workflow
        if self._now is not None:
            return spec.function(workflow, *args, **kwargs)
        number = self._next()
        kept = _kept_args(spec, args, kwargs) if spec.undo is not None else (NO_ARGS, NO_KWARGS)
        values = _values(spec)
        value = self._perform(number, spec, lambda: spec.function(workflow, *args, **kwargs), kept)
        return values.read(value, statekeys.encode(spec.name))

    def _next(self) -> int:
        number = self._number
        self._number += 1
        return number

    def _perform(self, number: int, spec: Spec, call: Callable[[], Any], args: tuple[Raw, Raw]) -> Raw:
        kept = self.undone if self._is_undoing else self.done
        while True:
            match next_of(kept.get(number), spec.name, time.time()):
                case Settled(step):
                    if step.state is StepState.DONE:
                        return step.value
                    fault = step.fault or Fault("", "")
                    raise StepFailed(step.name, number, fault.type, fault.text)
                case OtherName(name):
                    raise NotDeterministic(self.id, number, name, spec.name)
                case Wait(until):
                    self._wait(until, lambda _txn: None)
                case Act():
                    self._attempt(number, spec, call, args)

    def _attempt(self, number: int, spec: Spec, call: Callable[[], Any], args: tuple[Raw, Raw]) -> None:
        kept = self.undone if self._is_undoing else self.done
        step = begun(kept.get(number), spec.name, args, time.time())
        self._keep(number, step, Transaction())
        hit(Point.STEP_BEGUN)
        unit = self._host.unit
        try:
            value = self._called(number, spec, call)
            unit.settle()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the attempt has come to nothing
            unit.roll_back()
            is_final = isinstance(error, (BadState, *spec.final))  # what cannot be kept now never can
            step = failed(step, _fault_of(error), spec.policy, time.time(), is_final=is_final)
            self._keep(number, step, Transaction())
            return
        over = replace(step, state=StepState.DONE, value=value, is_begun=False, ended_at=time.time(), fault=None)
        self._keep(number, over, unit.transaction)
        unit.begin()
        hit(Point.STEP_KEPT)

    def _called(self, number: int, spec: Spec, call: Callable[[], Any]) -> Raw:
        """What it returns, encoded. The kernel ends this process if that takes too long."""
        values = _values(spec)
        self._now = number, self._is_undoing
        token = UNIT.set(self._host.unit)
        self._host.work(spec)
        if spec.timeout_s is not None:
            signal.setitimer(signal.ITIMER_REAL, spec.timeout_s)
        try:
            result = call()
        finally:
            if spec.timeout_s is not None:
                signal.setitimer(signal.ITIMER_REAL, 0.0)
            self._host.work(None)
            UNIT.reset(token)
            self._now = None
        hit(Point.STEP_RETURNED)
        return Raw(values.write(result, statekeys.encode(spec.name)))

    # waits

    def sleep(self, until: float | None, seconds: float) -> None:
        """Wait until then, or for so long from the first call on."""
        number, step = self._wait_step(SLEEP, lambda now: now + seconds if until is None else until)
        if step.state is StepState.DONE:
            return
        self._wait(step.due_at, lambda _txn: None)
        self._keep(number, replace(step, state=StepState.DONE, ended_at=time.time()), Transaction())

    def receive(self, name: str, timeout_s: float | None, returns: Any) -> Any:
        """The next message of this name, taken out of the box of the run as the wait is over; None: none has come."""
        far = float("inf") if timeout_s is None else timeout_s
        number, step = self._wait_step(RECEIVE + name, lambda now: now + far)
        if step.state is not StepState.DONE:
            box = Box(self._db, self._host.name)
            found = self._wait(step.due_at, lambda txn: _first_of(box, txn, name))
            value = found[1] if found is not None else rows.NIL
            work = Transaction()
            if found is not None:
                ordinal = found[0]
                work.then.append(lambda txn: (box.take(txn, ordinal), None)[1])
            step = replace(step, state=StepState.DONE, value=value, ended_at=time.time())
            self._keep(number, step, work)
        if step.value == rows.NIL:
            return None
        return msgspec.msgpack.decode(step.value, type=Any if returns is None else returns)

    def _wait_step(self, name: str, due: Callable[[float], float]) -> tuple[int, Step]:
        """The record of a wait, which is made at the first call."""
        if self._now is not None:
            raise RuntimeError("a step cannot wait: let `run` do it, between steps")
        number = self._next()
        step = self.done.get(number)
        now = time.time()
        action = next_of(step, name, now)
        if isinstance(action, OtherName):
            raise NotDeterministic(self.id, number, action.kept, name)
        if step is None or step.name != name:
            step = Step(name, began_at=now, due_at=due(now))
            self._keep(number, step, Transaction())
        return number, step

    def _wait(self, until: float, look: Callable[[Txn], T | None]) -> T | None:
        """
        Wait until `look` finds something, which is asked again whenever the bell has rung; None after `until`.

        Raises:
            RunIsCancelled, Stopped.
        """
        host = self._host
        with Alarm(host.node, until):
            while True:
                self._heed_stop()
                host.posts.is_due = False
                found = self._safely(lambda: self._store.look(lambda txn: self._look(txn, look)))
                if found is not None or time.time() >= until:
                    return found
                while not host.posts.is_due and host.ending is None and time.time() < until:
                    if (item := host.node.receive()) is not None:
                        host.handle(item)

    def _look(self, txn: Txn, look: Callable[[Txn], T | None]) -> T | None:
        self._heed_cancel(txn)
        return look(txn)

    def _heed_stop(self) -> None:
        if self._host.ending is not None:
            raise Stopped

    def _heed_cancel(self, txn: Txn) -> None:
        if not self._is_undoing:
            run = rows.get(txn, self._db, self.id)
            if run is not None and run.is_cancelled:
                raise RunIsCancelled

    # what is kept

    def _keep(self, number: int, step: Step, work: Transaction) -> None:
        """
        Commit a call as it is now, with all that belongs to it.

        Raises:
            RunIsCancelled: it was about to be begun; Stopped.
        """
        undo = self._is_undoing

        def put(txn: Txn) -> None:
            if step.is_begun:
                self._heed_cancel(txn)
            rows.put_step(txn, self._db, self.id, number, step, undo=undo)

        if step.is_begun:
            self._heed_stop()
        work.then.append(put)
        self._safely(lambda: self._host.posting.commit(work))
        (self.undone if undo else self.done)[number] = step

    def _change(self, change: Callable[[Run], Run]) -> None:
        def put(txn: Txn) -> None:
            run = rows.get(txn, self._db, self.id)
            assert run is not None, "a run that is not over is not forgotten"
            rows.put(txn, self._db, self.id, change(run))

        self._safely(lambda: self._store.write(put))

    def _end(
        self, status: Status, *, value: Raw = rows.NIL, fault: Fault | None = None, unfault: Fault | None = None
    ) -> None:
        work = Transaction()

        def end(txn: Txn) -> None:
            run = rows.get(txn, self._db, self.id)
            assert run is not None, "a run that is not over is not forgotten"
            over = replace(run, status=status, value=value, fault=fault, unfault=unfault)
            for bell in rows.end(txn, self._db, self.id, over, time.time()):
                self._store.ring(bell)

        work.then.append(end)
        work.posts.append(self._host.posting.write(self._host.desk, rows.LOOK, (), {}))
        self._safely(lambda: self._host.posting.commit(work))

    def _safely(self, commit: Callable[[], T]) -> T:
        """Do it as soon as the store can: what a step has done is not to be done again for want of room."""
        is_told = False
        while True:
            try:
                return commit()
            except StoreError as error:
                if not is_told:
                    self._host.complaints.make(f"run {self.id} waits: {error}", to_supervisor=True)
                    is_told = True
                self._heed_stop()
                self._host.node.receive(AGAIN_S)


def _first_of(box: Box, txn: Txn, name: str) -> tuple[int, Raw] | None:
    """The first post for `receive(name)`, and its value."""
    last = -1
    while found := box.after(txn, last, 64, 1 << 20):
        for last, value in found:
            post = decode(value)
            if post.handler == name:
                return last, _value_of(post.args, post.kwargs)
    return None


def _value_of(args: Raw, kwargs: Raw) -> Raw:
    """One argument is the value; more of them are a list, and named ones a map."""
    values = msgspec.msgpack.decode(args, type=list[Raw])
    if len(values) == 1:
        return values[0].copy()
    return Raw(bytes(args if values or kwargs == NO_KWARGS else kwargs))


def _kept_args(spec: Spec, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Raw, Raw]:
    try:
        return Raw(_encode(args)), Raw(_encode(kwargs))
    except UNSENDABLE as error:
        raise TypeError(f"cannot keep the arguments of {spec.name}, which {spec.undo} may need: {error}") from None


def _values(spec: Spec) -> Values:
    return values_of(Signature(spec.function, f"step {spec.name}").returns)


def _fault_of(error: BaseException) -> Fault:
    if isinstance(error, StepFailed):
        return Fault(error.type, error.text, error.step, error.number)
    trace = "".join(traceback.format_exception(error))
    return Fault(type(error).__name__, str(error)[:MAX_TEXT], trace=trace[-MAX_TEXT:])
