"""The client of the control socket, against a fake daemon and against sockets that misbehave."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_daemon import FakeDaemon, Refusal, entry, event

from regrow.ipc.control import ControlClient, result_of
from regrow.ipc.errors import ControlTimeout, Refused, Unreachable

NOBODY = 65534


@contextmanager
def stranger(folder: Path, behave: Callable[[socket.socket], None], backlog: int = 8) -> Iterator[Path]:
    """Something else that listens at control.sock and does `behave` to the first who connects."""
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "control.sock"))
        listener.listen(backlog)

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                behave(accepted)

        thread = threading.Thread(target=serve)
        thread.start()
        yield folder
        thread.join()


def test_request_is_answered(daemon: FakeDaemon) -> None:
    """A request returns what the daemon answered with `ok`."""
    with ControlClient(daemon.run_dir) as client:
        assert client.request("ping")["name"] == "shop"


@pytest.mark.parametrize("args", [{"x": object()}, {(1, 2): 3}, pytest.param(None, id="within itself")])
def test_fields_that_json_cannot_say(daemon: FakeDaemon, args: dict[Any, Any] | None) -> None:
    """They are refused where they are asked for, nothing is sent, and the connection goes on."""
    if args is None:
        args = {}
        args["args"] = args
    with ControlClient(daemon.run_dir) as client:
        with pytest.raises(Refused, match="cannot ask for start_child: a request is JSON, and") as refused:
            client.request("start_child", supervisor="app", spec={"id": "x", "args": args})
        assert refused.value.code == "bad_request"
        assert client.request("ping")["name"] == "shop"


def test_socket_or_run_dir(daemon: FakeDaemon) -> None:
    """The place may be the socket itself or the run_dir it lies in."""
    for place in (daemon.run_dir, daemon.run_dir / "control.sock", str(daemon.run_dir)):
        with ControlClient(place) as client:
            assert client.run_dir == str(daemon.run_dir)


def test_refusal_is_typed(daemon: FakeDaemon) -> None:
    """An error answer raises Refused with OTP's code, the message and whatever else came along."""

    def refuse(request: object) -> None:
        raise Refusal("already_started", "cannot start 'web': it runs", pid=77)

    daemon.handlers["start_child"] = refuse
    with ControlClient(daemon.run_dir) as client, pytest.raises(Refused) as caught:
        client.request("start_child", supervisor="app", spec={"id": "web"})
    assert caught.value.code == "already_started"
    assert str(caught.value) == "cannot start 'web': it runs"
    assert caught.value.details == {"pid": 77}


def test_several_in_flight(daemon: FakeDaemon) -> None:
    """A later request may be answered first; each answer finds its own request."""
    gate = daemon.hold("stop")
    with ControlClient(daemon.run_dir) as client:
        slow = client.submit("stop", names=["redis"])
        assert client.request("ping")["name"] == "shop"
        gate.set()
        assert client.answer(slow)[0]["result"] == "stopped"


def test_answer_too_late(daemon: FakeDaemon) -> None:
    """A wait ends at its limit, says how long it was and which process did not answer."""
    daemon.hold("ping")
    with ControlClient(daemon.run_dir) as client, pytest.raises(ControlTimeout) as caught:
        client.request("ping", within_s=0.05)
    assert "no answer within 0.05 s" in str(caught.value)
    assert f"pid {os.getpid()}" in str(caught.value)


def test_follow_gives_past_then_future(daemon: FakeDaemon) -> None:
    """Following yields the events so far, then each as it happens, and ends when its time limit passes."""
    daemon.events = [event(1, "starting", "redis")]
    with ControlClient(daemon.run_dir) as client:
        stream = client.follow("events", within_s=5.0)
        assert next(stream)["seq"] == 1
        daemon.emit(event(2, "ready", "redis"))
        assert next(stream)["seq"] == 2
        assert client.request("ping")["name"] == "shop"
        assert list(client.follow("events", within_s=0.01, since=1)) == [event(2, "ready", "redis")]


