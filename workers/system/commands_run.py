"""One command from its start to its end, in its runner."""

from __future__ import annotations

import os
import select
import signal
import socket
import time
from collections.abc import Callable

import msgspec

from regrow.ipc import commands_wire as wire
from regrow.ipc.commands_wire import Ended, Malformed
from regrow.workers import clone
from regrow.workers.system import commands_child as child
from regrow.workers.system.commands_below import children_of
from regrow.workers.system.commands_folder import remove_folder
from regrow.workers.system.commands_job import Job, Lines, Post
from regrow.workers.system.commands_pipes import Input, Output
from regrow.workers.system.commands_shares import Shares
from regrow.workers.system.commands_start import Started, Starter
from regrow.workers.system.commands_tree import end_all, group_number
from regrow.workers.system.commands_used import Used
from regrow.workers.system.commands_watch import GONE, IN, OUT, Watch

OUTBOX_BYTES = 1 << 18
"""Output that the requester has not taken yet; beyond it the command has to wait."""

END_S = 10.0
"""How long the kernel may take to end killed processes before that is said instead."""

TOLD_S = 10.0
"""How long a requester may take to hear of the end."""

TOO_MUCH = "it needed more memory than it may have"
TOO_LITTLE = "the machine, or a group above its own, was out of memory: commands are ended first"


