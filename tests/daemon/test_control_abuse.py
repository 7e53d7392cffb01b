"""The control socket under abuse: the abuser gets an error or is let go, nothing else notices."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import procs
import pytest
from farm import Farm
from wire import TIMEOUT_S, CallError

VERBS = [
    "ping", "status", "events", "why", "start", "stop", "restart", "reload", "start_child", "restart_child",
    "terminate_child", "delete_child", "which_children", "count_children", "get_childspec",
]  # fmt: skip
"""All but `down`, which every one of these tests would survive, but not the daemon."""

WEIRD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, 2**63, 2**64, 10**30, -(10**30), "", "x" * 3000, "sup", "\0",
    "\ud7ff\U0010ffff", [], [[]], [None], ["sup", 1], {}, {"a": {}}, {"id": "sup"}, [{}] * 100,
    "top/sup", "../../etc", "*", "sup\n",
)  # fmt: skip


class Raw:
    """A connection that may say anything."""

    def __init__(self, farm: Farm) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.connect(str(farm.run_dir / "control.sock"))  # without a limit: a full backlog is waited for
        except OSError:
            self.socket.close()
            raise
        self.socket.settimeout(TIMEOUT_S)

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def say(self, data: bytes) -> None:
        """Send all; that the daemon hangs up meanwhile is its right."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.socket.sendall(data)

    def hear(self) -> list[dict[str, Any]]:
        """Everything until the daemon hangs up."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while data := self.socket.recv(1 << 16):
                received += data
        return [json.loads(line) for line in received.splitlines()]

    def finish(self, data: bytes) -> list[dict[str, Any]]:
        """Send, end the output, and hear all answers."""
        self.say(data)
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_WR)
        return self.hear()


def resident(pid: int) -> int:
    """Bytes of memory of one process."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.fixture
def raw(farm: Farm) -> Iterator[Raw]:
    """One rude connection."""
    with Raw(farm) as connection:
        yield connection


@pytest.fixture
def supervised(farm: Farm) -> Iterator[None]:
    """While the test does what it does, and after it, a death is answered at once; the root stays small."""
    name = f"victim-{os.urandom(3).hex()}"
    farm.add(name, under="quick", stdout="null", stderr="null")
    root = farm.call("ping")["pid"]
    before = resident(root)
    yield
    begun = time.monotonic()
    farm.crash_until_new(name)
    assert time.monotonic() - begun < 3
    assert resident(root) - before < 40 << 20
    farm.remove(name, under="quick")


