"""
A supervisor below a supervisor: its process, its channel, and what happens when either end is gone.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from msgspec.structs import replace

from regrow.config import exits, internal
from regrow.config.spec import SupervisorSpec
from regrow.daemon import birth, channel, forked
from regrow.daemon.channel import Channel, Link
from regrow.daemon.channel_messages import Down, LastWordUp, Up
from regrow.daemon.context import Context
from regrow.daemon.core.effects import Outcome
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux import identity, kernel, spawn
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.identity import Marker
from regrow.daemon.loop import Loop
from regrow.daemon.process import Process
from regrow.daemon.tell import complain

if TYPE_CHECKING:
    from regrow.daemon.runtime import Runtime

LAST_WORD_S = 2.0
"""How long a supervisor that has ended waits for its parent to take what it has to say."""


def make(parent: Runtime, spec: SupervisorSpec, incarnation: int) -> Process:
    """
    Fork the process of a nested supervisor; it is ready when its `ReadyUp` comes.

    Raises:
        SpawnError: there is no process, and no descriptor is left open.
    """
    context = parent.context if spec.name != internal.SYSTEM else replace(parent.context, sockets={})
    try:
        parent_fd, child_fd = channel.pair()
    except OSError as error:
        raise SpawnError("make a channel", error.errno or 0) from None
    keep = (child_fd, context.outputs_fd, *context.devnull, *context.sockets.values())
    keep += (context.logger_fd,) if spec.name == internal.SYSTEM else ()
    path = f"{parent.path}/{spec.name}" if parent.path else spec.name
    incarnations = parent.relay.incarnations_below(spec.name)
    group = parent.spawner.group_of(spec.name)
    home = parent.spawner.home_of(group)

    def body(status_fd: int) -> int:
        os.close(status_fd)
        own = _take_on_name(context, spec, incarnation)
        known = context if spec.name == internal.SYSTEM else replace(context, logger_fd=-1)  # the number is free there
        return run(known, spec, path, child_fd, incarnations, own, group)

    try:
        pid, status_fd = spawn.fork_call(birth.supervisor_launch(context, keep, home), body)
    except SpawnError:
        os.close(parent_fd)
        raise
    finally:
        os.close(child_fd)
    process = Process(spec.name, incarnation, spec, pid)
    process.status_fd = status_fd
    process.group = group
    process.channel = channel_to(parent, process, Link(parent_fd))
    return process


def channel_to(parent: Runtime, process: Process, link: Link) -> Channel:
    """The parent's end of the channel to a child supervisor."""

    def heard(message: Up) -> None:
        parent.relay.from_child(process, message)

    return Channel.of_link(parent.loop, link, Up, heard, lambda: None)


def _take_on_name(context: Context, spec: SupervisorSpec, incarnation: int) -> Marker:
    own = Marker(context.token, spec.name, incarnation)
    show(context, own)
    return own


def show(context: Context, own: Marker) -> None:
    """Let others see which supervisor this process is."""
    identity.mark(str(own))
    identity.set_title(f"regrow: {context.daemon.name}/{own.name} supervisor")
    kernel.set_name(own.name)


def run(
    context: Context,
    spec: SupervisorSpec,
    path: str,
    fd: int,
    incarnations: Mapping[str, int],
    own: Marker,
    group: Group | None,
) -> int:
    """Be the supervisor `spec` until it ends. Returns its exit status."""
    from regrow.daemon.runtime import Runtime

    try:
        loop = Loop()
        up = Channel(loop, fd, Down, lambda _message: None, lambda: None)
        runtime = Runtime(context, loop, spec, path, up, incarnations, own, group)
        kernel.set_child_subreaper()
        failure = forked.preload(spec)
        if failure:
            up.send(LastWordUp(Outcome.START_FAILED, failure))
            up.flush_blocking(LAST_WORD_S)
            return exits.REFUSED
        return serve(runtime, up, runtime.begin)
    except Exception:  # noqa: BLE001 - the outermost frame: report, and let the parent restart this supervisor
        import traceback

        complain(f"internal error in supervisor {spec.name}, which ends:\n{traceback.format_exc()}")
        return exits.INTERNAL


def serve(runtime: Runtime, up: Channel, begin: Callable[[], None]) -> int:
    """Listen to the parent and to signals, `begin`, and go on until the end. Returns the exit status."""
    up.connect(runtime.relay.from_parent, runtime.abandon)
    up.on_recovered = runtime.recovered
    runtime.loop.on_signals(
        {
            signal.SIGCHLD: runtime.reaper.sweep,
            signal.SIGTERM: runtime.stop,
            signal.SIGINT: runtime.stop,
            signal.SIGHUP: lambda: None,
            signal.SIGUSR2: lambda: None,
        }
    )
    gc.collect()
    gc.freeze()
    gc.enable()  # it was off since the fork; what one incarnation of a child was made of refers to itself
    begin()
    runtime.reaper.sweep()  # for deaths before the signals were listened to
    runtime.loop.run()
    up.flush_blocking(LAST_WORD_S)
    return status_of(runtime)


def status_of(runtime: Runtime) -> int:
    """The exit status that tells *shutdown* from a failed start."""
    outcome = runtime.end.outcome if runtime.end is not None else Outcome.START_FAILED
    return exits.REFUSED if outcome is Outcome.START_FAILED else exits.SHUTDOWN
