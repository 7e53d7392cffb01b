"""
Effects outside the store, which no transaction can undo: each is on record with its result as soon as it is had.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from regrow.ipc import statekeys
from regrow.ipc.transaction import Transaction
from regrow.workers.state_values import values_of
from regrow.workers.unit import Unit

T = TypeVar("T")


def once(unit: Unit, key: str, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """
    The result that is on record under `key`, or that of `function`, which is on record then.

    Raises:
        BadState: the result cannot be kept; StoreError; and what `function` raises.
    """
    name = unit.owner.name
    row = statekeys.reserved("once") + statekeys.encode(key, statekeys.limit_of(name) - len("once") - 1)
    place = name.encode() + b"\0" + row
    store, values = unit.posting.store, values_of(Any)
    unrecorded = unit.owner.unrecorded
    kept = store.row(place)
    if kept is not None:
        known: T = values.read(kept, statekeys.encode(key))
        return known
    if place not in unrecorded:
        result = function(*args, **kwargs)
        unrecorded[place] = values.write(result, statekeys.encode(key))
    else:  # the store had no room for it
        result = values.read(unrecorded[place], statekeys.encode(key))
    record = Transaction()
    record.puts[place] = unrecorded[place]
    unit.posting.commit(record)
    del unrecorded[place]
    return result
