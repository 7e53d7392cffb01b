"""
Preloaded into a supervisor, this writes down what the processes below it run, each from its fork on: module and
function, a line each, into a file of its own in the folder `$SEEN`.
"""

from __future__ import annotations

import os
import sys
from types import FrameType
from typing import Any


def _watch() -> None:
    """In a new process: write down each function of a module that it had at its fork, the first time that it runs."""
    path = os.path.join(os.environ["SEEN"], str(os.getpid()))
    loaded, seen = set(sys.modules), set()

    def called(frame: FrameType, event: str, _argument: Any) -> None:
        code = frame.f_code
        module = str(frame.f_globals.get("__name__", ""))
        if event == "call" and code not in seen and module in loaded and module != __name__:
            seen.add(code)
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            os.write(fd, f"{module} {code.co_qualname}\n".encode())
            os.close(fd)

    sys.setprofile(called)


os.register_at_fork(after_in_child=_watch)
