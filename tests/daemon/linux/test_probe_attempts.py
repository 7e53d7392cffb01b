"""Single attempts of every kind against real sockets, servers, paths and programs."""

from __future__ import annotations

import os
import resource
import select
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from probing import ENV, World, file, free_port, http, program, shell, tcp, unix

from regrow.config.spec import Credentials, Probe, ReadyKind
from regrow.daemon.linux import probe_path, probe_unix
from regrow.daemon.linux.probe_attempt import Attempt
from regrow.daemon.linux.probe_connect import TcpAttempt, connected_to_itself, numeric_address
from regrow.daemon.linux.probe_path import open_cached
from regrow.daemon.linux.probes import Surroundings, make_attempt


@pytest.fixture
def world() -> Iterator[World]:
    """A loop with peers."""
    made = World()
    yield made
    made.close()


@pytest.fixture(params=["/dev/shm", None], ids=["tmpfs", "tmp"])
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A folder in memory, and one on whatever holds temporary files."""
    with tempfile.TemporaryDirectory(dir=request.param) as path:
        yield Path(path)


def test_tcp_listening_passes(world: World) -> None:
    """A port somebody listens on passes, also before it is accepted."""
    assert world.outcome(tcp(world.listen())) == ""


def test_tcp_ipv6_passes(world: World) -> None:
    """IPv6 addresses work, also with an interface."""
    port = world.listen(socket.AF_INET6, ("::1", 0))
    assert world.outcome(tcp(port, "::1")) == ""
    assert world.outcome(tcp(port, "::1%lo")) == ""


def test_tcp_refused_names_the_peer(world: World) -> None:
    """Nobody there: the reason says where."""
    port = free_port()
    assert world.outcome(tcp(port)) == f"connection refused by 127.0.0.1:{port}"
    assert world.outcome(tcp(port, "::1")) == f"connection refused by [::1]:{port}"


def test_tcp_without_answer_times_out(world: World) -> None:
    """A connection that stays pending fails at its limit."""
    port = world.full_port()
    assert world.outcome(tcp(port), 0.05) == f"no connection to 127.0.0.1:{port} within 0.05 s"


def test_tcp_pending_then_accepted_passes(world: World) -> None:
    """A connection that is made only after a while passes."""
    port = world.full_port()
    server = world.sockets[-9]
    server.setblocking(False)

    def accept(_events: int) -> None:
        try:
            world.sockets.append(server.accept()[0])
        except BlockingIOError:
            pass

    world.loop.call_soon(lambda: world.loop.watch(server.fileno(), select.EPOLLIN, accept))
    assert world.outcome(tcp(port)) == ""


@pytest.mark.parametrize("host", ["localhost", "example.com", "", "1.2.3", "::1%nope", "::x", "a\0b"])
def test_names_are_never_resolved(world: World, host: str) -> None:
    """A host that is not numeric fails at once instead of asking a resolver."""
    assert world.outcome(tcp(80, host)).endswith("is not a numeric address")


@pytest.mark.parametrize("port", [0, -1, 65536, 10**9])
def test_impossible_port_is_no_address(port: int) -> None:
    """A port out of range is refused, not raised."""
    assert numeric_address("127.0.0.1", port) is None


def test_connection_to_itself_is_noticed() -> None:
    """The kernel can connect a socket to itself when nobody listens: that is nobody's answer."""
    with socket.socket() as own, socket.socket() as server, socket.socket() as client:
        own.bind(("127.0.0.1", 0))
        own.connect(own.getsockname())
        assert connected_to_itself(own)
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        assert not connected_to_itself(client)


def test_tcp_connected_to_itself_is_refused_and_frees_the_port(world: World) -> None:
    """The attempt reports a refusal, and the port can be bound at once."""
    outcomes: list[str] = []
    own = socket.socket()
    own.bind(("127.0.0.1", 0))
    port = own.getsockname()[1]
    own.connect(("127.0.0.1", port))
    attempt = TcpAttempt(world.loop, 1.0, outcomes.append, "127.0.0.1", port)
    assert attempt._connect_result(own, 0) == f"connection refused by 127.0.0.1:{port}"
    own.close()
    with socket.socket() as child:
        child.bind(("127.0.0.1", port))


