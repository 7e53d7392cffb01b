"""A loop with real peers in it, for tests of probes: everything runs in the one thread of the test."""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Callable

from regrow.config.spec import Probe, ReadyKind
from regrow.daemon.linux.probes import ProbeProcesses, Surroundings, make_attempt
from regrow.daemon.loop import Loop

ENV = {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "REGROW_CHILD": "token:web:3"}


class World:
    """Loop, probe processes and servers; `close` reaps what is left as the runtime's sweep would."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.processes = ProbeProcesses(self.loop)
        self.around = Surroundings(self.processes, ENV)
        self.sockets: list[socket.socket] = []

    def run(self, limit_s: float = 20.0) -> None:
        """Run until something stops the loop; fail if nothing does."""

        def too_late() -> None:
            raise AssertionError(f"nothing happened within {limit_s} s")

        timer = self.loop.call_later(limit_s, too_late)
        self.loop.run()
        timer.cancel()

    def outcome(self, probe: Probe, timeout_s: float = 10.0) -> str:
        """Run one attempt to its end."""
        outcomes: list[str] = []

        def done(outcome: str) -> None:
            outcomes.append(outcome)
            self.loop.stop()

        make_attempt(self.loop, probe, timeout_s, self.around, done).begin()
        assert outcomes == []
        self.run()
        assert len(outcomes) == 1
        return outcomes[0]

    def sweep(self) -> None:
        """Wait for every process of a probe to die and reap it the way the runtime does."""
        for pid in self.processes.owned_pids():
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            assert self.processes.reaped(*os.waitpid(pid, 0))

    def listen(self, family: int = socket.AF_INET, address: object = ("127.0.0.1", 0), backlog: int = 64) -> int:
        """Listen, accept nothing; the port."""
        server = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.sockets.append(server)
        server.bind(address)  # type: ignore[arg-type]
        server.listen(backlog)
        name = server.getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    def serve(self, on_accept: Callable[[socket.socket], None]) -> int:
        """Hand every accepted connection to `on_accept`; the port."""
        port = self.listen()
        server = self.sockets[-1]

        def accept(_events: int) -> None:
            peer = server.accept()[0]
            peer.setblocking(False)
            self.sockets.append(peer)
            on_accept(peer)

        self.loop.watch(server.fileno(), select.EPOLLIN, accept)
        return port

    def answer(self, *answers: bytes, close: bool = False) -> int:
        """Serve HTTP: the n-th request gets the n-th answer (the last for ever), perhaps followed by a close."""
        left = list(answers)

        def on_accept(peer: socket.socket) -> None:
            def on_request(_events: int) -> None:
                self.loop.unwatch(peer.fileno())
                peer.recv(65536)
                peer.send(left.pop(0) if len(left) > 1 else left[0])
                if close:
                    peer.close()

            self.loop.watch(peer.fileno(), select.EPOLLIN, on_request)

        return self.serve(on_accept)

    def full_port(self) -> int:
        """A port whose backlog is full, so that connections to it stay pending."""
        port = self.listen(backlog=0)
        for _ in range(8):
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            self.sockets.append(client)
            client.connect_ex(("127.0.0.1", port))
        return port

    def close(self) -> None:
        self.processes.kill_all()
        self.sweep()
        for each in self.sockets:
            each.close()
        self.loop.close()


def free_port() -> int:
    """A port nobody listens on, outside the range of which the kernel takes ports by itself."""
    for port in range(20000, 30000):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise AssertionError("no free port")


def tcp(port: int, host: str = "127.0.0.1") -> Probe:
    """A tcp probe."""
    return Probe(ReadyKind.TCP, host=host, port=port)


def http(port: int, path: str = "/") -> Probe:
    """A http probe."""
    return Probe(ReadyKind.HTTP, host="127.0.0.1", port=port, path=path)


def unix(path: object) -> Probe:
    """A unix probe."""
    return Probe(ReadyKind.UNIX, path=str(path))


def file(path: object) -> Probe:
    """A file probe."""
    return Probe(ReadyKind.FILE, path=str(path))


def program(*argv: str) -> Probe:
    """An exec probe."""
    return Probe(ReadyKind.EXEC, argv=argv)


def shell(line: str) -> Probe:
    """An exec probe of a shell line."""
    return program("/bin/sh", "-c", line)


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


def unwanted(outcome: str) -> None:
    """Fail: nobody wants to hear this."""
    raise AssertionError(f"told {outcome!r} after cancel")
