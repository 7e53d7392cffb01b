"""Ready, of every kind: the child is ready when it is, and what was missing is told when it never is."""

from __future__ import annotations

import os
import socket
import time
from typing import Any

import procs
import pytest
from farm import Farm, dead, python, shell
from wire import CallError

SERVE = """
import socket, sys
kind, where = sys.argv[1:]
server = socket.socket(socket.AF_INET if kind != "unix" else socket.AF_UNIX)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(where)) if kind != "unix" else where)
server.listen()
while True:
    client, _ = server.accept()
    if kind == "http":
        client.recv(4096)
        client.sendall(b"HTTP/1.1 204 Fine\\r\\nContent-Length: 0\\r\\n\\r\\n")
    if kind == "sick":
        client.recv(4096)
        client.sendall(b"HTTP/1.1 503 Not today\\r\\nContent-Length: 0\\r\\n\\r\\n")
    client.close()
"""

SILENT = python("import select; select.select([], [], [])")


def is_false(value: bool) -> bool:
    """For `eventually`: until it no longer is."""
    return not value


def free_port() -> int:
    """A port that nobody has, just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def missed(farm: Farm, name: str, ready: Any, command: list[str] | None = None, **keys: Any) -> str:
    """The refusal of a child that does not become ready in time; its process is gone."""
    with pytest.raises(CallError) as refused:
        farm.add(name, command or SILENT, ready=ready, **keys)
    assert refused.value.code == "start_failed"
    pid = farm.wait("starting", name)["pid"]
    assert dead(pid)
    failed = farm.wait("start_failed", name)
    assert failed["reason"]["reason"] == "start_timeout", failed
    return refused.value.message


def test_tcp(farm: Farm) -> None:
    """Ready when the port accepts."""
    port = free_port()
    farm.add("tcp", python(SERVE, "tcp", str(port)), ready={"tcp": port})


def test_tcp_never(farm: Farm) -> None:
    """A port that never opens: start_timeout, with the port and why it could not be reached."""
    port = free_port()
    message = missed(farm, "portless", {"tcp": port, "timeout": "300ms"})
    assert str(port) in message
    assert "refused" in message.lower()


def test_unix(farm: Farm) -> None:
    """Ready when the socket accepts."""
    path = str(farm.directory / "ready.sock")
    farm.add("unix", python(SERVE, "unix", path), ready={"unix": path})


def test_unix_never(farm: Farm) -> None:
    """A socket that never comes."""
    message = missed(farm, "socketless", {"unix": str(farm.directory / "never.sock"), "timeout": "300ms"})
    assert "never.sock" in message
    assert "does not exist" in message


def test_http(farm: Farm) -> None:
    """Ready at the first 2xx."""
    port = free_port()
    farm.add("http", python(SERVE, "http", str(port)), ready={"http": f"http://127.0.0.1:{port}/health"})


def test_http_sick(farm: Farm) -> None:
    """503 is not ready, and told."""
    port = free_port()
    ready = {"http": f"http://127.0.0.1:{port}/health", "timeout": "500ms"}
    assert "503" in missed(farm, "sick", ready, python(SERVE, "sick", str(port)))


def test_file(farm: Farm) -> None:
    """Ready when the file is there."""
    path = farm.directory / "flag"
    farm.add("filer", shell(f"touch {path}; exec tail -f /dev/null"), ready={"file": str(path)})


def test_file_never(farm: Farm) -> None:
    """A file that never comes."""
    assert "no-flag" in missed(farm, "fileless", {"file": str(farm.directory / "no-flag"), "timeout": "200ms"})


def test_stale_file_does_not_count(farm: Farm) -> None:
    """A file that an earlier incarnation left says nothing about this one, or is documented to: the start is told."""
    path = farm.directory / "stale"
    farm.add("stale", shell(f"touch {path}; exec tail -f /dev/null"), ready={"file": str(path)})
    path.unlink()
    farm.call("restart", names=["stale"])
    assert path.exists()


def test_line(farm: Farm) -> None:
    """Ready at the first line that matches, wherever in the line."""
    farm.add(
        "liner",
        shell("echo starting; echo 'now listening on 80'; exec tail -f /dev/null"),
        ready={"line": "listening on \\d+"},
    )
    assert farm.log("liner") == "starting\nnow listening on 80\n"


def test_line_never(farm: Farm) -> None:
    """Lines, but not that one."""
    chatty = shell("echo something else; exec tail -f /dev/null")
    assert "line" in missed(farm, "lineless", {"line": "^ready$", "timeout": "200ms"}, chatty)


def test_exec(farm: Farm) -> None:
    """Ready when the command succeeds; it is run again until then."""
    flag = farm.directory / "exec-flag"
    counter = farm.directory / "exec-count"
    probe = shell(f"echo >> {counter}; if ! test -e {flag}; then touch {flag}; exit 7; fi")
    farm.add("execer", ready={"exec": probe})
    assert counter.read_text() == "\n\n"


def test_exec_never(farm: Farm) -> None:
    """A command that keeps failing: its status is told."""
    assert "7" in missed(farm, "execless", {"exec": shell("exit 7"), "timeout": "300ms"})


def test_exec_that_hangs(farm: Farm) -> None:
    """A probe that hangs is ended with the wait; no process of it stays."""
    message = missed(farm, "hanging", {"exec": ["tail", "-f", "/dev/null", str(farm.directory)], "timeout": "300ms"})
    assert "the first check has not ended" in message
    prefix = "tail -f /dev/null /"
    farm.eventually(
        lambda: any(line.startswith(prefix) for line in procs.carrying(str(farm.directory)).values()), is_false
    )


def test_notify_never(farm: Farm) -> None:
    """No READY=1 came: that is what is told."""
    assert "READY=1" in missed(farm, "mum", {"notify": True, "timeout": "200ms"})


def test_notify_by_a_helper_in_the_session(farm: Farm) -> None:
    """A process that the child started in its session may notify for it, as `systemd-notify` does."""
    helper = """