def test_stale_event_is_no_connection(world: World) -> None:
    """An event meant for an earlier descriptor of the same number does not pass a pending connection."""
    outcomes: list[str] = []
    attempt = TcpAttempt(world.loop, 5.0, outcomes.append, "127.0.0.1", world.full_port())
    attempt.begin()
    attempt._progress(select.EPOLLOUT)
    assert attempt._socket is not None
    attempt.cancel()
    attempt._progress(select.EPOLLOUT)
    assert outcomes == []


@pytest.mark.parametrize(("status", "passes"), [(200, True), (204, True), (302, True), (399, True), (400, False),
                                                (404, False), (503, False), (101, False)])  # fmt: skip
def test_http_status_decides(world: World, status: int, passes: bool) -> None:
    """200 to 399 passes, everything else is named."""
    port = world.answer(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status, close=True)
    assert world.outcome(http(port)) == ("" if passes else f"HTTP status {status} from 127.0.0.1:{port}")


def test_http_request_as_specified(world: World) -> None:
    """The request names path, host and regrow, and asks for the connection to be closed."""
    seen: list[bytes] = []

    def on_accept(peer: socket.socket) -> None:
        def on_request(_events: int) -> None:
            seen.append(peer.recv(65536))
            world.loop.unwatch(peer.fileno())
            peer.send(b"HTTP/1.1 200 OK\r\n")

        world.loop.watch(peer.fileno(), select.EPOLLIN, on_request)

    port = world.serve(on_accept)
    probe = Probe(ReadyKind.HTTP, host="127.0.0.1", port=port, path="/health?x=1", http_host="shop.example:80")
    assert world.outcome(probe) == ""
    assert seen[0].startswith(b"GET /health?x=1 HTTP/1.1\r\nHost: shop.example:80\r\n")
    assert b"\r\nConnection: close\r\n" in seen[0]
    assert seen[0].endswith(b"\r\n\r\n")


def test_http_refused(world: World) -> None:
    """Nobody there: the same words as for tcp."""
    port = free_port()
    assert world.outcome(http(port)) == f"connection refused by 127.0.0.1:{port}"


def test_http_garbage_is_shown(world: World) -> None:
    """A peer that speaks something else fails at once, with what it said."""
    port = world.answer(b"\x00-ERR unknown command\r\n")
    outcome = world.outcome(http(port))
    assert outcome.startswith(f"127.0.0.1:{port} did not answer with HTTP, got ")
    assert "-ERR unknown command" in outcome


def test_http_endless_status_line_is_cut_off(world: World) -> None:
    """A status line without end is read to 8 KiB and no further."""
    port = world.answer(b"HTTP/1.1 200 " + b"a" * 100_000)
    assert world.outcome(http(port)).startswith(f"127.0.0.1:{port} did not answer with HTTP, got ")


def test_http_endless_interim_answers_are_cut_off(world: World) -> None:
    """Interim answers without end do not keep the attempt."""
    port = world.answer(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000)
    assert "did not answer with HTTP" in world.outcome(http(port))


def test_http_endless_head_passes_by_its_status(world: World) -> None:
    """A head that never ends is not waited for: the status is known."""
    port = world.answer(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000)
    assert world.outcome(http(port)) == ""


def test_http_closed_at_once(world: World) -> None:
    """A peer that closes without a word is told apart from one that refuses."""
    port = world.serve(lambda peer: peer.shutdown(socket.SHUT_RDWR))
    outcome = world.outcome(http(port))
    assert outcome.startswith(f"127.0.0.1:{port} ")
    assert "nothing came" in outcome or "took no request" in outcome


def test_http_closed_within_the_status_line(world: World) -> None:
    """Half an answer is shown."""
    port = world.answer(b"HTTP/1.1 20", close=True)
    assert world.outcome(http(port)) == f"127.0.0.1:{port} closed before an HTTP status, got 'HTTP/1.1 20'"


def test_http_silent_times_out(world: World) -> None:
    """A peer that accepts and says nothing fails at the limit."""
    port = world.listen()
    outcome = world.outcome(http(port), 0.05)
    assert outcome == f"no HTTP status from 127.0.0.1:{port} within 0.05 s, nothing came"


def test_http_dripping_answer_passes(world: World) -> None:
    """An answer that comes byte by byte, each in a turn of its own, is put together."""
    answer = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n"

    def on_accept(peer: socket.socket) -> None:
        def drip(at: int = 0) -> None:
            if at < len(answer):
                peer.send(answer[at : at + 1])
                world.loop.call_soon(lambda: drip(at + 1))

        drip()

    assert world.outcome(http(world.serve(on_accept))) == ""


