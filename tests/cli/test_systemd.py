"""`regrow systemd` where no systemd runs: what it writes, and what it refuses. With one: tests/systemd."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from regrow.daemon.cli import unit_text, units
from regrow.daemon.cli.app import run

TREE = '[supervisor.top]\nchildren = ["one"]\n[worker.one]\ncommand = ["true"]\n'


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the configuration directory of a user whose manager does not run, on a machine with systemd."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "regrow", "true"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(sys, "argv", [str(programs / "regrow")])
    return tmp_path / "config"


def tree(directory: Path, name: str = "shop.toml", text: str = TREE) -> str:
    """Write a file of a tree, and return its path."""
    directory.mkdir(exist_ok=True)
    (directory / name).write_text(text)
    return str(directory / name)


def test_install_and_uninstall_of_a_user(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The unit names the regrow that writes it; the second time nothing changes; nothing is left in the end."""
    unit, link = home / "systemd/user/regrow@.service", home / "regrow/shop.toml"
    file = tree(tmp_path)
    assert run(["systemd", "install", "--user", file]) == 0
    assert f"ExecStart={tmp_path}/bin/regrow up %E/regrow/%i.toml\n" in unit.read_text()
    assert unit.stat().st_mode & 0o777 == 0o644
    assert link.readlink() == Path(file)
    assert capsys.readouterr().out.splitlines() == [
        f"wrote {unit}",
        f"linked {link}",
        "systemd does not run here: it will find this when it does",
        "now type: systemctl --user enable regrow@shop",
    ]
    assert run(["systemd", "install", "--user", file]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [f"unchanged {unit}", f"unchanged {link}"]
    assert run(["systemd", "uninstall", "--user", file]) == 0
    assert capsys.readouterr().out.splitlines() == [f"removed {link}", f"removed {unit}"]
    assert Path(file).exists()
    assert not (home / "regrow").exists()


SOCKETS = """
sockets = ["web", "all", "way"]
[socket.web]
tcp = 8000
backlog = 7
[socket.all]
tcp = "[::]:8001"
[socket.way]
unix = "/srv/100%/way.sock"
mode = "0660"
group = 0
"""


def test_units_of_sockets(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One for each socket, after the file; those that leave it go, and with the tree all of them."""
    folder, file = home / "systemd/user", tree(tmp_path, text=TREE + SOCKETS)
    assert run(["systemd", "install", "--user", "--sockets", file]) == 0
    said = capsys.readouterr().out.splitlines()
    units_ = [f"regrow@shop.{name}.socket" for name in ("web", "all", "way")]
    assert said[2:5] == [f"wrote {folder / unit}" for unit in units_]
    assert said[-1] == f"now type: systemctl --user enable {' '.join(units_)} regrow@shop"
    web, every, way = ((folder / unit).read_text().partition("[Socket]\n")[2].splitlines() for unit in units_)
    common = ["Service=regrow@shop.service", "Backlog=4096"]
    install = ["", "[Install]", "WantedBy=sockets.target regrow@shop.service"]
    assert web == ["ListenStream=127.0.0.1:8000", "FileDescriptorName=web", common[0], "Backlog=7", *install]
    assert every == ["ListenStream=[::]:8001", "FileDescriptorName=all", *common, "BindIPv6Only=both", *install]
    owner = ["SocketMode=0660", "RemoveOnStop=yes", "SocketGroup=0"]
    assert way == ["ListenStream=/srv/100%%/way.sock", "FileDescriptorName=way", *common, *owner, *install]
    (folder / "regrow@shop.own.web.socket").write_text(units.SIGN)  # of the tree `shop.own`
    tree(tmp_path, text=TREE + SOCKETS.replace("way", "gate"))
    assert run(["systemd", "install", "--user", "--sockets", file]) == 0
    assert f"removed {folder / units_[2]}" in capsys.readouterr().out.splitlines()
    assert run(["systemd", "uninstall", "--user", file]) == 0
    assert [path.name for path in folder.iterdir()] == ["regrow@shop.own.web.socket"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TREE, "its file has no [socket.NAME]"),
        (f'{TREE}sockets = ["web"]\n[socket.web]\nunix = "{{run_dir}}/web.sock"\n', "put it elsewhere"),
    ],
)
def test_no_units_of_sockets(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """Without sockets, or where systemd could not keep one, it is refused, and nothing is written."""
    assert run(["systemd", "install", "--user", "--sockets", tree(tmp_path, text=text)]) == 1
    assert said in capsys.readouterr().err
    assert not home.exists()


def test_unit_stays_while_a_tree_needs_it(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Uninstalling one of two trees keeps the unit; a file that is no link is never removed."""
    assert run(["systemd", "install", "--user", tree(tmp_path), tree(tmp_path, "farm.toml")]) == 0
    (home / "regrow/own.toml").write_text(TREE)
    assert run(["systemd", "uninstall", "--user", "shop"]) == 0
    assert "regrow@farm, regrow@own need it" in capsys.readouterr().out
    assert run(["systemd", "uninstall", "--user"]) == 0
    assert (home / "systemd/user/regrow@.service").exists()
    assert [path.name for path in (home / "regrow").iterdir()] == ["own.toml"]


def test_bad_file_is_not_installed(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All problems of the files are printed, the status is 78, and nothing was written."""
    assert run(["systemd", "install", "--user", tree(tmp_path, text="[supervisor.top]\nstratgy = 1\n")]) == 78
    assert "stratgy" in capsys.readouterr().err
    assert not home.exists()


def test_other_file_of_that_name_is_refused(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An instance that is there for another file is not taken over."""
    assert run(["systemd", "install", "--user", tree(tmp_path / "a")]) == 0
    assert run(["systemd", "install", "--user", tree(tmp_path / "b")]) == 1
    assert "is there for another file" in capsys.readouterr().err
    assert (home / "regrow/shop.toml").readlink().parent.name == "a"


def test_unit_of_somebody_else_is_kept(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A unit of the same name that regrow has not written is neither overwritten nor removed."""
    unit = home / "systemd/user/regrow@.service"
    unit.parent.mkdir(parents=True)
    unit.write_text("[Service]\n")
    assert run(["systemd", "install", "--user", tree(tmp_path)]) == 1
    assert run(["systemd", "uninstall", "--user"]) == 1
    assert capsys.readouterr().err.count("one is there that regrow has not written") == 2
    assert unit.read_text() == "[Service]\n"


def test_file_that_services_do_not_see_is_refused(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Services of the machine have a /tmp of their own."""
    del home
    assert run(["systemd", "install", "/tmp/shop.toml"]) == 1
    assert "put it elsewhere" in capsys.readouterr().err


def test_file_that_cannot_name_a_service_is_refused(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name of an instance has letters that need no escape."""
    del home
    assert run(["systemd", "install", "--user", tree(tmp_path, "my shop.toml")]) == 1
    assert "rename the file" in capsys.readouterr().err


def test_place_that_cannot_be_written(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong with a place is one line, and names it."""
    home.mkdir()
    (home / "systemd").write_text("")
    assert run(["systemd", "install", "--user", tree(tmp_path)]) == 1
    assert f"cannot install: {home}/systemd" in capsys.readouterr().err


def test_no_permission(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without permission the line says who may."""
    del home

    def refuse(path: Path, _text: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    Path(tmp_path, "shop.toml").write_bytes(TREE.encode())
    assert run(["systemd", "install", "--user", str(tmp_path / "shop.toml")]) == 1
    assert "do it as root, or with --user" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["install", "--user", "x.toml"], ["uninstall", "--user"]])
def test_machine_without_systemd(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no systemd at all, one line says so."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert run(["systemd", *words]) == 1
    assert "there is no systemd on this machine" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("called", "expected"),
    [
        ("a b/regrow", '"{tmp}/a b/regrow"'),
        ("100%/regrow", "{tmp}/100%%/regrow"),
        ('q"/regrow', '"{tmp}/q\\"/regrow"'),
    ],
)
def test_path_of_regrow_is_quoted(
    called: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blanks, quotes, and what units give a meaning to, stay what they are."""
    program = tmp_path / called
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert unit_text.command() == expected.format(tmp=tmp_path)


def test_show_prints_what_install_writes(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`show` is the file, below its path."""
    assert run(["systemd", "install", "--user", tree(tmp_path)]) == 0
    capsys.readouterr()
    assert run(["systemd", "show", "--user"]) == 0
    unit = home / "systemd/user/regrow@.service"
    assert capsys.readouterr().out == f"# {unit}\n{unit.read_text()}"


def test_show_of_a_machine_has_its_user_and_folder(capsys: pytest.CaptureFixture[str]) -> None:
    """Also what is declared for sysusers.d and tmpfiles.d, in the words of those."""
    assert run(["systemd", "show"]) == 0
    shown = capsys.readouterr().out
    places = ["/etc/systemd/system/regrow@.service", "/etc/sysusers.d/regrow.conf", "/etc/tmpfiles.d/regrow.conf"]
    assert [line[2:] for line in shown.splitlines() if line.startswith("# /")] == places
    declares = [line.split(None, 2) for line in shown.partition(places[1])[2].splitlines() if line[:1] not in ("", "#")]
    assert [words[:2] for words in declares] == [["u", "regrow"], ["g", "regrow-operators"], ["d", "/etc/regrow"]]
    assert shown.count(units.SIGN) == len(places)


def test_dry_run(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What would be done is printed, and nothing is: neither of installing nor of the other."""
    file = tree(tmp_path, text=TREE + SOCKETS)
    unit, link = home / "systemd/user/regrow@.service", home / "regrow/shop.toml"
    sockets = [home / f"systemd/user/regrow@shop.{name}.socket" for name in ("all", "way", "web")]
    assert run(["systemd", "install", "--user", "--dry-run", "--sockets", file]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[:2] == [f"would write {unit}", f"would link {link}"]
    assert sorted(said[2:5]) == [f"would write {one}" for one in sockets]
    assert said[-1].startswith("then type: systemctl --user enable ")
    assert not home.exists()
    assert run(["systemd", "install", "--user", "--sockets", file]) == 0
    capsys.readouterr()
    assert run(["systemd", "uninstall", "--user", "--dry-run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        *(f"would remove {one}" for one in sockets),
        "would run systemctl --user disable regrow@shop",
        f"would remove {link}",
        f"would remove {unit}",
    ]
    assert all(path.exists() for path in (unit, link, *sockets))


def test_dry_run_of_a_machine(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs nobody's permission, and what systemd would be asked for is printed too."""
    del home
    assert run(["systemd", "install", "--dry-run", "--root", str(tmp_path), tree(tmp_path)]) == 0
    assert list(tmp_path.glob("etc")) == []
    said = capsys.readouterr().out.splitlines()
    assert f"would write {tmp_path}/etc/sysusers.d/regrow.conf" in said
    assert said[-1] == f"then type: systemctl --root={tmp_path} enable regrow@shop"


def test_another_root(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a package: all is below it, what is written there names no path of the builder, and nothing is run."""
    monkeypatch.setenv("PATH", "/nonsuch")
    root = tmp_path / "image"
    regrow = root / "opt/venv/bin/regrow"
    regrow.parent.mkdir(parents=True)
    regrow.write_text("")
    regrow.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(regrow)])
    file = tree(root / "opt/shop", text=TREE.replace('"true"', '"nonsuch"'))
    assert run(["systemd", "install", "--root", str(root), file]) == 0
    link, unit = root / "etc/regrow/shop.toml", root / "etc/systemd/system/regrow@.service"
    files = [root / "etc/sysusers.d/regrow.conf", root / "etc/tmpfiles.d/regrow.conf", unit]
    assert capsys.readouterr().out.splitlines() == [
        *(f"wrote {one}" for one in files),
        f"linked {link}",
        f"now type: systemctl --root={root} enable regrow@shop",
    ]
    assert link.readlink() == Path("/opt/shop/shop.toml")
    assert "ExecStart=/opt/venv/bin/regrow up /etc/regrow/%i.toml\n" in unit.read_text()
    wanted = unit.parent / "multi-user.target.wants"
    wanted.mkdir()
    (wanted / "regrow@shop.service").symlink_to("/etc/systemd/system/regrow@.service")
    (wanted / "regrow@shop2.service").symlink_to("/etc/systemd/system/regrow@.service")
    assert run(["systemd", "install", "--root", str(root), file]) == 0
    assert capsys.readouterr().out.count("unchanged") == 4
    assert run(["systemd", "uninstall", "--root", str(root)]) == 0
    assert capsys.readouterr().out.splitlines() == [f"removed {one}" for one in (link, unit, *files[:2])]
    assert [path.name for path in wanted.iterdir()] == ["regrow@shop2.service"]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["install", "--root", "{tmp}/image", "{tmp}/shop.toml"], 1, "it is not below {tmp}/image, and would not be"),
        (["install", "--root", "{tmp}/none", "{tmp}/shop.toml"], 1, "cannot install: there is no directory {tmp}/none"),
        (["install", "--root", "", "{tmp}/shop.toml"], 2, "for this machine leave it out"),
        (["uninstall", "--root", "/", "shop"], 2, "for this machine leave it out"),
        (["install", "--root", "{tmp}", "--user", "{tmp}/shop.toml"], 2, "leave one out"),
        (["install", "--root", "{tmp}", "--sockets", "{tmp}/shop.toml"], 2, "leave out --root, or do it there"),
        (["uninstall", "--root", "{tmp}", "--user"], 2, "leave one out"),
        (["show", "my shop.toml"], 1, "rename the file"),
    ],
)
def test_wrong_roots(
    words: list[str], status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, and nothing is written."""
    tree(tmp_path)
    (tmp_path / "image").mkdir()
    assert run(["systemd", *(word.format(tmp=tmp_path) for word in words)]) == status
    assert said.format(tmp=tmp_path) in capsys.readouterr().err
    assert not list((tmp_path / "image").iterdir())


def test_show_of_one_tree(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name or file: the unit as systemd reads it for that instance, with nothing left to fill in."""
    assert run(["systemd", "show", "--user", "dir/shop-2.toml"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"# regrow@shop-2.service, of {home}/systemd/user/regrow@.service\n")
    assert f"regrow up {home}/regrow/shop-2.toml\n" in shown
    assert "Environment=REGROW_DELEGATED=regrow@shop-2.service\n" in shown
    assert "%" not in shown
    assert run(["systemd", "show", "shop"]) == 0
    shown = capsys.readouterr().out
    assert "regrow check /etc/regrow/shop.toml\n" in shown
    assert "RuntimeDirectory=regrow/shop\n" in shown
