"""Fork hooks that are kept back until user code runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NUMBERS = """
import os
from regrow.workers import forkhooks

forkhooks.load_random()
import random

random.gauss(0, 1)  # leaves the half of a pair behind

def drawn():
    return (random.random(), random.gauss(0, 1))

def in_child(body):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, body().encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    said = os.read(reader, 10_000).decode()
    os.close(reader)
    return said

def worker():
    forkhooks.restore()
    return f"{drawn()} {in_child(lambda: repr(drawn()))} {in_child(lambda: repr(drawn()))} "

said = in_child(worker) + in_child(worker) + repr(drawn())
numbers = said.replace("(", "").replace(")", "").replace(",", "").split()
print(len(numbers), len(set(numbers)))
"""


def test_workers_and_what_they_fork_draw_numbers_of_their_own() -> None:
    """No two of a supervisor, its workers and the forks of those draw the same random numbers."""
    command = [sys.executable, "-c", NUMBERS]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    assert said == "14 14"


PRELOADED = """
import os
import sys
from regrow.config.spec import Kind, SupervisorSpec
from regrow.daemon import forked

forked.load({Kind.AGENT})

def drawn():
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        forked.preload(SupervisorSpec("sup", preload=("drawing",), base_dir=sys.argv[1]))
        os.write(writer, repr(sys.modules["drawing"].NUMBER).encode())
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(writer)
    return os.read(reader, 100)

print(drawn() != drawn() != b"")
"""


def test_preloaded_modules_draw_numbers_of_their_own(tmp_path: Path) -> None:
    """What a module draws while it is imported is another number in each supervisor that preloads it."""
    (tmp_path / "drawing.py").write_text("import random\nNUMBER = random.random()\n")
    command = [sys.executable, "-c", PRELOADED, str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
    assert said == "True"
