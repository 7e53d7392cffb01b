"""Which store is meant: that of a daemon that runs, or, with --file or --state-dir, of one that may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from regrow.daemon.cli.hubkeys import plan_of
from regrow.daemon.cli.options import Function, daemon_options, reach
from regrow.daemon.cli.report import Failed
from regrow.ipc.control import ControlClient
from regrow.ipc.errors import ControlError, Unreachable

if TYPE_CHECKING:
    from regrow.ipc.store import Store, Txn
    from regrow.workers.system.keeper_place import Place
    from regrow.workers.system.store_site import Site


class Which(NamedTuple):
    """What was typed of it."""

    files: tuple[str, ...]
    state_dir: str | None
    run_dir: str | None
    daemon: str | None

    @property
    def options(self) -> str:
        """The same again, for a line that says what to type."""
        words = [f"--file {file}" for file in self.files]
        for option, value in (
            ("--state-dir", self.state_dir), ("--run-dir", self.run_dir), ("--name", self.daemon)
        ):  # fmt: skip
            words += [f"{option} {value}"] if value is not None else []
        return "".join(f" {word}" for word in words)

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """
        The store, to be looked at.

        Raises:
            ControlError, StoreError, Failed.
        """
        with self.site().reading() as store:
            yield store

    def site(self) -> Site:
        """
        Where it is, and who has it.

        Raises:
            ControlError, StoreError, Failed.
        """
        from regrow.workers.system.store_site import Site, in_use_by, of_run_dir

        place = self._place()
        if place is None:
            return of_run_dir(*self._running())
        run_dir = in_use_by(place)
        if not run_dir and answers(place.run_dir):
            run_dir = place.run_dir
        return Site(place, run_dir)

    def stopped(self, verb: str) -> Place:
        """
        Where it is, if no daemon has it.

        Raises:
            Failed: one has; and as `site`.
        """
        site = self.site()
        if site.running:
            how = "stop it with `regrow down`, then say the same with --file FILE"
            raise Failed(f"cannot {verb} the store of {site.place.daemon}: the daemon at {site.running} uses it; {how}")
        return site.place

    def _place(self) -> Place | None:
        from regrow.workers.system.keeper_place import Place
        from regrow.workers.system.store_site import of_state_dir

        if self.files and self.state_dir is not None:
            raise click.UsageError("give --file or --state-dir, not both")
        if self.state_dir is not None:
            return of_state_dir(self.state_dir)
        if self.files:
            spec = plan_of(self.files, None, None).daemon
            return Place(spec.name, spec.run_dir, spec.state_dir, spec.durability)
        return None

    def _running(self) -> tuple[str, str]:
        try:
            with reach(self.run_dir, self.daemon) as client:
                return client.run_dir, client.request("ping")["name"]
        except Unreachable as error:
            remedy = f"{error.remedy}; or name its file: --file FILE"
            raise Unreachable(error.what, error.why, remedy, absent=error.absent, denied=error.denied) from error


def of_store(function: Function) -> Any:
    """--file and --state-dir, and which daemon; all of it as `which`."""

    @wraps(function)
    def with_which(
        files: tuple[str, ...], state_dir: str | None, run_dir: str | None, daemon: str | None, **own: Any
    ) -> Any:
        return function(Which(files, state_dir, run_dir, daemon), **own)

    decorated: Any = with_which
    for option in (
        daemon_options,
        click.option(
            "--state-dir", metavar="DIR", type=click.Path(file_okay=False, readable=False),
            help="The store in this state_dir, whether its daemon runs or not.",
        ),
        click.option(
            "--file", "files", multiple=True, metavar="FILE", type=click.Path(dir_okay=False),
            help="The file that `regrow up` is given, for a daemon that may not run; may be repeated.",
        ),
    ):  # fmt: skip
        decorated = option(decorated)
    return decorated


def answers(run_dir: str) -> bool:
    """Whether a daemon runs there."""
    try:
        with ControlClient(run_dir) as client:
            client.request("ping")
    except Unreachable as error:
        return not error.absent
    except ControlError:
        return True
    return True


def refuse_living(site: Site, name: str, what: str) -> Callable[[Txn], None]:
    """
    What is to be called inside the transaction that changes what `name` keeps: it must not run, nor any of its group.

    Who begins to run meanwhile has taken the name before it looks at its state, and sees what was changed.

    Raises:
        Failed: it runs.
    """
    if not site.running:
        return lambda _txn: None
    from regrow.ipc.names import Names

    def check(_txn: Txn) -> None:
        names = Names(site.running)
        try:
            for one in (name, *names.members(name)):
                record = names.get(one)
                if record is not None and record.is_alive():
                    why = f"{one} runs (pid {record.pid}), and goes by it"
                    raise Failed(f"cannot {what} the state of {name}: {why}; stop it first: `regrow stop {name}`")
        finally:
            names.close()

    return check


@contextmanager
def of_files(what: str) -> Iterator[None]:
    """What is wrong with a file or a disk, as one line."""
    import lmdb

    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        raise Failed(f"cannot {what}: {where}{error.strerror or error}; nothing was changed") from error
    except lmdb.Error as error:
        raise Failed(f"cannot {what}: {error}; nothing was changed") from error
