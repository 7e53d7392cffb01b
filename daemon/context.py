"""
What every process of one daemon shares: fixed by the root before its first fork, inherited ever after.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from msgspec import Struct

from regrow.config.spec import DaemonSpec

_OURS = ("REGROW_", "NOTIFY_SOCKET", "WATCHDOG_", "LISTEN_", "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID")


class Context(Struct, frozen=True):
    """
    `token` marks every process of this run. `environ` is what children inherit. `devnull` holds descriptors for
    reading and for writing; `logger_fd` the logger's end of its channel, `outputs_fd` where supervisors hand over
    the pipes of their children (`pipes.Pipes`), -1 where there is none.
    `sockets` are the descriptors of the listening sockets of the file, by name, as this process has them.
    `mailbox` are the ids that may talk to agents, as these read it (`u0,u1000,g27`).
    """

    token: str
    daemon: DaemonSpec
    environ: Mapping[str, str]
    devnull: tuple[int, int]
    logger_fd: int = -1
    outputs_fd: int = -1
    cgroup: str = ""
    record: bool = True
    mailbox: str = ""
    sockets: Mapping[str, int] = {}


def inheritable_environ() -> dict[str, str]:
    """Clear the environment of what was meant for the daemon itself; what remains is its children's."""
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        del os.environ[name]
    return dict(os.environ)


def shared_environ(context: Context, *, supervisor: str, notify: str) -> dict[str, str]:
    """What all children of one supervisor find in their environment."""
    return {
        "REGROW_SUPERVISOR": supervisor,
        "REGROW_RUN_DIR": context.daemon.run_dir,
        "NOTIFY_SOCKET": notify,
    }


def child_environ(context: Context, spec_env: Mapping[str, str], *, name: str, incarnation: int) -> dict[str, str]:
    """The environment of one incarnation, but for what only workers of one kind get."""
    return {
        **context.environ,
        **spec_env,
        "REGROW_CHILD": f"{context.token}:{name}:{incarnation}",
        "REGROW_NAME": name,
        "REGROW_INCARNATION": str(incarnation),
    }
