"""
What can go wrong between a client and the daemon, by who must act.

    ControlError              every error of this package; its text is one line: what, where, what to do
    ├── Refused               the daemon understood and said no; `code` is from a closed list
    ├── Unreachable           no daemon answered: none runs there, or this user may not talk to it
    ├── Ambiguous             several daemons run and the caller did not say which
    └── ControlTimeout        the daemon is there and its answer did not come in time

Between a process and the one that it sends to: each message ends as exactly one of an answer or one of these.

    MessageError              every error of a message; its text says to whom and what
    ├── NoProcess             nobody has that name: nothing was sent
    ├── ProcessDown           the receiver died before it answered; `down` says of what
    ├── Backpressure          a mailbox, or what waits for one, is full: nothing was taken in
    ├── CallTimeout           no answer in time; the receiver may still do the work (S184)
    ├── DeliveryTimeout       not accepted in time, and not refused either: it may still be
    ├── BadRequest            the receiver understood no such message: `path` is the place of the fault
    │   └── NoProgram         a system command whose program is nowhere in PATH
    ├── RemoteError           the handler raised what belongs to its callers: `type` and `text`
    ├── CallingSelf           a process called itself, and would have waited for itself
    └── Refused               the receiver said no, such as `shutdown` while it stops (a ControlError as well)

In an agent, about its own state; it is for the author of the agent to act on:

    BadState                  a key or value that state cannot hold, or that is stored and is not what the code expects
    BadSchedule               what is said of when something is to be done says nothing of the kind

Between a process and what is kept for it: nothing was changed when one of these is raised.

    StoreError                the store did not do it; its text says what, where and what to do
    ├── StoreDamaged          one row of it cannot be read; all others can
    ├── StoreFull             no room: the disk, a quota or the file size limit is full; goes on when there is some
    └── StoreUnusable         it cannot be opened, read or written: damaged, of another version, without permission

Between a process and the runs of workflows:

    WorkflowError             what was asked for cannot be done with that run; its text says why
    ├── NoRun                 there is no run of that id, or none any more
    ├── RunFailed             it is over and has no result: `step`, `type` and `text` say why
    ├── RunCancelled          it is over and has no result: somebody has cancelled it
    └── RunTimeout            it was not over in time, and goes on
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from regrow.ipc.down import Down


class ControlError(Exception):
    """Anything that kept a request from being answered with `ok`."""


class MessageError(Exception):
    """Anything that a message may come to except its answer."""


class Refused(ControlError, MessageError):
    """
    The daemon, or the process that a message went to, refused: nothing was done, or `message` says what was.

    `details` holds whatever else the answer carried, such as the `pid` of `already_started`.
    """

    def __init__(self, code: str, message: str, details: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.details: dict[str, Any] = dict(details or {})


class Unreachable(ControlError):
    """
    There was nobody to ask, or the connection broke before the answer.

    `absent`: no daemon is there at all, as opposed to one that cannot be talked to. `denied`: this user may not.
    """

    def __init__(self, what: str, why: str, remedy: str, *, absent: bool = False, denied: bool = False) -> None:
        super().__init__(f"{what}: {why}; {remedy}")
        self.absent = absent
        self.denied = denied
        self.what = what
        self.why = why
        self.remedy = remedy


class Ambiguous(ControlError):
    """Several daemons run; `run_dirs` are theirs."""

    def __init__(self, listed: str, run_dirs: Sequence[str]) -> None:
        super().__init__(
            f"cannot tell which daemon is meant: {len(run_dirs)} run ({listed}); say --name NAME or --run-dir DIR"
        )
        self.run_dirs = tuple(run_dirs)


class ControlTimeout(ControlError):
    """
    The answer did not come within `within_s` seconds.

    The request may have been carried out, or still be: this says nothing about it.
    """

    def __init__(self, what: str, within_s: float, remedy: str) -> None:
        super().__init__(f"{what}: no answer within {within_s:g} s; {remedy}")
        self.within_s = within_s


class NoProcess(MessageError):
    """No living process has the name `to`; nothing was sent (S185)."""

    def __init__(self, to: str, why: str = "no process has that name") -> None:
        super().__init__(f"cannot reach {to or repr(to)}: {why}")
        self.to = to


class ProcessDown(MessageError):
    """
    The receiver died before it answered; whether it did the work before is not known (S186).

    Its exact reason is asked for when it is first looked at, so that the news of the death need not wait for it.
    """

    def __init__(self, down: Down) -> None:
        super().__init__(down)
        self.down = down

    @property
    def reason(self) -> str:
        return self.down.reason

    def __str__(self) -> str:
        return f"{self.down.name} ended before it answered: {self.down}"


class Backpressure(MessageError):
    """
    `length` messages wait already and `limit` are allowed; this one was not taken in.

    The limit is that of the receiver's mailbox, or of what this process may have on its way to one receiver. Where
    there is one of bytes and it was that, `size` and `limit_bytes` say how many wait and are allowed; else they are 0.
    """

    def __init__(
        self, to: str, length: int, limit: int, where: str = "its mailbox", *, size: int = 0, limit_bytes: int = 0
    ) -> None:
        holds = f"{length} messages of at most {limit}"
        if limit_bytes:
            holds = f"{length} messages of {size} bytes, with this one more than the {limit_bytes} that it takes"
        super().__init__(f"cannot send to {to}: {where} holds {holds}; send slower")
        self.to = to
        self.length = length
        self.limit = limit
        self.where = where
        self.size = size
        self.limit_bytes = limit_bytes


class CallTimeout(MessageError, TimeoutError):
    """
    No answer within `within_s` seconds; the receiver was not told and may still do the work (S184).

    `cycle` names the processes that wait for each other, where that is what happened.
    """

    def __init__(self, to: str, handler: str, within_s: float, cycle: Sequence[str] = ()) -> None:
        text = f"no answer of {to} to {handler} within {within_s:g} s"
        if cycle:
            text += f": {' -> '.join(cycle)} wait for each other"
        super().__init__(text)
        self.to = to
        self.handler = handler
        self.within_s = within_s
        self.cycle = tuple(cycle)


class DeliveryTimeout(MessageError, TimeoutError):
    """Within `within_s` seconds the receiver neither accepted nor refused; waiting may go on."""

    def __init__(self, to: str, handler: str, within_s: float) -> None:
        super().__init__(f"{to} has not accepted {handler} within {within_s:g} s; it may be stopped or overloaded")
        self.to = to
        self.handler = handler
        self.within_s = within_s


class BadRequest(MessageError):
    """
    The message does not fit the handler, or is none: `path` is the place of the fault, as in `$.quantity`.

    Raised by the sender itself, before anything was sent or kept, where no message can carry an argument.
    """

    def __init__(self, to: str, text: str, path: str = "") -> None:
        super().__init__(f"{to} does not take this: {text}")
        self.to = to
        self.text = text
        self.path = path


class NoProgram(BadRequest):
    """There is no program of that name where commands are looked for; nothing was run."""


class RemoteError(MessageError):
    """The handler raised an exception that its agent lists in `replies`; the agent lives on."""

    def __init__(self, to: str, type: str, text: str) -> None:
        super().__init__(f"{to}: {type}: {text}" if text else f"{to}: {type}")
        self.to = to
        self.type = type
        self.text = text


class CallingSelf(MessageError):
    """A process called itself: it would have waited for its own answer (S188)."""

    def __init__(self, to: str) -> None:
        super().__init__(f"{to} cannot call itself: it would wait for its own answer")
        self.to = to


class StoreError(Exception):
    """Anything that kept the store from doing what it was asked for; nothing was changed."""


class StoreDamaged(StoreError):
    """The row `key` says nothing that can be understood; it is as it was."""

    def __init__(self, what: str, key: bytes, why: str, remedy: str) -> None:
        super().__init__(f"cannot read {what} in the store, row {key!r}: {why}; {remedy}")
        self.key = key


class StoreFull(StoreError):
    """There is no room at `path`: what was to be kept is not, and what is there is whole."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(f"no room in the store {path}: {why}; make room there, and it goes on")
        self.path = path


