"""A run_dir as the daemon makes it, real hub processes in it, real processes to talk to, and a client byte by byte."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import lmdb
import msgspec
import zmq

from regrow.ipc import hub_wire
from regrow.ipc.hub_wire import FromHub, ToHub
from regrow.ipc.names import FOLDER
from regrow.ipc.names_open import MAP_BYTES, MAX_READERS

FAIL_AFTER_S = 20.0
ACTOR = Path(__file__).parents[1] / "programs" / "hub_actor.py"
_HUB = "import json, sys; from regrow.workers.system.hub import run; run(**json.loads(sys.argv[1]))"


class Program:
    """A process of the test's own, killed at the latest when the block ends."""

    def __init__(self, *argv: str, env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **(env or {})}
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().decode().strip()

    def say(self, text: str) -> None:
        """Write a line to its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; its status, negative for a signal."""
        return self.process.wait(FAIL_AFTER_S)

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self.process.kill()
        self.wait()

    def close(self) -> None:
        """Idempotent."""
        if self.process.poll() is None:
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class HubHost:
    """A run_dir with one hub at a time. `options` go to every hub that is started."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.run_dir = str(folder / "run")
        self.state_dir = str(folder / "state")
        for path in (f"{self.run_dir}/mbox", f"{self.run_dir}/{FOLDER}", self.state_dir):
            os.makedirs(path)
        lmdb.open(f"{self.run_dir}/{FOLDER}", map_size=MAP_BYTES, max_readers=MAX_READERS).close()
        self.options = options
        self.programs: list[Program] = []
        self.hub: Program | None = None

    def start(self, env: dict[str, str] | None = None) -> Program:
        """Start a hub; it may take a moment until it listens, and clients wait for that by themselves."""
        arguments = {"run_dir": self.run_dir, "state_dir": self.state_dir, **self.options}
        self.hub = self.run(sys.executable, "-c", _HUB, msgspec.json.encode(arguments).decode(), env=env)
        return self.hub

    def restart(self, number: int = signal.SIGKILL) -> Program:
        """End the hub by a signal, wait until it is dead, and start another."""
        assert self.hub is not None
        self.hub.signal(number)
        self.hub.wait()
        return self.start()

    def run(self, *argv: str, env: dict[str, str] | None = None) -> Program:
        program = Program(*argv, env=env)
        self.programs.append(program)
        return program

    def actor(self, name: str, *more: str) -> Program:
        """Start a process with a mailbox (tests/programs/hub_actor.py) and wait until it is ready."""
        program = self.run(sys.executable, str(ACTOR), self.run_dir, name, *more)
        assert program.line() == "ready"
        return program

    def close(self) -> None:
        for program in self.programs:
            program.close()


class RawClient:
    """A DEALER, message by message."""

    def __init__(self, run_dir: str) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 1000)
        self._folder = os.open(run_dir, os.O_PATH)
        self.socket.connect(f"ipc:///proc/self/fd/{self._folder}/{hub_wire.ENDPOINT}")
        self._next = 1

    def id(self) -> int:
        """A number that was not used before."""
        self._next += 1
        return self._next

    def say(self, *messages: ToHub) -> None:
        for message in messages:
            self.socket.send(hub_wire.encode(message))

    def hear(self, timeout_s: float = FAIL_AFTER_S) -> FromHub | None:
        """The next message; None when none comes in time."""
        if not self.socket.poll(int(timeout_s * 1000)):
            return None
        return hub_wire.decode_from_hub(self.socket.recv())

    def hear_all(self) -> list[FromHub]:
        """Everything that was said before the hub's answer to a ping that is sent now."""
        id = self.id()
        self.say(hub_wire.Ping(id))
        heard: list[FromHub] = []
        while not isinstance(message := self.hear(), hub_wire.Done) or message.id != id:
            assert message is not None, f"no pong after {heard}"
            heard.append(message)
        return heard

    def answer(self, message: Any) -> FromHub:
        """Say it, and return what is answered under its id; signals and other answers are dropped."""
        self.say(message)
        while True:
            heard = self.hear()
            assert heard is not None
            if getattr(heard, "id", None) == message.id:
                return heard

    def welcome(self) -> hub_wire.Welcome:
        """Greet the hub, and return its welcome."""
        self.socket.send(b"")
        message = self.hear()
        assert isinstance(message, hub_wire.Welcome)
        return message

    def close(self) -> None:
        self.socket.close()
        self._context.term()
        os.close(self._folder)


def value(message: FromHub) -> Any:
    """What a `Done`, a signal or an event carries."""
    if isinstance(message, hub_wire.Done):
        return msgspec.msgpack.decode(message.value)
    assert isinstance(message, hub_wire.Signal | hub_wire.Event), message
    return msgspec.msgpack.decode(message.message)


def free_port() -> int:
    """A TCP port of this host that nobody listens at just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])

