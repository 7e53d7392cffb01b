"""
A worker of the chaos tree, as a command (`chaos_worker.py DIRECTORY ESCAPEES`) or as the function
`chaos_worker:work`.

For its whole life, and that of everything it leaves behind, it holds a lock on DIRECTORY/locks/NAME; finding it
taken is written to DIRECTORY/violations. It prints numbered lines `L TOKEN INCARNATION PID NUMBER` and keeps count
of those that were fully written in DIRECTORY/printed/NAME. Its escapees are daemons: own session, double fork.

It imports little and works with `-I -S`, because a storm starts it thousands of times.
"""

import _signal  # type: ignore[import-not-found]  # typeshed knows only `signal`, which is slow to import
import _socket
import fcntl
import os
import select
import sys

APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
FIRST_LINES = 3


def notify(text: str) -> None:
    """Tell the supervisor."""
    address = os.environ["NOTIFY_SOCKET"]
    sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    sender.connect("\0" + address[1:] if address.startswith("@") else address)
    sender.send(text.encode())
    sender.close()


def lock(directory: str, who: str) -> None:
    """Take the name's lock for good; the open description is inherited by every escapee."""
    name = os.environ["REGROW_NAME"]
    fd = os.open(f"{directory}/locks/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        violations = os.open(f"{directory}/violations", APPEND, 0o666)
        holder = os.pread(fd, 200, 0).decode().strip()
        os.write(violations, f"{name} {who} started while {holder} or what it left behind held the lock\n".encode())
        os.close(violations)
        return
    os.ftruncate(fd, 0)
    os.pwrite(fd, who.encode(), 0)


def escape(directory: str) -> None:
    """Leave a process behind that is nobody's child and in nobody's session, and return once it is there."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
        os.write(writer, b".")
        os.close(writer)
        os.close(reader)
        block(directory)
    os.close(writer)
    os.waitpid(middle, 0)
    os.read(reader, 1)
    os.close(reader)


def block(directory: str) -> None:
    """Never return."""
    while True:
        select.select([], [], [])


def work(directory: str, escapees: int = 0, every_ms: int = 0, deaf: bool = False) -> None:
    """Be the worker."""
    if deaf:
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    token, _, incarnation = os.environ["REGROW_CHILD"].split(":")
    who = f"{token} {incarnation} {os.getpid()}"
    lock(directory, who)
    record = os.open(f"{directory}/printed/{os.environ['REGROW_NAME']}", APPEND, 0o666)
    number = 0
    for _ in range(FIRST_LINES):
        number = say(record, who, number)
    for _ in range(escapees):
        escape(directory)
    notify("READY=1")
    while every_ms:
        select.select([], [], [], every_ms / 1000)
        number = say(record, who, number)
    block(directory)


def say(record: int, who: str, number: int) -> int:
    """Print one line in one write (a pipe takes it whole or not at all), then write down that it was printed."""
    number += 1
    os.write(1, f"L {who} {number}\n".encode())
    os.write(record, f"{who} {number}\n".encode())
    return number


if __name__ == "__main__":
    work(sys.argv[1], escapees=int(sys.argv[2]))
