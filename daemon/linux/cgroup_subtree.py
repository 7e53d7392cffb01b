"""
The part of the tree of control groups that is ours: whether there is one, where, and making and leaving it.

Everything here that may fail while the tree must go on says so in its result instead of raising.

Source: cgroups(7), proc_pid_mountinfo(5); systemd's CGROUP_DELEGATION.md.
"""

from __future__ import annotations

import os

from regrow.daemon.linux import procfs
from regrow.daemon.linux.cgroup import Group, why

PREFIX = "regrow."
DELEGATED = "REGROW_DELEGATED"
"""Names the unit whose group has been delegated; inherited elsewhere, it names none that is there."""


def place(token: str, *, attested: bool = False) -> tuple[str, str]:
    """
    Where the groups of a run belong. Returns (path, "") or ("", why there is no place for them).

    With `attested` only a manager's own word counts as delegation, not that we are on top of our namespace.
    Nothing is made, so that the path can be written down first.
    """
    own, reason = own_group()
    if reason:
        return "", reason
    if not os.access(own, os.W_OK | os.X_OK):
        return "", f"{own} is not writable"
    if not _delegated(own, attested=attested):
        return "", f"{own} is not delegated to us (systemd: Delegate=yes)"
    return f"{own}/{PREFIX}{token[:8]}", ""


def open_subtree(path: str) -> tuple[Group | None, str]:
    """
    Make the groups at `path` (from `place`) and move the calling process into their `home`; takes milliseconds.

    Returns:
        (group, "") or (None, why not), and then nothing is left of it. A group whose controllers could not be
        had is of use all the same: then the reason is there beside it.
    """
    group = Group(path)
    reason = group.create() or group.home().create() or group.home().enter()
    if reason:
        group.remove()
        return None, reason
    above = Group(os.path.dirname(path))
    return group, above.delegate_controllers() or group.delegate_controllers()


def close_subtree(group: Group) -> str:
    """
    Leave the groups for the one above and remove them, as the last of their processes.

    Returns what went wrong, or nothing.
    """
    above = Group(os.path.dirname(group.path))
    reason = above.enter()
    if reason:  # controllers are handed down from there, so nobody may be in it: take them back first, from below
        for holder in (group, above):
            holder.take_controllers_back()
        reason = above.enter()
    return reason or group.remove()


def own_group() -> tuple[str, str]:
    """The directory of the group that we are in: (path, "") or ("", why it cannot be told)."""
    try:
        return _own_group()
    except OSError as error:
        return "", why(error, "read /proc/self")


def _own_group() -> tuple[str, str]:
    path = own_path(procfs.read_file("/proc/self/cgroup").decode(errors="surrogateescape"))
    if path is None:
        return "", "this system has no control groups of version 2"
    mount = find_mount(procfs.read_file("/proc/self/mountinfo").decode(errors="surrogateescape"), path)
    if mount is None:
        return "", "the control groups of version 2 are not mounted where ours could be seen"
    return mount, ""


def own_path(text: str) -> str | None:
    """The path of version 2 in a /proc/PID/cgroup, or None."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line[3:].removesuffix(" (deleted)")
    return None


def find_mount(mountinfo: str, path: str) -> str | None:
    """
    Where the group `path` can be found, according to a mountinfo; None when no mount shows it.

    A mount may show only a part of the groups (its root is not "/"): then it must be one that we are in.
    """
    best = None
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        if not rest.startswith("cgroup2 "):
            continue
        root, point = (_unescape(field) for field in fields.split(" ")[3:5])
        inside = path if root == "/" else path.removeprefix(root) if (path + "/").startswith(root + "/") else None
        if inside is not None:
            best = (point + "/" + inside.strip("/")).rstrip("/")  # the last one mounted hides the others
    return best


def _unescape(field: str) -> str:
    """Mountinfo writes blanks and backslashes as octal numbers."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        field = field.replace(code, char)
    return field


def _delegated(own: str, *, attested: bool) -> bool:
    """
    Whether whoever manages the groups has left this part to us.

    systemd says so in an attribute; a user's manager before systemd 253 cannot, so our unit says whose group it is.
    Where no systemd runs, the top of our cgroup namespace is ours (a container).
    """
    if os.environ.get(DELEGATED) == os.path.basename(own):
        return True
    for attribute in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(own, attribute) == b"1":
                return True
        except OSError:
            continue  # not set, or not for us to see
    if attested:
        return False
    on_top = own_path(procfs.read_file("/proc/self/cgroup").decode(errors="surrogateescape")) == "/"
    return on_top and not os.path.isdir("/run/systemd/system")
