"""
A child process that does what a test tells it.

Usage: actor.py DIRECTORY NAME [plan=STEP,STEP…] [stop=HOW] [ANYTHING…]

What it does is written, one line each, to DIRECTORY/trace: `try` when it runs, `start` just before it
reports ready, `term` when it is asked to stop, `stop` when it ends because of that, each with its name
and pid. ANYTHING is logged once as `args`, so that a test sees what it was started with.

The n-th start takes the n-th STEP, later ones the last; DIRECTORY/NAME.plan replaces the plan:

    ready | ready:MS       report ready, at once or after MS milliseconds
    fail | fail:MS         exit 1 instead
    ignore                 answer "not needed" and exit 0
    hang                   never report anything
    crash:MS | exit:MS     report ready, then end MS milliseconds later with code 1 or 0
    gate                   ask the test (DIRECTORY/gate.sock) which of the above it is to be

HOW it meets SIGTERM: `MS` ends after MS milliseconds, `ignore` does not end, `code:N` exits with N,
`gate` asks the test and ends when it is answered, `default` dies of the signal. Orders come as datagrams
to DIRECTORY/NAME.sock:

    exit N     exit with code N
    orphan     leave a grandchild of its own session behind, answer its pid; it takes orders at NAME.orphan
    unlink     close every descriptor, ignore SIGTERM, stay alive
    prior      answer nothing, only show by the answer that earlier orders were carried out

It imports built-in modules only, with `-I -S`, because a test suite starts it a thousand times.
"""

import _signal  # type: ignore[import-not-found]  # typeshed knows only `signal`, which is slow to import
import _socket
import os
import select
import sys

DIRECTORY, NAME = sys.argv[1:3]
OPTIONS = dict(word.split("=", 1) for word in sys.argv[3:] if word.startswith(("plan=", "stop=")))
EXTRA = [word for word in sys.argv[3:] if not word.startswith(("plan=", "stop="))]


def path(suffix: str) -> str:
    return f"{DIRECTORY}/{NAME}.{suffix}"


def trace(word: str, text: str = "") -> None:
    """Append one line; O_APPEND makes the lines of many processes one order."""
    fd = os.open(f"{DIRECTORY}/trace", os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    os.write(fd, f"{word} {NAME} {os.getpid()} {text}".rstrip().encode() + b"\n")
    os.close(fd)


def pause(milliseconds: str) -> None:
    """Be slow: the programs may be, the tests may not."""
    select.select([], [], [], int(milliseconds) / 1000)


def notify(text: str) -> None:
    address = os.environ["NOTIFY_SOCKET"]
    sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    sender.connect("\0" + address[1:] if address.startswith("@") else address)
    sender.send(text.encode())
    sender.close()


def ask_gate(question: str) -> str:
    """Ask the test and wait for its answer; a test that has gone means: end."""
    asker = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    asker.connect(f"{DIRECTORY}/gate.sock")
    asker.send(f"{question} {NAME} {os.getpid()}\n".encode())
    answer = asker.recv(200).decode().strip()
    asker.close()
    return answer or "fail"


def next_step() -> str:
    """The step for this start: starts are counted by the bytes of a file."""
    fd = os.open(path("attempts"), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
    os.write(fd, b".")
    attempt = os.fstat(fd).st_size
    os.close(fd)
    plan = OPTIONS.get("plan", "ready")
    if os.path.exists(path("plan")):
        with open(path("plan")) as written:
            plan = written.read().strip()
    steps = plan.split(",")
    step = steps[min(attempt, len(steps)) - 1]
    return ask_gate("start") if step == "gate" else step


def on_term(_number: int, _frame: object) -> None:
    trace("term")
    how, _, code = OPTIONS.get("stop", "0").partition(":")
    if how == "ignore":
        return
    if how == "gate":
        ask_gate("stop")
    elif how.isdigit():
        pause(how)
    trace("stop")
    os._exit(int(code or 0))


def begin(step: str) -> None:
    """Carry out the step up to *ready*; returns only if the process is to live on."""
    kind, _, milliseconds = step.partition(":")
    if kind == "hang":
        select.select([], [], [])
    if kind == "ignore":
        notify("X_REGROW_IGNORE=1")
        os._exit(0)
    if milliseconds and kind in ("ready", "fail"):
        pause(milliseconds)
    if kind == "fail":
        os.write(2, f"{NAME} refuses to start\n".encode())
        os._exit(1)


def leave_orphan() -> str:
    """Double fork and setsid; the grandchild answers with its pid once it listens to orders."""
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        orders = listen(path("orphan"))
        os.write(writer, str(os.getpid()).encode())
        while True:
            follow(orders)
    os.waitpid(middle, 0)
    pid = os.read(reader, 20).decode()
    os.close(reader)
    os.close(writer)
    return pid


def unlink_all() -> None:
    os.closerange(0, 1024)
    select.select([], [], [])


def listen(address: str) -> _socket.socket:
    orders = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    try:
        os.unlink(address)
    except FileNotFoundError:
        pass  # the first incarnation
    orders.bind(address)
    return orders


def follow(orders: _socket.socket) -> None:
    """Carry out one order, and answer a sender that has an address."""
    order, sender = orders.recvfrom(200)
    word, _, value = order.decode().partition(" ")
    if word == "exit":
        os._exit(int(value))
    if word == "unlink":
        _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    answer = leave_orphan() if word == "orphan" else str(os.getpid())
    if sender:
        orders.sendto(answer.encode(), sender)
    if word == "unlink":
        unlink_all()


def main() -> None:
    if OPTIONS.get("stop") != "default":
        _signal.signal(_signal.SIGTERM, on_term)
    trace("try")
    if EXTRA:
        trace("args", " ".join(EXTRA))
    step = next_step()
    begin(step)
    orders = listen(path("sock"))
    trace("start")
    notify("READY=1")
    kind, _, milliseconds = step.partition(":")
    if kind in ("crash", "exit"):
        pause(milliseconds)
        os._exit(1 if kind == "crash" else 0)
    while True:
        follow(orders)


main()
