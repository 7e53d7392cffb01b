"""Single attempts at paths and their sockets, in memory, on a disk and on a file server."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

import pytest
from probing import ENV, World, file, unix, unwanted

from regrow.daemon.linux import probe_path, probe_unix
from regrow.daemon.linux.probe_path import open_cached
from regrow.daemon.linux.probes import Surroundings, make_attempt


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_unix_of_every_kind_passes(world: World, folder: Path, kind: socket.SocketKind) -> None:
    """Stream, sequenced and datagram sockets are all accepted."""
    with socket.socket(socket.AF_UNIX, kind) as server:
        server.bind(str(folder / "s"))
        if kind != socket.SOCK_DGRAM:
            server.listen()
        assert world.outcome(unix(folder / "s")) == ""


def test_unix_path_longer_than_an_address_passes(world: World, folder: Path) -> None:
    """A path longer than the 107 bytes of a socket address is reached all the same."""
    deep = folder / ("d" * 120)
    deep.mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
        (folder / "s").rename(deep / "s")
        server.listen()
        assert world.outcome(unix(deep / "s")) == ""


def test_unix_missing_stale_and_no_socket(world: World, folder: Path) -> None:
    """No path, a path nobody listens on any more, and something that is no socket."""
    path = folder / "s"
    assert world.outcome(unix(path)) == f"{path} does not exist"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
    assert world.outcome(unix(path)) == f"connection refused by {path}"
    (folder / "f").touch()
    assert world.outcome(unix(folder / "f")) == f"connection refused by {folder / 'f'}"


def test_unix_full_backlog_fails(world: World, folder: Path) -> None:
    """A socket whose backlog is full is there but does not accept."""
    path = str(folder / "s")
    world.listen(socket.AF_UNIX, path, backlog=0)
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    world.sockets.append(client)
    client.connect(path)
    assert world.outcome(unix(path)) == f"the backlog of {path} is full"


def test_file_exists_or_not(world: World, folder: Path) -> None:
    """A file passes when it exists, a folder and a symbolic link to something too."""
    path = folder / "f"
    assert world.outcome(file(path)) == f"{path} does not exist"
    (folder / "link").symlink_to(path)
    assert world.outcome(file(folder / "link")) == f"{folder / 'link'} does not exist"
    path.touch()
    for each in (path, folder, folder / "link"):
        assert world.outcome(file(each)) == ""
    assert world.outcome(file(path / "below")) == f"{path / 'below'} does not exist"
    path.unlink()
    assert world.outcome(file(path)) == f"{path} does not exist"


def test_relative_path_is_below_cwd(world: World, folder: Path) -> None:
    """A relative path means the child's working directory."""
    (folder / "f").touch()
    world.around = Surroundings(world.processes, ENV, cwd=str(folder))
    assert world.outcome(file("f")) == ""


def test_path_with_nul_cannot_exist(world: World) -> None:
    """A NUL does not cut the path short."""
    assert world.outcome(file("/tmp\0x")) == "'/tmp\\x00x' cannot exist"


@pytest.mark.parametrize("probe", [file, unix])
def test_what_the_kernel_does_not_know_is_asked_in_a_process(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, probe: type
) -> None:
    """When only the file system can tell, a process of its own asks it, with the same outcomes."""
    monkeypatch.setattr(probe_unix, "open_cached", lambda _path: None)
    assert world.outcome(probe(folder / "s")) == f"{folder / 's'} does not exist"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "s"))
        server.listen()
        assert world.outcome(probe(folder / "s")) == ""


def test_unix_on_a_file_server_is_asked_in_a_process(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the check of permissions may wait for a server, the connection is tried by a process of its own."""
    monkeypatch.setattr(probe_path, "_LOCAL", ())
    world.listen(socket.AF_UNIX, str(tmp_path / "s"))
    attempt = make_attempt(world.loop, unix(tmp_path / "s"), 10.0, world.around, unwanted)
    attempt.begin()
    assert len(world.processes.owned_pids()) == 1
    attempt.cancel()
    assert world.outcome(unix(tmp_path / "s")) == ""


def test_tmpfs_is_known_without_a_process() -> None:
    """In memory everything is known at once: what exists and what does not."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        with pytest.raises(FileNotFoundError):
            open_cached(f"{folder}/missing")
        Path(folder, "there").touch()
        fd = open_cached(f"{folder}/there")
        assert fd is not None
        os.close(fd)
