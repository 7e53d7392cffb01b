"""
Waiting for the daemon to finish something, and saying meanwhile what holds it up.

What is known comes from one `status` and then from the event stream; nothing is asked again and again.
"""

from __future__ import annotations

import os
import select
import sys
import time
from typing import TYPE_CHECKING, Any

from regrow.daemon.cli.output import about, screen
from regrow.daemon.cli.report import INTERRUPTED, Failed
from regrow.daemon.cli.status import ask
from regrow.ipc.control import result_of
from regrow.ipc.errors import Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from regrow.daemon.cli.shapes import Event
    from regrow.ipc.control import ControlClient

FIRST_WORD_S = 0.4
"""A shorter wait is not worth a word."""

REPAINT_S = 1.0
GRACE_S = 2.0
"""How much longer than the daemon's own time limit its answer is awaited."""

ACCEPTED_S = 2.0
BEGUN_S = 20.0
"""An apply first reads its files, and says then what is wrong with them."""

SHOWN = 4

STATE_AFTER = {
    "starting": "starting",
    "ready": "running",
    "ignored": "stopped",
    "start_failed": "failed",
    "exited": "stopped",
    "restarting": "restarting",
    "waiting": "waiting",
    "stopping": "stopping",
    "killing": "stopping",
    "stopped": "stopped",
    "gave_up": "failed",
    "child_deleted": "stopped",
}
UNDER_WAY = frozenset({"starting", "restarting", "waiting", "stopping"})


class Watch:
    """
    The children waited for, kept current from events.

    Raises:
        ControlError: the daemon does not let us look, or one of `names` is unknown.
    """

    def __init__(self, client: ControlClient, names: Sequence[str] = ()) -> None:
        self.client = client
        # First follow, then ask: a change between the two is seen twice rather than never.
        self.follow_id = client.submit("events", follow=True, limit=0)
        client.answer(self.follow_id)
        now_s = time.monotonic()
        self.known = {entry["name"]: (entry["state"], now_s) for entry in ask(client, names)}
        self.waited_for = ""
        """The names the daemon itself gave, when its own time limit was over."""
        self.doing = ""
        """What the daemon says that it does, where no child is under way."""
        self._terminal = sys.stderr.isatty()
        self._begun_s = now_s
        self._shown = False

    def note(self, event: Event) -> bool:
        """Take in one event; whether it concerns a child waited for."""
        name, state = event["name"], STATE_AFTER.get(event["event"])
        if event["event"].startswith("apply_"):
            self.doing = str(event.get("text", ""))
        if name not in self.known or state is None:
            return False
        if self.known[name][0] != state:
            self.known[name] = (state, time.monotonic())
        return True

    def held_up_by(self) -> str:
        """`redis (stopping, 3s), web (starting, 1s)`: who is under way, longest first; empty for nobody."""
        now_s = time.monotonic()
        busy = [(since_s, name, state) for name, (state, since_s) in self.known.items() if state in UNDER_WAY]
        words = [f"{name} ({state}, {about(now_s - since_s)})" for since_s, name, state in sorted(busy)]
        more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
        return ", ".join(words[:SHOWN]) + more

    def next_look_s(self, deadline_s: float) -> float:
        """How long to wait for something new: until the deadline, or the next repaint on a terminal."""
        left_s = max(deadline_s - time.monotonic(), 0.0)
        if not self._terminal:
            return left_s
        return min(left_s, REPAINT_S if self._shown else FIRST_WORD_S)

    def show(self) -> None:
        """Say on a terminal's stderr what is waited for; the line is overwritten each time."""
        waited_s = time.monotonic() - self._begun_s
        if not self._terminal or (waited_s < FIRST_WORD_S and not self._shown):
            return
        self._shown = True
        text = f"waiting for {self.held_up_by() or self.doing or 'the daemon'} · {about(waited_s)}"
        sys.stderr.write(f"\r\x1b[K{screen(sys.stderr).cut(text)}")
        sys.stderr.flush()

    def clear(self) -> None:
        """Take the line away."""
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = False


