"""The user, the group and the folder that `regrow systemd install` makes, under a real systemd."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from booted import REGROW, SHARE, Machine
from services import Tree, worker

pytestmark = pytest.mark.root

SYSUSERS, TMPFILES = "/etc/sysusers.d/regrow.conf", "/etc/tmpfiles.d/regrow.conf"
OPERATORS = '[access]\noperators = ["group:regrow-operators"]\n'


@pytest.fixture(autouse=True)
def without_accounts(machine: Machine) -> Iterator[None]:
    """Take the accounts away before each test, and after it, when no process of theirs is left."""
    remove = "userdel regrow; groupdel regrow-operators"
    machine.run("sh", "-c", remove)
    yield
    machine.run("sh", "-c", remove)


def number(machine: Machine, database: str, name: str) -> int:
    """Of a user or a group."""
    return int(machine.do("getent", database, name).split(":")[2])


def as_user(uid: int, gid: int, *groups: int) -> tuple[str, ...]:
    """The beginning of a command line that is run by somebody."""
    supplementary = f"--groups={','.join(map(str, groups))}" if groups else "--clear-groups"
    return ("setpriv", f"--reuid={uid}", f"--regid={gid}", supplementary)


def test_install_makes_them_and_uninstall_says_who_stays(tree: Tree) -> None:
    """The first install makes all three, the second one nothing; uninstall takes the files away."""
    machine = tree.machine
    machine.do("rm", "-rf", "/etc/regrow")
    tree.write(worker("one"))
    said = machine.do("sh", "-c", f'umask 077; exec "$@" {SHARE}/{tree.file.name}', "sh", *REGROW, "systemd", "install")
    user, group = number(machine, "passwd", "regrow"), number(machine, "group", "regrow-operators")
    assert said.splitlines()[:4] == [
        f"wrote {SYSUSERS}",
        f"made user regrow ({user})",
        f"made group regrow-operators ({group})",
        f"wrote {TMPFILES}",
    ]
    assert machine.do("stat", "-c", "%a %U %G", "/etc/regrow").split() == ["755", "root", "root"]
    assert max(user, group) < 1000, "they are of the system"
    again = machine.regrow("systemd", "install", f"{SHARE}/{tree.file.name}").splitlines()
    assert {line.split()[0] for line in again[:-1]} == {"unchanged"}
    gone = machine.regrow("systemd", "uninstall", tree.name).splitlines()
    assert {f"removed {SYSUSERS}", f"removed {TMPFILES}"} <= set(gone)
    assert [line.partition(",")[0] for line in gone if line.startswith("kept ")] == [
        f"kept user regrow ({user})",
        f"kept group regrow-operators ({group})",
    ]
    assert machine.run("ls", SYSUSERS, TMPFILES).stdout == ""
    for line in gone:
        if line.startswith("kept "):
            machine.do(*line.split("`")[1].split())
    assert machine.run("getent", "passwd", "regrow").returncode != 0


def test_worker_of_that_user_and_an_operator_of_that_group(tree: Tree) -> None:
    """
    A file that names both is installed although neither is there yet.

    The worker runs, a member of the group operates, and the worker's user may not even look.
    """
    machine = tree.machine
    tree.install(worker("one", more='user = "regrow"'), top=OPERATORS)
    tree.start()
    user = number(machine, "passwd", "regrow")
    own_group, operators = number(machine, "group", "regrow"), number(machine, "group", "regrow-operators")
    status = Path(f"/proc/{tree.pid_of('one')}/status").read_text()
    assert f"Uid:\t{user}\t{user}\t{user}\t{user}" in status
    assert f"Groups:\t{own_group} \n" in status
    member = as_user(65534, 65534, operators)
    assert "one" in machine.do(*member, *REGROW, "status", "--name", tree.name)
    machine.do(*member, *REGROW, "restart", "--name", tree.name, "one")
    machine.await_bell("here one")
    for stranger in (as_user(65534, 65534), as_user(user, own_group)):
        refused = machine.run(*stranger, *REGROW, "status", "--name", tree.name)
        assert refused.returncode == 1, refused
        assert "may neither look at this daemon nor operate it" in refused.stderr


def test_whole_tree_of_that_user(tree: Tree) -> None:
    """With User=regrow in a drop-in a tree needs no root; its file may be closed to all others."""
    tree.install(worker("one"), top=tree.places(), drop_in="User=regrow\n")
    user = number(tree.machine, "passwd", "regrow")
    os.chown(tree.file, 0, number(tree.machine, "group", "regrow"))
    tree.file.chmod(0o640)
    tree.start()
    assert {os.stat(f"/proc/{pid}").st_uid for pid in tree.pids()} == {user}


def test_account_that_was_there(tree: Tree) -> None:
    """A user of that name is taken as it is."""
    tree.machine.do("useradd", "--uid", "4711", "--no-create-home", "regrow")
    tree.write(worker("one"))
    assert "unchanged user regrow (4711)" in tree.install(worker("one", more='user = "regrow"')).splitlines()
    tree.start()
    assert os.stat(f"/proc/{tree.pid_of('one')}").st_uid == 4711


def test_own_file_has_its_way(tree: Tree) -> None:
    """Without the first line the file is the operator's: it is carried out, and stays."""
    own = 'u regrow 815 "Ours"\ng regrow-operators 816\n'
    tree.machine.do("sh", "-c", 'printf %s "$0" > "$1"', own, SYSUSERS)
    try:
        said = tree.install(worker("one")).splitlines()
        assert said[:3] == [f"kept {SYSUSERS}", "made user regrow (815)", "made group regrow-operators (816)"]
        tree.machine.regrow("systemd", "uninstall", tree.name)
        assert tree.machine.do("cat", SYSUSERS) == own
    finally:
        tree.machine.do("rm", SYSUSERS)


def test_what_cannot_be_made_is_said(tree: Tree) -> None:
    """What systemd-sysusers says is handed on, with status 1; the tree is installed all the same, and runs."""
    machine = tree.machine
    tree.write(worker("one"))
    machine.do("mkdir", "-p", "/etc/sysusers.d")
    machine.do("sh", "-c", f"echo 'u regrow no-number' > {SYSUSERS}")
    try:
        done = machine.run(*REGROW, "systemd", "install", f"{SHARE}/{tree.file.name}")
        assert done.returncode == 1
        assert f"`systemd-sysusers {SYSUSERS}` failed: " in done.stderr
        assert done.stdout.splitlines()[-1] == f"now type: systemctl enable --now {tree.unit}"
        tree.start()
    finally:
        machine.do("rm", SYSUSERS)


def test_at_boot_the_same(tree: Tree) -> None:
    """What systemd does at each boot with its folders finds our files, and nothing wrong in them."""
    tree.install(worker("one"))
    tree.machine.do("rm", "-r", "/etc/regrow")
    done = tree.machine.run("systemd-tmpfiles", "--create", "--boot", "--prefix=/etc/regrow")
    assert (done.returncode, done.stderr) == (0, "")
    assert tree.machine.do("stat", "-c", "%a", "/etc/regrow").strip() == "755"
    assert TMPFILES in tree.machine.do("systemd-tmpfiles", "--cat-config")
    assert SYSUSERS in tree.machine.do("systemd-sysusers", "--cat-config")
    done = tree.machine.run("systemd-sysusers", "--dry-run")
    assert "regrow" not in done.stdout + done.stderr, "it is done already"
