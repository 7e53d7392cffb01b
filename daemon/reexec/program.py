"""
The program that a supervisor, or the root, has become: it takes up what the old one has left.
"""

from __future__ import annotations

import signal
import sys

from regrow.config import exits
from regrow.daemon import interned, nested  # noqa: F401 - `interned` is for its names, before most is loaded
from regrow.daemon.channel import Channel
from regrow.daemon.channel_messages import Down, ReplyUp
from regrow.daemon.linux import identity, kernel
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.loop import Loop
from regrow.daemon.reexec import carried, execute, supervisor
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
        execute.line_buffered()
        identity.locate()
        if not found.root:
            return _supervisor(found.supervisor)
        from regrow.daemon.reexec.program_root import go_on

        return go_on(found.supervisor, found.root)
    except Exception:  # noqa: BLE001 - the outermost frame: report, and let whoever is above repair it
        import traceback

        complain(f"internal error after an exec, this process ends:\n{traceback.format_exc()}")
        return exits.INTERNAL


def _supervisor(found: carried.Supervisor) -> int:
    nested.show(found.context, found.own)
    kernel.set_pdeathsig(signal.SIGKILL)  # an exec of a program with capabilities has cleared it
    assert found.up is not None
    loop = Loop()
    spec = found.state.spec  # a reload may have changed it since its birth
    up = Channel.of_link(loop, found.up, Down, lambda _message: None, lambda: None)
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
        known=found.known,
    )

    def begin() -> None:
        supervisor.resume(runtime, found)
        runtime.upward.send(ReplyUp(found.answers, ok=loop.now() - found.left_s))

    return nested.serve(runtime, up, begin)
