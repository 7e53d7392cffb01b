"""What one load knows while it reads: the problems so far, the environment, and what was looked up already."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from regrow.config.sources import Problems, Source
from regrow.config.spec import JOURNAL, SocketSpec
from regrow.config.system import SystemProblem, find_executable, find_group, find_user, numeric_host
from regrow.config.targets import Modules
from regrow.config.values import At, Scope


class Context:
    """
    One load. With `check_system` false nothing is held against this host: the file alone is checked.

    `dirs` are run_dir, state_dir and log_dir, which every string below may use; `sockets` are those of the file that
    are right, `socket_names` all that it has.
    """

    def __init__(self, environ: Mapping[str, str], *, check_system: bool) -> None:
        self.problems = Problems()
        self.environ = environ
        self.check_system = check_system
        self.dirs: dict[str, str] = {}
        self.sockets: tuple[SocketSpec, ...] = ()
        self.socket_names: tuple[str, ...] = ()
        self._modules: Modules | None = None
        self._found: dict[tuple[Any, ...], Any] = {}

    def at(self, source: Source, path: tuple[str | int, ...], **placeholders: str) -> At:
        """Return a place where the directories and `placeholders` have a meaning."""
        return At(source, path, Scope(self.problems, {**self.dirs, **placeholders}, self.environ))

    @property
    def modules(self) -> Modules:
        """The modules seen so far."""
        if self._modules is None:
            self._modules = Modules()
        return self._modules

    def executable(self, program: str, cwd: str, env: Mapping[str, str], at: At) -> str:
        """Return the absolute path of a program; report at `at` and return it as it is when there is none."""
        path = env.get("PATH", "")
        found = self._look_up(("executable", program, cwd, path), at, find_executable, program, cwd, env, self.environ)
        return program if found is None else str(found)

    def user(self, who: str | int, at: At) -> Any:
        """Return the User, or None after reporting."""
        return self._look_up(("user", who), at, find_user, who)

    def group(self, who: str | int, at: At) -> Any:
        """Return the group's number, or None after reporting."""
        return self._look_up(("group", who), at, find_group, who)

    def host(self, host: str, at: At) -> str:
        """Return the numeric address; report and return the name when it has none."""
        if not self.check_system and host != "localhost":
            return host
        return self._look_up(("host", host), at, numeric_host, host) or host

    def directory(self, path: str, at: At) -> None:
        """Report a directory that is not there."""
        if self.check_system and not os.path.isdir(path):
            at.wrong(f"{path} is not a directory" if os.path.exists(path) else f"there is no directory {path}")

    def journal(self, at: At) -> None:
        """Report that there is no journal that takes streams."""
        if self.check_system and not os.path.exists(JOURNAL):
            at.wrong(f"there is no journal on this host (no {JOURNAL})", 'write "log" or "inherit"')

    def _look_up(self, key: tuple[Any, ...], at: At, find: Callable[..., Any], *arguments: Any) -> Any:
        """Find something once; the same fault is reported at every place that asks."""
        if key not in self._found:
            try:
                self._found[key] = find(*arguments)
            except SystemProblem as error:
                self._found[key] = error
        found = self._found[key]
        if isinstance(found, SystemProblem):
            if self.check_system:
                at.wrong(str(found), found.hint)
            return None
        return found
