"""Where processes find each other: made fresh, for those only who may use it, and removed at the end."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import procs
import pytest
from configs import Config
from harness import Daemon
from processes import await_no_children
from tree import SUP, Tree

from regrow.config.spec import AccessSpec, Credentials, Kind, WorkerSpec
from regrow.daemon import commons
from regrow.daemon.commons import Members
from regrow.ipc import acl

AGENT, OPERATOR, STRANGER, GROUP = 54_321, 54_322, 54_323, 54_324


def as_user(uid: int, gid: int, action: Callable[[], object]) -> str:
    """Do it in a process of that user; the name of the error that it met, or `ok`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = "ok"
        try:
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            action()
        except OSError as error:
            said = type(error).__name__
        finally:
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = answer.read()
    os.waitpid(pid, 0)
    return said


def makes(path: Path) -> Callable[[], object]:
    """Making a file there."""
    return lambda: os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))


def changes(path: Path) -> Callable[[], object]:
    """Opening a file there to read and to write."""
    return lambda: os.close(os.open(path, os.O_RDWR))


MEMBERS = Members(frozenset({AGENT, OPERATOR}), frozenset({GROUP}), frozenset({AGENT}))


@pytest.mark.root
def test_who_may_do_what(directory: Path) -> None:
    """Members share the table; only agents make mailboxes; nobody removes another's; a stranger sees nothing."""
    assert commons.make(str(directory), MEMBERS) == ""
    table, mbox = directory / "names" / "data.mdb", directory / "mbox"
    for uid, gid in ((AGENT, AGENT), (OPERATOR, OPERATOR), (STRANGER, GROUP)):
        assert as_user(uid, gid, changes(table)) == "ok"
        assert as_user(uid, gid, makes(directory / "names" / "other")) == "PermissionError"
    assert as_user(STRANGER, STRANGER, changes(table)) == "PermissionError"
    assert as_user(AGENT, AGENT, makes(mbox / "a.1")) == "ok"
    assert as_user(AGENT, AGENT, lambda: os.chmod(mbox / "a.1", 0o777)) == "ok"
    assert as_user(OPERATOR, OPERATOR, makes(mbox / "b.1")) == "PermissionError"
    assert as_user(OPERATOR, OPERATOR, changes(mbox / "a.1")) == "ok"
    assert as_user(STRANGER, GROUP, changes(mbox / "a.1")) == "ok"
    assert as_user(STRANGER, STRANGER, changes(mbox / "a.1")) == "PermissionError"
    assert as_user(STRANGER, STRANGER, lambda: os.listdir(mbox)) == "PermissionError"
    os.close(os.open(mbox / "root.1", os.O_WRONLY | os.O_CREAT))
    assert as_user(AGENT, AGENT, lambda: os.unlink(mbox / "root.1")) == "PermissionError"


@pytest.mark.root
def test_members_change(directory: Path) -> None:
    """Who is a member no longer is a stranger again."""
    commons.make(str(directory), MEMBERS)
    assert commons.admit(str(directory), Members(frozenset({STRANGER}))) == ""
    table = directory / "names" / "data.mdb"
    assert as_user(STRANGER, STRANGER, changes(table)) == "ok"
    assert as_user(OPERATOR, OPERATOR, changes(table)) == "PermissionError"


def test_alone(directory: Path) -> None:
    """Without other users both places are the daemon's own."""
    assert commons.make(str(directory), Members()) == ""
    for place, mode in (("names", 0o700), ("mbox", 0o1700)):
        assert stat.S_IMODE((directory / place).stat().st_mode) == mode
    for name in ("data.mdb", "lock.mdb"):
        assert stat.S_IMODE((directory / "names" / name).stat().st_mode) == 0o600


def test_without_access_control_lists(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that has none the places stay closed, which is told if it shuts somebody out."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(acl, "permit", refuse)
    said = commons.make(str(directory), MEMBERS)
    assert "only the daemon's own user and root can send messages" in said
    assert stat.S_IMODE((directory / "names").stat().st_mode) == 0o700
    assert commons.admit(str(directory), Members()) == ""


def test_members_of_a_plan() -> None:
    """Operators and the users of agents; nobody for his own sake, no viewers, no users of commands."""
    access = AccessSpec(operator_uids=(0, OPERATOR), operator_gids=(GROUP,), viewer_uids=(STRANGER,))
    workers = [
        WorkerSpec("a", Kind.AGENT, credentials=Credentials(uid=AGENT)),
        WorkerSpec("b", Kind.AGENT, credentials=Credentials(gid=5)),
        WorkerSpec("c", Kind.AGENT),
        WorkerSpec("d", Kind.COMMAND, credentials=Credentials(uid=STRANGER)),
    ]
    found = commons.members(access, workers)
    assert found == MEMBERS
    assert found.listed() == ",".join(f"u{uid}" for uid in sorted({0, os.geteuid(), AGENT, OPERATOR})) + f",g{GROUP}"
    assert found.with_agent(WorkerSpec("e", Kind.AGENT, credentials=Credentials(uid=7))).agents == {AGENT, 7}
    assert found.with_agent(WorkerSpec("e", Kind.FUNCTION, credentials=Credentials(uid=7))) == found


def test_removal_follows_no_links(directory: Path) -> None:
    """Whatever lies in the places goes, and nothing else."""
    precious = directory / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (directory / "run" / "mbox" / "deep" / "er").mkdir(parents=True)
    (directory / "run" / "mbox" / "deep" / "link").symlink_to(precious)
    (directory / "run" / "names").symlink_to(precious)
    commons.remove(str(directory / "run"))
    assert list((directory / "run").iterdir()) == []
    assert [file.name for file in precious.iterdir()] == ["file"]
    commons.remove(str(directory / "run"))


def test_fresh_at_a_start_and_gone_at_the_end(config: Config, tree: Tree) -> None:
    """A new daemon finds the places of one that was killed, and begins anew; an orderly end leaves none."""
    config.supervisor(SUP, "a:P")
    tree.grow()
    run = tree.run_dir
    (run / "names" / "data.mdb").write_bytes(b"old")
    (run / "mbox" / "old.1.00000000").touch()
    (run / "hub.api").touch()
    procs.kill(tree.call("ping")["pid"])
    tree.wait_exit()
    await_no_children(10.0)
    config.directory = tree.directory / "again"
    config.directory.mkdir()
    again = Daemon(config.directory)
    try:
        again.file = config.write()
        again.run_dir = run
        again.start()
        assert list((run / "mbox").iterdir()) == []
        assert (run / "names" / "data.mdb").stat().st_size == 0
        assert not (run / "hub.api").exists()
        assert again.down() == 0
        assert sorted(file.name for file in run.iterdir()) == ["lock"]
    finally:
        again.dispose()
