"""
Mailboxes in forked processes, without a daemon and without agents: what a node does, and nothing besides.

Each handler of a box is a few lines of this file, so that a test knows exactly when what happens.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import lmdb
import msgspec
from siblings import Line, Sibling

from regrow.ipc import wire
from regrow.ipc.awaited import MailboxSpec
from regrow.ipc.bell import MBOX
from regrow.ipc.client import Client
from regrow.ipc.down import Down
from regrow.ipc.errors import MessageError
from regrow.ipc.mailbox import Envelope
from regrow.ipc.names import FOLDER
from regrow.ipc.names_open import MAP_BYTES, MAX_READERS
from regrow.ipc.node import Node


def make_run_dir(path: Path) -> Path:
    """What the root makes at its start."""
    (path / MBOX).mkdir(parents=True)
    lmdb.open(str(path / FOLDER), map_size=MAP_BYTES, max_readers=MAX_READERS).close()
    return path


class Box(Sibling):
    """A process with a mailbox; announced when this returns. It handles what `serve` knows, until it is killed."""

    def __init__(self, run_dir: Path, name: str = "box", incarnation: int = 1, **spec: Any) -> None:
        self.name = name
        self.incarnation = incarnation

        def body(line: Line) -> None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            serve(Node(str(run_dir), MailboxSpec(name, incarnation, **spec)), line)

        super().__init__(body)
        assert self.hear() == "ready"


NewBox: TypeAlias = Callable[..., Box]
"""Makes one: `Box` without the run_dir."""


class Served:
    """
    The handlers, and what they remember. They say on the line what begins, and hear there what is decided.

    `last` ends as soon as its answer has left; `ask` answers what came of a call to somebody else; `downs` are those
    that were told of, each with the number of notes at that time.
    """

    def __init__(self, node: Node, line: Line) -> None:
        self.node = node
        self.line = line
        self.client = Client(node.run_dir)
        self.remembered: list[Any] = []
        self.told: list[Any] = []
        self.ends = False

    def echo(self, *args: Any) -> Any:
        return args

    def whoami(self) -> Any:
        assert self.node.spec is not None
        return [self.node.name, self.node.spec.incarnation, os.getpid()]

    def note(self, *args: Any) -> None:
        self.remembered.append(args)

    def notes(self) -> Any:
        return self.remembered

    def downs(self) -> Any:
        return self.told

    def hold(self) -> Any:
        return self.line.ask("holding")

    def take_in(self) -> Any:
        """Hold, and then take in as many messages as is heard, whether there is room for them or not."""
        count, mailbox = self.line.ask("holding"), self.node.mailbox
        before = mailbox.accepted + mailbox.refused
        while mailbox.accepted + mailbox.refused < before + count:
            self.node.accept()
        return count

    def dies(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def last(self, *args: Any) -> Any:
        self.ends = True
        return args

    def ask(self, to: str, handler: str, *args: Any) -> Any:
        return outcome(lambda: self.client.call(to, handler, *args))

    def watch(self, name: str) -> None:
        self.node.monitor(name)

    def stats(self) -> Any:
        mailbox, stats = self.node.mailbox, self.node.stats
        return [stats.bad, stats.unanswered, mailbox.accepted, mailbox.refused]

    def full(self, size: int) -> Any:
        return "x" * size

    def stop(self) -> None:
        self.node.refuse_all("shutdown", "it stops")


def serve(node: Node, line: Line) -> None:
    """Handle messages one after the other, until it is killed or has been told to end."""
    served = Served(node, line)
    node.announce()
    line.say("ready")
    while not served.ends:
        item = node.receive()
        if isinstance(item, Down):
            served.told.append([item.name, item.incarnation, len(served.remembered)])
        elif isinstance(item, Envelope):
            try:
                handler = getattr(Served, item.handler)
                result = handler(served, *msgspec.msgpack.decode(item.args, type=list))
            except (AttributeError, TypeError, ValueError) as error:
                node.refuse(item, "bad_request", f"no handler {item.handler}: {error}")
            else:
                node.reply(item, wire.encode((wire.REPLY, item.id, result)))
    node.close()


def outcome(ask: Callable[[], Any]) -> list[Any]:
    """What came of a call, in words."""
    try:
        return ["reply", ask()]
    except MessageError as error:
        return [type(error).__name__, str(error)]
