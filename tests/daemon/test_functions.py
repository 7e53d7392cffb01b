"""Python functions as children: forked, not exec'd, and as well explained as commands."""

from __future__ import annotations

from typing import Any

import procs
import pytest
from configs import Config
from farm import Farm, dead
from harness import DaemonEnded
from tree import SUP, Tree
from wire import CallError

MODULE = """
import multiprocessing, os, select, socket, sys, threading

from regrow.workers import Ignore

def notify(text):
    address = os.environ["NOTIFY_SOCKET"]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(text.encode(), "\\0" + address[1:])

def forever():
    select.select([], [], [])

def status(text, number=0):
    notify(f"READY=1\\nSTATUS={text} {number} {os.environ['REGROW_NAME']} {multiprocessing.current_process().name}")
    forever()

def broken():
    raise ValueError("nothing is as it should be")

def deep():
    try:
        broken()
    except ValueError as error:
        raise RuntimeError("no way out") from error

def odd():
    class Odd(BaseException):
        pass
    raise Odd("no ordinary one")

def recursing():
    recursing()

def silly():
    class Silly(Exception):
        def __str__(self):
            raise TypeError("no words")
    raise Silly()

def leave(code):
    sys.exit(code)

def hard(code):
    os._exit(code)

def needless():
    raise Ignore

def square(number):
    return number * number

def pool():
    with multiprocessing.Pool(2) as workers:
        notify(f"STATUS={workers.map(square, range(4))}")
        forever()

def processes():
    child = multiprocessing.Process(target=forever)
    child.start()
    notify(f"READY=1\\nSTATUS={child.pid}")
    forever()

def daemonic():
    child = multiprocessing.Process(target=forever, daemon=True)
    child.start()
    notify(f"READY=1\\nSTATUS={child.pid}")

def threads():
    threading.Thread(target=forever, daemon=True).start()
    raise KeyError("with a thread")

not_callable = 7
"""


@pytest.fixture
def module(farm: Farm) -> Farm:
    """The farm with a module `funcs` next to its file."""
    file = farm.directory / "funcs.py"
    if not file.exists():
        file.write_text(MODULE)
        (farm.directory / "halfway.py").write_text("import no_such_module_anywhere\n\ndef f():\n    pass\n")
    return farm


def add(farm: Farm, name: str, function: str, **keys: Any) -> int:
    """Start a function of the module."""
    return farm.add(name, function=f"funcs:{function}", **keys)


def test_arguments_and_name(module: Farm) -> None:
    """Keyword arguments arrive; the process is multiprocessing's by the child's name."""
    add(module, "teller", "status", ready="notify", args={"text": "hello", "number": 3})
    module.eventually(lambda: module.entry("teller")["detail"], lambda d: d == "hello 3 teller teller")
    assert module.entry("teller")["kind"] == "function"


def test_exception(module: Farm) -> None:
    """The traceback is in last_exit and why, once; the reason is `exception`."""
    add(module, "faulty", "deep")
    reason = module.exited("faulty")
    assert reason["reason"] == "exception"
    assert reason["code"] == 1
    assert "RuntimeError: no way out" in reason["text"]
    assert "ValueError: nothing is as it should be" in reason["text"]
    assert "funcs.py" in reason["text"]
    assert "RuntimeError: no way out" in module.why("faulty")
    module.remove("faulty")


def test_what_is_no_ordinary_exception(module: Farm) -> None:
    """It is told of like any other one, though `except Exception` would let it pass."""
    add(module, "odd", "odd")
    reason = module.exited("odd")
    assert reason["reason"] == "exception"
    assert reason["text"].endswith("Odd: no ordinary one")
    module.remove("odd")


def test_endless_recursion(module: Farm) -> None:
    """Even that has a traceback of bounded size."""
    add(module, "recursive", "recursing")
    reason = module.exited("recursive")
    assert reason["reason"] == "exception"
    assert "RecursionError" in reason["text"]
    assert len(reason["text"]) <= 8192
    module.remove("recursive")


def test_exception_without_words(module: Farm) -> None:
    """An exception that cannot be printed."""
    add(module, "silly", "silly")
    reason = module.exited("silly")
    assert reason["reason"] == "exception"
    assert "Silly" in reason["text"]
    module.remove("silly")


def test_exception_beside_a_thread(module: Farm) -> None:
    """A daemon thread does not keep a failed function alive."""
    add(module, "threaded", "threads")
    assert "with a thread" in module.exited("threaded")["text"]
    module.remove("threaded")


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 3), (None, 0)])
def test_system_exit(module: Farm, code: int | None, expected: int) -> None:
    """sys.exit(n) is an exit with that code, no exception."""
    name = f"leaver-{code}".lower()
    args = {} if code is None else {"code": code}
    function = "leave" if code is not None else "hard"
    add(module, name, function, restart="temporary", args=args or {"code": 0})
    reason = module.exited(name)
    assert (reason["reason"], reason["code"]) == ("exit", expected)


def test_system_exit_with_words(module: Farm) -> None:
    """sys.exit("text") is code 1, the text is its last output."""
    add(module, "wordy", "leave", args={"code": "closing time"})
    assert module.exited("wordy")["code"] == 1
    module.last_text("wordy", "closing time")
    module.remove("wordy")


def test_returns(module: Farm) -> None:
    """A function that returns has ended normally."""
    add(module, "square", "square", restart="transient", args={"number": 3})
    reason = module.exited("square")
    assert (reason["reason"], reason["code"]) == ("exit", 0)
    assert module.entry("square")["state"] == "stopped"


