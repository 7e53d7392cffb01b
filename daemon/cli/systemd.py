"""`regrow systemd`: trees as services of the machine, or of one user."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from regrow.config.exits import BAD_CONFIG, DONE, REFUSED, USAGE
from regrow.daemon.cli.options import Function, debug_option
from regrow.daemon.cli.report import Failed
from regrow.daemon.cli.run import files_argument

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register

user_option = click.option("--user", is_flag=True, help="For systemd's manager of this user: `systemctl --user`.")

WOULD = {"wrote": "write", "linked": "link", "removed": "remove", "ran": "run"}
"""What a dry run says of what was done."""


def site_options(function: Function) -> Function:
    """Where, and whether at all."""
    for decorate in (
        debug_option,
        click.option("--dry-run", "dry", is_flag=True, help="Only print what would be done."),
        click.option(
            "--root", metavar="DIR", callback=lambda _ctx, _param, value: _root(value),
            help="Of the machine whose / is DIR, an image for instance; nothing is run.",
        ),
        user_option,
    ):  # fmt: skip
        function = decorate(function)
    return function


def register(verb: Register) -> None:
    """Add this module's verbs."""
    verb("run", systemd)


@click.group(invoke_without_command=True)
@debug_option
@click.pass_context
def systemd(ctx: click.Context) -> None:
    """
    Make trees services of systemd.

    The tree of shop.toml becomes regrow@shop: started at boot, watched, and started anew when its daemon dies.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


@systemd.command()
@files_argument
@click.option("--sockets", is_flag=True, help="Also have systemd listen at the [socket.X] of each FILE, by units.")
@site_options
def install(files: tuple[str, ...], sockets: bool, user: bool, root: str, dry: bool) -> int:
    """
    Write the unit, and link each FILE to where it looks.

    For the machine also make the user `regrow` for programs, the group `regrow-operators` and /etc/regrow.
    Starts nothing, and says what to type next. May be repeated; after an upgrade of regrow it should be.
    """
    from regrow.config.errors import ConfigErrors
    from regrow.config.load import load
    from regrow.daemon.cli import socket_units, units

    if root and sockets:
        raise click.UsageError("--sockets needs the users of the machine itself: leave out --root, or do it there")
    site = _site(user, root, dry, "install")
    links = units.links(site, files)
    with _as_one_line("install"):
        units.refuse_foreign(site.unit)
        complained = not user and _declare(site)  # before the files are read, which may name who is made here
    plans = []
    for file in files:
        try:
            plans.append(load([file], check_system=not root))
        except ConfigErrors as errors:
            for problem in errors.problems:
                click.echo(str(problem), err=True)
            return BAD_CONFIG
    listening: dict[Path, str] = {}
    for file, plan in zip(files, plans, strict=True) if sockets else ():
        listening |= socket_units.wanted(site, units.link_of(site, file), plan)
    with _as_one_line("install"):
        _say(site, "wrote" if units.write_unit(site) else "unchanged", site.unit)
        for link, target in links.items():
            _say(site, "linked" if units.write_link(site, link, target) else "unchanged", link)
            for old in socket_units.remove(site, socket_units.there(site, link) - listening.keys()) if sockets else ():
                _say(site, "removed", old)
        for unit, text in listening.items():
            _say(site, "wrote" if units.write(unit, text, dry=dry) else "unchanged", unit)
    _say_what_to_type(site, links, [unit.name for unit in listening])
    return REFUSED if complained else DONE


def _declare(site: units.Site) -> bool:
    """Make the user, the group and the folder of a machine; whether something is wrong with them."""
    from regrow.daemon.cli import declared

    complained = False
    for line, is_complaint in declared.install(site.root, dry=site.dry):
        click.echo(line if is_complaint else _told(site, line), err=is_complaint)
        complained |= is_complaint
    return complained


def _say_what_to_type(site: units.Site, links: Iterable[Path], sockets: list[str]) -> None:
    """Have the units read, and print the next command. What listens already cannot be listened at by systemd."""
    from regrow.daemon.cli import units

    systemctl = " ".join(site.systemctl)
    names = " ".join([*sockets, *map(units.instance, links)])
    if site.root:
        click.echo(f"then type: {systemctl} enable {names}" if site.dry else f"now type: {systemctl} enable {names}")
        return
    if not units.reload(site):
        click.echo("systemd does not run here: it will find this when it does")
        click.echo(f"{'then' if site.dry else 'now'} type: {systemctl} enable {names}")
        return
    if site.dry:
        click.echo(f"would run {systemctl} daemon-reload")
    new = any(not units.runs(site, unit) for unit in sockets)
    stop = " ".join(one for one in map(units.instance, links) if new and units.runs(site, one))
    now = "then" if site.dry else "now"
    click.echo(f"{now} type: {f'{systemctl} stop {stop}; ' if stop else ''}{systemctl} enable --now {names}")


@systemd.command()
@click.argument("names", metavar="[NAME]...", nargs=-1)
@site_options
def uninstall(names: tuple[str, ...], user: bool, root: str, dry: bool) -> int:
    """
    Undo it: of these trees (by name or file), or of all.

    None of them may run. The files themselves stay; the unit goes with the last of them. A user that was made stays.
    """
    from regrow.daemon.cli import declared, socket_units, units

    site = _site(user, root, dry, "uninstall")
    links = {units.link_of(site, name) for name in names} if names else units.links_there(site)
    for link in sorted(links):
        what = units.instance(link)
        if units.runs(site, what):
            stop = " ".join([*site.systemctl, "disable --now", what])
            raise Failed(f"cannot uninstall {what}: it runs; stop it first: `{stop}`")
    gone: set[Path] = set()
    with _as_one_line("uninstall"):
        for link in sorted(links):
            for unit in socket_units.remove(site, socket_units.there(site, link)):
                _say(site, "removed", unit)
            if dry and site.unit.exists() and not root:
                click.echo(f"would run {' '.join(site.systemctl)} disable {units.instance(link)}")
            units.disable(site, link)
            removed = units.remove_link(site, link)
            _say(site, "removed" if removed else "kept" if link.exists() else "not there:", link)
            gone |= {link} if removed else set()
        left = units.links_there(site) - gone
        if left:
            click.echo(f"kept {site.unit}: {', '.join(sorted(map(units.instance, left)))} need it")
        else:
            _say(site, "removed" if units.remove_unit(site) else "not there:", site.unit)
            for line in () if user else declared.uninstall(root, dry=dry):
                click.echo(_told(site, line))
    if units.reload(site) and dry:
        click.echo(f"would run {' '.join(site.systemctl)} daemon-reload")
    return DONE


@systemd.command()
@click.argument("name", metavar="[NAME]", required=False)
@user_option
@debug_option
def show(name: str | None, user: bool) -> None:
    """
    Print the files that `install` would write, each below its path.

    Of one tree (by name or file): the unit as systemd reads it for that tree.
    """
    from regrow.daemon.cli import declared, unit_text, units

    if name is not None:
        site = units.site(user=user)
        link = units.link_of(site, name)
        click.echo(f"# {units.instance(link)}.service, of {site.unit}")
        filled = unit_text.filled(unit_text.text(user=user), link.stem, str(site.folder.parent))
        click.echo(filled, nl=False)
        return
    files = [(units.site(user=user).unit, unit_text.text(user=user))]
    if not user:
        files += [(file.path, declared.text(file)) for file in (declared.ACCOUNTS, declared.FOLDERS)]
    click.echo("\n".join(f"# {path}\n{text}" for path, text in files), nl=False)


def _root(value: str | None) -> str:
    """The folder, as all paths begin with it; empty for this machine, where it is left out."""
    if value is None:
        return ""
    if not value or os.path.realpath(value) == "/":
        raise click.UsageError(f"--root is a directory other than /, not {value!r}: for this machine leave it out")
    return os.path.abspath(value)


def _site(user: bool, root: str, dry: bool, what: str) -> units.Site:
    from regrow.daemon.cli import units

    if user and root:
        raise click.UsageError("--root is for the files of a machine, and --user for those of a user: leave one out")
    if root and not os.path.isdir(root):
        raise Failed(f"cannot {what}: there is no directory {root}")
    site = units.site(user=user, root=root, dry=dry)
    if not root and units.missing():
        raise Failed(f"cannot {what}: there is no systemd on this machine (no `systemctl` in $PATH); see `regrow up`")
    return site


def _say(site: units.Site, done: str, path: os.PathLike[str]) -> None:
    click.echo(_told(site, f"{done} {os.fspath(path)}"))


def _told(site: units.Site, line: str) -> str:
    """What was done; in a dry run, what would be."""
    done, _, rest = line.partition(" ")
    return f"would {WOULD[done]} {rest}" if site.dry and done in WOULD else line


@contextmanager
def _as_one_line(what: str) -> Iterator[None]:
    """What is wrong with a place, as one line."""
    try:
        yield
    except PermissionError as error:
        raise Failed(f"cannot {what}: no permission for {error.filename}; do it as root, or with --user") from error
    except OSError as error:
        raise Failed(f"cannot {what}: {error.filename}: {error.strerror or error}") from error


if TYPE_CHECKING:
    from regrow.daemon.cli import units
