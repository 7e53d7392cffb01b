"""
Where a root listens, from its start to its end: what it has bound, and what the service manager has passed to it.

All of it is bound before the first child is started, and held until the last one has ended: while a worker is
restarted, connections wait in the kernel.

Source: sd_listen_fds(3), sd_notify(3) FDSTORE=1; daemon(7) on socket activation.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from regrow.config.spec import SocketSpec
from regrow.daemon import activation
from regrow.daemon.activation import Passed
from regrow.daemon.errors import ListenError
from regrow.daemon.linux import listening


class Held(Struct, frozen=True):
    """
    One socket that we listen at. `file` is what its path was when it was bound; None where we have not made it.

    `passed` says that a .socket unit has it: then it outlives us, and its path is not ours.
    """

    spec: SocketSpec
    fd: int
    file: tuple[int, int] | None = None
    passed: bool = False


class Listening(Struct, frozen=True):
    """
    All sockets of a root, by name. `held` are in the file; `retired` are not any more, but somebody may need them.

    `lasting` says that the service manager keeps what we have bound, so that its paths must stay when we end.
    """

    held: Mapping[str, Held] = {}
    retired: Mapping[str, Held] = {}
    lasting: bool = False


class Opened(Struct, frozen=True):
    """
    What a start has come to. `obsolete` are names under which the service manager keeps what is of no use any more,
    `stored` the sockets that it has already, `reports` what the operator should know.
    """

    listening: Listening
    obsolete: tuple[str, ...] = ()
    stored: tuple[str, ...] = ()
    reports: tuple[str, ...] = ()


def open_all(wanted: Sequence[SocketSpec], there: Sequence[Passed], *, lasting: bool) -> Opened:
    """
    Listen at all addresses of the file; `there` is what was passed to us, `lasting` as in `Listening`.

    Raises:
        ListenError: one of them cannot be had; then nothing is open.
    """
    try:
        matched = activation.match(wanted, [one for one in there if not _is_unreachable(one)])
    except ListenError:
        _close(one.fd for one in there)
        raise
    used = {one.fd for one in matched.values()}
    strangers = [one for one in there if one.fd not in used]
    told = tuple(map(_told, strangers))
    _close(one.fd for one in strangers)
    held = {name: _adopted(spec, matched[name]) for spec in wanted if (name := spec.name) in matched}
    new = [spec for spec in wanted if spec.name not in held]
    try:
        held |= {one.spec.name: one for one in bind_all(make_all(new))}
    except ListenError:
        _close(one.fd for one in held.values())
        raise
    stored = {name: one.name for name, one in matched.items() if one.stored}
    renamed = [before for name, before in stored.items() if before != activation.STORED + name]
    return Opened(
        Listening({spec.name: held[spec.name] for spec in wanted}, lasting=lasting),
        (*(one.name for one in strangers if one.stored), *renamed),
        tuple(name for name, before in stored.items() if before not in renamed),
        told,
    )


def _adopted(spec: SocketSpec, one: Passed) -> Held:
    """What was passed, as ours; what we had stored is once more as the file says."""
    if not one.stored:
        return Held(spec, one.fd, passed=True)
    try:
        listening.settle(spec)
        listening.listen(one.fd, spec.backlog)
    except OSError as error:
        raise _fault(spec, error) from None
    return Held(spec, one.fd, listening.file_of(spec.path) if spec.has_file else None)


def _is_unreachable(one: Passed) -> bool:
    """Whether it listens at a path that has been removed meanwhile."""
    return one.stored and one.address.startswith("/") and listening.file_of(one.address) is None


def _told(one: Passed) -> str:
    why = f"no [socket] is at {one.address}" if one.address else "it is no listening stream socket"
    why = f"{one.address} is not there any more" if _is_unreachable(one) else why
    return f"the descriptor {one.name}, which the service manager has passed, was closed: {why}"


def make_all(wanted: Iterable[SocketSpec]) -> list[Held]:
    """
    Make a socket for each, bound to nothing.

    Raises:
        ListenError: one of them cannot be made; then none is open.
    """
    made: list[Held] = []
    for spec in wanted:
        try:
            made.append(Held(spec, listening.make(spec)))
        except OSError as error:
            _close(one.fd for one in made)
            raise _fault(spec, error) from None
    return made


def bind_all(made: Sequence[Held]) -> list[Held]:
    """
    Bind these and let connections come.

    Raises:
        ListenError: one of them cannot be bound; then none is open, and none has left a file.
    """
    try:
        return let_come([Held(one.spec, one.fd, file) for one, file in zip(made, bind_each(made), strict=True)])
    except ListenError:
        _close(one.fd for one in made)
        raise


def bind_each(made: Sequence[Held]) -> list[tuple[int, int] | None]:
    """
    Bind these; what their paths are. May be called in another process, which has them by its fork.

    Raises:
        ListenError: one of them cannot be bound; then none has left a file.
    """
    bound: list[tuple[int, int] | None] = []
    for one in made:
        try:
            bound.append(listening.bind(one.fd, one.spec))
        except OSError as error:
            for done, file in zip(made, bound, strict=False):
                listening.remove(done.spec.path, file)
            raise _fault(one.spec, error) from None
    return bound


def let_come(bound: Sequence[Held]) -> list[Held]:
    """
    Let connections come. Returns the same.

    Raises:
        ListenError: another process was faster; the descriptors are still the caller's.
    """
    for one in bound:
        try:
            listening.listen(one.fd, one.spec.backlog)
        except OSError as error:
            raise _fault(one.spec, error) from None
    return list(bound)


def close_all(held: Iterable[Held], *, lasting: bool = False) -> None:
    """Stop to listen; `lasting` as in `Listening`."""
    for one in held:
        os.close(one.fd)
        if not one.passed and not lasting:
            listening.remove(one.spec.path, one.file)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        os.close(fd)


def _fault(spec: SocketSpec, error: OSError) -> ListenError:
    said = (error.strerror or str(error)).lower()
    return ListenError(f"cannot listen at {spec.address}: {said} (socket.{spec.name})")
