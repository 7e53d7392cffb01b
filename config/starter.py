"""The files that `regrow init` writes: a tree that runs as it is, with what is most often changed explained."""

from __future__ import annotations

TREE = '''\
# A supervision tree for regrow. Check it with `regrow check {name}.toml`, run it with `regrow up {name}.toml`.
# Every key and its default: `regrow schema`. Times and sizes carry their unit: "250ms", "5s", "64KiB".

[daemon]
name = "{name}"

# Supervisors start their children in order, stop them in the reverse order, and restart them when they die.
#   one_for_one   only the one that died        rest_for_one  it and those after it
#   one_for_all   all of them                   dynamic       children come through start_child
[supervisor.app]
strategy = "rest_for_one"
children = ["counter", "clock", "web"]
# More than `intensity` restarts within `period`, and the supervisor gives up and lets its own supervisor decide.
intensity = 3
period = "5s"

# A Python class in a process of its own, which handles messages: module {module}.py, beside this file.
# Try `regrow call counter add n=2`, kill it (`kill -9 PID`, PIDs from `regrow status`), and call it again: it goes on
# counting. `regrow post counter add` adds one even while it is stopped: as soon as it is started, once.
[worker.counter]
agent = "{module}:Counter"
# What its `init` is given:
args = {{ start = 0 }}
# replicas = 4                 # counter.0 to counter.3; then `counter` is whoever has the turn
# watchdog = "30s"             # a handler that takes longer, without saying self.progress(), is killed

# A Python function in a process of its own.
[worker.clock]
function = "{module}:clock"
args = {{ every_s = 5.0 }}
# permanent: always restarted; transient: only after a failure; temporary: never
restart = "permanent"

# Any program. There is no shell: each argument is a string of its own.
# In every string {{run_dir}}, {{state_dir}}, {{log_dir}}, {{name}} and {{env:HOME}} are filled in.
[worker.web]
command = ["python3", "-m", "http.server", "8765", "--bind", "127.0.0.1"]
# It counts as started when the port accepts; what comes after it in `children` waits for that.
ready = {{ tcp = 8765, timeout = "10s" }}
# Between the stop signal and SIGKILL:
shutdown = "5s"
# env = {{ LANG = "C.UTF-8" }}
# user = "www-data"
# limits = {{ memory = "256MiB", open_files = 1024 }}
'''

MODULE = '''\
"""What {name}.toml runs, each in a process of its own."""

import threading
import time

from regrow.workers import Agent, handler


class Counter(Agent):
    """Counts, through `kill -9` too: what is in `self.state` is kept, whatever ends its process."""

    # Exceptions that are answers: the caller gets them. Any other one ends the process, and a new one is started.
    replies = (ValueError,)

    def init(self, start: int) -> None:
        """Before anybody can call, in each process that has the name."""
        self.state.setdefault("count", start)

    @handler
    def add(self, n: int = 1) -> int:
        """Arguments are checked against the annotations: `n` is a number, or the caller is told."""
        if n < 0:
            raise ValueError(f"cannot add {{n}}: this counter goes up")
        self.state["count"] += n  # kept when the handler returns, undone when it raises
        return self.state["count"]

    @handler
    def value(self) -> int:
        return self.state["count"]


def clock(every_s: float) -> None:
    """Print the time for ever. What is printed goes to the log: `regrow logs clock -f`."""
    pause = threading.Event()
    while True:
        print(time.strftime("%H:%M:%S"), flush=True)
        pause.wait(every_s)
'''


def starter_files(name: str) -> dict[str, str]:
    """
    Return the starter files by name, for a daemon called `name` (letters, digits, _ and -).

    The module's name is the daemon's with `-` and `.` turned into `_`, and `_workers` added.
    """
    module = f"{''.join(letter if letter.isalnum() else '_' for letter in name)}_workers"
    module = module if module.isidentifier() else f"_{module}"
    return {
        f"{name}.toml": TREE.format(name=name, module=module),
        f"{module}.py": MODULE.format(name=name),
    }
