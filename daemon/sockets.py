"""
The listening sockets of a root that runs: known to all supervisors, kept by the service manager, changed with the file.

What a root listens at is held by the root's process and by every supervisor (`Context.sockets`); workers get what their
table names, when they are made. A socket that leaves the file is closed when nobody is there any more whose table
names it.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from regrow.config.spec import SocketSpec
from regrow.daemon import errand, listen
from regrow.daemon.activation import STORED
from regrow.daemon.channel_messages import SocketDown
from regrow.daemon.errors import ListenError
from regrow.daemon.linux import listening
from regrow.daemon.listen import Held, Listening, Opened

if TYPE_CHECKING:
    from regrow.daemon.root import Root

Then = Callable[[str], None]
"""Is told why nothing has changed; with nothing, when all has."""


class Change(Struct, frozen=True):
    """
    From one file to the next. `kept` are sockets under their new names, as the file has them now; `new` are to be
    bound; `altered` are those of `kept` whose path gets another owner or other permissions.
    """

    kept: Mapping[str, Held]
    new: tuple[SocketSpec, ...]
    altered: tuple[SocketSpec, ...]


def change(held: Mapping[str, Held], wanted: Sequence[SocketSpec]) -> Change:
    """Decide what becomes of each socket: the same address is the same socket, whatever its name."""
    there = {one.spec.address: one for one in held.values()}
    kept, new, altered = {}, [], []
    for spec in wanted:
        before = there.get(spec.address)
        if before is None:
            new.append(spec)
            continue
        kept[spec.name] = replace(before, spec=spec)
        if spec.has_file and _owner(spec) != _owner(before.spec) and not before.passed:
            altered.append(spec)
    return Change(kept, tuple(new), tuple(altered))


def differing(before: Sequence[SocketSpec], after: Sequence[SocketSpec]) -> list[str]:
    """The names that are new, gone, or not as they were, in order."""
    old, new = ({spec.name: spec for spec in specs} for specs in (before, after))
    return sorted(name for name in {**old, **new} if old.get(name) != new.get(name))


def _owner(spec: SocketSpec) -> tuple[int, int | None, int | None]:
    return spec.mode, spec.uid, spec.gid


class Sockets:
    """Those of one root; for the fields see `Listening`."""

    def __init__(self, root: Root, known: Listening) -> None:
        self._root = root
        self.held: dict[str, Held] = dict(known.held)
        self.retired: dict[str, Held] = dict(known.retired)
        self._lasting = known.lasting
        self._changing = False

    def carried(self) -> Listening:
        """All of it, to go through an exec."""
        return Listening(self.held, self.retired, self._lasting)

    def close(self) -> None:
        """The root ends."""
        listen.close_all([*self.held.values(), *self.retired.values()], lasting=self._lasting)

    def tell(self, opened: Opened) -> None:
        """Tell what a start has found, and have the service manager keep what it does not have yet."""
        for report in opened.reports:
            self._root.books.daemon_event("fault", report)
        for name in opened.obsolete:
            self._unstore(name)
        for name, one in self.held.items():
            self._tell("listening", one)
            if name not in opened.stored:
                self._store(one)

    def take_over(self, wanted: Sequence[SocketSpec], then: Then) -> None:
        """
        Bind what is new, keep what is the same, retire what is gone; or change nothing, where something cannot be had.

        `then` is called exactly once: at once, or when a process of its own has done what touches the disk.
        """
        if self._changing:  # also for who wants what there is: it may be gone in a moment
            then("the sockets are being changed already: try again")
            return
        if tuple(wanted) == tuple(one.spec for one in self.held.values()):
            then("")
            return
        planned = change({**self.retired, **self.held}, wanted)
        try:
            made = listen.make_all(planned.new)
        except ListenError as error:
            then(str(error))
            return
        self._changing = True

        def work() -> bytes:
            return msgspec.msgpack.encode(_on_disk(made, planned.altered))

        def done(result: bytes | errand.Failed) -> None:
            self._changing = False
            then(self._bound(planned, made, wanted, result))

        if any(spec.has_file for spec in (*planned.new, *planned.altered)):
            self._root.errands.run(work, done)
        else:
            done(_at_once(work))

    def _bound(
        self, planned: Change, made: Sequence[Held], wanted: Sequence[SocketSpec], result: bytes | errand.Failed
    ) -> str:
        """The addresses are ours, or not: let all supervisors know, or nobody."""
        mine = list(made)
        try:
            if isinstance(result, errand.Failed):
                raise ListenError(str(result))
            files = msgspec.msgpack.decode(result, type=list[tuple[int, int] | None])
            mine = [replace(one, file=file) for one, file in zip(made, files, strict=True)]
            listen.let_come(mine)
            for name, one in planned.kept.items():
                if not self._is_known(name, one):  # each name has a descriptor of its own
                    mine.append(replace(one, spec=replace(one.spec, name=name), fd=_copy(one.fd)))
        except ListenError as error:
            listen.close_all(mine)
            return str(error)
        fresh = {one.spec.name: one for one in mine}
        self._commit({spec.name: fresh.get(spec.name) or planned.kept[spec.name] for spec in wanted}, fresh)
        return ""

    def _is_known(self, name: str, one: Held) -> bool:
        """Whether all supervisors have this address under this name."""
        before = self.held.get(name) or self.retired.get(name)
        return before is not None and before.spec.address == one.spec.address

    def _commit(self, now: dict[str, Held], fresh: Mapping[str, Held]) -> None:
        before, self.held = self.held, now
        for name, one in before.items():
            if name not in now:
                self.retired[name] = one
            if name not in now or name in fresh:
                self._unstore(STORED + name)
            if name in fresh:
                self._forget(one)
        for name, one in now.items():
            again = self.retired.pop(name, None) is not None
            if name in fresh:
                self._root.runtime.relay.from_parent(SocketDown(name, one.fd))
            elif not one.passed:
                listening.listen(one.fd, one.spec.backlog)
            if name in fresh or again:
                self._store(one)
                self._tell("listening", one)

    def release(self, used: Collection[str]) -> None:
        """Close what has left the file, but for the names in `used`."""
        for name in [name for name in self.retired if name not in used]:
            self._root.runtime.relay.from_parent(SocketDown(name))
            self._forget(self.retired.pop(name))

    def _forget(self, one: Held) -> None:
        """We listen there no more, unless it is under another name."""
        if one.spec.address not in {other.spec.address for other in self.held.values()}:
            self._tell("listening_ended", one)
            self._remove_file(one)

    def _remove_file(self, one: Held) -> None:
        path, file = one.spec.path, one.file
        if file is not None and not one.passed:

            def work() -> bytes:
                listening.remove(path, file)
                return b""

            self._root.errands.run(work, lambda _result: None)

    def _store(self, one: Held) -> None:
        if not one.passed:
            self._root.tell_systemd(f"FDSTORE=1\nFDNAME={STORED}{one.spec.name}", one.fd)

    def _unstore(self, name: str) -> None:
        self._root.tell_systemd(f"FDSTOREREMOVE=1\nFDNAME={name}")

    def _tell(self, event: str, one: Held) -> None:
        by = " (the service manager's)" if one.passed else ""
        self._root.books.daemon_event(event, f"{one.spec.name}: {one.spec.address}{by}")


def _on_disk(made: Sequence[Held], altered: Sequence[SocketSpec]) -> list[tuple[int, int] | None]:
    files = listen.bind_each(made)
    for spec in altered:
        try:
            listening.settle(spec)
        except OSError as error:
            for one, file in zip(made, files, strict=True):
                listening.remove(one.spec.path, file)
            said = (error.strerror or str(error)).lower()
            raise ListenError(f"cannot give {spec.path} its owner and permissions: {said}") from None
    return files


def _copy(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    except OSError as error:
        raise ListenError(f"cannot rename a socket: {error.strerror}") from None


def _at_once(work: Callable[[], bytes]) -> bytes | errand.Failed:
    try:
        return work()
    except ListenError as error:
        return errand.Failed(str(error))
