"""
Waiting, by any number of threads, on the one socket of a process.

    _leading     one thread (`_leader`) waits in `epoll`, without the lock that it sets this under; `transport.wake`
                 ends its wait. A signal's handler that has interrupted it there leads above it
    _followers   an event for each other thread that waits; set when its thing is done, or so that it leads next
    _attending   a thread accepts for a main thread that is busy; set without the lock, and `_recall` sends it away
    by_loop      an event loop watches the descriptor, and is woken through it

Who leaves something in the socket, or may have used up the sign of it, wakes whoever of these there is.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable

from regrow.ipc.awaited import Awaited, never_mind, when_done
from regrow.ipc.engine import Engine

LONG_S = 86_400.0
"""The kernel counts milliseconds in 31 bits; who waits longer looks again."""

EVENTS = 64
"""Heard of at once; the kernel is given room for them each time."""

SENT = 32
"""After so many messages a thread that sends them looks what has come, while another attends for it."""

LOOK_S = 1.0
"""How often who attends looks in any case."""

GLANCE_S = 0.005
"""How often it does while messages are sent beside it."""

LED_S = 0.05
"""How often a thread that would accept looks whether another, that waits here and so accepts already, still does."""


class Waits(Engine):
    """An engine that can be waited on."""

    def wait(self, thing: Awaited, deadline_s: float) -> bool:
        """Wait until `thing.done`, at most until `deadline_s` (monotonic; inf: for ever); returns `thing.done`."""
        if self.forked:
            self._begin_anew()
        if self._attending:
            self._recall()
        if _is_done(thing):
            return True
        with self._lock:
            if self.transport.is_midway:
                self.transport.refuse_midway()
            try:
                while not self.closed:
                    more = self._turn(thing)
                    if thing.done:
                        return True
                    now_s = time.monotonic()
                    if deadline_s <= now_s:
                        break
                    left_s = 0.0 if more else deadline_s - now_s
                    if self.peers.dying:
                        left_s = min(left_s, self._next_s() - now_s)
                    if self._leading and self._leader != threading.get_ident():
                        self._follow(left_s, thing)
                    else:
                        self._lead(left_s, thing)
            finally:
                if self._followers and not self._leading:
                    next(iter(self._followers)).set()  # somebody else has to lead now
                if self.by_loop:
                    self._hand_to_loop()
        return thing.done

    def _lead(self, left_s: float, thing: Awaited) -> None:
        """Wait for the kernel, for all who wait in this process, without the lock that the caller holds."""
        transport = self.transport
        wake = transport.wake
        was_leading = self._leading
        try:
            self._leading, self._leader = True, threading.get_ident()
            if thing.callback is None:  # as nearly always: spared are the calls
                thing.callback = wake
            else:
                when_done(thing, wake)
            try:
                self._lock.release()
                events = transport.epoll.poll(left_s if 0.0 <= left_s < LONG_S else _epoll_timeout(left_s), EVENTS)
            finally:
                self._lock.acquire()
        finally:
            self._leading = was_leading
            if was_leading:
                wake()  # what came may be for those below, and its sign is used up
            if thing.callback is wake:
                thing.callback = None
            else:
                never_mind(thing, wake)
            if self.closed:
                self._led.set()
        if not self.closed:
            if len(events) == 1 and events[0][0] == transport.router_fd:
                self._is_signed = True
            else:
                self._heard(events)

    def _follow(self, left_s: float, thing: Awaited) -> None:
        """Wait for the one who leads, without the lock that the caller holds."""
        follower = threading.Event()
        self._followers.add(follower)
        when_done(thing, follower.set)
        try:
            self._lock.release()
            follower.wait(min(max(left_s, 0.0), threading.TIMEOUT_MAX))
        finally:
            self._lock.acquire()
            self._followers.discard(follower)
            never_mind(thing, follower.set)

    def attend(self, still: Callable[[], bool]) -> None:
        """
        Go on accepting, in a thread of its own, until somebody else waits on this node, or not `still()`.

        While somebody does, there is nothing to do here, and two who take in each other's messages are slower than one.
        """
        if self._leading:
            time.sleep(LED_S)
            return
        self._attending = True
        recalled, heard = select.poll(), select.poll()
        recalled.register(self.recall_fd, select.POLLIN)
        heard.register(self.recall_fd, select.POLLIN)
        heard.register(self.transport.epoll.fileno(), select.POLLIN)
        left_s = 0.0  # whoever was here before may have used up the sign that something has come
        sent = -1
        while self._attending and still():
            if self._is_glancing:
                ready = recalled.poll(1000 * min(left_s, GLANCE_S))
            else:
                ready = heard.poll(1000 * min(left_s, LOOK_S))
            if any(fd == self.recall_fd for fd, _ in ready):
                break
            with self._lock:
                if self.closed:
                    break
                if not self._leading:
                    self._heard(self.transport.epoll.poll(0))
                self._is_glancing, sent = sent != self._sent, self._sent
                left_s = 0.0 if self._turn() else max(self._next_s() - time.monotonic(), 0.0)
        self._attending = False
        try:
            os.eventfd_read(self.recall_fd)
        except BlockingIOError:
            pass  # it ended by itself
        with self._lock:
            self._hand_to_loop()

    def _has_sent(self) -> None:
        """
        Sending may have used up the sign that something has come: take it in, for those who wait for that sign.

        Looking costs a quarter of what sending does. Who attends for a main thread that sends looks by itself as long
        as it does, so that only one in `SENT` need.
        """
        if self._leading or self.by_loop:
            self._take_in()
            return
        self._sent += 1
        if self._sent % SENT == 0:
            self._take_in()
        if not self._is_glancing:
            self._is_glancing = True
            self.transport.wake()

    def _recall(self) -> None:
        self._attending = False
        os.eventfd_write(self.recall_fd, 1)


def _is_done(thing: Awaited) -> bool:
    return thing.done


def _epoll_timeout(left_s: float) -> float:
    return -1 if left_s == float("inf") else min(max(left_s, 0.0), LONG_S)
