"""
What a root stands on: made anew when a daemon starts, or taken over from the program that it was before an exec.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec import Struct

from regrow.config.spec import Plan, SupervisorSpec
from regrow.daemon import channel, commons, system
from regrow.daemon.commons import Members
from regrow.daemon.context import Context, inheritable_environ
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.linux.identity import ROOT_NAME, Marker
from regrow.daemon.linux.leftovers import Known
from regrow.daemon.linux.takeover import Taken
from regrow.daemon.listen import Listening
from regrow.daemon.system import Wanted


class Footing(Struct, frozen=True):
    """
    `lock_fd` holds the run_dir. `streams_fd` is the root's end of the channel to the logger, `arriving_fd` where pipes
    arrive, `listening` the sockets of the file. `notify` is where the service manager listens, `watchdog_s` how often
    it wants to hear.

    The rest is there after an exec only: `notify_fd` for the children, `listener_fd` of the control socket, `known` and
    `inherited` as `Runtime` and `Relay` have them.
    """

    plan: Plan
    context: Context
    own: Marker
    group: Group | None
    lock_fd: int
    members: Members
    wanted: Wanted
    system: SupervisorSpec
    top: SupervisorSpec
    streams_fd: int
    arriving_fd: int
    notify: str
    listening: Listening
    watchdog_s: float = 0.0
    notify_fd: int = -1
    listener_fd: int = -1
    known: Known | None = None
    inherited: Mapping[str, int] = {}


def anew(
    plan: Plan, token: str, taken: Taken, group: Group | None, listening: Listening
) -> tuple[Footing, str]:
    """
    Make everything but the sockets, which come first.

    Returns what the operator should know beside it, empty when all is well.

    Raises:
        OSError: run_dir is unusable.
    """
    wanted = system.wanted(plan)
    own_spec = system.system_spec(plan.daemon, wanted)
    members = commons.members(plan.access, commons.workers_in(plan.root))
    unshared = commons.make(plan.daemon.run_dir, members)
    # The root keeps both ends open, so no logger's death closes the channel.
    streams_fd, logger_fd = channel.pair()
    arriving_fd, outputs_fd = channel.pair()
    notify = os.environ.get("NOTIFY_SOCKET", "")
    watchdog_s = _watchdog_s()
    context = Context(
        token=token,
        daemon=plan.daemon,
        environ=inheritable_environ(),
        devnull=_devnull(),
        logger_fd=logger_fd,
        outputs_fd=outputs_fd,
        mailbox=members.listed(),
        sockets={name: one.fd for name, one in listening.held.items()},
    )
    footing = Footing(
        plan=plan,
        context=context,
        own=Marker(token, ROOT_NAME, 1),
        group=group,
        lock_fd=taken.lock_fd,
        members=members,
        wanted=wanted,
        system=own_spec,
        top=system.top_spec(plan.root, own_spec),
        streams_fd=streams_fd,
        arriving_fd=arriving_fd,
        notify=notify,
        watchdog_s=watchdog_s,
        listening=listening,
    )
    return footing, unshared


def _devnull() -> tuple[int, int]:
    return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def _watchdog_s() -> float:
    """What the service manager asks of this very process; 0 when it asks nothing."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    text = os.environ.get("WATCHDOG_USEC", "")
    return int(text) / 1_000_000 if text.isdecimal() else 0.0
