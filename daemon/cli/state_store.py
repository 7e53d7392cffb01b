"""`regrow state`: the store as a whole; as JSON, as a file, and how it is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from regrow.config.exits import REFUSED
from regrow.daemon.cli.options import AgentName, format_option
from regrow.daemon.cli.output import amount, dumps
from regrow.daemon.cli.report import NO_ROOM, Failed, say
from regrow.daemon.cli.stores import Which, of_files, of_store, refuse_living

IN_MEMORY_BYTES = 64 << 20
"""Of what is exported or imported; more lies in a file without a name meanwhile."""


def add_to(group: click.Group) -> None:
    """Add this module's commands."""
    for command in (export, import_, backup, restore, compact, verify, size):
        group.add_command(command)


@click.command()
@click.argument("name", required=False, type=AgentName())
@of_store
def export(which: Which, name: str | None) -> None:
    """Print everything as JSON, or what one agent or group keeps: for `import`, here or elsewhere."""
    from regrow.ipc import storedump
    from regrow.ipc.owners import has_any

    site = which.site()
    head = storedump.Dump(daemon=site.place.daemon, owner=name, at=time.time())
    with spooled() as spool, site.reading() as store:

        def write(txn: Any) -> None:
            if name is not None and not has_any(txn, store.state, name):
                raise Failed(f"cannot export {name}: it keeps nothing; see `regrow state list{which.options}`")
            spool.seek(0)
            spool.truncate()
            spool.writelines(storedump.lines(storedump.dump(txn, store, head)))

        store.read(write)  # a reader of ours may be slow, and pages that are looked at cannot be used anew
        spool.seek(0)
        while chunk := spool.read(1 << 16):
            click.echo(chunk, nl=False)


