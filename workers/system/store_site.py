"""
The store of a daemon for who looks after it from outside: through the daemon's own when it runs, by its files when not.

Who changes it while no daemon runs has it for itself meanwhile, as a daemon would: another one is refused as long.

Source: architecture section 7.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import msgspec
from msgspec import Struct

from regrow.config.spec import Durability
from regrow.ipc import meta_page
from regrow.ipc.errors import StoreUnusable
from regrow.ipc.levels import DATA, FORMAT, Owner, get_meta, read_owner, sync_file, write_owner
from regrow.ipc.meta_page import BadMeta
from regrow.ipc.process import boot_id, start_time
from regrow.ipc.store import FOLDER, Store, StoreInfo, read_info
from regrow.workers.system.keeper_formats import migrate
from regrow.workers.system.keeper_place import Place, is_alive, user_of
from regrow.workers.system.keeper_preparing import beginning, prepare
from regrow.workers.system.keeper_recovery import fault_in

START_IT = "start the daemon, which sees to it"


class Site(Struct, frozen=True):
    """Where a store is. `running`: the run_dir of the daemon that has it now, "" when none has."""

    place: Place
    running: str = ""

    @contextmanager
    def reading(self) -> Iterator[Store]:
        """
        The store, to be looked at.

        Raises:
            StoreUnusable: it is not there, or not fit to be looked at.
        """
        if self.running:
            with of_daemon(self.running) as store:
                yield store
            return
        refuse_unfit(self.place)
        with _opened(self.place) as store:
            level = store.read(lambda txn: get_meta(txn, store.meta, "format"))
            if level != FORMAT:
                why = f"its format is {level}, this regrow's is {FORMAT}"
                raise StoreUnusable(self.place.folder, why, START_IT if isinstance(level, int) else "restore a backup")
            yield store

    @contextmanager
    def writing(self) -> Iterator[Store]:
        """
        The store, to be changed: what is committed is on disk when this ends.

        Raises:
            StoreError.
        """
        if self.running:
            with of_daemon(self.running) as store:
                yield store
            return
        refuse_missing(self.place)
        with beginning(self.place):
            prepared = prepare(self.place)
        with claimed(self.place, recovered=True), _opened(self.place) as store:
            migrate(store, prepared.format)
            yield store


@contextmanager
def of_daemon(run_dir: str) -> Iterator[Store]:
    """The store of a daemon that runs. Raises StoreUnusable."""
    store = Store.open(run_dir)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def _opened(place: Place) -> Iterator[Store]:
    store = Store(StoreInfo(place.folder, Durability.FULL))
    try:
        yield store
    finally:
        store.shut()


@contextmanager
def claimed(place: Place, *, recovered: bool = False) -> Iterator[None]:
    """
    Nobody else has the store, and no daemon gets it; at the end it is as if a daemon had closed it in order.

    Args:
        recovered: what a loss of power had made of it is put right. If not, that stays on record until the end.
    Raises:
        StoreUnusable: somebody has it open, or it is another user's.
    """
    refuse_stranger(place)
    with ExitStack() as until_known:
        until_known.enter_context(beginning(place))
        before, mine = _last_owner(place), _own(place)
        is_sound = recovered or before is None or before.clean or before.boot_id == boot_id()
        if is_sound:
            if os.path.exists(place.data):
                sync_file(place.data)
            write_owner(place.folder, mine)
            until_known.close()
        try:
            yield
            is_sound = True
        finally:
            if is_sound and os.path.exists(place.data):
                sync_file(place.data)
                last = before if before is not None else msgspec.structs.replace(mine, pid=0, start=0)
                closed = msgspec.structs.replace(
                    last, daemon=place.daemon, run_dir=place.run_dir, durability=place.durability, clean=True
                )
                write_owner(place.folder, closed)


def _last_owner(place: Place) -> Owner | None:
    """Who had it last. Raises StoreUnusable: somebody has it now."""
    before = read_owner(place.folder)
    if before is not None and is_in_use(before):
        raise StoreUnusable(place.folder, f"pid {before.pid} uses it", "wait until it has ended")
    user = user_of(place.folder)
    if user is not None:
        who = f"pid {user}" if user else "a process in another container"
        raise StoreUnusable(place.folder, f"{who} has it open", "end that first")
    return before


def _own(place: Place) -> Owner:
    """That this process has it."""
    pid = os.getpid()
    return Owner(
        daemon=place.daemon,
        run_dir=place.run_dir,
        pid=pid,
        start=start_time(pid),
        boot_id=boot_id(),
        durability=Durability.FULL,
    )


def of_state_dir(state_dir: str) -> Place:
    """
    The place of the store in a state_dir, as the daemon that had it has left it.

    Raises:
        StoreUnusable: there is none.
    """
    folder = os.path.join(os.path.abspath(state_dir), FOLDER)
    try:
        owner = read_owner(folder)
    except OSError as error:
        raise StoreUnusable(folder, error.strerror or str(error), "see who may read it") from None
    if owner is None:
        why = "nothing says whose it is" if os.path.isdir(folder) else "it is not there"
        raise StoreUnusable(folder, why, "name the daemon's file instead: --file FILE")
    return Place(owner.daemon, owner.run_dir, os.path.abspath(state_dir), owner.durability)


def of_run_dir(run_dir: str, daemon: str) -> Site:
    """
    That of the daemon which runs there.

    Raises:
        StoreUnusable: it has none.
    """
    info = read_info(run_dir)
    return Site(Place(daemon, run_dir, os.path.dirname(info.path), info.durability), run_dir)


def in_use_by(place: Place) -> str:
    """The run_dir of the daemon that has the store now, "" when none has."""
    try:
        owner = read_owner(place.folder)
    except OSError:
        return ""
    if owner is None or not is_in_use(owner):
        return ""
    return owner.run_dir if owner.pid != os.getpid() and os.path.exists(os.path.join(owner.run_dir, "store")) else ""


def is_in_use(owner: Owner) -> bool:
    """Whether who has the store lives."""
    return not owner.clean and owner.boot_id == boot_id() and is_alive(owner.pid, owner.start)


def refuse_stranger(place: Place) -> None:
    """
    Files that root makes could not be used by the daemon's own user.

    Raises:
        StoreUnusable.
    """
    uid = os.stat(place.folder).st_uid
    if uid != os.geteuid():
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = f"uid {uid}"
        raise StoreUnusable(place.folder, f"it belongs to {name}", "do this as that user")


def refuse_missing(place: Place) -> None:
    """
    What is not there is not made.

    Raises:
        StoreUnusable.
    """
    if not os.path.exists(place.data):
        why = f"there is no {DATA}"
        raise StoreUnusable(place.folder, why, "the daemon makes it when it first runs with agents")


def refuse_unfit(place: Place) -> None:
    """
    LMDB reads its file as memory: what is damaged must not be looked at in that way.

    Raises:
        StoreUnusable.
    """
    refuse_missing(place)
    try:
        owner = read_owner(place.folder)
        if owner is not None and not owner.clean and owner.boot_id != boot_id() and owner.durability != Durability.FULL:
            raise StoreUnusable(place.folder, "the power failed while it was in use", START_IT)
        if fault := fault_in(place.data, deep=False):
            raise StoreUnusable(place.data, fault, "see `regrow state verify`, or restore a backup")
        if os.path.getsize(place.data) < length_of(place.data):
            raise StoreUnusable(place.data, "it ends before its last page", START_IT)
    except OSError as error:
        raise StoreUnusable(place.folder, error.strerror or str(error), "see who may read it") from None
    if not os.access(place.folder, os.W_OK):
        why = "nothing can be written there, and LMDB keeps on record who reads"
        how = f"copy {place.state_dir} to where it can be, and name the copy: --state-dir DIR"
        raise StoreUnusable(place.folder, why, how)


def length_of(path: str) -> int:
    """How long an LMDB file has to be. Raises OSError, StoreUnusable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return meta_page.read(fd).file_bytes
    except BadMeta as error:
        raise StoreUnusable(path, str(error), "restore a backup") from None
    finally:
        os.close(fd)
