"""
The runner of commands, one at a time: their parent, the adopter of their orphans, and who speaks with their requesters.

A process of its own, forked by the worker, so that nothing that a command does keeps the worker or another command
waiting. It ends the command at its deadline, when it is cancelled, when its requester dies, and when the worker does.
When it has said how the command ended, nothing of the command is left. Then it waits for another one, if it is as it
was born: to make a runner and its namespaces takes the kernel ten times as long as to run a small command.

Source: architecture section 8.
"""

from __future__ import annotations

import gc
import os
import pwd
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn

from regrow.ipc import commands_wire as wire
from regrow.workers.system import commands_calls as calls
from regrow.workers.system.commands_child import IGNORED, Launch, Person, Streams
from regrow.workers.system.commands_home import Home
from regrow.workers.system.commands_job import Job, Lines, Post, can_be_handed_over, take_over
from regrow.workers.system.commands_rules import PATH
from regrow.workers.system.commands_run import Run
from regrow.workers.system.commands_shares import be_last
from regrow.workers.system.commands_space import CannotIsolate
from regrow.workers.system.commands_start import Starter

LONGEST_NAME = 80
"""Characters of a name that are repeated where there is no such user."""

MOST_SERVED = 200
"""Commands of one runner: whatever a mistake of ours may leave in it, does not add up."""


class Refused(Exception):
    """The command is not run after all."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def be_runner(post: Post, job: Job, lines: Lines) -> NoReturn:
    """In the forked process: never returns into the worker's frames."""
    status = 70
    try:
        gc.disable()
        _begin(post, lines)
        _serve(post, job, lines)
        status = 0
    except BaseException:  # noqa: BLE001 - the outermost frame of this process: it is told, and the worker cleans up
        sys.stderr.write(f"internal error in the runner of command {job.run}:\n{traceback.format_exc()}")
        sys.stderr.flush()
    finally:
        os._exit(status)


def _begin(post: Post, lines: Lines) -> None:
    """Be a process of our own, that ends with the worker."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    for number in signal.valid_signals() - set(IGNORED):
        if signal.getsignal(number) == signal.SIG_IGN:  # by who has started the daemon; programs would inherit it
            signal.signal(number, signal.SIG_DFL)
    os.setsid()
    be_last(post.host_proc)
    calls.die_with_parent()
    calls.adopt_orphans()
    kept = {0, 1, 2, post.worker.fileno(), post.host_proc, *lines.numbers()}
    for name in os.listdir("/proc/self/fd"):
        if int(name) not in kept:
            try:
                os.close(int(name))
            except OSError:
                pass  # the descriptor of the listing itself
    if select.select([post.worker], [], [], 0)[0]:
        os._exit(0)  # the worker was dead before it could have told us by its death


def _serve(post: Post, job: Job, lines: Lines) -> None:
    """One command after the other, as long as the next one finds nothing of those before it."""
    try:
        home = _home(post, job)
        starter = Starter()
        # The kernel counts our memory as that of each program (`peak_memory_bytes`): who has carried much serves one.
        most_served = MOST_SERVED if can_be_handed_over(job, lines) else 1
        for served in range(1, most_served + 1):
            launch = _prepare(post, job, home)
            is_clean = Run(post, job, lines, launch, starter).to_its_end()
            lines.close()
            if not is_clean or not home.is_as_it_was() or served == most_served:
                return
            if (taken := take_over(post.worker)) is None:
                return
            job, lines = taken
    except Refused as refused:
        _refuse(post, lines, refused)


def _home(post: Post, job: Job) -> Home:
    """
    Raises:
        Refused.
    """
    try:
        return Home(post, job.work_dir)
    except OSError as error:
        raise Refused("unavailable", f"cannot make {job.work_dir}: {error.strerror}") from None
    except CannotIsolate as error:
        hint = "" if os.geteuid() == 0 else ", or the daemon as root"
        raise Refused("unavailable", f"{error}; run it without that isolation{hint}") from None


def _prepare(post: Post, job: Job, home: Home) -> Callable[[Streams], Launch]:
    """
    Make everything ready that can be refused. Returns what makes the launch.

    Raises:
        Refused.
    """
    request = job.request
    person = _person(job)
    try:
        if person.is_change:
            os.chown(job.work_dir, person.uid, person.gid)
    except OSError as error:
        raise Refused("unavailable", f"cannot make {job.work_dir}: {error.strerror}") from None
    limited = home.holds_processes or job.limits_group
    if not limited and person.uid == 0 and job.counts_processes:
        hint = "needs a control group (systemd: Delegate=yes), process numbers of its own and 301 or more, or a user"
        raise Refused("unavailable", f"cannot limit root to {job.limits.processes} processes here: {hint}")

    def launch(streams: Streams) -> Launch:
        return Launch(
            executable=job.executable,
            argv=request.argv,
            env=_environment(post, job, person),
            cwd=request.cwd or job.work_dir,
            person=person,
            limits=job.limits,
            # Where nothing better counts, all processes of the user count; then only if it was asked for.
            limits_processes=not limited and job.counts_processes,
            nice=request.nice,
            drops_capabilities=bool(request.isolate) and os.geteuid() == 0,
            streams=streams,
            host_proc=post.host_proc,
        )

    return launch


def _person(job: Job) -> Person:
    """Who the command runs as: the requester, unless it may say otherwise."""
    asked = job.request.user
    if not asked:
        return job.person
    try:
        entry = pwd.getpwuid(int(asked)) if asked.isdecimal() else pwd.getpwnam(asked)
    except (KeyError, OverflowError, ValueError):  # a NUL, or thousands of digits
        shown = asked if asked.isprintable() else repr(asked)
        raise Refused("bad_request", f"there is no user {shown[:LONGEST_NAME]}") from None
    if entry.pw_uid == job.person.uid:
        return job.person
    if not job.may_become:
        raise Refused("forbidden", f"only operators may run commands as somebody else: not as {asked}")
    if os.geteuid() != 0:
        raise Refused("unavailable", f"cannot become {asked}: the daemon does not run as root")
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Person(entry.pw_uid, entry.pw_gid, groups, entry.pw_name, is_change=True)


def _environment(post: Post, job: Job, person: Person) -> dict[bytes, bytes]:
    """Nothing of the daemon's own, but the marker by which its processes are found."""
    plain = {"PATH": ":".join(PATH), "LANG": "C.UTF-8", "HOME": job.work_dir, "TMPDIR": job.work_dir}
    if person.name:
        plain |= {"USER": person.name, "LOGNAME": person.name}
    made = {name.encode(): os.fsencode(value) for name, value in plain.items()}
    return {**made, **job.request.env, b"REGROW_CHILD": post.marker.encode()}


def _refuse(post: Post, lines: Lines, refused: Refused) -> None:
    said = wire.pack(wire.REFUSED, wire.Refusal(refused.code, str(refused)))
    lines.connection.settimeout(1.0)
    try:
        post.worker.send(said, socket.MSG_NOSIGNAL)
        lines.connection.sendall(said, socket.MSG_NOSIGNAL)
    except OSError:
        pass  # one of them has gone