def test_nobody_there(tmp_path: Path) -> None:
    """Without a socket the message says where it was looked for and how to start a daemon."""
    with pytest.raises(Unreachable) as caught:
        ControlClient(tmp_path, label="the daemon 'shop'")
    assert str(caught.value) == (
        f"cannot reach the daemon 'shop': nothing listens at {tmp_path}/control.sock; start it with `regrow up FILE`"
    )
    assert caught.value.absent


def test_socket_left_behind(daemon: FakeDaemon) -> None:
    """The socket of a killed root counts as nobody there."""
    daemon.close()
    with pytest.raises(Unreachable, match="nothing listens at") as caught:
        ControlClient(daemon.run_dir)
    assert caught.value.absent


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs a second user")
def test_not_permitted(daemon: FakeDaemon) -> None:
    """Who may not reach the socket is told who may."""
    daemon.run_dir.chmod(0o700)
    source = (
        "import os, sys\n"
        "from regrow.ipc.control import ControlClient\n"
        "from regrow.ipc.errors import Unreachable\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        "try: ControlClient(sys.argv[1])\n"
        "except Unreachable as error: print(error, error.denied, error.absent)\n"
    )
    command = [sys.executable, "-c", source, str(daemon.run_dir)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"permission denied at {daemon.run_dir}/control.sock; only root and whom [access] in its file" in said
    assert said.endswith("True False\n")


def test_refused_at_the_door(tmp_path: Path) -> None:
    """A daemon that refuses the connection itself, under a null id, and hangs up: its words reach the caller."""

    def refuse(accepted: socket.socket) -> None:
        accepted.sendall(b'{"id":null,"error":{"code":"forbidden","message":"uid 7 may not look"}}\n')

    with stranger(tmp_path / "run", refuse) as place, ControlClient(place) as client:
        with pytest.raises(Refused, match="uid 7 may not look") as caught:
            client.request("status")
        assert caught.value.code == "forbidden"


def test_connection_lost(tmp_path: Path) -> None:
    """A daemon that dies before it answers is reported at once, not at the time limit."""
    with (
        stranger(tmp_path / "run", lambda accepted: None) as place,
        ControlClient(place) as client,
        pytest.raises(Unreachable, match="it closed the connection at"),
    ):
        client.request("status", within_s=60)


@pytest.mark.parametrize("said", [b"HTTP/1.1 400 Bad Request\n", b"[1]\n", b"\xff\xfe\n"])
def test_something_else_answers(tmp_path: Path, said: bytes) -> None:
    """What does not speak the protocol is named as such."""
    with (
        stranger(tmp_path / "run", lambda accepted: accepted.sendall(said)) as place,
        ControlClient(place) as client,
        pytest.raises(Unreachable, match="cannot talk to"),
    ):
        client.request("status")


def test_queue_of_connections_full(tmp_path: Path) -> None:
    """A daemon that accepts nobody (a stopped process) is given up after the time limit."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "control.sock"))
        listener.listen(0)
        with ControlClient(tmp_path), pytest.raises(Unreachable, match=r"accepts no connection .* within 0.05 s"):
            ControlClient(tmp_path, timeout_s=0.05)


def test_long_run_dir(tmp_path: Path) -> None:
    """A run_dir longer than a socket address may be is reached all the same."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    daemon = FakeDaemon(deep)
    with ControlClient(deep) as client:
        assert client.request("ping")["run_dir"] == str(deep)
    daemon.close()


def test_large_answer(daemon: FakeDaemon) -> None:
    """An answer of a megabyte, which arrives in many pieces, is put together."""
    daemon.entries = [entry(f"w{number}", detail="x" * 1000) for number in range(1000)]
    with ControlClient(daemon.run_dir) as client:
        assert client.request("status") == daemon.entries


def test_peer_pid(daemon: FakeDaemon) -> None:
    """The kernel tells which process listens."""
    with ControlClient(daemon.run_dir) as client:
        assert client.peer_pid() == os.getpid()


def test_error_that_is_no_object() -> None:
    """An error in an unknown shape is still a refusal, with its text."""
    with pytest.raises(Refused, match="kaput") as caught:
        result_of(json.loads('{"id": 1, "error": "kaput"}'))
    assert caught.value.code == "internal"