class StoreUnusable(StoreError):
    """The store at `path` cannot be used as it is."""

    def __init__(self, path: str, why: str, remedy: str) -> None:
        super().__init__(f"cannot use the store {path}: {why}; {remedy}")
        self.path = path


class BadState(ValueError):
    """
    State cannot hold this, or holds what the code does not expect; nothing was changed.

    `key` is the key (None: it is about all of the state), and `path` the place inside its value, as in `$.lines[2]`:
    empty when it is about the key itself.
    """

    def __init__(self, key: object, text: str, path: str = "") -> None:
        shown = repr(key)
        shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
        what = "the state" if key is None else f"state[{shown}]"
        place = f" at {path}" if path not in ("", "$") else ""
        super().__init__(f"cannot use {what}{place}: {text}")
        self.key = key
        self.text = text
        self.path = path


class BadSchedule(ValueError):
    """Nothing can be scheduled by `when`; nothing was changed."""

    def __init__(self, when: object, text: str, hint: str = "") -> None:
        shown = repr(when)
        shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
        super().__init__(f"cannot schedule {shown}: {text}" + (f"; {hint}" if hint else ""))
        self.when = when
        self.text = text


class WorkflowError(Exception):
    """Something about a run of a workflow."""


class NoRun(WorkflowError):
    """There is no run `id`; runs that are over are kept for a while (`keep` in the file)."""

    def __init__(self, id: str) -> None:
        super().__init__(f"there is no run {id}; `regrow workflow list` shows those that there are")
        self.id = id


class RunFailed(WorkflowError):
    """The run `id` has failed, in `step` ("": between steps), with an exception of the type and text."""

    def __init__(self, id: str, step: str, type: str, text: str) -> None:
        where = f" in {step}" if step else ""
        super().__init__(f"run {id} has failed{where}: {type}{f': {text}' if text else ''}")
        self.id = id
        self.step = step
        self.type = type
        self.text = text


class RunCancelled(WorkflowError):
    """The run `id` was cancelled."""

    def __init__(self, id: str) -> None:
        super().__init__(f"run {id} was cancelled")
        self.id = id


class RunTimeout(WorkflowError, TimeoutError):
    """The run `id` was not over within `within_s` seconds; it goes on, and may be waited for again."""

    def __init__(self, id: str, within_s: float) -> None:
        super().__init__(f"run {id} was not over within {within_s:g} s; it goes on while its daemon runs")
        self.id = id
        self.within_s = within_s
