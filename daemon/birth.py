"""
How a child of each kind is made: its environment, its descriptors, its process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping

from msgspec import Struct

from regrow.config import internal
from regrow.config.spec import Kind, Output, OutputKind, ReadyKind, WorkerSpec
from regrow.daemon import forked
from regrow.daemon.context import Context, child_environ
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux import spawn
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.shim import Shims
from regrow.daemon.linux.spawn import Launch, Target


class Born(Struct, frozen=True):
    """
    A new process; `status_fd` tells when its program runs, `env` is its complete environment.

    `stacks_fd` is where a Python worker's stacks come when they are asked for; -1 for others.
    """

    pid: int
    status_fd: int
    env: Mapping[str, str]
    stacks_fd: int = -1


def worker(
    context: Context,
    spec: WorkerSpec,
    incarnation: int,
    *,
    shims: Shims,
    group: Group | None,
    output: Callable[[], int],
) -> Born:
    """
    Make a command, a function or an agent; `shims` are the supervisor's.

    `output` gives where to write what is logged, and is asked only where anything is; by then the other end of that
    is where no death can harm it.

    Raises:
        SpawnError: there is no process, and no descriptor is left open.
    """
    env = environ(context, spec, incarnation)
    keep_fds = (context.logger_fd,) if spec.name == internal.LOGGER else ()

    def make(launch: Launch, dump_fd: int) -> tuple[int, int]:
        return _make(context, spec, launch, shims, dump_fd)

    return _born(context, spec, spec.name, env, group=group, output=output, keep_fds=keep_fds, make=make)


def spare(
    context: Context,
    spec: WorkerSpec,
    env: Mapping[str, str],
    way_fd: int,
    *,
    group: Group | None,
    output: Callable[[], int],
) -> Born:
    """
    Make a process that imports the target of `spec` and waits on `way_fd` for its name; its environment is `env`.

    Raises:
        SpawnError: there is no process, and no descriptor is left open.
    """

    def make(launch: Launch, dump_fd: int) -> tuple[int, int]:
        return spawn.fork_call(launch, forked.spare_body(context, spec, launch, dump_fd, way_fd))

    return _born(context, spec, spec.group, env, group=group, output=output, keep_fds=(way_fd,), make=make)


def _born(
    context: Context,
    spec: WorkerSpec,
    sender: str,
    env: Mapping[str, str],
    *,
    group: Group | None,
    output: Callable[[], int],
    keep_fds: tuple[int, ...],
    make: Callable[[Launch, int], tuple[int, int]],
) -> Born:
    stacks_fd, dump_fd = forked.stacks_pipe(spec)
    try:
        stdout, stderr = _targets(context, spec, sender, output)
        launch = Launch(
            env=env,
            stdout=stdout,
            stderr=stderr,
            stdin_fd=context.devnull[0],
            group=group,
            limits=spec.limits,
            nice=spec.nice or 0,
            umask=spec.umask,
            credentials=spec.credentials,
            cwd=spec.cwd,
            executes=spec.kind is Kind.COMMAND,
            keep_fds=(dump_fd, *keep_fds),
            sockets=_sockets(context, spec),
        )
        pid, status_fd = make(launch, dump_fd)
    except SpawnError:
        if stacks_fd >= 0:
            os.close(stacks_fd)
        raise
    finally:
        if dump_fd >= 0:
            os.close(dump_fd)
    return Born(pid, status_fd, env, stacks_fd)


def _make(context: Context, spec: WorkerSpec, launch: Launch, shims: Shims, dump_fd: int) -> tuple[int, int]:
    if spec.kind is Kind.COMMAND:
        executable = spec.executable or spec.command[0]
        made = shims.start(launch, executable, spec.command) if launch.plain else None
        return made or spawn.fork_exec(launch, executable, spec.command)
    return spawn.fork_call(launch, forked.body(context, spec, launch, dump_fd))


def _sockets(context: Context, spec: WorkerSpec) -> tuple[int, ...]:
    """
    The descriptors of its listening sockets, in the order of the file.

    Raises:
        SpawnError: one of them is not there (any more).
    """
    for name in spec.sockets:
        if name not in context.sockets:
            raise SpawnError("pass on the socket", errno.EBADF, name)
    return tuple(context.sockets[name] for name in spec.sockets)


def environ(context: Context, spec: WorkerSpec, incarnation: int) -> dict[str, str]:
    """The complete environment of one incarnation."""
    env = child_environ(context, spec.env, name=spec.name, incarnation=incarnation)
    _personal(context, spec, env)
    _of_user(spec, env)
    return env


def spare_environ(context: Context, spec: WorkerSpec, shared: Mapping[str, str], marker: str) -> dict[str, str]:
    """The environment of a process that has no name yet; `shared` is what all of its group have in the file."""
    env = {**context.environ, **shared, "REGROW_CHILD": marker}
    _of_user(spec, env)
    return env


def _personal(context: Context, spec: WorkerSpec, env: dict[str, str]) -> None:
    """What only some workers find in their environment."""
    if spec.index is not None:
        env["REGROW_INDEX"] = str(spec.index)
        env["REGROW_GROUP"] = spec.group
        env["REGROW_REPLICAS"] = str(spec.replicas)
    if spec.kind is Kind.AGENT or spec.name in (internal.KEEPER, internal.HUB):
        env["REGROW_MAILBOX"] = context.mailbox
    if spec.sockets:
        env["LISTEN_FDS"] = str(len(spec.sockets))
        env["LISTEN_FDNAMES"] = ":".join(spec.sockets)
    if spec.watchdog_s is not None:
        env["WATCHDOG_USEC"] = str(int(spec.watchdog_s * 1_000_000))


def _of_user(spec: WorkerSpec, env: dict[str, str]) -> None:
    """Whose home it is."""
    user = spec.credentials
    if user is not None and user.user:
        personal = {"HOME": user.home, "USER": user.user, "LOGNAME": user.user}
        env.update({name: value for name, value in personal.items() if name not in spec.env})


def streams(spec: WorkerSpec) -> tuple[Output, Output]:
    """Where stdout and stderr of a worker go, as the file has it."""
    return spec.stdout, spec.stdout if spec.stderr.kind is OutputKind.STDOUT else spec.stderr


def _targets(context: Context, spec: WorkerSpec, sender: str, output: Callable[[], int]) -> tuple[Target, Target]:
    """The same, ready for use."""
    stdout, stderr = streams(spec)
    write_fd = output() if OutputKind.LOG in (stdout.kind, stderr.kind) else -1
    return _target(context, sender, stdout, write_fd, 1), _target(context, sender, stderr, write_fd, 2)


def _target(context: Context, name: str, output: Output, write_fd: int, own_fd: int) -> Target:
    match output.kind:
        case OutputKind.LOG:
            return Target(fd=write_fd)
        case OutputKind.INHERIT:
            return Target(fd=own_fd)
        case OutputKind.PATH:
            return Target(path=output.path)
        case OutputKind.JOURNAL:
            return Target(journal=name)
        case _:
            return Target(fd=context.devnull[1])


def pattern(spec: WorkerSpec) -> str:
    """The line that makes this worker ready, for whoever reads its output."""
    return spec.ready.probe.pattern if spec.ready.probe.kind is ReadyKind.LINE else ""


def supervisor_launch(context: Context, keep_fds: tuple[int, ...], group: Group | None) -> Launch:
    """How a nested supervisor's process is set up; its standard streams are the daemon's."""
    return Launch(
        env={},
        stdout=Target(fd=1),
        stderr=Target(fd=2),
        stdin_fd=context.devnull[0],
        keep_fds=keep_fds,
        group=group,
    )


__all__ = ["Born", "environ", "pattern", "spare", "spare_environ", "streams", "supervisor_launch", "worker"]
