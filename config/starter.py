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
children = ["clock", "web"]
# More than `intensity` restarts within `period`, and the supervisor gives up and lets its own supervisor decide.
intensity = 3
period = "5s"

# A Python function in a process of its own: module {module}.py, beside this file.
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
"""Functions that {name}.toml runs, each in a process of its own."""

import threading
import time


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
