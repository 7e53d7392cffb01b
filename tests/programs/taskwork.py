"""What tasks do in tests: most of them ask the test, at its desk, what to come to."""

from __future__ import annotations

import multiprocessing.util
import os
import select
import socket
import sys
from typing import Any


def ask(desk: str, word: Any) -> str:
    """Tell the desk who we are, and do what it says: `exit N`, `forever`, or return the answer."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(desk)
        connection.send(f"{os.getpid()} {word}".encode())
        answer = connection.recv(1000).decode()
    if answer.startswith("exit "):
        os._exit(int(answer.split()[1]))
    if answer == "forever":
        forever()
    return answer


def at_desk(word: Any) -> str:
    """Ask at the desk in the working directory."""
    return ask("desk", word)


def forever() -> None:
    """Wait for the signal that ends us."""
    select.select([], [], [])


def endless(word: int) -> int:
    """0 is quick, all others go on for ever."""
    if word:
        forever()
    return word


def double(number: int) -> int:
    """Annotated, so that anything else is refused."""
    return 2 * number


async def later(number: int) -> int:
    """As a coroutine."""
    return number


def give_back(*args: Any, **kwargs: Any) -> Any:
    """Whatever came."""
    return [args, kwargs]


def exit_with(code: int) -> None:
    """Die without a result."""
    os._exit(code)


def leave(code: int) -> None:
    """End as Python programs do."""
    sys.exit(code)


def boom(text: str) -> None:
    """Fail."""
    raise ValueError(text)


def large(size: int) -> bytes:
    """A result of that many bytes."""
    return b"x" * size


def object_of_no_use() -> object:
    """A result that no message can carry."""
    return object()


def result_then_death(word: str) -> str:
    """Come to a result, and die of something else on the way out."""
    multiprocessing.util.Finalize(None, os._exit, (7,), exitpriority=1)
    return word


def stubborn(desk: str) -> None:
    """Do not end when asked to."""
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    ask(desk, "stubborn")
    forever()


def result_then_nothing(desk: str) -> str:
    """Come to a result, and never come to an end."""
    multiprocessing.util.Finalize(None, ask, (desk, "result sent"), exitpriority=2)
    multiprocessing.util.Finalize(None, forever, exitpriority=1)
    return "done"


def result_then_hang(word: int) -> int:
    """Come to a result, and never come to an end."""
    multiprocessing.util.Finalize(None, forever, exitpriority=1)
    return word


def endless_or_exit(code: int) -> None:
    """Die with a code that is not 0, or never."""
    if code:
        os._exit(code)
    forever()