def test_http_pending_connection_times_out_like_tcp(world: World) -> None:
    """Without a connection, the reason is the missing connection."""
    port = world.full_port()
    assert world.outcome(http(port), 0.05) == f"no connection to 127.0.0.1:{port} within 0.05 s"


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


def test_exec_exit_status_decides(world: World) -> None:
    """Exit 0 passes; another status, or a signal, is named."""
    assert world.outcome(program("true")) == ""
    assert world.outcome(program("false")) == "false exited with status 1"
    assert world.outcome(shell("exit 7")) == "/bin/sh exited with status 7"
    assert world.outcome(shell("kill -SEGV $$")) == "/bin/sh was killed by SIGSEGV"


def test_exec_failures_are_precise(world: World, tmp_path: Path) -> None:
    """What cannot be executed says so, instead of an exit status."""
    assert world.outcome(program("/no/such")) == "cannot execute /no/such: No such file or directory"
    (tmp_path / "f").touch()
    assert world.outcome(program(str(tmp_path / "f"))) == f"cannot execute {tmp_path / 'f'}: Permission denied"
    assert world.outcome(program("true", "a\0b")) == "cannot start the check: embedded null byte"
    world.around = Surroundings(world.processes, ENV, cwd="/no/such")
    assert world.outcome(program("true")) == "cannot change to /no/such: No such file or directory"


def test_exec_surroundings(world: World, tmp_path: Path) -> None:
    """A check has the given environment and nothing else, its own session, clean signals, cwd and no descriptors."""
    world.around = Surroundings(world.processes, ENV, cwd=str(tmp_path))
    with open(tmp_path / "open", "w") as held:
        os.set_inheritable(held.fileno(), True)
        for line in (
            'test "$REGROW_CHILD" = token:web:3 && test -z "$HOME"',
            f'test "$(pwd -P)" = {tmp_path.resolve()}',
            f"test ! -e /proc/self/fd/{held.fileno()}",
            'test "$(cut -d" " -f6 /proc/$$/stat)" = $$',
            "grep -Eq '^SigIgn:.0+$' /proc/self/status && grep -Eq '^SigBlk:.0+$' /proc/self/status",
            'for n in 0 1 2; do test "$(readlink /proc/$$/fd/$n)" = /dev/null || exit 1; done',
        ):
            assert world.outcome(shell(line)) == "", line


@pytest.mark.skipif(os.getuid() != 0, reason="needs to run as root")
def test_exec_identity(world: World) -> None:
    """A check runs as the user it is given."""
    world.around = Surroundings(world.processes, ENV, identity=Credentials(uid=65534, gid=65534, groups=()))
    assert world.outcome(shell('test "$(id -u):$(id -G)" = 65534:65534')) == ""


def test_exec_is_killed_with_its_group_at_the_limit(world: World, tmp_path: Path) -> None:
    """At the limit the program and what it started in the background die: the pipe they hold closes."""
    os.mkfifo(tmp_path / "alive")
    os.mkfifo(tmp_path / "never")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    line = f"exec 3>{tmp_path}/alive; (read x <{tmp_path}/never) & (read x <{tmp_path}/never)"
    assert world.outcome(shell(line), 0.2) == "/bin/sh did not end within 0.2 s"
    await_end(world, alive)


def test_exec_background_dies_with_a_passed_check(world: World, tmp_path: Path) -> None:
    """A check that leaves something in the background passes and the rest is killed."""
    os.mkfifo(tmp_path / "alive")
    os.mkfifo(tmp_path / "never")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    assert world.outcome(shell(f"exec 3>{tmp_path}/alive; (read x <{tmp_path}/never) & exit 0")) == ""
    await_end(world, alive)


def await_end(world: World, fd: int) -> None:
    """Wait until the last writer of `fd` is gone and reap the orphans that fell to this process."""

    def on_ready(_events: int) -> None:
        if os.read(fd, 100) == b"":
            world.loop.unwatch(fd)
            world.loop.stop()

    world.loop.watch(fd, select.EPOLLIN, on_ready)
    world.run()
    os.close(fd)
    world.sweep()
    try:
        while True:
            os.waitpid(-1, 0)
    except ChildProcessError:
        pass


PROBES = ["tcp", "http", "unix", "file", "exec"]


