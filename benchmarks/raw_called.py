"""
The floor of a commit in a handler: a bare ROUTER that puts a row into bare LMDB, or does not, before it answers.

    PATH LEVEL CALLER CALLED    LEVEL as in raw_queue.py; the processors of the two processes

On standard input, lines `costs COUNT`, answered with the seconds of calls that change a row, `|`, and of calls that do
not, by turns. A process that has just been woken takes twice as long for the same put as one that does nothing else.
"""

from __future__ import annotations

import os
import signal
import sys
import time

import zmq

from benchmarks.raw_queue import Lmdb


def serve(path: str, level: str) -> None:
    """Answer for ever."""
    store = Lmdb(path, level)
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(f"ipc://{path}.zmq")
    number = 0
    while True:
        who, verb = router.recv_multipart()
        if verb == b"keep":
            store.commit(number)
            number += 1
        router.send(who, zmq.SNDMORE)
        router.send(verb)


def main(path: str, level: str, caller: str, called: str) -> None:
    """Do what each line says."""
    server = os.fork()
    if server == 0:
        os.sched_setaffinity(0, {int(called)})
        serve(path, level)
    os.sched_setaffinity(0, {int(caller)})
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.connect(f"ipc://{path}.zmq")
    dealer.send(b"leave")
    dealer.recv()
    print("ready", flush=True)
    for line in sys.stdin:
        taken: dict[bytes, list[float]] = {b"keep": [], b"leave": []}
        for _ in range(int(line.split()[1])):
            for verb, samples in taken.items():
                began_s = time.perf_counter()
                dealer.send(verb)
                dealer.recv()
                samples.append(time.perf_counter() - began_s)
        print(" | ".join(" ".join(map(str, samples)) for samples in taken.values()), flush=True)
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
