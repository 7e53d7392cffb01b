"""
What a machine with trees has besides their unit: a user, a group and a folder. They are declared in files, which
systemd's own programs carry out now, and at each boot.

A file that regrow has not written is the operator's, who wants something else: it is kept, and carried out.

Source: sysusers.d(5), tmpfiles.d(5).
"""

from __future__ import annotations

import grp
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from regrow.daemon.cli import units
from regrow.daemon.cli.units import PATIENCE_S, SIGN

USER = "regrow"
OPERATORS = "regrow-operators"


class Declared(NamedTuple):
    """A file, the template of the wheel that it is written from, and the program that carries it out."""

    path: Path
    template: str
    program: tuple[str, ...]

    def below(self, root: str) -> Declared:
        """The same of the machine whose `/` is that folder."""
        return self._replace(path=Path(f"{root}{self.path}")) if root else self


ACCOUNTS = Declared(Path("/etc/sysusers.d/regrow.conf"), "sysusers.conf", ("systemd-sysusers",))
FOLDERS = Declared(Path("/etc/tmpfiles.d/regrow.conf"), "tmpfiles.conf", ("systemd-tmpfiles", "--create"))


def text(file: Declared) -> str:
    """What `install` writes there."""
    return (resources.files("regrow.systemd") / file.template).read_text()


def is_foreign(file: Declared) -> bool:
    """Whether somebody else's is there."""
    return file.path.exists() and not file.path.read_text(errors="replace").startswith(SIGN)


def write(file: Declared, *, dry: bool = False) -> str:
    """
    Put it there; what was done: `wrote`, `unchanged`, or `kept` where it is somebody else's. `dry`: only tell.

    Raises:
        OSError.
    """
    if is_foreign(file):
        return "kept"
    return "wrote" if units.write(file.path, text(file), dry=dry) else "unchanged"


def remove(file: Declared, *, dry: bool = False) -> bool:
    """
    Take it away; False when there is none, or somebody else's. `dry`: only tell.

    Raises:
        OSError.
    """
    if not file.path.exists() or is_foreign(file):
        return False
    if not dry:
        file.path.unlink()
    return True


def carry_out(file: Declared) -> str:
    """Have systemd do what the file says. Returns why that was not done; empty if it was."""
    program = file.program[0]
    if shutil.which(program) is None:
        return f"there is no {program} on this machine: nobody does what {file.path} says; do it yourself"
    argv = [*file.program, str(file.path)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        return f"`{' '.join(argv)}` has not ended within {PATIENCE_S:g} s"
    except OSError as error:
        return f"cannot run {program}: {error.strerror}"
    said = done.stderr.strip().replace("\n", "; ")
    return f"`{' '.join(argv)}` failed: {said or f'exit {done.returncode}'}" if done.returncode else ""


def accounts() -> dict[str, int]:
    """The user and the group that are there, in words, and their numbers."""
    found: dict[str, int] = {}
    try:
        found[f"user {USER}"] = pwd.getpwnam(USER).pw_uid
    except KeyError:
        pass
    try:
        found[f"group {OPERATORS}"] = grp.getgrnam(OPERATORS).gr_gid
    except KeyError:
        pass
    return found


def install(root: str = "", *, dry: bool = False) -> Iterator[tuple[str, bool]]:
    """
    Write the files and have them carried out: each line of what was done, and whether it is a complaint.

    Those below a `root` are carried out when that machine boots.

    Raises:
        OSError.
    """
    before = accounts()
    for file in (ACCOUNTS.below(root), FOLDERS.below(root)):
        yield f"{write(file, dry=dry)} {file.path}", False
        if root:
            continue
        if dry:
            yield f"ran {' '.join(file.program)} {file.path}", False
        elif problem := carry_out(file):
            yield problem, True
        elif file is ACCOUNTS:
            for account, number in accounts().items():
                yield f"{'unchanged' if account in before else 'made'} {account} ({number})", False


def uninstall(root: str = "", *, dry: bool = False) -> Iterator[str]:
    """
    Take the files away: each line of what was done. Who was made stays: files and processes may be theirs.

    Raises:
        OSError.
    """
    removed = [file for file in (ACCOUNTS, FOLDERS) if remove(file.below(root), dry=dry)]
    for file in removed:
        yield f"removed {file.below(root).path}"
    if ACCOUNTS in removed and not root:
        for account, number in accounts().items():
            kind, _, name = account.partition(" ")
            yield f"kept {account} ({number}), as files may be theirs; `{kind}del {name}` removes it"
