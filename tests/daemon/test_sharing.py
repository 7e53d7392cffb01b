"""What a process does about its memory before it forks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

LOOKUPS = """
import sys
from regrow.daemon import sharing

class Found:
    pass

name = "".join(["some", "thing"])
setattr(Found, name, 1)
before = sys.getrefcount(name)
getattr(Found(), name)
noted = sys.getrefcount(name)
sharing.settle()
print(noted - before, sys.getrefcount(name) <= before)
"""

FROZEN = """
import gc
from regrow.daemon import sharing

garbage = []
garbage.append(garbage)
del garbage
sharing.settle()
print(gc.collect(), gc.get_freeze_count() > 1000, len(gc.get_objects()) < 100)
"""

GAPS = """
import sys
from regrow.daemon import sharing

size = int(sys.argv[1])
made = [bytes(size) for _ in range(1000)]
places = {id(one) for one in made}
del made[1::2]
sharing.fill_gaps()
later = [bytes(size) for _ in range(300)]
print(sum(id(one) in places for one in later))
"""


NAMED = """
import sys

if len(sys.argv) > 1:
    import regrow.daemon.interned
from regrow.daemon import hot, root

print(len({id(sys.intern(name)) // 4096 for name in hot.NAMES.split()}))
"""

TAKEN = """
import resource
from regrow.daemon import sharing

def mapped():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

before = mapped()
sharing.fill_gaps()
print(mapped() - before < 48 << 20)
"""


def said(program: str, *arguments: str, **environ: str) -> str:
    """What a program prints that begins with nothing of ours in its memory."""
    command = [sys.executable, "-c", program, *arguments]
    env = {**os.environ, **environ}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=env).stdout.strip()


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="names are not counted there")
def test_notes_of_lookups_are_forgotten() -> None:
    """Python's notes of where it found attributes refer to no names any more: to replace one would touch its page."""
    assert said(LOOKUPS) == "1 True"


def test_the_collector_has_nothing_to_look_at() -> None:
    """What there was is no garbage, and is never looked at again."""
    assert said(FROZEN) == "0 True True"


def test_names_that_are_made_first_lie_together() -> None:
    """Those of the hot code, which are otherwise among all that is loaded."""
    scattered, together = int(said(NAMED)), int(said(NAMED, "first"))
    assert together < scattered * 2 / 3  # what Python itself had before is where it is


@pytest.mark.parametrize("size", [20, 200, 470, 1000, 5000, 50_000])
def test_nothing_is_made_in_the_gaps_between_what_there_was(size: int) -> None:
    """Small objects, of which Python keeps pools, and larger ones, which are libc's."""
    assert said(GAPS, str(size)) == "0"


@pytest.mark.parametrize("threshold", ["", "4096", "65536"])
def test_little_is_taken_where_there_are_no_gaps(threshold: str) -> None:
    """With libc told to map memory for each larger object there is always some below what it gave last."""
    assert said(TAKEN, **({"MALLOC_MMAP_THRESHOLD_": threshold} if threshold else {})) == "True"


TOGETHER = """
import gc
from types import FunctionType
from regrow.config.spec import Kind
from regrow.daemon import forked, hot, root, sharing

places = {(module, name) for module, *names in map(str.split, hot.RUN.splitlines()) for name in names}
forked.load(set(Kind))

def pages():
    found = {}
    for one in gc.get_objects():
        if type(one) is FunctionType and (one.__globals__.get("__name__"), one.__qualname__) in places:
            found[one.__globals__["__name__"], one.__qualname__] = id(one.__code__) // 4096
    return found

before = pages()
sharing.settle()
gc.unfreeze()
after = pages()
own = {place for place in places if place[0].startswith("regrow.") and "<" not in place[1]}
print(len(set(after.values())) < len(set(before.values())) / 2, len(own - after.keys()) < len(own) / 10)
"""


def test_code_that_children_run_lies_together() -> None:
    """It is on less than half as many pages; and `hot` speaks of functions that there are."""
    assert said(TOGETHER) == "True True"
