"""
Plain commands, made faster than by posix_spawn and bound to their supervisor all the same: by a shim (`shim_image`).

Nobody waits for its exec (`vm_spawn`); where that cannot be had, posix_spawn makes the shim, and the supervisor waits
until it runs (as with vfork). Never until the command does: a directory or a program on a dead file server stops the
child only.

Where it cannot be had, commands are forked: on other processors, where memory files must not be executed
(vm.memfd_noexec, a security module, a filter of system calls), without /proc.

Source: posix_spawn(3), execve(2), memfd_create(2).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence

from msgspec import Struct

from regrow.config.spec import Credentials, Limits, WorkerSpec
from regrow.daemon.errors import SpawnError
from regrow.daemon.linux import spawn
from regrow.daemon.linux.spawn import Launch
from regrow.workers import shim_image
from regrow.workers.shim_image import MACHINES, PASSING, STAGES, UMASK, Images, Row
from regrow.workers.vm_spawn import FAILURE, Birth, Failed, VmSpawn

_WORDS = shim_image.words("supervisor")


class Setup(Struct, frozen=True):
    """What a shim sets up; commands that are alike in it share an image."""

    limits: Limits
    nice: int
    umask: int | None
    credentials: Credentials | None


def rows(setup: Setup, status_fd: int) -> list[Row]:
    """The system calls of a set-up, in the order of `spawn.fork_exec`."""
    made = shim_image.begin(status_fd)
    made += [shim_image.limit(*each) for each in spawn.resource_limits(setup.limits)]
    made += shim_image.nice(setup.nice)
    if setup.umask is not None:
        made.append(Row(UMASK, "umask", (setup.umask,)))
    if (user := setup.credentials) is not None:
        made += shim_image.become(user.uid, user.gid, user.groups)
    return [*made, shim_image.bind()]


class Shims:
    """Those of one supervisor; for the process that calls `start` first, and no other."""

    def __init__(self) -> None:
        machine = MACHINES.get(os.uname().machine)
        self._images = Images(machine) if machine is not None else None
        self._quick: VmSpawn | None = None
        self._is_proved = False

    def start(self, launch: Launch, executable: str, argv: tuple[str, ...]) -> tuple[int, int] | None:
        """
        Make a command of a plain launch. Returns (pid, status descriptor), or None where it must be forked.

        The descriptor reads as empty once the program runs, or as a failure for `read_failure`. Whatever fails
        here is left to the fork, which says precisely what was wrong.
        """
        if self._images is None:
            return None
        try:
            status_fd, child_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        pid = None
        try:
            pid = self._spawn(launch, (executable, launch.cwd or ".", *argv), child_fd)
        except (ValueError, struct.error):  # no string or number for the kernel
            pass
        except OSError as error:
            if error.errno not in PASSING:
                self.close()
                self._images = None
        finally:
            os.close(child_fd)
            if pid is None:
                os.close(status_fd)
        return None if pid is None else (pid, status_fd)

    def _spawn(self, launch: Launch, argv: tuple[str, ...], child_fd: int) -> int | None:
        if launch.group is not None and launch.limits.memory_bytes is not None:
            return None  # a death for want of memory in that group would be ours as well, see `vm_spawn`
        assert self._images is not None
        image_fd = self._image(launch)
        assert launch.stdout.fd is not None
        assert launch.stderr.fd is not None
        status = (child_fd, self._images.status_fd)
        placed = ((launch.stdin_fd, 0), (launch.stdout.fd, 1), (launch.stderr.fd, 2), status)
        if (quick := self._quickly()) is not None:
            try:
                return self._spawn_quickly(quick, launch, image_fd, argv, placed)
            except Failed:
                raise
            except OSError as error:
                if launch.group is not None or error.errno in PASSING or self._is_proved:
                    return None
                self._quick, self._is_proved = None, True  # clone3 is forbidden, or not known
        if launch.group is not None:
            return None
        return os.posix_spawn(
            f"/proc/self/fd/{image_fd}",
            argv,
            launch.env,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, at) for fd, at in placed],
            setsid=True,
            setsigmask=(),
            setsigdef=spawn.IGNORED,
        )

    def _quickly(self) -> VmSpawn | None:
        """What makes processes without a wait, unless it has been found that it cannot be had."""
        if self._quick is None and not self._is_proved:
            try:
                self._quick = VmSpawn(STAGES, spawn.IGNORED)
            except OSError as error:
                self._is_proved = error.errno not in PASSING
        return self._quick

    def _spawn_quickly(
        self, quick: VmSpawn, launch: Launch, image_fd: int, argv: tuple[str, ...], placed: Sequence[tuple[int, int]]
    ) -> int:
        """The first one is waited for: only its exec tells whether memory files may be executed."""
        group_fd = launch.group.open() if launch.group is not None else -1
        try:
            child_fd, _ = placed[-1]
            pid = quick.spawn(Birth(image_fd, argv, launch.env, placed, child_fd, group_fd, waits=not self._is_proved))
        finally:
            if group_fd >= 0:
                os.close(group_fd)
        self._is_proved = True
        return pid

    def _image(self, launch: Launch) -> int:
        """The memory file for a launch."""
        assert self._images is not None
        setup = Setup(launch.limits, launch.nice, launch.umask, launch.credentials)
        return self._images.get(setup, lambda status_fd: rows(setup, status_fd))

    def close(self) -> None:
        """Close all descriptors."""
        if self._images is not None:
            self._images.close()


def read_failure(message: bytes, spec: WorkerSpec) -> SpawnError | None:
    """What the shim of `spec` wrote before it gave up; None for what is no shim's message."""
    if len(message) != FAILURE.size:
        return None
    number, error = FAILURE.unpack(message)
    stage = _WORDS.get(number)
    if stage is None:  # begins as a message of a forked child does
        return None
    subject = ""
    if stage == "enter":
        subject = spec.cwd
    elif stage == "exec":
        executable = spec.executable or spec.command[0]
        subject = executable + spawn.lacking(executable, error)
    elif stage == "set nice":
        subject = str(spec.nice)
    elif stage == "become user" and spec.credentials is not None:
        subject = spec.credentials.user
    return SpawnError(stage, error, subject)