class Run:
    """`launch` makes a launch with these streams, of which the starter makes a process."""

    def __init__(
        self, post: Post, job: Job, lines: Lines, launch: Callable[[child.Streams], child.Launch], starter: Starter
    ) -> None:
        self._starter = starter
        self._post = post
        self._job = job
        self._lines = lines
        self._launch = launch
        self._used = Used()
        self._null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        self._outputs = (
            Output(wire.STDOUT, job.request.stdout_limit, self._null),
            Output(wire.STDERR, job.request.stderr_limit, self._null),
        )
        self._watch = Watch()
        self._input = Input(lines.connection, self._watch.forget) if job.request.feeds else None
        self._outbox = bytearray()
        self._cause = ("", "")
        self._failure: child.Failure | None = None
        self._dead = False
        self._pid = 0
        self._at = time.time()
        self._began_s = time.monotonic()
        self._shares = Shares(post.host_proc)
        self._opened: list[int] = []

    def to_its_end(self) -> bool:
        """Run it, end it, and tell of it; whether nothing of it is left, here either."""
        lines = self._lines
        lines.connection.setblocking(False)
        self._watch.add(lines.connection.fileno(), GONE, self._heard)
        self._watch.add(self._post.worker.fileno(), IN, lambda _: self._end("cancelled", "the commands worker ends"))
        if lines.requester_fd >= 0:
            self._watch.add(lines.requester_fd, IN, lambda _: self._end("cancelled", "its requester has died"))
        try:
            self._begin()
        except OSError as error:
            self._failure = child.Failure("start a process", error.errno or 0)
        while not self._dead and not self._cause[0] and self._failure is None:
            self._turn()
        is_clean = self._finish()
        self._close()
        return is_clean and self._pid > 0

    # while it runs

    def _begin(self) -> None:
        feed = self._input
        out, err = (output.write_fd for output in self._outputs)
        try:
            told_fd, wake_fd = orphans_told()
            self._opened += told_fd, wake_fd
            self._watch.add(told_fd, IN, lambda _: self._reap(told_fd))
            stdin = feed.read_fd if feed is not None else self._null
            started = self._starter.start(self._launch((stdin, out, err)), self._lines.group_fd)
        finally:
            for fd in (out, err, *((feed.read_fd,) if feed is not None else ())):
                os.close(fd)
        self._pid = started.pid
        self._opened.append(started.status_fd)
        pidfd = os.pidfd_open(started.pid)
        self._opened.append(pidfd)
        self._watch.add(pidfd, IN, lambda _: self._died())
        self._watch.add(started.status_fd, IN, lambda _: self._executed(started))
        for output in self._outputs:
            self._watch.add(output.fd, IN, lambda _, output=output: self._take(output))  # type: ignore[misc]
        if feed is not None:
            self._watch.add(feed.fd, 0, lambda events: feed.close() if events & GONE else feed.hand_on())

    def _turn(self) -> None:
        left_s = self._job.deadline_s - time.monotonic()
        if left_s <= 0:
            self._end("timeout", f"it took longer than {self._job.request.timeout_s:g} s")
            return
        self._balance()
        self._watch.turn(min(left_s, max(0.0, self._shares.due_s - time.monotonic())))
        if time.monotonic() >= self._shares.due_s:
            self._shares.attend()
        self._flush()

    def _balance(self) -> None:
        """Wait only for what something can be done with now."""
        is_clogged = len(self._outbox) > OUTBOX_BYTES
        for output in self._outputs:
            self._watch.want(output.fd, 0 if is_clogged and not output.is_full else IN)
        feed = self._input
        is_fed = feed is not None and not feed.waiting
        if feed is not None:
            self._watch.want(feed.fd, OUT if feed.waiting else 0)
        self._watch.want(self._lines.connection.fileno(), GONE | (OUT if self._outbox else 0) | (IN if is_fed else 0))

    def _heard(self, events: int) -> None:
        if events & GONE:
            self._end("cancelled", "its requester wants no more of it")
        elif events & IN and self._input is not None:
            try:
                self._input.receive()
            except (OSError, Malformed):
                self._end("cancelled", "what its requester has sent cannot be read")

    def _executed(self, started: Started) -> None:
        self._failure = started.failure(os.read(started.status_fd, 4096))
        self._watch.forget(started.status_fd)
        if self._failure is None:
            pid = self._host_pid()
            self._shares.begin(pid)
            self._say(wire.pack(wire.STARTED, wire.Started(self._job.run, pid)))

    def _host_pid(self) -> int:
        """The command's pid as the daemon sees it; it is the oldest of our children."""
        found = children_of("self", self._post.host_proc)
        return found[0] if found else self._pid

    def _take(self, output: Output) -> None:
        piece = output.take()
        if piece is None:
            self._watch.forget(output.fd)
        else:
            self._outbox += piece

    def _died(self) -> None:
        self._dead = True

    def _reap(self, told_fd: int) -> None:
        """Bury orphans as they die; the command itself is left until all is ended, so that its number stays its own."""
        os.read(told_fd, 4096)
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid == self._pid:
                self._dead = True
                return
            self._used.bury(found.si_pid)

    def _end(self, reason: str, text: str) -> None:
        self._cause = (reason, text)

    def _say(self, said: bytes) -> None:
        """Tell the worker and, behind what it has been told already, the requester."""
        self._outbox += said
        try:
            self._post.worker.send(said, socket.MSG_NOSIGNAL)
        except OSError:
            pass  # it has died, and so do we

    def _flush(self) -> None:
        try:
            while self._outbox:
                sent = self._lines.connection.send(self._outbox[:OUTBOX_BYTES], socket.MSG_NOSIGNAL)
                del self._outbox[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self._outbox.clear()  # the requester is gone, which is heard of by itself

    # the end

    def _finish(self) -> bool:
        lasted_s = time.monotonic() - self._began_s
        status = self._status() if self._dead else None
        is_first = bool(self._post.place.spaces & clone.NEW_PIDS)
        is_gone = end_all(self._lines.group_fd, self._used, is_first=is_first, within_s=END_S)
        self._shares.end()
        if is_gone:
            for output in self._outputs:
                self._outbox += output.rest()
        ended = self._ended(status, lasted_s)
        if not is_gone:
            ended = msgspec.structs.replace(ended, text=f"{ended.text}; some of its processes do not die".lstrip("; "))
        # What is left of its directory, as where something is mounted, the worker removes.
        is_removed = remove_folder(self._job.work_dir)
        self._say(wire.pack(wire.ENDED, ended))
        self._hand_over()
        return is_gone and is_removed

    def _status(self) -> int:
        """How the command ended. Its process group ends with it; until it is reaped, the number is its own."""
        try:
            os.killpg(self._pid, signal.SIGKILL)
        except OSError:
            pass
        return os.waitstatus_to_exitcode(self._used.bury(self._pid)[1])

    def _ended(self, status: int | None, lasted_s: float) -> Ended:
        used = self._used
        reason, text, code, number = self._reason(status)
        failure = self._failure
        return Ended(
            run=self._job.run,
            reason=reason,
            code=code,
            signal=number,
            text=text,
            stage=failure.stage if failure is not None else "",
            errno=failure.errno if failure is not None else 0,
            at=self._at,
            queued_s=self._job.queued_s,
            duration_s=lasted_s,
            cpu_user_s=used.cpu_user_s,
            cpu_system_s=used.cpu_system_s,
            peak_memory_bytes=group_number(self._lines.group_fd, "memory.peak") or used.peak_memory_bytes,
            cut=(self._outputs[0].cut, self._outputs[1].cut),
        )

    def _reason(self, status: int | None) -> tuple[str, str, int | None, str | None]:
        """(reason, text, code, signal)."""
        if self._failure is not None:
            return "start_failed", self._failure.text, None, None
        if status is None:
            return (*self._cause, None, None)
        if status >= 0:
            return "exit", "", status, None
        name = _signal_name(-status)
        if -status == signal.SIGKILL and group_number(self._lines.group_fd, "memory.events", "oom_kill"):
            own = group_number(self._lines.group_fd, "memory.events", "oom")
            return "oom", TOO_MUCH if own else TOO_LITTLE, None, name
        if -status == signal.SIGXCPU:
            return "cpu", "it used more processor time than it may", None, name
        return "signal", "", None, name

    def _hand_over(self) -> None:
        """Give the requester what it has not taken yet; what it still feeds is dropped, until it has heard the end."""
        end_s = time.monotonic() + TOLD_S
        connection = self._lines.connection
        self._flush()
        while self._outbox and self._may(connection, OUT, end_s):
            self._flush()
        try:
            connection.shutdown(socket.SHUT_WR)
            while self._input is not None and self._may(connection, IN, end_s) and connection.recv(1 << 16):
                pass
        except OSError:
            pass  # it is gone

    def _close(self) -> None:
        """Leave no descriptor open that it did not find, and no output: a runner collects no garbage."""
        self._outbox.clear()
        signal.set_wakeup_fd(-1)
        self._watch.close()
        for output in self._outputs:
            output.close()
        if self._input is not None and self._input.is_open:
            os.close(self._input.fd)
        for fd in (*self._opened, self._null):
            os.close(fd)

    def _may(self, connection: socket.socket, event: int, end_s: float) -> bool:
        """Wait for it, as long as the requester and the worker live."""
        poll = select.poll()
        poll.register(connection, event)
        poll.register(self._post.worker, select.POLLIN)
        if self._lines.requester_fd >= 0:
            poll.register(self._lines.requester_fd, select.POLLIN)
        ready = dict(poll.poll(max(0.0, end_s - time.monotonic()) * 1000))
        return ready.keys() == {connection.fileno()}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"  # a real-time signal


def orphans_told() -> tuple[int, int]:
    """The ends of a pipe, the first of which is readable when a child has died."""
    told_fd, wake_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_fd, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    return told_fd, wake_fd
