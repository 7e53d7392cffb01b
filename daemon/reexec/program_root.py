"""
The root in its new program.
"""

from __future__ import annotations

from regrow.daemon import startup
from regrow.daemon.footing import Footing
from regrow.daemon.linux import identity
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.reexec import carried_root, supervisor
from regrow.daemon.reexec.carried import Supervisor
from regrow.daemon.reexec.root import take_up
from regrow.daemon.root import Root


def go_on(found: Supervisor, data: bytes) -> int:
    """
    Be the root that this process was before its exec. Returns the exit status of the daemon.

    Raises:
        Incompatible: `data` is not what a root has left.
    """
    above = carried_root.decode(data)
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
            listening=above.listening,
            watchdog_s=above.watchdog_s,
            notify_fd=found.notify_fd,
            listener_fd=above.listener_fd,
            known=found.known,
            inherited=found.inherited,
        )
    )

    def begin() -> None:
        take_up(root, above)
        supervisor.resume(root.runtime, found)
        root.runtime.reaper.sweep()
        root.reexec.go_on(above.progress, root.loop.now() - found.left_s)

    return startup.be(root, begin)