GARBAGE = {
    "bytes": b"\xff\xfe\x00\x01\n",
    "text": b"hello?\n",
    "array": b"[1, 2]\n",
    "number": b"12\n",
    "null": b"null\n",
    "empty object": b"{}\n",
    "unclosed": b'{"id": 1, "verb": "ping"\n',
    "twice": b'{"id": 1, "verb": "ping"}{"id": 2, "verb": "ping"}\n',
    "verb no text": b'{"id": 1, "verb": 7}\n',
    "verb unknown": b'{"id": 1, "verb": "explode"}\n',
    "verb internal": b'{"id": 1, "verb": "__class__"}\n',
    "surrogate": b'{"id": "\\ud800", "verb": "ping\\udfff"}\n',
    "half a line": b'{"id": 1, "verb": "pi',
    "nan": b'{"id": NaN, "verb": "ping"}\n',
    "utf-16": '{"id": 1, "verb": "ping"}\n'.encode("utf-16"),
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage(farm: Farm, raw: Raw, garbage: str) -> None:
    """What is no request is refused as bad_request, on a connection that otherwise goes on."""
    answers = raw.finish(GARBAGE[garbage])
    assert answers
    assert all(answer["error"]["code"] == "bad_request" for answer in answers), answers
    assert farm.call("ping")


def test_empty_lines_and_spaces(raw: Raw) -> None:
    """Empty lines mean nothing; spaces around a request, and a carriage return, do no harm."""
    answers = raw.finish(b'\n\n \r\n  {"id": 1, "verb": "ping"}  \r\n\n')
    assert [answer["id"] for answer in answers] == [1]
    assert "ok" in answers[0]


@pytest.mark.parametrize("depth", [10, 300, 900, 990, 1000, 1100, 5000, 100_000])
@pytest.mark.parametrize("where", ["id", "names", "whole"])
def test_deep_nesting(farm: Farm, raw: Raw, depth: int, where: str) -> None:
    """Nesting of any depth is answered or refused."""
    nest = b"[" * depth + b"]" * depth
    line = nest if where == "whole" else b'{"id": 1, "verb": "ping", "%s": %s}' % (where.encode(), nest)
    if where == "id":
        line = b'{"verb": "ping", "id": %s}' % nest
    answers = raw.finish(line + b"\n")
    assert len(answers) == 1, answers
    assert farm.call("ping")


@pytest.mark.parametrize(
    "number", ["18446744073709551616", "-9223372036854775809", "1" + "0" * 400, "1e400", "0.1", "-0"]
)
def test_huge_numbers(farm: Farm, raw: Raw, number: str) -> None:
    """A number of any size as id, as since, as limit, as timeout: answered or refused."""
    lines = [
        f'{{"id": {number}, "verb": "ping"}}',
        f'{{"id": {number}, "verb": "nonsense"}}',
        f'{{"id": 2, "verb": "events", "since": {number}}}',
        f'{{"id": 3, "verb": "events", "limit": {number}}}',
        f'{{"id": 4, "verb": "restart", "names": ["regrow.logger"], "timeout_s": {number}}}',
        f'{{"id": 5, "verb": "terminate_child", "supervisor": "sup", "child": {number}}}',
        f'{{"id": 6, "verb": "delete_child", "supervisor": "sup", "child": {number}}}',
    ]
    answers = raw.finish("\n".join(lines).encode() + b"\n")
    assert len(answers) == len(lines), answers
    assert farm.call("ping")


@pytest.mark.parametrize("verb", VERBS)
def test_wrong_types(farm: Farm, verb: str) -> None:
    """Every field of every verb with a value of every wrong type: an answer or a refusal, each time."""
    fields: tuple[str, ...] = ("names", "name", "since", "limit", "supervisor", "child", "spec", "timeout_s", "all")
    if verb == "reload":
        fields = ("names",)  # it looks at none, and each costs a reading of the file
    good = {"supervisor": "quick", "child": "nobody", "name": "sup", "spec": {"id": "q"}}
    if verb in ("start", "stop", "restart"):
        good["names"] = ["regrow.logger"]
    wire = farm.connect()
    try:
        for field in fields:
            for value in WEIRD:
                if verb == "stop" and field == "names" and not value:
                    continue  # that means the daemon
                if field == "names" and value == ["sup"]:
                    continue
                if field == "spec" and isinstance(value, dict) and value:
                    continue  # those fork; they are below
                request = {**good, field: value}
                if verb == "start_child" and field != "spec":
                    request["spec"] = 1
                with contextlib.suppress(CallError):
                    wire.answer(wire.send(verb, **request))
    finally:
        wire.close()
    assert farm.call("ping")


@pytest.mark.parametrize("spec", [
    {}, {"id": None}, {"id": 1}, {"id": ""}, {"id": "../x"}, {"id": "a b"}, {"id": "x" * 5000}, {"id": "x"},
    {"id": "x", "command": []}, {"id": "x", "command": [1]}, {"id": "x", "command": ["\0"]},
    {"id": "x", "command": "ls"},
    {"id": "x", "command": ["true"], "shutdown": 10**30}, {"id": "x", "command": ["true"], "env": {"A=B": "c"}},
    {"id": "x", "command": ["true"], "env": {"A": "\0"}}, {"id": "x", "command": ["true"], "cwd": "\0"},
    {"id": "x", "command": ["true"], "nonsense": 1},
    {"id": "x", "command": ["true"], "function": "a:b"}, {"id": "x", "function": "os"},
    {"id": "regrow.logger", "command": ["true"]}, {"id": "sup", "command": ["true"]},
])  # fmt: skip
def test_bad_specs(farm: Farm, spec: dict[str, Any]) -> None:
    """A spec that is none is refused before anything is made."""
    with pytest.raises(CallError) as refused:
        farm.call("start_child", supervisor="sup", spec=spec)
    assert refused.value.code in ("bad_request", "already_started", "start_failed"), refused.value
    assert "Traceback" not in refused.value.message
    assert farm.call("ping")


def test_a_hundred_megabytes_without_newline(farm: Farm, supervised: None) -> None:
    """One endless line: refused after the bound, its sender let go, nothing kept of it."""
    with Raw(farm) as raw:
        block = b"x" * (1 << 20)
        for _ in range(100):
            raw.say(block)
        answers = raw.hear()
    assert not answers or answers[0]["error"]["code"] == "bad_request"
    assert farm.call("ping")


def test_a_byte_at_a_time(farm: Farm, supervised: None) -> None:
    """A slow request is answered when it is complete; meanwhile others are served."""
    with Raw(farm) as raw:
        for byte in b'{"id": 1, "verb": "ping"}\n':
            raw.say(bytes([byte]))
            farm.call("ping")
        assert json.loads(raw.socket.recv(1 << 16))["ok"]["name"] == "test"


def test_a_thousand_idle_connections(farm: Farm, supervised: None) -> None:
    """They cost next to nothing and keep nobody out."""
    with contextlib.ExitStack() as stack:
        for _ in range(1000):
            stack.enter_context(Raw(farm))
        begun = time.monotonic()
        wire = farm.connect()
        assert wire.call("ping")
        wire.close()
        farm.add("amid", under="quick", stdout="null", stderr="null")
        farm.crash_until_new("amid")
        assert time.monotonic() - begun < 5
        farm.remove("amid", under="quick")


def test_more_connections_than_allowed(farm: Farm) -> None:
    """Beyond the bound a connection is refused in words; when the others have gone, there is room again."""
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(Raw(farm)) for _ in range(2000)]
        with Raw(farm) as late:
            assert late.hear()[0]["error"]["code"] == "internal"
        assert farm.call("ping")
        del idle
    farm.eventually(lambda: bool(_welcome(farm)))


