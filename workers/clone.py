"""
Fork into a control group, or into namespaces: clone3(2), made to look like `os.fork`.

Between fork and clone3 lies what the C library and Python do around a fork. Python's part is called here as `os.fork`
calls it. Of the C library's part, a single-threaded process needs two things, done here as it does them:
the thread id in its thread descriptor, by which robust mutexes (LMDB's writer lock) know their owner, and the
list of those mutexes, which the kernel forgets in a child.

Source: clone3(2), namespaces(7), set_robust_list(2), PR_GET_TID_ADDRESS(2const), glibc's sysdeps/nptl/fork.h and
posix/fork.c;
Python's posixmodule.c, os_fork_impl.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal

_CLONE_CHILD_CLEARTID = 0x00200000
_CLONE_CHILD_SETTID = 0x01000000
NEW_MOUNTS = 0x00020000
NEW_USER = 0x10000000
NEW_PIDS = 0x20000000
NEW_NETWORK = 0x40000000
_CLONE_INTO_CGROUP = 0x2_0000_0000
_PR_GET_TID_ADDRESS = 40
_NR_CLONE3 = 435  # one number on every architecture
_ROBUST_LIST_NUMBERS = {  # set, get
    "x86_64": (273, 274),
    "aarch64": (99, 100),
    "riscv64": (99, 100),
    "ppc64le": (300, 299),
    "s390x": (304, 305),
}

# PyDLL: a call keeps the interpreter lock, so that the child does not have to win it from nobody.
_LIBC = ctypes.PyDLL(None, use_errno=True)
_PYTHON = ctypes.pythonapi


class _Arguments(ctypes.Structure):
    """struct clone_args, as of Linux 5.7."""

    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags",
            "pidfd",
            "child_tid",
            "parent_tid",
            "exit_signal",
            "stack",
            "stack_size",
            "tls",
            "set_tid",
            "set_tid_size",
            "cgroup",
        )
    ]


def fork_into(group_fd: int = -1, spaces: int = 0) -> int:
    """
    As `os.fork`, but the child is born in the group that `group_fd` (`cgroup.Group.open`) is open on, if that is not
    -1, and in new namespaces, as the bits of `spaces` say.

    For a process with a single thread.

    Raises:
        OSError: there is no child. ENOSYS or EPERM: this kernel, architecture or sandbox cannot do it: fork, then
            let the child enter; or it may not make these namespaces. EBUSY, ENODEV, EOPNOTSUPP: that group cannot take
            processes; otherwise as fork(2).
    """
    address, robust, length = _thread()
    arguments = _Arguments(
        flags=(_CLONE_INTO_CGROUP if group_fd >= 0 else 0) | spaces | _CLONE_CHILD_SETTID | _CLONE_CHILD_CLEARTID,
        child_tid=address,
        exit_signal=signal.SIGCHLD,
        cgroup=max(group_fd, 0),
    )
    _PYTHON.PyOS_BeforeFork()
    size = ctypes.c_size_t(ctypes.sizeof(arguments))
    pid = int(_LIBC.syscall(ctypes.c_long(_NR_CLONE3), ctypes.byref(arguments), size))
    if pid == 0:
        _LIBC.syscall(ctypes.c_long(_numbers()[0]), ctypes.c_void_p(robust), ctypes.c_size_t(length))
        _PYTHON.PyOS_AfterFork_Child()
        return 0
    number = ctypes.get_errno()
    _PYTHON.PyOS_AfterFork_Parent()
    if pid < 0:
        raise OSError(number, os.strerror(number))
    return pid


def _thread() -> tuple[int, int, int]:
    """Of this thread: the address of its id, and of its list of robust mutexes with the length of the head."""
    address, robust, length = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
    if (
        _LIBC.prctl(_PR_GET_TID_ADDRESS, ctypes.byref(address), 0, 0, 0) != 0
        or _LIBC.syscall(ctypes.c_long(_numbers()[1]), 0, ctypes.byref(robust), ctypes.byref(length)) != 0
        or not address.value
        or not robust.value
    ):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))  # a kernel without checkpoints, or another C library
    return address.value, robust.value, length.value


def _numbers() -> tuple[int, int]:
    numbers = _ROBUST_LIST_NUMBERS.get(os.uname().machine)
    if numbers is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return numbers