def passing_probe(world: World, kind: str, folder: Path) -> Probe:
    """A probe of each kind that passes."""
    if kind == "unix":
        world.listen(socket.AF_UNIX, str(folder / "s"))
        return unix(folder / "s")
    answering = b"HTTP/1.1 200 OK\r\n\r\n"
    return {"tcp": lambda: tcp(world.listen()), "http": lambda: http(world.answer(answering)),
            "file": lambda: file(folder), "exec": lambda: program("true")}[kind]()  # fmt: skip


@pytest.mark.parametrize("spare", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", PROBES)
def test_no_free_descriptors_is_an_outcome(world: World, folder: Path, kind: str, spare: int) -> None:
    """With few or no descriptors left an attempt fails with that reason or passes, and leaks nothing."""
    probe = passing_probe(world, kind, folder)
    outcomes: list[str] = []

    def done(outcome: str) -> None:
        outcomes.append(outcome)
        world.loop.stop()

    attempt = make_attempt(world.loop, probe, 10.0, world.around, done)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = fill_descriptors(spare)
    try:
        attempt.begin()
    finally:
        for fd in fillers:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    world.run()
    assert outcomes in (["no free descriptors"], [""])
    assert spare > 0 or outcomes == ["no free descriptors"]
    assert spare < 3 or outcomes == [""]


def fill_descriptors(spare: int) -> list[int]:
    """Lower the limit and take every free descriptor but `spare`; those taken."""
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 4, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    taken = []
    try:
        while True:
            taken.append(os.dup(0))
    except OSError:
        pass
    for _ in range(spare):
        os.close(taken.pop())
    return taken


@pytest.mark.parametrize("kind", PROBES)
def test_cancel_before_the_outcome_is_told(world: World, folder: Path, kind: str) -> None:
    """An attempt cancelled right after its beginning tells nothing, even when its outcome was known already."""
    attempt = make_attempt(world.loop, passing_probe(world, kind, folder), 10.0, world.around, unwanted)
    attempt.begin()
    attempt.cancel()
    attempt.cancel()
    world.sweep()
    world.loop.call_later(0.0, world.loop.stop)
    world.run()


def test_cancel_a_pending_connection(world: World) -> None:
    """Cancelled while connecting: closed, silent."""
    cancel_in_the_middle(world, tcp(world.full_port()))


def test_cancel_http_before_and_within_the_answer(world: World) -> None:
    """Cancelled before a byte of the answer, and in the middle of its status line."""
    cancel_in_the_middle(world, http(world.listen()))
    seen: list[Attempt] = []

    def half(peer: socket.socket) -> None:
        peer.send(b"HTTP/1.1 2")
        world.loop.call_later(0.01, seen[0].cancel)
        world.loop.call_later(0.02, peer.close)
        world.loop.call_later(0.03, world.loop.stop)

    seen.append(make_attempt(world.loop, http(world.serve(half)), 10.0, world.around, unwanted))
    seen[0].begin()
    world.run()


def test_cancel_a_running_program(world: World, tmp_path: Path) -> None:
    """Cancelled while its program runs: the program is killed."""
    os.mkfifo(tmp_path / "alive")
    os.mkfifo(tmp_path / "never")
    alive = os.open(tmp_path / "alive", os.O_RDONLY | os.O_NONBLOCK)
    attempt = make_attempt(
        world.loop,
        shell(f"exec 3>{tmp_path}/alive; echo >&3; read x <{tmp_path}/never"),
        10.0,
        world.around,
        unwanted,
    )
    attempt.begin()

    def on_running(_events: int) -> None:
        world.loop.unwatch(alive)
        attempt.cancel()
        world.loop.call_soon(world.loop.stop)

    world.loop.watch(alive, select.EPOLLIN, on_running)
    world.run()
    await_end(world, alive)


def cancel_in_the_middle(world: World, probe: Probe) -> None:
    """Begin, let the loop turn a few times, cancel, let it turn again."""
    attempt = make_attempt(world.loop, probe, 10.0, world.around, unwanted)
    attempt.begin()
    world.loop.call_later(0.01, attempt.cancel)
    world.loop.call_later(0.02, world.loop.stop)
    world.run()


def unwanted(outcome: str) -> None:
    """Fail: nobody wants to hear this."""
    raise AssertionError(f"told {outcome!r} after cancel")
