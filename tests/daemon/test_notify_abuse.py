"""Datagrams that are none of the children's business: dropped, whoever sends them and however many."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from farm import Farm, python


def address_of(pid: int) -> str:
    """The notify address that a child was given; empty before its program runs."""
    environ = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return "".join("\0" + item.decode().partition("=@")[2] for item in environ if item.startswith(b"NOTIFY_SOCKET=@"))


@pytest.fixture
def starting(farm: Farm) -> Iterator[tuple[str, int, int]]:
    """A child that has not said that it is ready: its name, pid, and the request that waits for it."""
    name = f"waiting-{os.urandom(3).hex()}"
    code = "import select; select.select([], [], [])"
    spec = {"id": name, "command": python(code), "ready": {"notify": True, "timeout": "20s"}}
    number = farm.control.send("start_child", supervisor="quick", spec=spec)
    pid = farm.wait("starting", name)["pid"]
    farm.eventually(lambda: address_of(pid))
    yield name, pid, number
    farm.call("terminate_child", supervisor="quick", child=name)


@pytest.fixture
def sender() -> Iterator[socket.socket]:
    """A stranger with a datagram socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.settimeout(10)
        yield stranger


def untouched(farm: Farm, name: str, number: int) -> None:
    """The child is still starting, with no detail, after all that was sent has been looked at."""
    farm.add(
        "probe", python("notify('READY=1'); import select; select.select([], [], [])"), under="quick", ready="notify"
    )
    farm.remove("probe", under="quick")
    entry = farm.entry(name)
    assert (entry["state"], entry["ready"], entry["detail"]) == ("starting", False, "")
    assert not farm.control.answered(number)


@pytest.mark.parametrize(
    "text", ["READY=1", "STATUS=forged", "X_REGROW_IGNORE=1", "X_REGROW_EXCEPTION=forged", "STOPPING=1", "WATCHDOG=1"]
)
def test_a_strangers_word(farm: Farm, starting: tuple[str, int, int], sender: socket.socket, text: str) -> None:
    """A process of root's own, but not of the child's session, is not heard."""
    name, pid, number = starting
    sender.sendto(f"{text}\nMAINPID={os.getpid()}\n".encode(), address_of(pid))
    untouched(farm, name, number)


def test_credentials_cannot_be_borrowed_by_another_user(farm: Farm, starting: tuple[str, int, int]) -> None:
    """Another uid that claims the child's pid is refused by the kernel, or not heard."""
    name, pid, number = starting
    if os.geteuid() != 0:
        pytest.skip("becomes another user")
    helper = os.fork()
    if helper == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            forger = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            credentials = array.array("i", [pid, 0, 0]).tobytes()
            forger.sendmsg([b"READY=1"], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)], 0, address_of(pid))
        finally:
            os._exit(0)
    os.waitpid(helper, 0)
    untouched(farm, name, number)


def test_descriptors_attached(farm: Farm, starting: tuple[str, int, int], sender: socket.socket) -> None:
    """Descriptors that come along are closed: none stays with the supervisor."""
    name, pid, number = starting
    supervisor = farm.pid("quick")
    before = len(os.listdir(f"/proc/{supervisor}/fd"))
    with open("/dev/null", "rb") as null:
        attached = array.array("i", [null.fileno()] * 253).tobytes()
        for _ in range(20):
            sender.sendmsg([b"READY=1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, attached)], 0, address_of(pid))
    untouched(farm, name, number)
    assert len(os.listdir(f"/proc/{supervisor}/fd")) <= before + 1


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 150_000])
def test_sizes(farm: Farm, starting: tuple[str, int, int], sender: socket.socket, size: int) -> None:
    """Datagrams of every size, empty and beyond the bound."""
    name, pid, number = starting
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    with contextlib.suppress(OSError):
        sender.sendto(b"X" * size, address_of(pid))
    untouched(farm, name, number)


def test_garbage_of_the_child_itself(farm: Farm) -> None:
    """Bytes, nulls, endless values, a thousand fields: the child is heard for what can be understood."""
    code = r"""
def raw(data, address=os.environ["NOTIFY_SOCKET"]):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(data, "\0" + address[1:])
raw(b"")
raw(b"\xff\xfe\x00=\x00\n=\n==\n\n\n")
raw(b"STATUS=\xff\xfe\n")
raw(b"A=1\n" * 10000)
raw(b"STATUS=" + b"s" * 60000)
raw(b"WATCHDOG=garbage\nWATCHDOG_USEC=x\nMAINPID=-1\nERRNO=x\nFDSTORE=1\nREADY=0\nREADY=yes")
raw(b"READY=1\nSTATUS=fine")
import select; select.select([], [], [])
"""
    farm.add("babbler", python(code), ready="notify")
    farm.eventually(lambda: farm.entry("babbler")["detail"], lambda detail: detail == "fine")


def test_flood_from_a_stranger(farm: Farm, starting: tuple[str, int, int], sender: socket.socket) -> None:
    """While a stranger floods the socket, deaths are answered and true notices still get through."""
    name, pid, number = starting
    farm.add("afloat", under="quick", stdout="null", stderr="null")
    address = address_of(pid)
    flooder = os.fork()
    if flooder == 0:
        try:
            sender.settimeout(None)
            while os.getppid() != 1:
                sender.sendto(b"READY=1\nSTATUS=flood", address)
        finally:
            os._exit(0)
    try:
        begun = time.monotonic()
        farm.crash_until_new("afloat")
        code = "notify('READY=1'); import select; select.select([], [], [])"
        farm.add("heard", python(code), under="quick", ready="notify")
        farm.remove("heard", under="quick")
        assert time.monotonic() - begun < 10
    finally:
        os.kill(flooder, 9)
        os.waitpid(flooder, 0)
    farm.remove("afloat", under="quick")
    untouched(farm, name, number)


def test_flood_of_a_child(farm: Farm) -> None:
    """A child that changes its STATUS without end holds up nobody, nor does it fill anybody's memory."""
    code = "notify('READY=1')\nn = 0\nwhile True:\n    n += 1\n    notify('STATUS=' + str(n) + 'x' * 900)"
    farm.add("chatterbox", python(code), under="quick", ready="notify")
    farm.add("neighbour", under="quick", stdout="null", stderr="null")
    begun = time.monotonic()
    for _ in range(5):
        farm.crash_until_new("neighbour")
    farm.call("status")
    assert time.monotonic() - begun < 10
    farm.remove("chatterbox", under="quick")
    farm.remove("neighbour", under="quick")
