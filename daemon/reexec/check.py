"""
Whether this program could take up a running daemon: asked by the old one before it lets go of anything.

Standard input holds what would be carried, as a msgpack array of byte strings, one for each supervisor. The answer is
one line: on standard output the version and its pid, or on standard error why not.
"""

from __future__ import annotations

import os
import sys

import msgspec

from regrow.config.exits import DONE, REFUSED
from regrow.config.version import VERSION
from regrow.daemon import forked
from regrow.daemon.reexec import carried_root, program, program_root
from regrow.daemon.reexec.carried import Incompatible, decode

__all__ = ["main", "program", "program_root"]  # all that the root will need can be imported


def main() -> None:
    """Read, take up nothing, and say whether it could be."""
    try:
        for data in msgspec.msgpack.decode(sys.stdin.buffer.read(), type=list[bytes]):
            found = decode(data)
            forked.load(forked.kinds_in(found.supervisor.state.spec))
            if found.root:
                carried_root.decode(found.root)
    except Incompatible as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(REFUSED)
    sys.stdout.write(f"{VERSION} {os.getpid()}\n")
    sys.exit(DONE)
