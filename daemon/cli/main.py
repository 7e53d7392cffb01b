"""
The entry point `regrow`.

Tiny, because every call of the command pays for it: `regrow status` goes through `fast`, all else through click.
"""

from __future__ import annotations

import os
import sys

from regrow.daemon.cli.streams import prepare

COMPLETION = "_REGROW_COMPLETE"
"""Set by the shell's completion script; click answers it."""


def main() -> int:
    """Run the command line of this process. Returns the exit status."""
    prepare()
    args = sys.argv[1:]
    if args[:1] == ["status"] and COMPLETION not in os.environ:
        from regrow.daemon.cli.fast import status

        code = status(args[1:])
        if code is not None:
            return code
    from regrow.daemon.cli.app import run

    return run(args)


if __name__ == "__main__":
    sys.exit(main())
