"""
What runs in a task's process: it connects to its owner, takes one job, does it, and sends back what came of it.

A job's function is loaded here, after the fork: an error in its module ends this task and nothing else.

Source: otp-rules S230-S233, S245; Elixir's Task.Supervised.
"""

from __future__ import annotations

import _thread
import base64
import inspect
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from types import FunctionType
from typing import Any

import msgspec
from msgspec.structs import astuple

from regrow.config import exits
from regrow.ipc.process import open_pidfd
from regrow.ipc.task_wire import Frame, Job, abstract, decode_job, encode_result, framed
from regrow.ipc.unsendable import unsendable
from regrow.ipc.wire import EMPTY_MAP, UNREADABLE, UNSENDABLE
from regrow.workers.function import load
from regrow.workers.handlers import Signature

JOB_S = 5.0
"""How long a task waits for its job (S233)."""

_PLAIN = {plain.__name__: plain for plain in (bool, int, float, str, bytes, list, dict)}

_raws = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_raws_by_name = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode


def run(owner: str, pid: int, began: int, linked: bool = False) -> None:
    """
    Do the job of an owner, which is the process `pid` that began at `began` and listens at `owner`.

    Ends with *shutdown* when there is no owner any more before there is a job; a linked task whenever its owner dies.

    Raises:
        TimeoutError: no job came (S233); OSError: it cannot be told whether its owner lives; and whatever the job
        raises.
    """
    pidfd = open_pidfd(pid, began)
    connection = _connect(owner, pid) if pidfd >= 0 else None
    if connection is None:
        sys.exit(exits.SHUTDOWN)
    job = decode_job(_await_job(connection, pidfd))
    if linked:
        _thread.start_new_thread(_die_with, (pidfd, pid))
    else:
        os.close(pidfd)
    result = _encoded(job, _do(job))
    connection.settimeout(None)
    try:
        connection.sendall(framed(result), socket.MSG_NOSIGNAL)
    except OSError:
        pass  # the owner is gone, or waits no more
    connection.close()


def run_alone(job: str) -> None:
    """Do a job that nobody waits for; it comes with the spec, so that it is there again at a restart."""
    _do(decode_job(base64.b64decode(job)))


def _connect(owner: str, pid: int) -> socket.socket | None:
    """The connection to the owner; None when that is not who listens there now."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(JOB_S)
    try:
        connection.connect(abstract(owner))
        listener, _, _ = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except OSError:
        listener = -1
    if listener != pid:
        connection.close()
        return None
    return connection


def _await_job(connection: socket.socket, pidfd: int) -> bytes:
    frame = Frame()
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    poll.register(pidfd, select.POLLIN)
    end_s = time.monotonic() + JOB_S
    connection.setblocking(False)
    while frame.payload is None:
        ready = poll.poll(max(end_s - time.monotonic(), 0.0) * 1000)
        if not ready:
            raise TimeoutError(f"its owner has sent no job within {JOB_S:g} s")
        if connection.fileno() not in (fd for fd, _ in ready):
            sys.exit(exits.SHUTDOWN)
        piece = connection.recv(1 << 16)
        if not piece:
            sys.exit(exits.SHUTDOWN)
        frame.feed(piece)
    return frame.payload


def _die_with(pidfd: int, pid: int) -> None:
    """In a thread of its own: end this process when the owner has ended, whatever it is doing."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll()
    try:
        os.write(2, f"{os.environ.get('REGROW_NAME', 'task')}: its owner (pid {pid}) has ended\n".encode())
    finally:
        os._exit(exits.SHUTDOWN)


def _do(job: Job) -> Any:
    function = load(job.target, _folder_of(job.target))
    result = _bound(function, job)()
    if inspect.iscoroutine(result):
        import asyncio

        return asyncio.run(result)
    return result


def _folder_of(target: str) -> str:
    """Where the module is, if Python would not find it by itself: here, or on a PYTHONPATH from the file."""
    top = target.partition(":")[0].partition(".")[0]
    if top in sys.modules:
        return ""
    return next((folder for folder in _folders() if PathFinder.find_spec(top, [folder]) is not None), "")


def _folders() -> Iterator[str]:
    yield os.getcwd()
    for folder in os.environ.get("PYTHONPATH", "").split(":"):
        if folder:
            yield os.path.abspath(folder)


def _bound(function: Callable[..., Any], job: Job) -> Callable[[], Any]:
    """
    The function with its arguments, which are checked and converted by its annotations.

    Raises:
        BadArguments: they do not fit.
    """
    if job.kwargs == EMPTY_MAP and _takes(function, args := msgspec.msgpack.decode(job.args)):
        return lambda: function(*args)
    try:
        signature = Signature(function, job.target, bound=0)
    except ValueError:  # some functions written in C do not tell their parameters
        others, kwargs = msgspec.msgpack.decode(job.args), msgspec.msgpack.decode(job.kwargs)
        return lambda: function(*others, **kwargs)
    bound = signature.bind(_raws(job.args), _raws_by_name(job.kwargs))
    try:
        values = astuple(msgspec.msgpack.decode(msgspec.msgpack.encode(bound), type=signature.struct()))
    except UNREADABLE as error:
        raise signature.fault(error) from None
    call = signature.spread(function)
    return lambda: call(*values)


def _takes(function: Callable[..., Any], args: list[Any]) -> bool:
    """
    Whether the arguments are exactly of the types that the function asks for.

    The common case, told without what `Signature` costs in a process that is used once: 0.4 ms.
    """
    if type(function) is not FunctionType:
        return False
    code, hints = function.__code__, function.__annotations__
    least = code.co_argcount - len(function.__defaults__ or ())
    if code.co_kwonlyargcount or not least <= len(args) <= code.co_argcount:
        return False
    wanted = [hints.get(name, Any) for name in code.co_varnames[: len(args)]]
    return all(hint is Any or type(value).__name__ in _words(hint) for hint, value in zip(wanted, args, strict=True))


def _words(hint: Any) -> tuple[str, ...]:
    """The name of a plain type, however it was annotated; nothing for all others."""
    word = hint if isinstance(hint, str) else getattr(hint, "__name__", "")
    return (word,) if word in _PLAIN and hint in (word, _PLAIN[word]) else ()


def _encoded(job: Job, value: Any) -> bytes:
    try:
        return encode_result(value)
    except UNSENDABLE as error:
        path, text = unsendable(value, error)
        raise TypeError(f"cannot send the result of {job.target}: {path}: {text}") from None
