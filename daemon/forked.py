"""
Python workers, functions and agents: forked from their supervisor and never exec'd.

What each would have to load is loaded in the supervisor, once; what belongs to one of them happens after the fork.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec.structs import replace

from regrow.config import internal
from regrow.config.spec import STANDBY, Kind, SupervisorSpec, WorkerSpec
from regrow.daemon import handover
from regrow.daemon.context import Context, shared_environ
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux import identity, kernel, spawn
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.spawn import Launch

if TYPE_CHECKING:
    from regrow.workers.function import Named

PYTHON = frozenset({Kind.FUNCTION, Kind.AGENT})
"""Kinds that are forked, and never exec'd."""

TASKS = "regrow.workers.task"
"""The module of the functions that run tasks."""


def prepare(context: Context, spec: SupervisorSpec, notify_address: str) -> Context:
    """
    Do once in a supervisor what its children would each do after their fork.

    Loads what runs functions and agents, reads the folders (but imports nothing) that their modules are in, and sets
    the variables that all children share. Returns the context with these among its `environ`.
    """
    targets = [child for child in spec.children if isinstance(child, WorkerSpec) and child.kind in PYTHON]
    load({child.kind for child in targets} | template_kinds(spec))
    if targets:
        from regrow.workers import function

        for import_path in dict.fromkeys(child.import_path for child in targets):
            function.look_in(import_path)
    for variable, value in shared_environ(context, supervisor=spec.name, notify=notify_address).items():
        os.environ[variable] = value  # `update` looks what it is given, which touches 30 pages
    return replace(context, environ=dict(os.environ))


def load(kinds: Collection[Kind]) -> None:
    """
    Import what runs workers of these kinds, as modules: nothing is opened, no thread is started.

    For agents that is zmq, lmdb and all above them: 4 MiB and 0.3 ms for each fork, instead of 35 ms in each agent.
    """
    if PYTHON.isdisjoint(kinds):
        return
    names = ["regrow.workers.function", "regrow.workers.stacks"]
    if Kind.AGENT in kinds and "zmq" not in sys.modules:
        from regrow.workers import forkhooks

        forkhooks.load_random()  # before zmq does
    if Kind.AGENT in kinds:
        # Some are loaded when they are first needed: by then an agent may be a user who cannot read them.
        names += ["lmdb", "lmdb._envid", "regrow.workers.runtime", "regrow.ipc.commands", "regrow.ipc.store_faults"]
    for name in names:
        if name in sys.modules:  # the root has loaded it: to import it once more would touch 20 pages
            continue
        try:
            importlib.import_module(name)
        except ImportError:
            pass  # every start of such a worker will say so


def kinds_in(spec: SupervisorSpec) -> set[Kind]:
    """The kinds of all children below `spec`, and of those that its templates are for."""
    kinds = {child.kind for child in spec.children} | template_kinds(spec)
    for child in spec.children:
        if isinstance(child, SupervisorSpec):
            kinds |= kinds_in(child)
    return kinds


def template_kinds(spec: SupervisorSpec) -> set[Kind]:
    """What the children of a dynamic supervisor with a template will be."""
    if not spec.template:
        return set()
    table = msgspec.json.decode(spec.template)
    return {kind for kind in Kind if str(kind) in table}


def preload(spec: SupervisorSpec) -> str:
    """Import the modules that the supervisor shares with its children; says what went wrong, if anything did."""
    if spec.preload and spec.base_dir and spec.base_dir not in sys.path:
        sys.path.insert(0, spec.base_dir)
    if spec.preload and "random" in sys.modules:
        from regrow.workers import forkhooks

        forkhooks.seed()
    for name in spec.preload:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - user code: its own fault, which the parent is told
            return f"cannot preload {name}: {type(error).__name__}: {error}"
    for child in spec.children:
        if isinstance(child, WorkerSpec) and child.kind is Kind.AGENT and child.target.partition(":")[0] in sys.modules:
            _read_init(child)
    return ""


def _read_init(spec: WorkerSpec) -> None:
    """Find out once what the `init` of an agent takes: half a millisecond in each process that has to."""
    try:
        from regrow.workers import runtime

        runtime.init_of(runtime.load_agent(spec.target, spec.import_path))
    except Exception:  # noqa: BLE001 - user code: every start of that agent will say so
        pass