def _welcome(farm: Farm) -> bool:
    with Raw(farm) as raw:
        return "ok" in raw.finish(b'{"id":1,"verb":"ping"}\n')[0]


def test_a_follower_that_never_reads(farm: Farm, supervised: None) -> None:
    """It is let go when what it is owed is too much; the root's memory stays bounded, events go on for others."""
    followers = [Raw(farm) for _ in range(3)]
    for follower in followers:
        follower.say(b'{"id": 1, "verb": "events", "follow": true}\n' * 40)
    farm.add("noisy", under="quick", stdout="null", stderr="null")
    for _ in range(20):
        farm.crash_until_new("noisy")
    farm.remove("noisy", under="quick")
    for follower in followers:
        follower.socket.close()


def test_requests_without_reading_answers(farm: Farm) -> None:
    """
    A client that asks without end and never reads is let go or held up: memory stays bounded.
    """
    root = farm.call("ping")["pid"]
    before = resident(root)
    with Raw(farm) as raw:
        raw.socket.settimeout(2)
        request = b'{"id": 1, "verb": "events"}\n' * 1000
        with contextlib.suppress(TimeoutError):
            for _ in range(40):
                raw.say(request)
        begun = time.monotonic()
        farm.call("ping")
        assert time.monotonic() - begun < 3
        assert resident(root) - before < 100 << 20


