"""What children write to the journal."""

from __future__ import annotations

import json

import pytest
from services import HOLDS, Tree, worker

pytestmark = pytest.mark.root

JOURNAL = 'stdout = "journal"\nstderr = "journal"\n'


def entries(tree: Tree, identifier: str) -> list[dict[str, str]]:
    """What the journal has of a sender in the unit, oldest first."""
    tree.machine.do("journalctl", "--sync")
    query = ("-o", "json", f"_SYSTEMD_UNIT={tree.unit}.service", f"SYSLOG_IDENTIFIER={identifier}")
    return [json.loads(line) for line in tree.machine.do("journalctl", "--no-pager", *query).splitlines()]


def test_fields(tree: Tree) -> None:
    """The child's name is the identifier, its process the sender, the service its unit; `<3>` sets the priority."""
    says = f"echo out; echo err >&2; echo '<3>bad'; {HOLDS}"
    tree.install(worker("talker", says, JOURNAL + "replicas = 2\n"), worker("quiet"))
    tree.start()
    found = entries(tree, "talker.1")
    told = [(entry["MESSAGE"], entry["PRIORITY"], entry["_TRANSPORT"]) for entry in found]
    assert told == [("out", "6", "stdout"), ("err", "6", "stdout"), ("bad", "3", "stdout")]
    pid = str(tree.child("talker.1")["pid"])
    assert {entry["_PID"] for entry in found} == {pid}
    assert {entry["_UID"] for entry in found} == {"0"}
    assert [entry["MESSAGE"] for entry in entries(tree, "talker.0")] == ["out", "err", "bad"]
    shown = tree.machine.do("journalctl", "--no-pager", "-o", "short", "-u", tree.unit, "-t", "talker.0", "-p", "3")
    assert "talker.0[" in shown
    assert "bad" in shown
    assert "out" not in shown


def test_one_stream_and_another_user(tree: Tree) -> None:
    """Only stderr goes there; the process is another user; what a restart writes is the new process's."""
    more = 'stderr = "journal"\nuser = "nobody"\n'
    tree.install(worker("talker", f"echo logged; echo told >&2; {HOLDS}", more))
    tree.start()
    tree.machine.regrow("restart", "--name", tree.name, "talker")
    found = entries(tree, "talker")
    assert [(entry["MESSAGE"], entry["_UID"]) for entry in found] == [("told", "65534")] * 2
    assert found[0]["_PID"] != found[1]["_PID"] == str(tree.child("talker")["pid"])
    assert tree.machine.regrow("logs", "--name", tree.name, "talker").splitlines() == ["logged", "logged"]


def test_function(tree: Tree) -> None:
    """A function prints to the journal line by line, and its last words are the reason of its end all the same."""
    source = "def run() -> None:\n    print('begun')\n    raise LookupError('nothing here')\n"
    (tree.machine.share / "speaker.py").write_text(source)
    table = f'[worker.speaker]\nfunction = "speaker:run"\nrestart = "temporary"\n{JOURNAL}'
    tree.install(table, worker("beside"))
    tree.start()
    messages = [entry["MESSAGE"] for entry in entries(tree, "speaker")]
    assert messages[0] == "begun"
    assert messages[-1] == "LookupError: nothing here"
    assert "LookupError: nothing here" in tree.machine.regrow("why", "--name", tree.name, "speaker")