if os.fork() == 0:
    notify("READY=1\\nSTATUS=said by a helper")
import select; select.select([], [], [])  # who is gone before the notice is read cannot be told from a stranger
"""
    farm.add("helped", python(helper), ready="notify")
    farm.eventually(lambda: farm.entry("helped")["detail"], lambda detail: detail == "said by a helper")


def test_notify_by_a_stranger_does_not_count(farm: Farm) -> None:
    """A process outside the child's session is nobody, even one that the child made."""
    stranger = """
if os.fork() == 0:
    os.setsid()
    notify("READY=1\\nSTATUS=said by a stranger")
    os._exit(0)
os.wait()
notify("STATUS=own")
notify("READY=1")
import select; select.select([], [], [])
"""
    farm.add("unhelped", python(stranger), ready="notify")
    assert farm.entry("unhelped")["detail"] in ("", "own")


def test_status_is_shown(farm: Farm) -> None:
    """STATUS= is the detail, bounded, garbage and all."""
    talk = """
notify("READY=1")
notify("STATUS=" + "long " * 2000)
notify("STATUS=42 % done")
import select; select.select([], [], [])
"""
    farm.add("talker", python(talk), ready="notify")
    farm.eventually(lambda: farm.entry("talker")["detail"], lambda detail: detail == "42 % done")
    assert "42 % done" in farm.why("talker")


def test_fork_away(farm: Farm) -> None:
    """
    A program that forks away and ends: it is not supervised under a false name. The end is told, what it left is
    killed, and nobody else notices.
    """
    leaver = python(
        """
r, w = os.pipe()
if os.fork() == 0:
    os.setsid()
    notify("READY=1")
    os.write(w, b"x")
    import select; select.select([], [], [])
os.read(r, 1)
os._exit(0)
"""
    )
    with pytest.raises(CallError) as refused:
        farm.add("forker", leaver, ready="notify")
    assert refused.value.code == "start_failed"
    left = farm.wait("leftovers", "forker")
    assert "killing what it left behind" in left["text"]
    assert dead(int(left["text"].partition("(")[2].partition(")")[0]))


def test_fork_away_when_started_is_enough(farm: Farm) -> None:
    """The same with ready = started: a normal end, told as such."""
    farm.add("daemoniser", shell("setsid tail -f /dev/null & exit 0"), restart="transient")
    reason = farm.exited("daemoniser")
    assert (reason["reason"], reason["code"]) == ("exit", 0)
    entry = farm.entry("daemoniser")
    assert entry["state"] == "stopped"
    farm.wait("leftovers", "daemoniser")
    assert not procs.carrying("REGROW_NAME=daemoniser")


