"""Workers with listening sockets: each connection is told who has taken it, and with which sockets."""

from __future__ import annotations

import json
import os
import select
import socket

from regrow import workers
from regrow.workers import Agent, handler


def serve() -> None:
    """Answer for ever."""
    workers.ready()
    serve_on(workers.sockets())


def serve_on(listeners: dict[str, socket.socket]) -> None:
    """Answer whoever comes at any of these."""
    told = about(listeners)
    by_fd = {listener.fileno(): listener for listener in listeners.values()}
    poller = select.poll()
    for fd, listener in by_fd.items():
        listener.setblocking(False)
        poller.register(fd, select.POLLIN)
    while True:
        for fd, _ in poller.poll():
            try:
                client = by_fd[fd].accept()[0]
            except BlockingIOError:
                continue  # another one of the group was faster
            with client:
                client.sendall(told)


def about(listeners: dict[str, socket.socket]) -> bytes:
    """What this process has."""
    told = {
        "name": os.environ["REGROW_NAME"],
        "pid": os.getpid(),
        "listen_pid": os.environ["LISTEN_PID"],
        "sockets": {name: listener.fileno() for name, listener in listeners.items()},
        "inheritable": [os.get_inheritable(listener.fileno()) for listener in listeners.values()],
    }
    return json.dumps(told).encode()


class Server(Agent):
    """An agent that answers one connection, when it is told to."""

    @handler
    def answer(self, name: str) -> None:
        client = workers.sockets()[name].accept()[0]
        with client:
            client.sendall(about(workers.sockets()))


if __name__ == "__main__":
    serve()
