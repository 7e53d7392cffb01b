"""
The runners, one for each command that runs: made, watched, used again, buried, and cleaned up after when something has
killed one.

The worker adopts what a killed runner leaves; a living one adopts for itself. So whoever is a child of the worker and
none of its own is debris, and is killed.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable

import msgspec

from regrow.ipc import commands_wire as wire
from regrow.workers import clone
from regrow.workers.system.commands_folder import remove_folder
from regrow.workers.system.commands_job import FREE, Job, Lines, Place, Post, hand_over
from regrow.workers.system.commands_news import News
from regrow.workers.system.commands_rules import Granted
from regrow.workers.system.commands_runner import be_runner
from regrow.workers.system.commands_space import can_have_processes, spaces_for
from regrow.workers.system.commands_task import Group, Runner, Task
from regrow.workers.system.commands_tree import children, kill_all
from regrow.workers.system.commands_visitor import Visitor, shown
from regrow.workers.system.commands_watch import IN, Watch

IDLE_S, MOST_IDLE = 5.0, 8
"""How long a runner waits for another command, and how many wait."""

LINGER_S = 0.05
"""How long a command whose requester does not take the end of it still counts: its runner is about to be free."""


class Crew:
    """All runners. `changed` is called whenever one has become free, or is gone."""

    def __init__(self, folder: str, watch: Watch, news: News, group: Group | None, changed: Callable[[], None]) -> None:
        self._folder = folder
        self._watch = watch
        self._news = news
        self._group = _prepared(group)
        self._changed = changed
        self._runners: dict[int, Runner] = {}
        self._idle: list[Runner] = []
        self._cleaners: dict[int, Task] = {}
        self._last_run = 0
        self._has_processes: bool | None = None
        self._ids = (os.geteuid(), os.getegid())
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def busy(self) -> int:
        """How many commands run."""
        return sum(runner.task is not None and runner.task.is_busy for runner in self._runners.values())

    @property
    def ending(self) -> int:
        """How many of those that run have told their end: who waits for one of them waits no longer than `LINGER_S`."""
        tasks = (runner.task for runner in self._runners.values())
        return sum(task is not None and task.is_busy and task.is_told for task in tasks)

    @property
    def is_empty(self) -> bool:
        return not self._runners and not self._cleaners

    def start(self, visitor: Visitor, granted: Granted) -> None:
        """
        Give this visitor, which is the crew's own from now on, a runner.

        Raises:
            OSError: there is none, and nothing of it is left.
        """
        self._last_run += 1
        work_dir = os.path.join(self._folder, str(self._last_run))
        os.mkdir(work_dir, 0o700)
        group, is_limited = self._make_group(self._last_run, granted)
        task = Task(self._last_run, visitor, work_dir, group)
        group_fd = -1
        try:
            group_fd = group.open() if group is not None else -1
            lines = Lines(visitor.connection, visitor.pidfd, group_fd)
            self._give(task, self._place(task.request, granted), self._job(task, granted, is_limited), lines)
        except OSError:
            remove_folder(work_dir)
            if group is not None:
                group.remove()
            raise
        finally:
            if group_fd >= 0:
                os.close(group_fd)

    def _give(self, task: Task, place: Place, job: Job, lines: Lines) -> None:
        """To the runner in that place that has waited least, for the others may end soon; or to a new one."""
        waiting = next((runner for runner in reversed(self._idle) if runner.place == place), None)
        if waiting is not None and hand_over(waiting.worker, job, lines):
            self._idle.remove(waiting)
            waiting.task = task
        else:
            self._make(task, place, job, lines)

    def _make(self, task: Task, place: Place, job: Job, lines: Lines) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        with there:
            try:
                pid = clone.fork_into(spaces=place.spaces) if place.spaces else os.fork()
                if pid == 0:
                    marker = os.environ.get("REGROW_CHILD", "")
                    be_runner(Post(place, there, self._ids, self._proc, marker), job, lines)
            except OSError:
                here.close()
                raise
        try:
            self._born(Runner(pid, place, here, task))
        except OSError:  # no descriptors: nobody could tell of its death
            here.close()
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise

    def _born(self, runner: Runner) -> None:
        runner.worker.setblocking(False)
        self._runners[runner.pid] = runner
        self._watch.add(runner.worker.fileno(), IN, lambda _: self._hear(runner))
        self._watch.add(runner.pidfd, IN, lambda _: self._died(runner))

    def _place(self, request: wire.Request, granted: Granted) -> Place:
        if self._has_processes is None:
            self._has_processes = can_have_processes(self._folder)
        own_processes = self._has_processes and not request.shares_processes
        spaces = spaces_for(request.isolate, own_processes=own_processes)
        return Place(spaces, request.isolate, granted.limits.processes)

    def _job(self, task: Task, granted: Granted, is_limited: bool) -> Job:
        visitor = task.visitor
        return Job(
            run=task.run,
            request=granted.request,
            executable=granted.executable,
            person=visitor.person,
            may_become=visitor.is_operator,
            work_dir=task.work_dir,
            limits=granted.limits,
            limits_group=is_limited,
            counts_processes=granted.counts_processes,
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
                if kind == FREE:
                    self._free(runner)
                elif runner.task is not None:
                    self._told(runner.task, kind, payload)

    def _told(self, task: Task, kind: int, payload: bytes) -> None:
        if kind == wire.STARTED:
            pid = msgspec.msgpack.decode(payload, type=wire.Started).pid
            text = f"command {task.run}: {shown(task.request)} (pid {pid}) for {task.visitor.who}"
            self._news.tell("command_started", text)
            return
        if kind == wire.ENDED:
            self._tell_end(task, msgspec.msgpack.decode(payload, type=wire.Ended))
        elif kind == wire.REFUSED:
            refusal = msgspec.msgpack.decode(payload, type=wire.Refusal)
            self._news.tell("command_refused", f"{shown(task.request)} for {task.visitor.who}: {refusal.text}")
        task.is_told = True
        task.lingers_until_s = time.monotonic() + LINGER_S

    def _tell_end(self, task: Task, ended: wire.Ended) -> None:
        used = f"{ended.duration_s:.3f} s, {ended.cpu_user_s + ended.cpu_system_s:.3f} s of CPU"
        text = f"command {task.run}: {described(ended)} after {used}: {shown(task.request)} for {task.visitor.who}"
        self._news.tell("command_ended", text)

    def _free(self, runner: Runner) -> None:
        """It has nothing of its command any more, and waits for the next one."""
        self._done(runner)
        runner.idle_until_s = time.monotonic() + IDLE_S
        self._idle.append(runner)
        self._changed()
        if len(self._idle) > MOST_IDLE:
            self._dismiss(self._idle[0])

    def _dismiss(self, runner: Runner) -> None:
        """Let a runner that waits end."""
        self._idle.remove(runner)
        runner.worker.shutdown(socket.SHUT_WR)

    def _died(self, runner: Runner) -> None:
        """Bury it. If it was killed, what it has left is ours now."""
        self._hear(runner)
        os.waitpid(runner.pid, 0)
        runner.is_alive = False
        if runner.task is not None:
            runner.task.is_busy = False
        if runner in self._idle:
            self._idle.remove(runner)
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
                del self._runners[runner.pid]
                self._done(runner)
        self._changed()

    def _bury_cleaners(self) -> None:
        for pid in list(self._cleaners):
            if (status := os.waitpid(pid, os.WNOHANG))[0]:
                task = self._cleaners.pop(pid)
                if status[1]:
                    text = f"command {task.run}: its directory {task.work_dir} cannot be removed"
                    self._news.tell("command_left", text)

    def _has_debris(self, alive: set[int]) -> bool:
        """The end of one may have given us those below it."""
        return any(pid not in alive and pid not in self._cleaners for pid in children())

    def _done(self, runner: Runner) -> None:
        """Nothing of its command lives: that is what the end of the connection says."""
        task, runner.task = runner.task, None
        if task is None:
            return
        if task.group is not None:
            task.group.kill()
            task.group.remove()
        if not task.is_told:
            self._tell_end(task, wire.Ended(task.run, "killed", text="its runner was killed"))
        self._clean(task)
        task.visitor.close()

    def _clean(self, task: Task) -> None:
        """What a killed runner could not remove may take long to remove: a process does it."""
        try:
            os.rmdir(task.work_dir)
        except FileNotFoundError:
            pass
        except OSError:
            pid = os.fork()
            if pid == 0:
                os._exit(0 if remove_folder(task.work_dir) else 1)
            self._cleaners[pid] = task

    def overdue(self) -> float | None:
        """
        Kill the runners that are, dismiss those that waited in vain, and count no more who lingers.

        Returns:
            When there may be more of that, in monotonic seconds.
        """
        now_s = time.monotonic()
        for runner in [runner for runner in self._idle if runner.idle_until_s <= now_s]:
            self._dismiss(runner)
        working = [(runner, runner.task) for runner in self._runners.values() if runner.is_alive and runner.task]
        lingering = [task for _, task in working if task.is_busy and task.lingers_until_s <= now_s]
        for task in lingering:
            task.is_busy = False
        if lingering:
            self._changed()
        for runner, task in working:
            if task.overdue_s <= now_s:
                self.kill(runner)
        due_s = [runner.idle_until_s for runner in self._idle]
        due_s += [task.lingers_until_s for _, task in working if task.is_busy and task.is_told]
        due_s += [task.overdue_s for _, task in working if task.overdue_s > now_s]
        return min(due_s, default=None)

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
