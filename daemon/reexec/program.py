"""
The program that a supervisor, or the root, has become: it takes up what the old one has left.
"""

from __future__ import annotations

import sys

from regrow.config import exits
from regrow.config.version import VERSION
from regrow.daemon import channel, forked, nested, startup
from regrow.daemon.channel import Channel, ReplyUp
from regrow.daemon.footing import Footing
from regrow.daemon.linux import identity
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.loop import Loop
from regrow.daemon.reexec import carried, execute, supervisor
from regrow.daemon.reexec.root import take_up as take_up_root
from regrow.daemon.root import Root
from regrow.daemon.runtime import Runtime
from regrow.daemon.tell import complain


def main() -> None:
    """The process that `execute.become` execs: the descriptor of what is carried is the only argument."""
    sys.exit(run(int(sys.argv[1])))


def run(fd: int) -> int:
    """Go on as whoever this process was before its exec. Returns the exit status."""
    try:
        found = carried.decode(execute.read(fd))
        execute.close_on_exec()
        startup.line_buffered()
        identity.locate()
        if found.root is None:
            return _supervisor(found.supervisor)
        return _root(found.supervisor, found.root)
    except Exception:  # noqa: BLE001 - the outermost frame: report, and let whoever is above repair it
        import traceback

        complain(f"internal error after an exec, this process ends:\n{traceback.format_exc()}")
        return exits.INTERNAL


def _supervisor(found: carried.Supervisor) -> int:
    nested.show(found.context, found.own)
    assert found.up is not None
    loop = Loop()
    spec = supervisor.spec_of(found)
    up = Channel.of_link(loop, found.up, channel.Down, lambda _message: None, lambda: None)
    group = Group(found.group) if found.group else None
    runtime = Runtime(
        found.context,
        loop,
        spec,
        found.path,
        up,
        found.inherited,
        found.own,
        group,
        notify_fd=found.notify_fd,
        strangers=found.strangers,
    )

    def begin() -> None:
        take_up(runtime, found)
        if failure := forked.preload(spec):
            runtime.note("fault", "", 0, f"{failure}; each child imports it by itself")
        runtime.upward.send(ReplyUp(found.answers, ok=VERSION))

    return nested.serve(runtime, up, begin)


def _root(found: carried.Supervisor, above: carried.Root) -> int:
    identity.mark(str(found.own))
    identity.set_title(f"regrow: {above.plan.daemon.name} root")
    root = Root(
        Footing(
            plan=above.plan,
            context=found.context,
            own=found.own,
            group=Group(found.group) if found.group else None,
            lock_fd=above.lock_fd,
            members=above.members,
            wanted=above.wanted,
            system=above.system,
            top=above.top,
            streams_fd=above.streams_fd,
            arriving_fd=above.arriving_fd,
            notify=above.notify,
            watchdog_s=above.watchdog_s,
            notify_fd=found.notify_fd,
            listener_fd=above.listener_fd,
            strangers=found.strangers,
            inherited=found.inherited,
        )
    )

    def begin() -> None:
        take_up_root(root, above)
        take_up(root.runtime, found)
        root.runtime.reaper.sweep()
        root.reexec.go_on(above.progress)

    return startup.be(root, begin)


def take_up(runtime: Runtime, found: carried.Supervisor) -> None:
    """Be the supervisor that was gathered, and hear of what has happened meanwhile."""
    runtime.listen()
    supervisor.take_up(runtime, found)
    execute.listen()

