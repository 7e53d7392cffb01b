"""
The first moments of a root: its plan, its run_dir, the claim on it, and what an earlier root left behind.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec

from regrow.config import exits
from regrow.config.spec import CgroupUse, Plan
from regrow.daemon import activation, commons, footing, listen
from regrow.daemon.activation import Passed
from regrow.daemon.errors import ListenError, RunDirError
from regrow.daemon.linux import cgroup_subtree, identity, takeover
from regrow.daemon.linux.cgroup import Group
from regrow.daemon.reexec import execute
from regrow.daemon.tell import complain
from regrow.workers.system.descriptors import use_all_descriptors

if TYPE_CHECKING:
    from regrow.daemon.root import Root


def run(plan_fd: int) -> int:
    """
    Be the root daemon of the plan that `plan_fd` holds (msgpack). Returns its exit status.
    """
    passed = activation.passed(os.environ, os.getpid(), plan_fd)
    plan = _read_plan(plan_fd)
    os.umask(0o022)
    use_all_descriptors()  # a pipe per child; children get the limits that this process came with
    execute.close_on_exec()
    execute.line_buffered()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a background daemon may still say something on its terminal
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until the loop listens: nothing to stop in order yet
    token = identity.new_token()
    path = _cgroup_path(plan.daemon.cgroup, token)
    try:
        taken = takeover.take(plan.daemon.run_dir, token, f"regrow: {plan.daemon.name} root", path)
        for report in taken.reports:
            complain(report)
        return _be_root(plan, token, taken, _open_groups(path), passed)
    except (RunDirError, ListenError) as error:
        complain(str(error))
        return exits.REFUSED
    except Exception:  # noqa: BLE001 - the outermost frame
        import traceback

        complain(f"internal error, the daemon ends:\n{traceback.format_exc()}")
        return exits.INTERNAL


def _be_root(
    plan: Plan, token: str, taken: takeover.Taken, group: Group | None, passed: Sequence[Passed]
) -> int:
    from regrow.daemon.root import Root

    try:
        opened = listen.open_all(plan.sockets, passed, lasting=_is_service(os.environ))
    except ListenError:
        _leave(plan, taken.lock_fd, group)
        raise
    try:
        commons.remove(plan.daemon.run_dir)
        on, unshared = footing.anew(plan, token, taken, group, opened.listening)
        root = Root(on)
    except OSError as error:
        raise RunDirError(
            f"cannot use {plan.daemon.run_dir}: {error.strerror or error}; choose another [daemon] run_dir"
        ) from None
    root.tell(taken, unshared)
    root.sockets.tell(opened)

    def begin() -> None:
        root.deploying.look_back()
        root.runtime.begin()

    return be(root, begin)


def be(root: Root, begin: Callable[[], None]) -> int:
    """`begin`, serve until the end, and leave the run_dir to the next one. Returns the exit status."""
    status = root.run(begin)
    root.sockets.close()
    commons.remove(root.plan.daemon.run_dir)
    _leave(root.plan, root.lock_fd, root.runtime.group)
    return status


def _leave(plan: Plan, lock_fd: int, group: Group | None) -> None:
    if group is not None:
        cgroup_subtree.close_subtree(group)
    takeover.release(plan.daemon.run_dir, lock_fd)


def _is_service(environ: Mapping[str, str]) -> bool:
    """Whether systemd itself has started us: it keeps our sockets, and they are to be found where they are."""
    return bool(environ.get("NOTIFY_SOCKET")) and environ.get("SYSTEMD_EXEC_PID") == str(os.getpid())


def _cgroup_path(use: CgroupUse, token: str) -> str:
    """Where control groups for the children are to be, or empty."""
    if use is CgroupUse.OFF:
        return ""
    path, reason = cgroup_subtree.place(token, attested=use is CgroupUse.AUTO)
    if reason and use is CgroupUse.ON:
        complain(f"the children get no control groups: {reason}")
    return path


def _open_groups(path: str) -> Group | None:
    if not path:
        return None
    group, reason = cgroup_subtree.open_subtree(path)
    if reason:
        complain(f"control groups are not all that they could be: {reason}")
    return group


def _read_plan(fd: int) -> Plan:
    with os.fdopen(fd, "rb") as plan:
        plan.seek(0)
        return msgspec.msgpack.decode(plan.read(), type=Plan)