def finished(watch: Watch, request_id: int, what: str, timeout_s: float, look: str = "regrow status") -> Any:
    """
    Wait for the answer to a request that takes its time; `look` shows how far it is.

    Raises:
        Failed: not within `timeout_s`, or ^C; the message names what holds it up.
        Refused: the daemon said no.
    """
    deadline_s = time.monotonic() + timeout_s + GRACE_S
    try:
        while time.monotonic() < deadline_s:
            watch.show()
            message = watch.client.receive(watch.next_look_s(deadline_s))
            if message is None:
                continue
            if message.get("id") in (request_id, None):
                return result_of(message)
            if "event" in message:
                watch.note(message["event"])
    except Refused as error:
        if error.code != "timeout":
            raise
        watch.waited_for = ", ".join(error.details.get("waiting", ()))
    except KeyboardInterrupt:
        raise interrupted(what, f"look with `{look}`") from None
    finally:
        watch.clear()
    raise late(watch, what, timeout_s, f"it goes on: look with `{look}`")


def accepted(watch: Watch, request_id: int) -> Any:
    """
    The answer if it comes at once; None as soon as the first event shows that the daemon is at work.

    Raises:
        Refused: the daemon said no.
    """
    return _answer_before(watch, request_id, ACCEPTED_S, watch.note)


def begun(watch: Watch, request_id: int) -> Any:
    """
    The answer of an apply if it comes before the first event about it.

    Raises:
        Refused: the daemon said no.
    """
    answer = _answer_before(watch, request_id, BEGUN_S, lambda event: event["event"] == "apply_started")
    return {"outcome": "requested"} if answer is None else answer


def _answer_before(watch: Watch, request_id: int, within_s: float, is_sign: Callable[[Event], bool]) -> Any:
    """The answer, unless a sign that the daemon is at work comes before it, or nothing: then None."""
    deadline_s = time.monotonic() + within_s
    while (left_s := deadline_s - time.monotonic()) > 0:
        message = watch.client.receive(left_s)
        if message is not None and message.get("id") == request_id:
            return result_of(message)
        if message is not None and "event" in message and is_sign(message["event"]):
            break
    return None


def gone(watch: Watch, pidfd: int, what: str, timeout_s: float) -> None:
    """
    Wait until the process behind `pidfd` is no more, following the daemon's events while they last.

    Raises:
        Failed: not within `timeout_s`, or ^C; the message names what holds it up.
    """
    deadline_s = time.monotonic() + timeout_s
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    # First what has been read along with an earlier answer: the socket will not announce it again.
    if _took_in_all(watch):
        poll.register(watch.client.fileno(), select.POLLIN)
    try:
        while time.monotonic() < deadline_s:
            watch.show()
            for descriptor, _ in poll.poll(watch.next_look_s(deadline_s) * 1000):
                if descriptor == pidfd:
                    return
                if not _took_in_all(watch):
                    poll.unregister(descriptor)
    except KeyboardInterrupt:
        raise interrupted(what, "`regrow down --now` kills what is left") from None
    finally:
        watch.clear()
    raise late(watch, what, timeout_s, "it goes on; `regrow down --now` kills what is left")


def open_root(client: ControlClient, told_pid: int) -> int:
    """
    A pidfd of the daemon's root process.

    Opened while the daemon still answers on this connection, so that it cannot be another process's.
    """
    # The kernel's word counts: in another pid namespace the daemon knows itself by another number.
    return os.pidfd_open(client.peer_pid() or told_pid)


def late(watch: Watch, what: str, timeout_s: float, remedy: str) -> Failed:
    """The failure that names what was still under way when the time was over."""
    held = watch.held_up_by() or watch.waited_for
    waiting = f"still waiting for {held}" if held else "the daemon has not said that it is done"
    return Failed(f"cannot see the end of `{what}` within {about(timeout_s)}: {waiting}; {remedy}")


def interrupted(what: str, remedy: str) -> Failed:
    """^C ends the waiting, not what is waited for."""
    return Failed(f"interrupted; `{what}` goes on: {remedy}", INTERRUPTED)


def _took_in_all(watch: Watch) -> bool:
    """Note every event that is here; False when the daemon has hung up."""
    try:
        while (message := watch.client.receive(0)) is not None:
            if "event" in message:
                watch.note(message["event"])
    except Unreachable:
        return False
    return True
