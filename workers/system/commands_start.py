"""
How a runner makes the process of a command: by a shim, which is no copy of the runner, where that can be had.

It is forked where the shim cannot be had, on other processors for instance; in a control group with a limit of memory,
where its death for want of memory would be that of the runner as well (`vm_spawn`); where capabilities are dropped, as
far as the kernel lets us; and with arguments that are longer than usual.

Source: docs/decisions.md, "Commands are started by a shim".
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from regrow.workers import shim_image
from regrow.workers.shim_image import BIND, MACHINES, PASSING, STAGES, UMASK, Images, Row
from regrow.workers.system import commands_child as child
from regrow.workers.system.commands_calls import PR_SET_NO_NEW_PRIVS
from regrow.workers.system.commands_child import Failure, Launch
from regrow.workers.vm_spawn import FAILURE, Birth, VmSpawn

_WORDS = shim_image.words("runner")


class Started(NamedTuple):
    """
    A process that becomes the program. `status_fd` reads as empty once it has, or as a message, and `failure` says
    what that means.
    """

    pid: int
    status_fd: int
    failure: Callable[[bytes], Failure | None]


class Starter:
    """For one runner, of which it is to be the only thread."""

    def __init__(self) -> None:
        self._spawn: VmSpawn | None = None
        machine = MACHINES.get(os.uname().machine)
        try:
            if machine is not None:
                self._spawn = VmSpawn(STAGES, child.IGNORED)
                self._images = Images(machine)
        except OSError:
            self._spawn = None

    def start(self, launch: Launch, group_fd: int) -> Started:
        """
        Make it, in a control group unless that is -1. What fails about the shim is left to the fork, which says
        precisely what is wrong.

        Raises:
            OSError: there is no process.
        """
        if self._spawn is not None and not (
            launch.drops_capabilities or (group_fd >= 0 and launch.limits.memory_bytes is not None)
        ):
            try:
                return self._start_shim(self._spawn, launch, group_fd)
            except ValueError:
                pass  # no string or number for the kernel
            except OSError as error:
                if error.errno not in PASSING:
                    self._spawn = None  # it cannot be had: another try would cost each command a process
        return Started(*child.start(launch, group_fd), child.read_failure)

    def _start_shim(self, spawn: VmSpawn, launch: Launch, group_fd: int) -> Started:
        """
        Raises:
            OSError, ValueError: there is no process.
        """
        made = tuple(_rows(launch))
        image_fd = self._images.get(made, lambda status_fd: [*shim_image.begin(status_fd), *made])
        argv = [launch.executable, os.fsdecode(launch.cwd), *map(os.fsdecode, launch.argv)]
        env = {os.fsdecode(name): os.fsdecode(value) for name, value in launch.env.items()}
        status_fd, child_fd = os.pipe2(os.O_CLOEXEC)
        placed = [*zip(launch.streams, range(3), strict=True), (child_fd, self._images.status_fd)]
        birth = Birth(image_fd, argv, env, placed, child_fd, group_fd, waits=True)
        try:
            with child.offered_memory(launch.host_proc):
                pid = spawn.spawn(birth)
        except BaseException:
            os.close(status_fd)
            raise
        finally:
            os.close(child_fd)
        return Started(pid, status_fd, partial(_failure, launch))


def _rows(launch: Launch) -> list[Row]:
    """The system calls of a launch, in the order of `commands_child`."""
    limits = child.resource_limits(launch.limits, processes=launch.limits_processes)
    made = [shim_image.limit(which, *child.lowered(which, most)) for which, most in limits]
    made += shim_image.nice(launch.nice)
    made.append(Row(UMASK, "umask", (child.UMASK,)))
    person = launch.person
    if person.is_change:
        made += shim_image.become(person.uid, person.gid, person.groups)
    made.append(Row(BIND, "prctl", (PR_SET_NO_NEW_PRIVS, 1)))
    return [*made, shim_image.bind()]


def _failure(launch: Launch, told: bytes) -> Failure | None:
    if len(told) != FAILURE.size:
        return None
    number, error = FAILURE.unpack(told)
    return child.failure(launch, _WORDS[number], error)
