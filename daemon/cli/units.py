"""
The unit `regrow@.service`, and the links to the files of its instances.

Everything here may be done again: it says whether there was anything to do.

Source: systemd.unit(5) on paths and specifiers, systemd.service(5) on command lines.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from regrow.daemon.cli.report import Failed
from regrow.daemon.cli.unit_text import UNIT, text, within

SIGN = "# Written by `regrow systemd install"
"""What tells our unit from one that somebody has written, which is neither overwritten nor removed."""

PATIENCE_S = 60.0
HIDDEN = ("/tmp", "/var/tmp")
"""The unit has these of its own: PrivateTmp=yes."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


class Site(NamedTuple):
    """
    Where the unit is, the links to files, and how its manager is spoken to.

    `root`: of which machine, where not of this one: the folder that is its `/`. `dry`: nothing is changed.
    """

    user: bool
    unit: Path
    folder: Path
    systemctl: tuple[str, ...]
    root: str = ""
    dry: bool = False


def site(*, user: bool, root: str = "", dry: bool = False) -> Site:
    """Of the machine, or of this user."""
    if not user:
        systemctl = ("systemctl", f"--root={root}") if root else ("systemctl",)
        return Site(False, Path(f"{root}/etc/systemd/system", UNIT), Path(f"{root}/etc/regrow"), systemctl, root, dry)
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return Site(True, config / "systemd" / "user" / UNIT, config / "regrow", ("systemctl", "--user"), dry=dry)


def missing() -> bool:
    """Whether this machine has no systemd at all."""
    return shutil.which("systemctl") is None


def links(site: Site, files: Iterable[str]) -> dict[Path, Path]:
    """
    The links that `files` need, and where they lead.

    Raises:
        Failed: a file cannot be an instance, or another one has its place.
    """
    found: dict[Path, Path] = {}
    for file in files:
        own = within(site.root, os.path.abspath(file))
        if not own:
            raise Failed(f"cannot install {file}: it is not below {site.root}, and would not be there; copy it first")
        target = Path(own)
        link = link_of(site, file)
        place = target if site.root else target.resolve()
        if not site.user and str(place).startswith(tuple(f"{folder}/" for folder in HIDDEN)):
            raise Failed(f"cannot install {file}: services have a /tmp of their own; put it elsewhere")
        there = target if link == Path(f"{site.root}{own}") else _leads_to(link)
        if (there not in (None, target)) or found.setdefault(link, target) != target:
            raise Failed(f"cannot install {file}: {link} is there for another file; rename one, or remove that")
    return found


def link_of(site: Site, name: str) -> Path:
    """
    Where the instance of a file, or of a name, has its file.

    Raises:
        Failed: it can have none.
    """
    stem = os.path.basename(name).removesuffix(".toml")
    if not _NAME.fullmatch(stem):
        raise Failed(f"cannot name a service after {name}: letters, digits, `_`, `-` and `.` only; rename the file")
    return site.folder / f"{stem}.toml"


def links_there(site: Site) -> set[Path]:
    """The files of all instances."""
    return set(site.folder.glob("*.toml"))


def _leads_to(link: Path) -> Path | None:
    """Where a link leads, itself if it is none, None if nothing is there."""
    if link.is_symlink():
        return link.parent / link.readlink()
    return link if link.exists() else None


def instance(link: Path) -> str:
    """The name of its service."""
    return f"regrow@{link.name.removesuffix('.toml')}"


def write_unit(site: Site) -> bool:
    """As `write`, the unit of all trees."""
    return write(site.unit, text(user=site.user, root=site.root), dry=site.dry)


def write(unit: Path, wanted: str, *, dry: bool = False) -> bool:
    """
    Put a unit there; False when it was there. Nobody ever sees half of it. `dry`: only tell.

    Raises:
        Failed: somebody else's is there; OSError.
    """
    if unit.exists() and unit.read_text(errors="replace") == wanted:
        return False
    refuse_foreign(unit)
    if dry:
        return True
    unit.parent.mkdir(parents=True, exist_ok=True)
    new = unit.with_name(f".{unit.name}.{os.getpid()}")
    try:
        new.write_text(wanted)
        new.chmod(0o644)
        new.replace(unit)
    finally:
        new.unlink(missing_ok=True)
    return True


def refuse_foreign(unit: Path) -> None:
    """
    See that a unit may be written, or taken away.

    Raises:
        Failed: somebody else's is there.
    """
    if unit.exists() and not unit.read_text(errors="replace").startswith(SIGN):
        raise Failed(f"cannot use {unit}: one is there that regrow has not written; move it away")


def write_link(site: Site, link: Path, target: Path) -> bool:
    """
    Have `link` lead to `target`; False when it did, or when it is the file itself.

    Raises:
        OSError.
    """
    if link == Path(f"{site.root}{target}") or _leads_to(link) == target:
        return False
    if site.dry:
        return True
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return True


def remove_link(site: Site, link: Path) -> bool:
    """Take a link away; a file that is no link is its owner's, and stays. False when nothing was done."""
    if not link.is_symlink():
        return False
    if not site.dry:
        link.unlink()
    return True


def remove_unit(site: Site) -> bool:
    """
    Take the unit away, and the folder of links if it is empty. False when there was none.

    Raises:
        Failed: it is somebody else's; OSError.
    """
    if not site.unit.exists():
        return False
    refuse_foreign(site.unit)
    if site.dry:
        return True
    site.unit.unlink()
    try:
        site.folder.rmdir()
    except OSError:
        pass  # not ours alone
    return True


def is_running(site: Site) -> bool:
    """Whether the manager that is meant runs."""
    if site.root:
        return False
    if site.user:
        return Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"), "systemd", "private").exists()
    return Path("/run/systemd/system").is_dir()


def runs(site: Site, unit: str) -> bool:
    """Whether a unit runs, or is about to."""
    if not is_running(site):
        return False
    said = _systemctl(site, "show", "--property=ActiveState", "--value", unit).stdout.strip()
    return said not in ("", "inactive", "failed")


def disable(site: Site, place: Path) -> None:
    """Have a unit not started at boot any more: that of a link, or the one that is there."""
    unit = instance(place) if place.parent == site.folder else place.name
    if site.dry:
        return
    if site.root:  # systemctl may not be there; all that it would do is to take these away
        for wanted in site.unit.parent.glob(f"*.wants/{unit.removesuffix('.service')}*"):
            if wanted.name in (unit, f"{unit}.service"):
                wanted.unlink()
    elif site.unit.exists():
        _systemctl(site, "disable", "--quiet", unit)


def reload(site: Site) -> bool:
    """
    Have the manager read the units again; False when it does not run.

    Raises:
        Failed: it refuses.
    """
    if not is_running(site):
        return False
    if site.dry:
        return True
    done = _systemctl(site, "daemon-reload")
    if done.returncode:
        raise Failed(f"`{' '.join(site.systemctl)} daemon-reload` failed: {done.stderr.strip()}")
    return True


def _systemctl(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [*site.systemctl, *words], capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        raise Failed(f"`{' '.join([*site.systemctl, *words])}` has not ended within {PATIENCE_S:g} s") from None
