"""
The runners, one for each command: made, watched, buried, and cleaned up after when something has killed one.

The worker adopts what a killed runner leaves; a living one adopts for itself. So whoever is a child of the worker and
none of its own is debris, and is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from regrow.ipc import commands_wire as wire
from regrow.workers import clone
from regrow.workers.system.commands_folder import remove_folder
from regrow.workers.system.commands_news import News
from regrow.workers.system.commands_rules import Granted
from regrow.workers.system.commands_runner import Job, be_runner
from regrow.workers.system.commands_space import can_have_processes, spaces_for
from regrow.workers.system.commands_tree import children, kill_all
from regrow.workers.system.commands_visitor import Visitor, shown
from regrow.workers.system.commands_watch import IN, Watch

OVERDUE_S = 30.0
"""How long after the deadline of a command its runner is killed: it has been stopped, or hangs."""


class Group(Protocol):
    """A control group; each method but `open` returns what went wrong, or nothing."""

    path: str

    def child(self, name: str) -> Group: ...
    def home(self) -> Group: ...
    def create(self) -> str: ...
    def enter(self) -> str: ...
    def open(self) -> int: ...
    def delegate_controllers(self) -> str: ...
    def set_memory_max(self, limit_bytes: int | None) -> str: ...
    def set_pids_max(self, limit: int | None) -> str: ...
    def kill(self) -> str: ...
    def remove(self) -> str: ...


class Runner:
    """A runner as the worker sees it. `is_busy` until its command has ended, `is_alive` until it has itself."""

    def __init__(self, run: int, pid: int, visitor: Visitor, worker: socket.socket, work_dir: str) -> None:
        self.run = run
        self.pid = pid
        self.pidfd = os.pidfd_open(pid)
        self.visitor = visitor
        self.worker = worker
        self.work_dir = work_dir
        self.group: Group | None = None
        self.is_busy = True
        self.is_alive = True
        self.is_ended = False
        assert visitor.request is not None
        self.overdue_s = visitor.due_s + OVERDUE_S


class Crew:
    """All runners. `changed` is called whenever one has become free, or is gone."""

    def __init__(self, folder: str, watch: Watch, news: News, group: Group | None, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._watch = watch
        self._news = news
        self._group = _prepared(group)
        self._changed = changed
        self._runners: dict[int, Runner] = {}
        self._cleaners: dict[int, Runner] = {}
        self._last_run = 0
        self._has_processes: bool | None = None
        self._ids = (os.geteuid(), os.getegid())
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def busy(self) -> int:
        """How many commands run."""
        return sum(runner.is_busy for runner in self._runners.values())

    @property
    def is_empty(self) -> bool:
        return not self._runners and not self._cleaners

    def start(self, visitor: Visitor, granted: Granted) -> None:
        """
        Make a runner for this visitor, which is its own from now on.

        Raises:
            OSError: there is none, and nothing of it is left.
        """
        self._last_run += 1
        run = self._last_run
        work_dir = os.path.join(self._folder, str(run))
        os.mkdir(work_dir, 0o700)
        group, is_limited = self._make_group(run, granted)
        group_fd = -1
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            group_fd = group.open() if group is not None else -1
            job = self._job(run, visitor, granted, work_dir, there, group_fd, is_limited)
            pid = clone.fork_into(spaces=job.spaces) if job.spaces else os.fork()
            if pid == 0:
                be_runner(job)
        except OSError:
            here.close()
            remove_folder(work_dir)
            if group is not None:
                group.remove()
            raise
        finally:
            there.close()
            if group_fd >= 0:
                os.close(group_fd)
        self._born(Runner(run, pid, visitor, here, work_dir), group)

    def _born(self, runner: Runner, group: Group | None) -> None:
        runner.group = group
        runner.worker.setblocking(False)
        self._runners[runner.pid] = runner
        self._watch.add(runner.worker.fileno(), IN, lambda _: self._hear(runner))
        self._watch.add(runner.pidfd, IN, lambda _: self._died(runner))

    def _job(
        self,
        run: int,
        visitor: Visitor,
        granted: Granted,
        work_dir: str,
        worker: socket.socket,
        group_fd: int,
        is_limited: bool,
    ) -> Job:
        request = granted.request
        if self._has_processes is None:
            self._has_processes = can_have_processes(work_dir)
        return Job(
            run=run,
            request=request,
            executable=granted.executable,
            connection=visitor.connection,
            requester_fd=visitor.pidfd,
            worker=worker,
            worker_ids=self._ids,
            person=visitor.person,
            may_become=visitor.is_operator,
            work_dir=work_dir,
            spaces=spaces_for(request.isolate, own_processes=self._has_processes and not request.shares_processes),
            limits=granted.limits,
            limits_group=is_limited,
            counts_processes=granted.counts_processes,
            group_fd=group_fd,
            host_proc=self._proc,
            marker=os.environ.get("REGROW_CHILD", ""),
            deadline_s=visitor.due_s,
            queued_s=time.monotonic() - visitor.arrived_s,
        )

    def _make_group(self, run: int, granted: Granted) -> tuple[Group | None, bool]:
        """The command's control group, and whether it limits its processes."""
        if self._group is None:
            return None, False
        group = self._group.child(f"command-{run}")
        if group.create():
            return None, False
        group.set_memory_max(granted.limits.memory_bytes)
        most = granted.limits.processes
        return group, most not in (None, -1) and not group.set_pids_max(most)

    # what becomes of them

    def _hear(self, runner: Runner) -> None:
        """Take in all that it has said."""
        while True:
            try:
                said = runner.worker.recv(1 << 16)
            except (BlockingIOError, ConnectionResetError):
                return
            if not said:
                self._watch.forget(runner.worker.fileno())  # its death is about to be told
                return
            for kind, payload in wire.Frames().feed(said):
                self._told(runner, kind, payload)

    def _told(self, runner: Runner, kind: int, payload: bytes) -> None:
        visitor = runner.visitor
        assert visitor.request is not None
        if kind == wire.STARTED:
            pid = msgspec.msgpack.decode(payload, type=wire.Started).pid
            text = f"command {runner.run}: {shown(visitor.request)} (pid {pid}) for {visitor.who}"
            self._news.tell("command_started", text)
            return
        if kind == wire.ENDED:
            self._tell_end(runner, msgspec.msgpack.decode(payload, type=wire.Ended))
        elif kind == wire.REFUSED:
            refusal = msgspec.msgpack.decode(payload, type=wire.Refusal)
            self._news.tell("command_refused", f"{shown(visitor.request)} for {visitor.who}: {refusal.text}")
        runner.is_ended = True
        runner.is_busy = False
        self._changed()

    def _tell_end(self, runner: Runner, ended: wire.Ended) -> None:
        visitor = runner.visitor
        assert visitor.request is not None
        used = f"{ended.duration_s:.3f} s, {ended.cpu_user_s + ended.cpu_system_s:.3f} s of CPU"
        end = described(ended)
        line = f"command {runner.run}: {end} after {used}: {shown(visitor.request)} for {visitor.who}"
        self._news.tell("command_ended", line)

    def _died(self, runner: Runner) -> None:
        """Bury it. If it was killed, what it has left is ours now."""
        self._hear(runner)
        os.waitpid(runner.pid, 0)
        runner.is_alive = False
        runner.is_busy = False
        self._watch.forget(runner.worker.fileno())
        self._watch.forget(runner.pidfd)
        os.close(runner.pidfd)
        runner.worker.close()
        self.sweep()

    def sweep(self) -> None:
        """Kill and bury debris; when there is none, the runners that are dead are done with."""
        alive = {runner.pid for runner in self._runners.values() if runner.is_alive}
        debris = [pid for pid in children() if pid not in alive and pid not in self._cleaners]
        kill_all(debris)
        is_clean = sum(os.waitpid(pid, os.WNOHANG)[0] == 0 for pid in debris) == 0
        self._bury_cleaners()
        if is_clean and not self._has_debris(alive):
            for runner in [runner for runner in self._runners.values() if not runner.is_alive]:
                self._done(runner)
        self._changed()

    def _bury_cleaners(self) -> None:
        for pid in list(self._cleaners):
            if (status := os.waitpid(pid, os.WNOHANG))[0]:
                runner = self._cleaners.pop(pid)
                if status[1]:
                    text = f"command {runner.run}: its directory {runner.work_dir} cannot be removed"
                    self._news.tell("command_left", text)

    def _has_debris(self, alive: set[int]) -> bool:
        """The end of one may have given us those below it."""
        return any(pid not in alive and pid not in self._cleaners for pid in children())

    def _done(self, runner: Runner) -> None:
        """Nothing of it lives: that is what the end of its connection says."""
        del self._runners[runner.pid]
        if runner.group is not None:
            runner.group.kill()
            runner.group.remove()
        if not runner.is_ended:
            self._tell_end(runner, wire.Ended(runner.run, "killed", text="its runner was killed"))
        self._clean(runner)
        runner.visitor.close()

    def _clean(self, runner: Runner) -> None:
        """What a killed runner could not remove may take long to remove: a process does it."""
        try:
            os.rmdir(runner.work_dir)
        except FileNotFoundError:
            pass
        except OSError:
            pid = os.fork()
            if pid == 0:
                os._exit(0 if remove_folder(runner.work_dir) else 1)
            self._cleaners[pid] = runner

    def overdue(self) -> float | None:
        """Kill the runners that are; when the next one will be, in monotonic seconds."""
        now_s = time.monotonic()
        alive = [runner for runner in self._runners.values() if runner.is_alive]
        for runner in alive:
            if runner.overdue_s <= now_s:
                self.kill(runner)
        return min((runner.overdue_s for runner in alive if runner.overdue_s > now_s), default=None)

    def kill(self, runner: Runner) -> None:
        signal.pidfd_send_signal(runner.pidfd, signal.SIGKILL)

    def stop(self) -> None:
        """Let all commands be ended: each runner hears that the worker ends."""
        for runner in self._runners.values():
            if runner.is_alive:
                runner.worker.shutdown(socket.SHUT_WR)

    def kill_all(self) -> None:
        for runner in self._runners.values():
            if runner.is_alive:
                self.kill(runner)


def _prepared(group: Group | None) -> Group | None:
    """The worker's own control group, made ready for those of commands; None where it cannot be."""
    if group is None or group.home().create() or group.home().enter():
        return None
    group.delegate_controllers()
    return group


def described(ended: wire.Ended) -> str:
    """The end of a command in a few words."""
    what = {"exit": f"exit {ended.code}", "signal": str(ended.signal)}.get(ended.reason, ended.reason)
    return f"{what} ({ended.text})" if ended.text else what