@click.command("import")
@click.argument("file", default="-", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--replace", is_flag=True, help="Forget what is there; without it, nothing may be.")
@of_store
def import_(which: Which, file: str, replace: bool) -> None:
    """
    Take in what `export` has printed: all of it or nothing.

    Of one agent or group, while it does not run; of a whole store, while the daemon does not.
    """
    from shutil import copyfileobj

    from regrow.ipc.storedump import Reader
    from regrow.ipc.taggedjson import BadJson

    with spooled() as spool:
        with click.open_file(file, "rb") as source:
            copyfileobj(source, spool, 1 << 20)
        try:
            count, what = take_in(which, Reader(spool), replace=replace)
        except BadJson as error:
            raise Failed(f"cannot import {'stdin' if file == '-' else file}: {error}; nothing was changed") from None
    click.echo(f"{what}: {count} rows")


@contextmanager
def spooled() -> Iterator[Any]:
    """A file of ours, without a name; where it lies is said of a disk that has no room."""
    from tempfile import SpooledTemporaryFile, gettempdir

    try:
        with SpooledTemporaryFile(IN_MEMORY_BYTES) as spool:
            yield spool
    except OSError as error:
        if error.filename is None and error.errno in NO_ROOM:
            error.filename = f"{gettempdir()} (a temporary file; $TMPDIR says where)"
        raise


def take_in(which: Which, reader: Any, *, replace: bool) -> tuple[int, str]:
    """Put it into the store; how much it was, and of whom."""
    owner = reader.head.owner
    site = which.site()
    if owner is None and site.running:
        which.stopped("import into")
    check = refuse_living(site, owner, "replace") if owner is not None else lambda _txn: None

    def change(txn: Any) -> int:
        check(txn)
        if not make_room(txn, store, owner, replace=replace):
            whose = f"{owner} keeps" if owner is not None else "the store holds"
            raise Failed(f"cannot import: {whose} something already; to forget that: --replace")
        count = 0
        for db, key, value in reader.rows(store):
            txn.put(key, value, db=db)
            count += 1
        return count

    with site.writing() as store:
        return store.write(change), owner if owner is not None else "the store"


def make_room(txn: Any, store: Any, owner: str | None, *, replace: bool) -> bool:
    """See that nothing is there, or forget it; False when something is, and is to stay."""
    from regrow.ipc import owners

    if owner is not None:
        if not replace:
            return not owners.has_any(txn, store.state, owner)
        owners.clear(txn, store.state, owner)
        return True
    databases = (store.state, store.messages)
    if not replace:
        return all(txn.stat(db)["entries"] == 0 for db in databases)
    for db in databases:
        txn.drop(db, delete=False)
    return True


@click.command()
@click.argument("file", type=click.Path(dir_okay=False))
@of_store
def backup(which: Which, file: str) -> None:
    """Copy the store to a new file, also while it is in use; what is committed meanwhile is not in it."""
    from regrow.workers.system.store_copies import back_up

    with which.reading() as store, of_files(f"back up to {file}"):
        size = back_up(store, file)
    click.echo(f"{file}: {amount(size)}")


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
@click.option("--force-name", is_flag=True, help="Also the store of another daemon; it belongs to this one then.")
@of_store
def restore(which: Which, file: str, force_name: bool) -> None:
    """Put a backup in the place of the store, while the daemon does not run; what was there is kept."""
    from regrow.workers.system import store_copies

    place = which.stopped("restore")
    with of_files(f"restore {file}"):
        aside = store_copies.restore(place, file, rename=force_name)
    kept = f"; what was there is kept as {aside}" if aside else ""
    click.echo(f"{place.daemon}: restored from {file}{kept}")


@click.command()
@of_store
def compact(which: Which) -> None:
    """Give the free pages of the file back, while the daemon does not run."""
    from regrow.workers.system import store_copies

    place = which.stopped("compact")
    with which.site().writing() as store, of_files(f"compact {place.data}"):
        before, after = store_copies.compact(place, store)
    click.echo(f"{place.data}: {amount(before)} before, {amount(after)} now")


@click.command()
@format_option
@of_store
def verify(which: Which, as_json: bool) -> int | None:
    """Look at every page and every record. Status 1 if anything is wrong."""
    from regrow.workers.system import store_verify
    from regrow.workers.system.store_site import refuse_missing

    site = which.site()
    found = None
    if not site.running:
        refuse_missing(site.place)
        found = store_verify.verify_file(site.place.data)
    if found is None or not found.faults:
        with site.reading() as store:
            found = store_verify.verify_store(store)
    if as_json:
        facts = {"pages": found.pages, "free_pages": found.free_pages, "records": found.records}
        click.echo(dumps({**facts, "faults": list(found.faults)}))
    else:
        for fault in found.faults:
            click.echo(fault)
        click.echo(f"{found.records} records in {found.pages} pages: {'faults' if found.faults else 'ok'}")
    if found.faults:
        say(f"the store {site.place.folder} is damaged: restore a backup (`regrow state restore`)")
        return REFUSED
    return None


@click.command()
@format_option
@of_store
def size(which: Which, as_json: bool) -> None:
    """How large the store is, and what of it is whose."""
    from regrow.ipc.owners import owners
    from regrow.ipc.storesize import Size, size_of

    with which.reading() as store:
        found: Size = size_of(store)
        kept = store.read(lambda txn: list(owners(txn, store.state)))
    if as_json:
        owned = [{"name": one.name, "keys": one.keys, "bytes": one.bytes} for one in kept]
        click.echo(dumps({**found.facts(), "owners": owned}))
        return
    file = f"{amount(found.file_bytes)}, of which {amount(found.free_pages * found.page_bytes)} are free"
    click.echo(f"{'file':<16}  {file}; it may grow to {amount(found.map_bytes)} as it is mapped now")
    for name, database in found.databases.items():
        click.echo(f"{name:<16}  {database.entries:>9} rows  {amount(database.pages * found.page_bytes):>12}")
    for one in kept:
        click.echo(f"  {one.name:<14}  {one.keys:>9} keys  {amount(one.bytes):>12}")