def body(context: Context, spec: WorkerSpec, launch: Launch, dump_fd: int) -> Callable[[int], int]:
    """
    What the forked process does, for `spawn.fork_call`; its stacks go to `dump_fd` when they are asked for.

    Raises:
        SpawnError: what runs its kind cannot be loaded.
    """
    run = _runner_of(context, spec, launch.group)
    from regrow.workers import stacks

    def run_worker(status_fd: int) -> int:
        env = {**launch.env, **spawn.own_environ(launch)}
        _become_worker(context.environ, spec.name, spec, env)
        stacks.register(dump_fd)

        def started() -> None:
            os.write(status_fd, spawn.RUNNING)
            os.close(status_fd)

        if spec.name in (internal.HUB, internal.COMMANDS):  # nobody needs to wait until it has loaded what it needs
            started()
            return run(lambda: None)
        return run(started)

    return run_worker


def _runner_of(context: Context, spec: WorkerSpec, group: Group | None) -> Runner:
    try:
        return _runner(context, spec, group)
    except ImportError as error:
        raise SpawnError(f"load what runs {spec.kind}s ({error})", errno.ENOEXEC) from None


class Runner(Protocol):
    """Runs a function or an agent to its end. Returns the exit status."""

    def __call__(self, started: Callable[[], None], named: Named | None = None) -> int:
        """`started` is called when user code runs; `named`, if given, when its module is imported."""


def _runner(context: Context, spec: WorkerSpec, group: Group | None) -> Runner:
    """What runs a function or an agent; loaded before the first fork, by `prepare`, where that could be foreseen."""
    if spec.kind is Kind.AGENT:
        from regrow.workers import runtime

        return lambda started, named=None: runtime.run(
            spec.name, spec.target, spec.args_json, spec.import_path, started, named
        )
    from regrow.workers import function

    if spec.target.startswith(TASKS):
        importlib.import_module(TASKS)  # here, once, instead of in each of them
    kwargs: dict[str, Any] = {"channel_fd": context.logger_fd} if spec.name == internal.LOGGER else {}
    if spec.name == internal.COMMANDS:
        kwargs = {"group": group}
    return lambda started, named=None: function.run(
        spec.name, spec.target, spec.args_json, spec.import_path, started, kwargs, named
    )


def spare_body(context: Context, spec: WorkerSpec, launch: Launch, dump_fd: int, way_fd: int) -> Callable[[int], int]:
    """
    What a spare does: what `body` does, but that it imports the target first, and waits on `way_fd` for its name.

    Raises:
        SpawnError: what runs its kind cannot be loaded.
    """
    run = _runner_of(context, spec, launch.group)
    from regrow.workers import stacks

    def run_spare(status_fd: int) -> int:
        env = {**launch.env, **spawn.own_environ(launch)}
        _become_worker(context.environ, spec.group + STANDBY, spec, env)
        stacks.register(dump_fd)

        def named() -> tuple[str, str]:
            os.write(status_fd, handover.STANDING)
            given, fd = handover.receive(way_fd)
            os.write(status_fd, handover.TAKEN)
            _put_out(given, fd)
            _become_worker({}, given.name, spec, given.env)
            return given.name, given.args_json

        def started() -> None:
            os.write(status_fd, spawn.RUNNING)
            os.close(status_fd)

        return run(started, named)

    return run_spare


def _put_out(given: handover.Handover, fd: int) -> None:
    """What the spare prints from now on goes where that of its name goes."""
    for own_fd in given.outputs:
        os.dup2(fd, own_fd)
    if fd >= 0:
        os.close(fd)
    for own_fd in given.journals:
        journal_fd = spawn.open_journal(given.name)
        os.dup2(journal_fd, own_fd)
        os.close(journal_fd)


def _become_worker(known: Mapping[str, str], name: str, spec: WorkerSpec, env: Mapping[str, str]) -> None:
    """
    A forked process takes on the environment and the name that an exec would have given it.

    `known` is what it has already; setting a variable anew is not cheap.
    """
    for variable, value in env.items():
        if known.get(variable) != value:
            os.environ[variable] = value
    if spec.watchdog_s is not None:
        os.environ["WATCHDOG_PID"] = str(os.getpid())
    identity.mark(env["REGROW_CHILD"])
    identity.set_title(f"regrow: {name} {spec.target}")
    kernel.set_name(name)


def stacks_pipe(spec: WorkerSpec) -> tuple[int, int]:
    """
    A pipe for the stacks of a Python worker: (the supervisor's end, the worker's); (-1, -1) for a command.

    Raises:
        SpawnError: there are no descriptors.
    """
    if spec.kind not in PYTHON:
        return -1, -1
    try:
        stacks_fd, dump_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SpawnError("make a pipe for its stacks", error.errno or 0) from None
    if not spec.sockets:
        return stacks_fd, dump_fd
    try:
        return stacks_fd, spawn.out_of_way(dump_fd, len(spec.sockets))
    except SpawnError:
        os.close(stacks_fd)
        raise
