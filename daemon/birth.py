"""
How a child of each kind is made: its environment, its descriptors, its process.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from regrow.config.spec import Kind, Output, OutputKind, ReadyKind, SupervisorSpec, WorkerSpec
from regrow.daemon.context import Context, child_environ, shared_environ
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux import identity, kernel, spawn
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.spawn import Launch, Target

LOGGER = "regrow.logger"
"""The internal worker that inherits the logger's end of its channel."""


class Born(Struct, frozen=True):
    """
    A new process. `status_fd` is -1 when its program is known to run; `env` is its complete environment.
    """

    pid: int
    status_fd: int
    env: Mapping[str, str]


class Outputs(Struct, frozen=True):
    """Where a worker's streams go; both descriptors of the pipe are the caller's to close."""

    stdout: Target
    stderr: Target
    read_fd: int = -1
    write_fd: int = -1


def worker(
    context: Context,
    spec: WorkerSpec,
    incarnation: int,
    *,
    light: bool,
    group: Group | None,
    announce: Callable[[int], None],
) -> Born:
    """
    Make a command or a function. `light` allows posix_spawn, whose children do not die with their parent.

    `announce` is given the read end of what the child will print, before there is a child, so that whoever reads
    is not woken while it is being born.

    Raises:
        SpawnError: there is no process, and no descriptor is left open.
    """
    env = child_environ(context, spec.env, name=spec.name, incarnation=incarnation)
    _personal(spec, env)
    outputs = _outputs(context, spec)
    if outputs.read_fd >= 0:
        announce(outputs.read_fd)
    try:
        launch = Launch(
            env=env,
            stdout=outputs.stdout,
            stderr=outputs.stderr,
            stdin_fd=context.devnull[0],
            group=group,
            limits=spec.limits,
            nice=spec.nice or 0,
            umask=spec.umask,
            credentials=spec.credentials,
            cwd=spec.cwd,
            executes=spec.kind is Kind.COMMAND,
            keep_fds=(context.logger_fd,) if spec.name == LOGGER else (),
        )
        pid, status_fd = _make(context, spec, launch, light)
    finally:
        if outputs.write_fd >= 0:
            os.close(outputs.write_fd)
    return Born(pid, status_fd, env)


def _make(context: Context, spec: WorkerSpec, launch: Launch, light: bool) -> tuple[int, int]:
    if spec.kind is Kind.AGENT:
        # A function would be run by calling it; an agent is not one, and nothing here could talk to it.
        raise SpawnError(f"start agent {spec.target}: this regrow runs functions and commands", errno.ENOTSUP)
    if spec.kind is Kind.COMMAND:
        executable = spec.executable or spec.command[0]
        if light and launch.plain and spec.watchdog_s is None:
            return spawn.spawn_plain(launch, executable, spec.command), -1
        return spawn.fork_exec(launch, executable, spec.command)
    return spawn.fork_call(launch, _function_body(context, spec, launch))


def _function_body(context: Context, spec: WorkerSpec, launch: Launch) -> Callable[[int], int]:
    from regrow.workers import function  # loaded before the first fork, by `prepare`

    def body(status_fd: int) -> int:
        _become_worker(context, spec, launch.env)

        def started() -> None:
            os.write(status_fd, spawn.RUNNING)
            os.close(status_fd)

        kwargs = {"channel_fd": launch.keep_fds[0]} if launch.keep_fds else {}
        return function.run(spec.name, spec.target, spec.args_json, spec.import_path, started, kwargs)

    return body


def _become_worker(context: Context, spec: WorkerSpec, env: Mapping[str, str]) -> None:
    """A forked process takes on the environment and the name that an exec would have given it."""
    known = context.environ  # what the daemon's processes have already; setting a variable anew is not cheap
    for name, value in env.items():
        if known.get(name) != value:
            os.environ[name] = value
    if spec.watchdog_s is not None:
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    identity.mark(env["REGROW_CHILD"])
    identity.set_title(f"regrow: {spec.name} {spec.target}")
    kernel.set_name(spec.name)


def prepare(context: Context, spec: SupervisorSpec, notify_address: str) -> Context:
    """
    Do once in a supervisor what its children would each do after their fork.

    Loads what runs functions, finds (but does not import) the modules that they are in, and sets the variables that
    all children share. Returns the context with these among its `environ`.
    """
    functions = [child for child in spec.children if isinstance(child, WorkerSpec) and child.kind is Kind.FUNCTION]
    if functions:
        import regrow.workers.function

        for child in functions:
            regrow.workers.function.locate(child.target, child.import_path)
    os.environ.update(shared_environ(context, supervisor=spec.name, notify=notify_address))
    return replace(context, environ=dict(os.environ))


def preload(spec: SupervisorSpec) -> str:
    """Import the modules that the supervisor shares with its children; says what went wrong, if anything did."""
    import importlib

    if spec.preload and spec.base_dir and spec.base_dir not in sys.path:
        sys.path.insert(0, spec.base_dir)
    for name in spec.preload:
        try:
            importlib.import_module(name)
        except Exception as error:  # noqa: BLE001 - user code: whatever it raises is its own fault, told to the parent
            return f"cannot preload {name}: {type(error).__name__}: {error}"
    return ""


def _personal(spec: WorkerSpec, env: dict[str, str]) -> None:
    """What only some workers find in their environment."""
    if spec.index is not None:
        env["REGROW_INDEX"] = str(spec.index)
    if spec.watchdog_s is not None:
        env["WATCHDOG_USEC"] = str(int(spec.watchdog_s * 1_000_000))
    user = spec.credentials
    if user is not None and user.user:
        personal = {"HOME": user.home, "USER": user.user, "LOGNAME": user.user}
        env.update({name: value for name, value in personal.items() if name not in spec.env})


def _outputs(context: Context, spec: WorkerSpec) -> Outputs:
    stderr = spec.stdout if spec.stderr.kind is OutputKind.STDOUT else spec.stderr
    logged = OutputKind.LOG in (spec.stdout.kind, stderr.kind)
    read_fd = write_fd = -1
    if logged:
        try:
            read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise SpawnError("make a pipe for its output", error.errno or 0) from None
    return Outputs(
        stdout=_target(context, spec.name, spec.stdout, write_fd, 1),
        stderr=_target(context, spec.name, stderr, write_fd, 2),
        read_fd=read_fd,
        write_fd=write_fd,
    )


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


def supervisor_launch(
    context: Context, death_signal: int, keep_fds: tuple[int, ...], group: Group | None
) -> Launch:
    """How a nested supervisor's process is set up; its standard streams are the daemon's."""
    return Launch(
        env={},
        stdout=Target(fd=1),
        stderr=Target(fd=2),
        stdin_fd=context.devnull[0],
        death_signal=death_signal,
        keep_fds=keep_fds,
        group=group,
    )


__all__ = ["LOGGER", "Born", "pattern", "preload", "prepare", "supervisor_launch", "worker"]
