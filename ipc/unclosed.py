"""
What becomes of a node that nobody has closed and nobody can reach any more.

Left to themselves, its sockets and their context would be finalized in any order where the node was part of a cycle,
and ZeroMQ's context waits for its sockets: the collector would hang, in whatever thread it ran. So what holds them is
kept here, apart from the node, until that is gone.

Source: weakref.finalize; zmq_ctx_term(3); Python's ResourceWarning.
"""

from __future__ import annotations

import os
import warnings
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regrow.ipc.engine import Engine
    from regrow.ipc.names import Names
    from regrow.ipc.transport import Transport


def watch_over(node: Engine) -> weakref.finalize[..., Engine]:
    """
    Have what a node holds now closed when it is gone, with a ResourceWarning; `detach` ends that.

    Not at the interpreter's end: nothing need be closed then, and others may still be using it.
    """
    fds = node.peers.pidfds
    held = weakref.finalize(node, _close, node.run_dir, os.getpid(), node.transport, node.names, fds, node.recall_fd)
    held.atexit = False
    return held


def _close(run_dir: str, pid: int, transport: Transport, names: Names, pidfds: set[int], recall_fd: int) -> None:
    names.lose()
    for fd in (*pidfds, recall_fd):
        os.close(fd)
    pidfds.clear()
    if os.getpid() != pid:
        transport.forget()  # the sockets are the parent's
        return
    transport.close()
    text = f"unclosed connections to {run_dir}: leave a client by `with`, or close() it"
    warnings.warn(text, ResourceWarning, stacklevel=2)
