"""
The first moments of a root: its plan, its run_dir, the claim on it, and what an earlier root left behind.
"""

from __future__ import annotations

import os
import resource
import signal
import sys

import msgspec

from regrow.config import exits
from regrow.config.spec import Plan
from regrow.daemon.errors import RunDirError
from regrow.daemon.linux import identity, takeover
from regrow.daemon.tell import complain


def run(plan_fd: int) -> int:
    """
    Be the root daemon of the plan that `plan_fd` holds (msgpack). Returns its exit status.
    """
    plan = _read_plan(plan_fd)
    os.umask(0o022)
    _more_descriptors()
    _line_buffered()
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # a background daemon may still say something on its terminal
    token = identity.new_token()
    try:
        taken = takeover.take(plan.daemon.run_dir, token, f"regrow: {plan.daemon.name} root")
        for report in taken.reports:
            complain(report)
        from regrow.daemon.root import Root

        status = Root(plan, token, taken).run()
        takeover.release(plan.daemon.run_dir, taken)
        return status
    except RunDirError as error:
        complain(str(error))
        return exits.REFUSED
    except OSError as error:
        complain(f"cannot use {plan.daemon.run_dir}: {error.strerror or error}; choose another [daemon] run_dir")
        return exits.REFUSED
    except Exception:  # noqa: BLE001 - the outermost frame
        import traceback

        complain(f"internal error, the daemon ends:\n{traceback.format_exc()}")
        return exits.INTERNAL


def _read_plan(fd: int) -> Plan:
    with os.fdopen(fd, "rb") as plan:
        plan.seek(0)
        return msgspec.msgpack.decode(plan.read(), type=Plan)


def _line_buffered() -> None:
    """What a function prints is to be seen at once, and to be kept when its process is killed; forks inherit this."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)


def _more_descriptors() -> None:
    """A pipe per child: use what the system allows, for this process; children get the limits it came with."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
