"""
What a failure becomes: one line on stderr and an exit status.

Light, because the fast path of `regrow status` reports through it too.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sized

from regrow.config.exits import INTERNAL, REFUSED, UNREACHABLE, USAGE
from regrow.config.readable import BYTES, quoted
from regrow.daemon.cli.streams import OutputLost
from regrow.ipc.errors import Ambiguous, ControlError, ControlTimeout, StoreError, Unreachable

INTERRUPTED = 130
"""128 + SIGINT, as shells report it."""

CLOSED_PIPE = 141
"""128 + SIGPIPE: whoever read our output has seen enough (`regrow events -f | head`)."""

TIMED_OUT = 124
"""Of a command that was run: as timeout(1) says it; of those below, shells say the same."""

NOT_EXECUTABLE, NOT_FOUND = 126, 127

LONGEST_WORD = 300
"""Characters of what was typed that are repeated in a line."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What a write to a file says that takes no more; some that do not name it are temporary files, or limits."""


_HARMLESS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))} | BYTES
"""A line on a terminal has no control characters: some of a name that was typed could do anything there."""


class Failed(Exception):
    """A verb could not do what it was asked for; the message says what, where and what to do."""

    def __init__(self, message: str, code: int = REFUSED) -> None:
        super().__init__(message)
        self.code = code


def fail(error: BaseException, *, debug: bool = False) -> int:
    """Say on stderr what went wrong; with `debug` also where in the code. Returns the exit status."""
    if debug:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    if isinstance(error, OutputLost):
        drop_output()
        if isinstance(error.why, BrokenPipeError):
            return CLOSED_PIPE
        say(f"cannot write the output: {error.why.strerror}")
        return REFUSED
    message, code = _verdict(error)
    say(message)
    return code


def say(message: str) -> None:
    """One line on stderr, whatever is in `message`."""
    line = " ".join(map(_shortened, message.replace("\n", " ").split(" "))).translate(_HARMLESS)
    try:
        print(f"regrow: {line}", file=sys.stderr, flush=True)
    except OSError:
        pass  # nobody reads stderr: the exit status has to do


def say_if_none(found: Sized, what: str) -> None:
    """That a list is empty, for people: on stderr, so that who counts lines of the output counts none."""
    if not found:
        say(what)


def _shortened(word: str) -> str:
    """A name or an id that is too long to be one is not worth pages; a path may be long."""
    if len(word) <= LONGEST_WORD:
        return word
    return f"{word[:LONGEST_WORD // 2]}…({len(word)} characters)"


def drop_output() -> None:
    """Keep the interpreter from complaining, at its end, about output that nobody reads."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _for_whom(error: OSError) -> str:
    if not isinstance(error, PermissionError) or not isinstance(error.filename, str | bytes):
        return ""
    from regrow.ipc.control import owners

    return f"; it is for {owners(os.fsdecode(error.filename))}"


def _verdict(error: BaseException) -> tuple[str, int]:
    if isinstance(error, Failed):
        return str(error), error.code
    if isinstance(error, Unreachable) and error.denied:
        return str(error), REFUSED  # the cause is the same whichever of its doors is tried
    if isinstance(error, Unreachable | ControlTimeout):
        return str(error), UNREACHABLE
    if isinstance(error, Ambiguous):
        return str(error), USAGE
    if isinstance(error, ControlError | StoreError):
        return str(error), REFUSED
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot use {error.filename}: {error.strerror}{_for_whom(error)}", REFUSED
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        return f"{quoted(error.object, LONGEST_WORD)} is not UTF-8, and cannot be such a name or text", USAGE
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return f"cannot go on: {error.strerror}; it is not the output, and --debug shows where it was", REFUSED
    what = f"internal error: {type(error).__name__}: {error}"
    return f"{what}; run it again with --debug and report what it shows", INTERNAL
