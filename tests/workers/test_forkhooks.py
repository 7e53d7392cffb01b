"""Fork hooks that are kept back until user code runs."""

from __future__ import annotations

import subprocess
import sys

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
