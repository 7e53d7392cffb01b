"""The user, the group and the folder that `regrow systemd install` declares. With a real systemd: tests/systemd."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from regrow.daemon.cli import declared, units
from regrow.daemon.cli.declared import ACCOUNTS, FOLDERS, Declared

ALL_DONE = "#!/bin/sh\nexit 0\n"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder of $PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Declared, Declared]:
    """Have the files elsewhere, on a machine without these accounts; return them."""
    moved = [file._replace(path=tmp_path / "etc" / file.template) for file in (ACCOUNTS, FOLDERS)]
    monkeypatch.setattr(declared, "ACCOUNTS", moved[0])
    monkeypatch.setattr(declared, "FOLDERS", moved[1])
    monkeypatch.setattr(declared, "accounts", dict)
    return moved[0], moved[1]


def program(folder: Path, name: str, script: str = ALL_DONE) -> None:
    """Write one of systemd's programs."""
    (folder / name).write_text(script)
    (folder / name).chmod(0o755)


def test_install_and_uninstall(programs: Path, etc: tuple[Declared, Declared]) -> None:
    """The first time the files are written, then unchanged, and carried out each time; in the end they are gone."""
    for file in etc:
        program(programs, file.program[0], f'#!/bin/sh\necho "$@" >> {programs}/called\n')
    assert list(declared.install()) == [(f"wrote {file.path}", False) for file in etc]
    assert [file.path.stat().st_mode & 0o777 for file in etc] == [0o644, 0o644]
    assert list(declared.install()) == [(f"unchanged {file.path}", False) for file in etc]
    called = [str(etc[0].path), f"--create {etc[1].path}"]
    assert (programs / "called").read_text().splitlines() == called * 2
    assert list(declared.uninstall()) == [f"removed {file.path}" for file in etc]
    assert list(declared.uninstall()) == []


def test_who_was_made_and_who_was_there(
    programs: Path, etc: tuple[Declared, Declared], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each account is told with its number, also one that was there; in the end that it stays, and what removes it."""
    for file in etc:
        program(programs, file.program[0])
    found = [{"user regrow": 1000}, {"user regrow": 1000, "group regrow-operators": 990}]
    monkeypatch.setattr(declared, "accounts", lambda: found.pop(0) if len(found) > 1 else found[0])
    assert [line for line, _ in declared.install()][1:3] == [
        "unchanged user regrow (1000)",
        "made group regrow-operators (990)",
    ]
    assert list(declared.uninstall())[2:] == [
        "kept user regrow (1000), as files may be theirs; `userdel regrow` removes it",
        "kept group regrow-operators (990), as files may be theirs; `groupdel regrow-operators` removes it",
    ]


def test_machine_without_these_programs(programs: Path, etc: tuple[Declared, Declared]) -> None:
    """The files are written all the same, and one line each says what nobody does."""
    del programs
    said = list(declared.install())
    for file in etc:
        complaint = f"there is no {file.program[0]} on this machine: nobody does what {file.path} says; do it yourself"
        assert (complaint, True) in said
        assert file.path.read_text() == declared.text(file)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("#!/bin/sh\necho 'cannot lock /etc/.pwd.lock' >&2\nexit 1\n", "failed: cannot lock /etc/.pwd.lock"),
        ("#!/bin/sh\nexit 3\n", "failed: exit 3"),
        ("#!/nowhere\n", "cannot run systemd-sysusers: No such file or directory"),
        ("#!/bin/sh\nexec /bin/cat <> fifo\n", "has not ended within 0.2 s"),
    ],
)
def test_programs_that_fail(
    programs: Path, etc: tuple[Declared, Declared], monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    """What they say is handed on in one line, and the rest is done all the same."""
    os.mkfifo(programs / "fifo")
    program(programs, "systemd-sysusers", script.replace("fifo", f"{programs}/fifo"))
    program(programs, "systemd-tmpfiles")
    monkeypatch.setattr(declared, "PATIENCE_S", 0.2)
    said = list(declared.install())
    assert [says in line for line, is_complaint in said if is_complaint] == [True]
    assert said[-1] == (f"wrote {etc[1].path}", False)


def test_files_of_somebody_else(programs: Path, etc: tuple[Declared, Declared]) -> None:
    """Who wants another number for the user writes the file: it is kept, and carried out."""
    for file in etc:
        program(programs, file.program[0])
    etc[0].path.parent.mkdir()
    own = declared.text(etc[0]).removeprefix(units.SIGN)
    etc[0].path.write_text(own)
    assert next(declared.install()) == (f"kept {etc[0].path}", False)
    assert list(declared.uninstall()) == []
    assert etc[0].path.read_text() == own


@pytest.mark.parametrize("file", [ACCOUNTS, FOLDERS])
def test_texts_are_what_systemd_reads(file: Declared, tmp_path: Path) -> None:
    """Systemd's own programs take them, in a root of their own."""
    found = subprocess.run(["sh", "-c", f"command -v {file.program[0]}"], capture_output=True, check=False)
    if found.returncode or os.geteuid():
        pytest.skip(f"needs root and {file.program[0]}")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    text = declared.text(file)
    argv = [*file.program, f"--root={tmp_path}", "-"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    if file is FOLDERS:
        assert (tmp_path / "etc/regrow").stat().st_mode & 0o7777 == 0o755
        return
    users = dict(line.split(":", 1) for line in (tmp_path / "etc/passwd").read_text().splitlines())
    groups = dict(line.split(":", 1) for line in (tmp_path / "etc/group").read_text().splitlines())
    assert users["regrow"].endswith(":Programs of regrow:/:/usr/sbin/nologin")
    assert groups["regrow-operators"].endswith(":")
    assert users["regrow"].split(":")[2] != groups["regrow-operators"].split(":")[1]
