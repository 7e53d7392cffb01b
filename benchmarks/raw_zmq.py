"""
The floors of messages: the same patterns in bare pyzmq, one process each.

    server PATH [CPU]    a ROUTER at `PATH`: `e…` is answered with itself, `n…` is counted, `?` answered with the count
    forwarder PATH       XSUB and XPUB
    mouth PATH           a PUB; `publish COUNT SIZE` on standard input
    ear PATH             a SUB; `hear COUNT 0` on standard input, answered when that many have come
    driver PATH [CPU]    a DEALER; lines `calls COUNT SIZE` and `sends COUNT SIZE` on standard input

Each ends when its standard input is closed (a server: when it is killed).
"""

from __future__ import annotations

import os
import sys
import threading
import time

import zmq


def server(path: str) -> None:
    """Serve for ever."""
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(f"ipc://{path}")
    print("ready", flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    count = 0
    while True:
        who, text = router.recv_multipart()
        if text[:1] == b"n":
            count += 1
        else:
            router.send(who, zmq.SNDMORE)
            router.send(text if text[:1] == b"e" else b"%d" % count)


def driver(path: str) -> None:
    """Do what each line says, and answer with a line."""
    dealer = zmq.Context().socket(zmq.DEALER)
    dealer.connect(f"ipc://{path}")
    dealer.send(b"?")
    dealer.recv()
    print("ready", flush=True)
    for line in sys.stdin:
        verb, count, size = line.split()
        if verb == "calls":
            print(*calls(dealer, int(count), b"e" + b"x" * (int(size) - 1)), flush=True)
        else:
            text = b"n" + b"x" * (int(size) - 1)
            for _ in range(int(count)):
                dealer.send(text)
            dealer.send(b"?")
            dealer.recv()
            print("done", flush=True)
    os._exit(0)


def forwarder(path: str) -> None:
    """Forward for ever."""
    context = zmq.Context()
    front, back = context.socket(zmq.XSUB), context.socket(zmq.XPUB)
    front.bind(f"ipc://{path}.in")
    back.bind(f"ipc://{path}.out")
    print("ready", flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    zmq.proxy(front, back)


def mouth(path: str) -> None:
    """Publish as each line says."""
    publisher = zmq.Context().socket(zmq.XPUB)  # to see the subscription come before anything is published
    publisher.connect(f"ipc://{path}.in")
    publisher.recv()
    print("ready", flush=True)
    for line in sys.stdin:
        _, count, size = line.split()
        for _ in range(int(count)):
            publisher.send(b"x" * int(size))
        print("done", flush=True)
    os._exit(0)


def ear(path: str) -> None:
    """Hear as much as each line says."""
    subscriber = zmq.Context().socket(zmq.SUB)
    subscriber.subscribe(b"")
    subscriber.connect(f"ipc://{path}.out")
    print("ready", flush=True)
    for line in sys.stdin:
        for _ in range(int(line.split()[1])):
            subscriber.recv()
        print("heard", flush=True)
    os._exit(0)


def calls(dealer: zmq.Socket[bytes], count: int, text: bytes) -> list[float]:
    """Seconds that each round trip took."""
    taken = []
    for _ in range(count):
        began_s = time.perf_counter()
        dealer.send(text)
        dealer.recv()
        taken.append(time.perf_counter() - began_s)
    return taken


if __name__ == "__main__":
    if len(sys.argv) > 3:
        os.sched_setaffinity(0, {int(sys.argv[3])})
    {"server": server, "driver": driver, "forwarder": forwarder, "mouth": mouth, "ear": ear}[sys.argv[1]](sys.argv[2])
