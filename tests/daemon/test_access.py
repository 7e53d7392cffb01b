"""Who may look and who may act: the kernel says who is asking."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
from configs import Config
from farm import FOREVER
from tree import Tree
from wire import CallError, Wire

import regrow.config
import regrow.daemon.cli
import regrow.ipc
import regrow.workers.system
from regrow.daemon.cli import app

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users"),
]

GAMES, NEWS, DAEMON, NOBODY = 5, 9, 1, 65534


def as_user(uid: int, gid: int, groups: list[int], body: Callable[[], str]) -> str:
    """What `body` gives in a process of that identity."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "no answer"
        try:
            os.setgroups(groups)
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            text = body()
        except BaseException as error:  # noqa: BLE001 - nothing may unwind into the test of the parent
            text = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(pid, 0)
    return text


def calls(tree: Tree, *requests: tuple[str, dict[str, Any]]) -> Callable[[], str]:
    """Make the requests on one new connection; the codes of refusals and `ok`, in order."""

    def body() -> str:
        results = []
        wire = Wire(tree.run_dir / "control.sock")
        for verb, arguments in requests:
            try:
                wire.call(verb, timeout_s=5, **arguments)
                results.append("ok")
            except CallError as error:
                results.append(error.code)
        wire.close()
        return " ".join(results)

    return body


@pytest.fixture
def guarded(tree: Tree, config: Config) -> Tree:
    """A tree that the group games may operate and the user daemon, and the group news, may look at."""
    config.workers["w"] = {"command": FOREVER}
    config.supervisor("top", "w")
    text = config.text() + '\n[access]\noperators = ["group:games"]\nviewers = ["user:daemon", "group:news"]\n'
    (tree.directory / "regrow.toml").write_text(text.replace('"5s"', '"5s"'))
    games, news = group_id("games"), group_id("news")
    assert (games, news) != (0, 0)
    tree.start()
    return tree


def group_id(name: str) -> int:
    """The number of a group of this host."""
    import grp

    return grp.getgrnam(name).gr_gid


LOOK: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ping", {}),
    ("status", {}),
    ("events", {"limit": 1}),
    ("why", {"name": "w"}),
    ("which_children", {"supervisor": "top"}),
)
ACT: tuple[tuple[str, dict[str, Any]], ...] = (
    ("stop", {"names": ["w"]}),
    ("start", {"names": ["w"]}),
    ("restart", {"names": ["w"]}),
    ("terminate_child", {"supervisor": "top", "child": "w"}),
    ("start_child", {"supervisor": "top", "spec": {"id": "x", "command": ["true"]}}),
    ("delete_child", {"supervisor": "top", "child": "x"}),
    ("reload", {}),
    ("apply", {}),
    ("cancel_apply", {}),
    ("rollback", {}),
    ("down", {}),
)


def test_operator_by_supplementary_group(guarded: Tree) -> None:
    """A member of an operators' group, be it by a supplementary one, may act."""
    done = as_user(NOBODY, NOBODY, [group_id("games")], calls(guarded, *LOOK, ("restart", {"names": ["w"]})))
    assert done == "ok " * 5 + "ok"


def test_operator_by_primary_group(guarded: Tree) -> None:
    """The same by the primary group."""
    assert as_user(NOBODY, group_id("games"), [], calls(guarded, ("restart", {"names": ["w"]}))) == "ok"


@pytest.mark.parametrize("who", ["user", "group"])
def test_viewer(guarded: Tree, who: str) -> None:
    """A viewer sees all and changes nothing: each verb that acts is refused, and nothing has happened."""
    before = guarded.entry("w")
    uid, groups = (DAEMON, []) if who == "user" else (NOBODY, [group_id("news")])
    done = as_user(uid, NOBODY, groups, calls(guarded, *LOOK, *ACT))
    assert done.split() == ["ok"] * len(LOOK) + ["forbidden"] * len(ACT)
    assert guarded.entry("w") == before


def test_stranger(guarded: Tree) -> None:
    """Anybody else is told that they may not, and that is all they get."""
    done = as_user(NOBODY, NOBODY, [], calls(guarded, ("ping", {})))
    assert "ok" not in done.split()
    talk = as_user(NOBODY, NOBODY, [], lambda: refusal(guarded))
    assert '"forbidden"' in talk
    assert "uid 65534" in talk


def refusal(tree: Tree) -> str:
    """All that a connection is sent."""
    import socket

    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(5)
        stranger.connect(str(tree.run_dir / "control.sock"))
        return stranger.makefile().read()


VERBS = (
    "status", "tree", "logs", "events", "why w", "plan", "apply", "apply --cancel", "applies", "rollback", "stop w",
    "down", "reload", "call w x", "send w x", "post w x", "run -- true", "publish a.b 1", "subscribe a.b", "dead list",
    "state list", "workflow list", "keys list",
)  # fmt: skip
"""Of the command line: those that ask, and those that go by other ways."""


def typed(tree: Tree, line: str) -> Callable[[], str]:
    """The exit status of a command line, and what it says on stderr; its modules are loaded while they can be."""
    for package in (regrow.ipc, regrow.daemon.cli, regrow.config, regrow.workers.system):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    words = line.split()
    place = words.index("--") if "--" in words else len(words)
    words[place:place] = ["--run-dir", str(tree.run_dir)]
    app.application()

    def body() -> str:
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            status = app.run(words)
        return f"{status} {said.getvalue()}"

    return body


@pytest.fixture
def agents_tree(tree: Tree, config: Config) -> Tree:
    """A tree with an agent, so with all doors that there are; nobody is in [access]."""
    config.workers["w"] = {"agent": "regrow.workers:Agent"}
    config.supervisor("top", "w")
    return tree.grow()


@pytest.mark.parametrize("door", ["open", "closed"])
def test_every_verb_refuses_a_stranger_alike(agents_tree: Tree, door: str) -> None:
    """One status for one cause, whichever socket or table the verb goes by, and who may and how to get in is said."""
    if door == "closed":
        agents_tree.run_dir.chmod(0o700)
    for verb in VERBS:
        status, _, said = as_user(NOBODY, NOBODY, [], typed(agents_tree, verb)).partition(" ")
        assert (verb, status, said.count("\n")) == (verb, "1", 1), said
        assert "only root and" in said, (verb, said)
        assert "[access]" in said, (verb, said)
        assert "run `regrow reload`" in said, (verb, said)


def test_the_event_tells_who_asked(guarded: Tree) -> None:
    """The operator's uid and pid are in the event and in why."""
    as_user(NOBODY, group_id("games"), [], calls(guarded, ("stop", {"names": ["w"]})))
    stopping = guarded.wait("stopping", "w")
    assert stopping["by"].startswith("uid 65534 (pid ")
    assert "by uid 65534" in "\n".join(guarded.call("why", name="w")["text"])


def test_reload_changes_access(guarded: Tree) -> None:
    """After a reload the new [access] holds for new connections."""
    guarded.config.write()
    assert guarded.call("reload") == {"supervisors": [], "tables": ["access"]}
    assert as_user(NOBODY, group_id("games"), [], calls(guarded, ("status", {}))) != "ok"
    assert guarded.call("reload") == {"supervisors": []}


def test_run_dir_cannot_be_changed_by_others(guarded: Tree) -> None:
    """The socket is open to all, its directory is not writable by others."""
    assert guarded.run_dir.stat().st_mode & 0o022 == 0
    assert os.stat(guarded.run_dir).st_uid == 0