def test_exits_zero_when_transient(farm: Farm) -> None:
    """Exit 0 of a transient child is its normal end."""
    farm.add("done", shell("exit 0"), restart="transient")
    farm.exited("done")
    entry = farm.entry("done")
    assert (entry["state"], entry["restarts"]) == ("stopped", 0)
    assert (entry["last_exit"]["reason"], entry["last_exit"]["code"]) == ("exit", 0)


def test_normal_exit(farm: Farm) -> None:
    """`normal_exit = [3]`: 3 is normal, and 0 no longer is."""
    farm.add("three", shell("exit 3"), restart="transient", normal_exit=[3])
    farm.exited("three")
    assert farm.entry("three")["restarts"] == 0
    farm.add("zero", shell("exit 0"), restart="transient", normal_exit=[3])
    farm.wait("waiting", "zero")
    assert farm.entry("zero")["last_exit"]["code"] == 0
    farm.remove("zero")


def test_normal_exit_is_no_failure_in_status(farm: Farm) -> None:
    """A normal end leaves the state `stopped`, also of a child that was added at run time."""
    farm.add("three-shown", shell("exit 3"), restart="transient", normal_exit=[3])
    farm.exited("three-shown")
    assert farm.entry("three-shown")["state"] == "stopped"


def test_exits_at_once_for_ever(farm: Farm) -> None:
    """A permanent child that exits at once waits for its backoff; the code is in status and why."""
    farm.add("brief", shell("exit 9"))
    farm.wait("waiting", "brief")
    entry = farm.entry("brief")
    assert entry["state"] == "waiting"
    assert entry["last_exit"]["code"] == 9
    assert "starts again after 60 s" in entry["detail"]
    assert "code 9" in farm.why("brief")
    farm.remove("brief")


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
def test_ignore(farm: Farm, restart: str) -> None:
    """X_REGROW_IGNORE=1 and exit 0: the child is not needed; pid null is the answer."""
    spec = {
        "id": f"needless-{restart}",
        "command": python("notify('X_REGROW_IGNORE=1')"),
        "ready": "notify",
        "restart": restart,
    }
    assert farm.call("start_child", supervisor="sup", spec=spec) == {"pid": None}
    farm.wait("ignored", f"needless-{restart}")


def test_dies_of_a_signal_before_ready(farm: Farm) -> None:
    """The signal is in the refusal."""
    with pytest.raises(CallError) as refused:
        farm.add("shot", shell("kill -ABRT $$"), ready="notify")
    assert "SIGABRT" in refused.value.message


def test_slow_start_does_not_delay_others(farm: Farm) -> None:
    """While a child of the same supervisor takes its time to start, another one's death is answered at once."""
    farm.add("bystander", under="quick")
    gate = str(farm.directory / "slow-gate")
    os.mkfifo(gate)
    number = farm.control.send(
        "start_child",
        supervisor="quick",
        spec={
            "id": "slow",
            "command": shell(f"read go < {gate}; exec tail -f /dev/null"),
            "ready": {"exec": ["test", "!", "-e", gate]},
        },
    )
    farm.wait("starting", "slow")
    begun = time.monotonic()
    farm.crash_until_new("bystander")
    assert time.monotonic() - begun < 5
    assert not farm.control.answered(number)
    os.unlink(gate)
    assert farm.control.answer(number)["pid"]


def test_event_of_a_worker(farm: Farm) -> None:
    """A full mailbox is an event of its own; it is no cause of anything, and comes at most ten times a second."""
    code = """
import select
notify("READY=1")
for n in range(500):
    notify("X_REGROW_EVENT=backpressure\\nX_REGROW_TEXT=10000 of 10000 messages " + str(n))
notify("X_REGROW_EVENT=gave_up\\nX_REGROW_TEXT=never")
notify("STATUS=done")
select.select([], [], [])
"""
    farm.add("full", python(code), ready="notify")
    farm.eventually(lambda: farm.entry("full")["detail"] == "done")
    told = [event for event in farm.call("events", names=["full"]) if event["event"] not in ("starting", "ready")]
    assert {event["event"] for event in told} == {"child_added", "backpressure"}
    events = [event for event in told if event["event"] == "backpressure"]
    assert 1 <= len(events) < 250
    assert events[0]["text"] == "10000 of 10000 messages 0"
    assert "full became ready" in farm.why("full")
    farm.remove("full")
