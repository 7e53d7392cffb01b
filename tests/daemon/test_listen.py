"""Decisions about listening sockets: what was passed is whose, and what a changed file does to which."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.spec import SocketSpec
from regrow.daemon import listen
from regrow.daemon.activation import MOST_FDS, STORED, Passed, match, passed
from regrow.daemon.errors import ListenError
from regrow.daemon.linux import listening
from regrow.daemon.listen import Held
from regrow.daemon.sockets import change

WEB, API = SocketSpec("web", "127.0.0.1", 80), SocketSpec("api", path="/run/api")


@pytest.mark.parametrize(
    ("there", "found"),
    [
        ([Passed(3, "web", WEB.address), Passed(4, "api", API.address)], {"web": 3, "api": 4}),
        ([Passed(3, "unknown", API.address), Passed(4, "unknown", WEB.address)], {"web": 4, "api": 3}),
        ([Passed(3, STORED + "web", WEB.address), Passed(4, "web", WEB.address)], {"web": 4}),
        ([Passed(3, STORED + "old", WEB.address)], {"web": 3}),
        ([Passed(3, STORED + "web", "127.0.0.1:81")], {}),
        ([Passed(3, "stranger", ""), Passed(4, "other", "@x")], {}),
    ],
)
def test_match(there: list[Passed], found: dict[str, int]) -> None:
    """A name of a unit comes first, then the address; what was stored counts by its address only."""
    assert {name: one.fd for name, one in match([WEB, API], there).items()} == found


@pytest.mark.parametrize("address", ["127.0.0.1:81", ""])
def test_match_refuses_what_disagrees(address: str) -> None:
    """A unit with the name of a socket and another address is nobody's to decide upon."""
    with pytest.raises(ListenError, match="make them agree"):
        match([WEB], [Passed(3, "web", address)])


names = st.sampled_from(["web", "api", "x", STORED + "web", "unknown"])
addresses = st.sampled_from([WEB.address, API.address, "@x", ""])


@given(st.lists(st.tuples(names, addresses), max_size=6))
def test_match_gives_nothing_away_twice(there: list[tuple[str, str]]) -> None:
    """Whatever was passed: each descriptor is one socket's at most, and listens where that says."""
    made = [Passed(fd, *one) for fd, one in enumerate(there, 3)]
    try:
        found = match([WEB, API], made)
    except ListenError:
        wrong = {("web", WEB.address), ("api", API.address)}
        assert any(one[0] in ("web", "api") and one not in wrong for one in there)
        return
    assert len({one.fd for one in found.values()}) == len(found)
    assert all(found[spec.name].address == spec.address for spec in (WEB, API) if spec.name in found)
    assert all(spec.name in found for spec in (WEB, API) if spec.address in {address for _, address in there})


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_PID": "1"}, {"LISTEN_PID": "me"}, {"LISTEN_PID": "me", "LISTEN_FDS": "x"}, {"LISTEN_FDS": "1"}],
)
def test_nothing_was_passed(environ: dict[str, str]) -> None:
    """What is meant for another process, or unclear, is nothing."""
    own = {name: str(os.getpid()) if value == "me" else value for name, value in environ.items()}
    assert passed(own, os.getpid(), -1) == []


def test_number_that_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are said to be there, only so many are looked at; those that are not there are left out."""
    asked = []

    def absent(fd: int, _inheritable: object) -> None:
        asked.append(fd)
        raise OSError

    monkeypatch.setattr(os, "set_inheritable", absent)
    assert passed({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(10**9)}, os.getpid(), 5) == []
    assert len(asked) == MOST_FDS - 1
    assert 5 not in asked


def held(*specs: SocketSpec) -> dict[str, Held]:
    """These sockets as a root has them."""
    return {spec.name: Held(spec, fd) for fd, spec in enumerate(specs, 3)}


def test_change() -> None:
    """The same address is kept, whatever its name and mode are by now; everything else is bound anew."""
    moved = SocketSpec("web", "127.0.0.1", 81)
    renamed = SocketSpec("front", path="/run/api", mode=0o600)
    planned = change(held(WEB, API), [moved, renamed])
    assert planned.new == (moved,)
    assert planned.kept == {"front": Held(renamed, 4)}
    assert planned.altered == (renamed,)
    assert change(held(WEB, API), [WEB, API]).altered == ()


specs = st.builds(
    SocketSpec, st.sampled_from("abc"), path=st.sampled_from(["/1", "/2", "/3"]), mode=st.sampled_from([0o600, 0o666])
)
files = st.lists(specs, max_size=3, unique_by=(lambda spec: spec.name, lambda spec: spec.path))


@given(files, files)
def test_change_leaves_nobody_out(before: list[SocketSpec], after: list[SocketSpec]) -> None:
    """Every socket of the new file is kept or bound, and only what had another address is bound."""
    planned = change(held(*before), after)
    assert sorted([*planned.kept, *(spec.name for spec in planned.new)]) == sorted(spec.name for spec in after)
    assert {spec.address for spec in planned.new}.isdisjoint(spec.address for spec in before)
    assert all(one.spec in after for one in planned.kept.values())


# at the kernel


@contextmanager
def bound(spec: SocketSpec) -> Iterator[Held]:
    """A socket of that address, listening."""
    (made,) = listen.bind_all(listen.make_all([spec]))
    try:
        yield made
    finally:
        listen.close_all([made])


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_addresses_are_known_again(host: str) -> None:
    """What was bound says where it listens in the words of the file; `::` takes IPv4 in."""
    if ":" in host and not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    spec = SocketSpec("web", host, port)
    with bound(spec) as made:
        assert listening.address_of(made.fd) == spec.address
        with pytest.raises(ListenError, match=r"address already in use \(socket.api\)"):
            listen.bind_all(listen.make_all([SocketSpec("api", "127.0.0.1" if host != "::1" else host, port)]))
        if host == "::":
            socket.create_connection(("127.0.0.1", port)).close()


def test_paths(tmp_path: Path) -> None:
    """Abstract and in the file system; what is no listening stream socket has no address."""
    path = str(tmp_path / "s")
    with bound(SocketSpec("a", path=path)) as one, bound(SocketSpec("b", path=f"@{path}")) as other:
        assert listening.address_of(one.fd) == path
        assert listening.address_of(other.fd) == f"@{path}"
        assert one.file == listening.file_of(path) is not None
        assert other.file is None
    with socket.socket(socket.AF_UNIX) as silent, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        assert listening.address_of(silent.fileno()) == listening.address_of(datagrams.fileno()) == ""
    assert listening.address_of(silent.fileno()) == ""
    assert listening.file_of(path) is None


def test_path_of_somebody_else_stays(tmp_path: Path) -> None:
    """A path that another socket has by now is not removed with ours."""
    path = str(tmp_path / "s")
    with bound(SocketSpec("a", path=path)):
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(path)
    assert os.path.exists(path)


def test_all_or_nothing(tmp_path: Path) -> None:
    """The last one of three cannot be bound: the others are closed, and their paths are gone."""
    wanted = [SocketSpec(name, path=f"{tmp_path}/{name}") for name in ("a", "b")]
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(ListenError, match="no such file or directory"):
        listen.bind_all(listen.make_all([*wanted, SocketSpec("c", path=f"{tmp_path}/none/c")]))
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(tmp_path) == []
