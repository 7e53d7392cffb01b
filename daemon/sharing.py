"""
What a process does about its memory before it forks, so that its children go on sharing most of it.

A forked process shares all pages of its parent, and has its own copy of each that either of them writes to. In Python
that is nearly every page that anything is looked at in, for whoever uses an object counts itself in it. So a page
is spared by not touching what lies in it: no garbage collector that walks all objects (`gc.freeze`), no notes that
refer to objects anywhere, no new objects in the gaps between old ones.

Source: Python's gc.freeze, Objects/typeobject.c (assign_version_tag, _PyType_Lookup), Objects/obmalloc.c; malloc(3).
"""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from types import CodeType, FunctionType

from regrow.daemon import hot

_POOL_BYTES, _POOL_HEAD_BYTES = 16 * 1024, 48
_SMALL_BYTES = range(48, 513, 16)
"""The sizes of which Python keeps pools of its own."""

_BYTES_HEAD = sys.getsizeof(b"")
_MOST_OF_A_SIZE = 256 * 1024
_FIRST = 8
_LARGEST_GAP_BYTES, _MOST_GAPS, _MOST_OF_HEAP = 120_000, 10_000, 32 * 1024 * 1024

_kept: list[bytes] = []


def settle() -> None:
    """
    What there is now stays: nothing new comes between it, the collector never looks at it, and no notes refer to it.

    For a process that has loaded what it needs, and shares nothing with a parent: it writes all over its memory.
    """
    gc.collect()
    fill_gaps()
    _lay_together()
    gc.collect()  # of new tuples it learns which need no looking after, and writes to them
    fill_gaps()
    gc.freeze()
    _forget_lookups()


def _forget_lookups() -> None:
    """
    Have Python forget which attributes it found in which classes.

    It notes 4,096 of them, each with a reference to its name. A new note in the place of an old one writes to the
    page of that name: 60 pages in a function, 140 in an agent. Since Python 3.12 such names are not counted.
    """
    if sys.version_info < (3, 12):
        sys._clear_type_cache()


def _lay_together() -> None:
    """
    Give the functions that children run (`hot`) copies of their code, which lie side by side.

    One function in twelve is run by them; their code was on 70 pages of a function and 260 of an agent.
    """
    places = [(module, name) for module, *names in map(str.split, hot.RUN.splitlines()) for name in names]
    order = {place: number for number, place in enumerate(places)}
    found: list[tuple[int, FunctionType]] = []
    for one in gc.get_objects():
        if type(one) is FunctionType:
            number = order.get((one.__globals__.get("__name__", ""), one.__qualname__))
            if number is not None:
                found.append((number, one))
    found.sort(key=lambda pair: pair[0])
    codes = {id(one.__code__): one.__code__ for _, one in found}  # equal ones need not be the same
    copies = {key: _copy(code) for key, code in codes.items()}
    for _, one in found:
        one.__code__ = copies[id(one.__code__)]


def _copy(code: CodeType) -> CodeType:
    """The same, and what is made when it runs (comprehensions, closures) too."""
    if not any(isinstance(part, CodeType) for part in code.co_consts):
        return code.replace()
    return code.replace(co_consts=tuple(_copy(part) if isinstance(part, CodeType) else part for part in code.co_consts))


def fill_gaps() -> None:
    """
    Take the free memory between what there is, for good: what is made later lies together, behind it.

    Loading modules leaves some 400 KiB free in 1,700 gaps. A child's new objects would go there, each into another page
    that it shared until then. Where Python or libc manage memory otherwise, little is taken, and nothing gained.
    """
    for size in _SMALL_BYTES:
        _kept.extend(_fill_pools(size))
    _fill_heap()


def _fill_pools(size: int) -> list[bytes]:
    """Objects of this size, until they are the first of a new pool, one behind the other; those are given back."""
    made: list[bytes] = []
    in_order = 0
    while len(made) * size < _MOST_OF_A_SIZE and in_order < _FIRST:
        one = bytes(size - _BYTES_HEAD)
        if id(one) % _POOL_BYTES == _POOL_HEAD_BYTES:
            in_order = 1
        elif in_order:
            in_order = in_order + 1 if id(one) == id(made[-1]) + size else 0
        made.append(one)
    del made[len(made) - in_order :]
    return made


def _fill_heap() -> None:
    """The same with libc's heap: from the largest to the smallest, until each comes from behind the last one."""
    libc = ctypes.CDLL(None)
    malloc: Callable[[int], int | None] = libc.malloc
    free: Callable[[int | None], None] = libc.free
    libc.malloc.argtypes, libc.malloc.restype = (ctypes.c_size_t,), ctypes.c_void_p
    libc.free.argtypes, libc.free.restype = (ctypes.c_void_p,), None
    size, taken = _LARGEST_GAP_BYTES, 0
    behind = malloc(size)
    free(behind)
    for _ in range(_MOST_GAPS):
        if size < 24 or behind is None or taken > _MOST_OF_HEAP:  # as where all is mapped, from above downwards
            return
        place = malloc(size)
        if place is None or place >= behind:
            free(place)
            size = size * 7 // 8 if size > 1024 else size - 16
        else:
            taken += size


__all__ = ["fill_gaps", "settle"]
