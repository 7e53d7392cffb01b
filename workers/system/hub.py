"""
The hub: publish and subscribe, the daemon's events, and the way in for clients that are not Python or not on this host.

One thread and one wait. It never stands between two processes of this host, and waits for no client, no process and
no root, so that nobody's slowness is anybody else's. It can be killed at any time: who was connected connects again.

Source: docs/protocol.md; architecture section 6.
"""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Collection

import zmq

from regrow.ipc import hub_wire as wire
from regrow.ipc.keys import KeyFileError, server_pair
from regrow.ipc.node import Node
from regrow.workers.notify import notify, ready, status
from regrow.workers.system.descriptors import use_all_descriptors
from regrow.workers.system.hub_board import Board, Subscriber
from regrow.workers.system.hub_calls import NodeCalls
from regrow.workers.system.hub_door import Door, identify_local, identify_remote, open_local, open_remote
from regrow.workers.system.hub_gateway import Gateway
from regrow.workers.system.hub_records import RecordedSubscribers
from regrow.workers.system.hub_root import RootLink
from regrow.workers.system.hub_sweeper import Sweeper
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.hub_watch import Watch
from regrow.workers.system.hub_zap import Doorkeeper
from regrow.workers.system.signal_pipe import SignalPipe

LOST_TOPIC = "regrow.hub.lost"
REPORT_S = 1.0
"""Losses of signals are told of together, this long after the first."""

LISTEN_RETRY_S = 1.0


def run(
    run_dir: str, state_dir: str, listen: str = "", clients: Collection[str] = (), operators: Collection[str] = ()
) -> None:
    """
    Serve until SIGTERM.

    Args:
        listen: a TCP endpoint for clients of other hosts, "" for none.
        clients: the names of the keys that may come in there.
        operators: those of them that may use the control verbs that act.
    """
    use_all_descriptors()
    hub = Hub(run_dir, state_dir, listen, clients, operators)
    try:
        ready()
        hub.serve()
    finally:
        hub.close()


class Hub:
    """Everything the hub has, and the loop that serves it."""

    def __init__(
        self,
        run_dir: str,
        state_dir: str,
        listen: str = "",
        clients: Collection[str] = (),
        operators: Collection[str] = (),
    ) -> None:
        self._state_dir = state_dir
        self._listen, self._clients, self._operators = listen, clients, operators
        self._stopping = False
        self._run_dir_fd = os.open(run_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._signals = SignalPipe((signal.SIGTERM, signal.SIGHUP), (signal.SIGINT, signal.SIGPIPE))
        self.watch = Watch()
        self.timers = Timers()
        self.board = Board(self._lost)
        self._losses: dict[Subscriber, int] = {}
        self.root = RootLink(run_dir, self.watch, self.timers, self._happened)
        self.node = Node(run_dir)
        self.calls = NodeCalls(self.node, self.root, self.watch)
        self.records = RecordedSubscribers(self.node.names, self.board, self.watch)
        self.sweeper = Sweeper(self.node.names, run_dir, self.timers)
        self.gateway = Gateway(self.board, self.timers, self.calls, self.root, self.records)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.max_sockets = 4_096
        self._doorkeeper: Doorkeeper | None = None
        self.doors: list[Door] = []
        self._poller = zmq.Poller()
        self._begin()

    def _begin(self) -> None:
        """Know what was before, then let people in."""
        self.watch.add(self._signals.fileno(), self._on_signals)
        self._poller.register(self.watch.fileno(), zmq.POLLIN)
        self.sweeper.start()
        self.root.connect()
        self.records.load()
        admitted = os.environ.get("REGROW_MAILBOX", "")
        local = open_local(self._run_dir_fd, wire.ENDPOINT, admitted)
        self._add(Door(self._context, self.gateway, identify_local, local))
        if self._listen:
            self._open_remote()

    def _open_remote(self) -> None:
        """Listen on TCP; when that cannot be, the hub serves this host and tries again."""
        try:
            pair = server_pair(self._state_dir)
            if self._doorkeeper is None:
                self._doorkeeper = Doorkeeper(self._context, self._state_dir, self._clients)
                self._poller.register(self._doorkeeper.socket, zmq.POLLIN)
            remote = open_remote([self._listen], pair.public, pair.secret)
            self._add(Door(self._context, self.gateway, identify_remote(self._operators), remote))
        except (KeyFileError, OSError, zmq.ZMQError) as error:
            status(f"cannot listen at {self._listen}: {error}")
            self.timers.after(LISTEN_RETRY_S, self._open_remote)
        else:
            status("")

    def _add(self, door: Door) -> None:
        self.doors.append(door)
        self._poller.register(door.socket, zmq.POLLIN)
        self._poller.register(door.monitor, zmq.POLLIN)

    # the loop

    def serve(self) -> None:
        """Serve until told to stop."""
        while not self._stopping:
            self.turn()

    def turn(self, longest_s: float | None = None) -> None:
        """Do what there is to do, then wait for more, `longest_s` seconds at most."""
        more = False
        for door in self.doors:
            more = door.turn() or more
        if self._doorkeeper is not None:
            more = self._doorkeeper.turn() or more
        self.timers.run()
        due_s = self.calls.turn()
        waits = [0.0 if more else None, due_s, self.timers.wait_s(), longest_s]
        wait_s = min((wait for wait in waits if wait is not None), default=None)
        readable = dict(self._poller.poll(None if wait_s is None else math.ceil(wait_s * 1000)))
        if self.watch.fileno() in readable:
            self.watch.turn()

    def _on_signals(self) -> None:
        numbers = self._signals.arrived()
        if signal.SIGTERM in numbers:
            self._stopping = True
        if signal.SIGHUP in numbers:
            self._look_at_keys()

    def _look_at_keys(self) -> None:
        """Whose key has been removed is served no longer, though it is connected."""
        if self._doorkeeper is not None:
            still = {f"client {name}" for name in self._doorkeeper.admitted().values()}
            for door in self.doors[1:]:
                door.expel(lambda peer: peer.label not in still)

    def _happened(self, event: wire.Event) -> None:
        self.board.happened(event)
        self.sweeper.happened(event.topic)

    # losses

    def _lost(self, subscriber: Subscriber, count: int) -> None:
        if not self._losses:
            self.timers.after(REPORT_S, self._report_losses)
        self._losses[subscriber] = self._losses.get(subscriber, 0) + count

    def _report_losses(self) -> None:
        """Tell whoever wants to know, and the daemon, who reads too slowly."""
        losses, self._losses = self._losses, {}
        for subscriber, count in losses.items():
            message = {"subscriber": subscriber.label, "lost": count, "lost_ever": subscriber.outlet.lost_ever}
            signal_ = wire.Signal(LOST_TOPIC, wire.pack(message))
            self.board.publish(LOST_TOPIC, wire.encode(signal_))
        worst = max(losses, key=lambda subscriber: losses[subscriber])
        text = f"{len(losses)} read too slowly: {sum(losses.values())} signals lost, most of {worst.label}"
        notify(f"X_REGROW_EVENT=signals_lost\nX_REGROW_TEXT={text}")

    def close(self) -> None:
        """End all connections; recorded subscriptions stay, for the next hub."""
        for door in self.doors:
            door.close()
        if self._doorkeeper is not None:
            self._doorkeeper.close()
        self.root.close()
        self.sweeper.close()
        self.records.close()
        self.calls.close()
        self.watch.remove(self.node.fileno())
        self.node.close()
        self._context.term()
        self.watch.close()
        self._signals.close()
        os.close(self._run_dir_fd)