def test_many_subscriptions_of_one_connection(farm: Farm) -> None:
    """Each follow that is granted multiplies every event: their number is bounded."""
    with Raw(farm) as raw:
        raw.say(b"".join(b'{"id": %d, "verb": "events", "follow": true, "limit": 0}\n' % n for n in range(5000)))
        refused = 0
        received = b""
        while received.count(b"\n") < 5000:
            data = raw.socket.recv(1 << 16)
            if not data:
                break
            received += data
        refused = received.count(b'"error"')
        assert refused or received.count(b"\n") < 5000


def test_pipelined(farm: Farm, raw: Raw) -> None:
    """Requests in one packet are answered each, in order where nothing has to be waited for."""
    lines = b"".join(b'{"id": %d, "verb": "ping"}\n' % number for number in range(2000))
    answers = raw.finish(lines)
    assert [answer["id"] for answer in answers] == list(range(2000))
    assert farm.call("ping")


def test_many_in_flight(farm: Farm, raw: Raw) -> None:
    """Calls to supervisors that are all out at once come back each under its own id."""
    lines = b"".join(
        b'{"id": %d, "verb": "count_children", "supervisor": "%s"}\n'
        % (number, (b"sup", b"quick", b"many")[number % 3])
        for number in range(1500)
    )
    raw.say(lines)
    got: set[int] = set()
    received = b""
    while len(got) < 1500:
        assert select.select([raw.socket], [], [], TIMEOUT_S)[0], len(got)
        received += raw.socket.recv(1 << 16)
        *full, received = received.split(b"\n")
        got |= {json.loads(line)["id"] for line in full if b'"ok"' in line}
    assert farm.call("ping")


def test_closed_after_the_request(farm: Farm, supervised: None) -> None:
    """Clients that ask for something and go before the answer: it is done, and nobody minds."""
    for number in range(30):
        with Raw(farm) as raw:
            raw.say(b'{"id": 1, "verb": "restart", "names": ["quick-gone-%d"]}\n' % number)
        with Raw(farm) as raw:
            spec = {"id": f"left-{number}", "command": ["true"], "restart": "temporary"}
            raw.say(json.dumps({"id": 1, "verb": "start_child", "supervisor": "quick", "spec": spec}).encode() + b"\n")
    farm.wait("exited", "left-29")


def test_half_closed_client_still_gets_its_answer(farm: Farm, raw: Raw) -> None:
    """`echo request | nc`: the end of input does not lose an answer that takes a while."""
    spec = {"id": "asked-half-closed", "command": ["true"], "restart": "temporary"}
    answers = raw.finish(
        json.dumps({"id": 1, "verb": "start_child", "supervisor": "quick", "spec": spec}).encode() + b"\n"
    )
    assert answers
    assert answers[0].get("ok", {}).get("pid"), answers
    farm.wait("exited", "asked-half-closed")


def test_many_start_childs_at_once(farm: Farm, supervised: None) -> None:
    """Each is checked in a process of its own; a flood of them does not become a flood of processes."""
    root = farm.call("ping")["pid"]
    with Raw(farm) as raw:
        lines = [
            json.dumps({"id": n, "verb": "start_child", "supervisor": "quick", "spec": {"id": f"n{n}"}})
            for n in range(60)
        ]
        raw.say("\n".join(lines).encode() + b"\n")
        most, received = 0, b""
        while received.count(b"\n") < 60:
            assert select.select([raw.socket], [], [], TIMEOUT_S)[0]
            received += raw.socket.recv(1 << 16)
            with open(f"/proc/{root}/task/{root}/children") as children:
                most = max(most, len(children.read().split()))
    assert most <= 40


def test_no_descriptor_is_left(farm: Farm) -> None:
    """After all that the root holds as many descriptors as a quiet one does."""
    root = farm.call("ping")["pid"]
    farm.eventually(lambda: len(os.listdir(f"/proc/{root}/fd")), lambda number: number < 40)
    assert procs.state(root) in "SR"