def test_ignore(module: Farm) -> None:
    """`raise Ignore`: not needed."""
    spec = {"id": "needless", "function": "funcs:needless", "ready": "notify"}
    assert module.call("start_child", supervisor="sup", spec=spec) == {"pid": None}
    assert module.entry("needless")["state"] == "stopped"


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("funcs:nothing_of_that_name", "nothing_of_that_name"),
        ("no_such_module_here:f", "no_such_module_here"),
        ("funcs:not_callable", "callable"),
        ("halfway:f", "no_such_module_anywhere"),
        ("funcs", "module:callable"),
    ],
)
def test_import_errors(module: Farm, function: str, words: str) -> None:
    """What cannot be imported is told in words: by the check, or by the failed start."""
    with pytest.raises(CallError) as refused:
        module.add("unimportable", function=function, ready="notify")
    assert refused.value.code in ("bad_request", "start_failed")
    assert words in refused.value.message


def test_import_error_at_start(module: Farm) -> None:
    """A module that breaks after the check: exception with its traceback."""
    file = module.directory / "fragile.py"
    file.write_text("def f():\n    import select; select.select([], [], [])\n")
    module.add("fragile", function="fragile:f")

    def spoil() -> None:
        file.write_text("raise OSError('the licence server is down')\n")
        import shutil

        shutil.rmtree(module.directory / "__pycache__", ignore_errors=True)

    entry = module.stop_refused_start("fragile", spoil)
    assert entry["last_exit"]["reason"] == "exception", entry
    assert "the licence server is down" in entry["last_exit"]["text"]


def test_wrong_arguments(module: Farm) -> None:
    """Arguments that do not fit are found before anything starts."""
    with pytest.raises(CallError) as refused:
        add(module, "misfit", "square", args={"nonsense": 1})
    assert refused.value.code == "bad_request"
    assert "nonsense" in refused.value.message


def test_pool(module: Farm) -> None:
    """A Pool works inside a function, and nothing of it is left after the stop."""
    add(module, "pooled", "pool")
    module.eventually(lambda: module.entry("pooled")["detail"], lambda d: d == "[0, 1, 4, 9]")
    module.call("terminate_child", supervisor="sup", child="pooled")
    assert not procs.carrying(f"{module.directory}/run:pooled")
    assert module.entry("pooled")["last_exit"]["reason"] == "stopped"


@pytest.mark.parametrize("end", ["crash", "stop"])
def test_process(module: Farm, end: str) -> None:
    """A multiprocessing.Process dies with the function that made it, however that ends."""
    name = f"parent-{end}"
    pid = add(module, name, "processes", ready="notify")
    child = int(module.eventually(lambda: module.entry(name)["detail"]))
    if end == "crash":
        procs.kill(pid)
        module.exited(name)
    else:
        module.call("terminate_child", supervisor="sup", child=name)
    assert procs.is_dead(child)
    assert dead(pid)


def test_daemonic_process(module: Farm) -> None:
    """A daemonic one is ended by multiprocessing when the function returns."""
    add(module, "gone", "daemonic", ready="notify", restart="temporary")
    reason = module.exited("gone")
    assert (reason["reason"], reason["code"]) == ("exit", 0)


def test_preload(tree: Tree, config: Config) -> None:
    """What is preloaded is imported once, in the supervisor: its children share it."""
    (tree.directory / "heavy.py").write_text("import os\nPID = os.getpid()\n")
    (tree.directory / "uses.py").write_text(
        "import select, heavy\ndef f():\n    print(heavy.PID, flush=True)\n    select.select([], [], [])\n"
    )
    config.workers["u"] = {"function": "uses:f", "ready": {"line": "\\d+"}}
    config.supervisor("top", "sup").supervisor("sup", "u", preload=["heavy"])
    tree.grow()
    assert (tree.directory / "log" / "u.log").read_text().strip() == str(tree.pid("sup"))


def test_bad_preload(tree: Tree, config: Config) -> None:
    """A preload that fails is a failed start, with the module and the error on the daemon's stderr."""
    (tree.directory / "heavy.py").write_text(
        "import os\nif os.path.exists(__file__ + '.off'): raise OSError('too heavy')\n"
    )
    (tree.directory / "heavy.py.off").touch()
    config.workers["u"] = {"command": ["true"]}
    config.supervisor("top", "sup").supervisor("sup", "u", preload=["heavy"])
    config.write()
    with pytest.raises(DaemonEnded) as ended:
        tree.start()
    assert ended.value.status in (1, 78)
    assert "heavy" in ended.value.output
    assert "too heavy" in ended.value.output


def test_standard_input(farm: Farm) -> None:
    """It is empty, for a function and for the processes that it makes."""
    (farm.directory / "reading.py").write_text(
        "import multiprocessing, sys\n"
        "def child(way):\n"
        "    way.send((sys.stdin.read(), sys.stdin.encoding))\n"
        "def run():\n"
        "    ours, theirs = multiprocessing.Pipe()\n"
        "    process = multiprocessing.get_context('fork').Process(target=child, args=(theirs,))\n"
        "    process.start()\n"
        "    said = ours.recv()\n"
        "    process.join()\n"
        "    print('read', repr(sys.stdin.read()), said, flush=True)\n"
    )
    spec = {"id": "reader", "function": "reading:run", "restart": "temporary"}
    farm.call("start_child", supervisor=SUP, spec=spec)
    farm.exited("reader")
    farm.eventually(lambda: farm.log("reader"), lambda log: "read '' ('', 'utf-8')" in log)
