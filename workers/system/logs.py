"""
Reading what children printed, for `regrow logs`: the last lines, and the lines as they come.

Reads the files itself, asks no process, and waits in poll(2) for inotify and for the caller's wake-up.
"""

from __future__ import annotations

import os
import select
from collections.abc import Iterable, Iterator
from types import TracebackType

from regrow.workers.system.descriptors import use_all_descriptors
from regrow.workers.system.followed import Followed
from regrow.workers.system.history import last_lines
from regrow.workers.system.inotify import (
    IN_CREATE,
    IN_DELETE_SELF,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    IN_ONLYDIR,
    Event,
    Inotify,
)

SUFFIX = ".log"
INTERNAL = "regrow."
"""Children of regrow itself: followed only when named."""

STEPS = ".steps"
"""What a supervisor decided lies there too, for `regrow replay`; no child has such a name."""

_IN_DIRECTORY = IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR
_ABOVE_IT = IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR


def log_path(log_dir: str, name: str) -> str:
    """Return the file that the child `name` is logged to."""
    return os.path.join(log_dir, name + SUFFIX)


def logged_names(log_dir: str) -> list[str]:
    """Return the names of all children that have a log, sorted, without regrow's own."""
    try:
        entries = os.listdir(log_dir)
    except FileNotFoundError:
        return []
    names = (entry.removesuffix(SUFFIX) for entry in entries if entry.endswith(SUFFIX))
    return sorted(filter(_is_a_child, names))


def _is_a_child(name: str) -> bool:
    return bool(name) and not name.startswith(INTERNAL) and not name.endswith(STEPS)


def tail_lines(log_dir: str, name: str, count: int) -> list[str]:
    """
    Return the last `count` lines of a child, oldest first, across rotated files; fewer if there are fewer.

    Raises:
        OSError: a file is there and cannot be read (EACCES).
    """
    return [line.decode(errors="replace") for line in last_lines(log_path(log_dir, name), count)]


class Follower:
    """
    Iterate over (name, line) of many children, as they are written; waits while there is nothing.

    Begins with the last `lines` lines of each child. `names` None means all there are and will be.
    Neither the files nor the directory need to exist yet. Nothing is missed by rotation, however fast,
    as long as the file is among the kept ones. The iteration ends when `wake_fd` becomes readable.

    Raises:
        OSError: from construction or iteration, when a file cannot be read.
    """

    def __init__(self, log_dir: str, names: Iterable[str] | None = None, lines: int = 0, wake_fd: int = -1) -> None:
        use_all_descriptors()
        self._log_dir = os.path.abspath(log_dir)
        self._wanted = None if names is None else set(names)
        self._wake_fd = wake_fd
        self._inotify = Inotify()
        self._watch = -1
        self._is_log_dir = False
        self._followed: dict[str, Followed] = {}
        self._unread: dict[str, Followed] = {}
        self._first: list[tuple[str, str]] = []
        self._watch_directory()
        for name in logged_names(self._log_dir) if names is None else sorted(set(names)):
            followed = self._follow(name)
            self._first += [(name, line.decode(errors="replace")) for line in followed.begin(lines)]

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all files."""
        self._inotify.close()
        for followed in self._followed.values():
            followed.close()

    def __iter__(self) -> Iterator[tuple[str, str]]:
        yield from self._first
        self._first = []
        poll = select.poll()
        poll.register(self._inotify.fileno(), select.POLLIN)
        if self._wake_fd >= 0:
            poll.register(self._wake_fd, select.POLLIN)
        while True:
            ready = {fd for fd, _ in poll.poll(0 if self._unread else None)}
            if self._wake_fd in ready:
                return
            if self._inotify.fileno() in ready:
                self._take_events()
            yield from self._read_each_a_bit()

    def _read_each_a_bit(self) -> Iterator[tuple[str, str]]:
        for name, followed in list(self._unread.items()):
            lines, more = followed.read()
            if not more:
                del self._unread[name]
            for line in lines:
                yield name, line.decode(errors="replace")

    def _follow(self, name: str) -> Followed:
        self._followed[name] = self._unread[name] = followed = Followed(log_path(self._log_dir, name))
        return followed

    # -- what happens in the directory -----------------------------------------------------------

    def _take_events(self) -> None:
        for event in self._inotify.events():
            if self._is_log_dir and event.watch == self._watch and event.name:
                self._something_with(event.name)
            elif event.watch in (self._watch, -1):
                self._look_everywhere(event)

    def _something_with(self, entry: str) -> None:
        name = entry.removesuffix(SUFFIX)
        if name == entry:
            return
        if followed := self._followed.get(name):
            self._unread[name] = followed
        elif self._wanted is None and _is_a_child(name):
            self._follow(name)

    def _look_everywhere(self, event: Event) -> None:
        """Something about the directory itself, or one above it; or the kernel dropped events (watch -1)."""
        if event.watch == self._watch:
            self._watch_directory()
        self._unread.update(self._followed)
        for name in logged_names(self._log_dir):
            self._something_with(name + SUFFIX)

    def _watch_directory(self) -> None:
        """Watch the log directory, or until it exists the nearest one above it that does."""
        directory, above = self._log_dir, self._watch
        while True:
            self._is_log_dir = directory == self._log_dir
            try:
                self._watch = self._inotify.watch(directory, _IN_DIRECTORY if self._is_log_dir else _ABOVE_IT)
            except (FileNotFoundError, NotADirectoryError):
                directory = os.path.dirname(directory)
                continue
            if self._is_log_dir or not os.path.exists(self._below(directory)):
                break
            directory = self._log_dir  # it appeared between our look and our watch
        if above not in (-1, self._watch):
            self._inotify.unwatch(above)

    def _below(self, directory: str) -> str:
        """Return the next directory on the way from `directory` to the log directory."""
        rest = os.path.relpath(self._log_dir, directory)
        return os.path.join(directory, rest.split(os.sep)[0])
