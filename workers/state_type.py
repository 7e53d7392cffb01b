"""
What the class of an agent says about its state: `state: Cart`, `state: State[Order]`, or nothing.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import typing
from typing import Any, NamedTuple

import msgspec

from regrow.workers.state import State
from regrow.workers.state_fields import fields_of, version_of
from regrow.workers.state_values import values_of


class Declared(NamedTuple):
    """The form of an agent's state: the class of the one object that it is, or None and the type of its values."""

    whole: type | None = None
    of: Any = Any


def declared_state(agent: type) -> Declared:
    """
    What the annotation `state` in the class, or in the nearest one that it derives from, says.

    Raises:
        TypeError: it is none of the forms; NameError: it names what is not defined, or not yet.
    """
    for base in agent.__mro__:
        annotation = inspect.get_annotations(base).get("state")
        if annotation is None:
            if "state" in vars(base):
                return Declared()
            continue
        hint = _evaluated(base, annotation)
        if hint is State:
            return Declared()
        if typing.get_origin(hint) is State:
            return Declared(None, typing.get_args(hint)[0])
        if isinstance(hint, type) and (issubclass(hint, msgspec.Struct) or dataclasses.is_dataclass(hint)):
            return Declared(hint)
        said = "declare a State, a State[…] of one type of values, a Struct or a dataclass"
        raise TypeError(f"{agent.__qualname__}.state cannot be of {hint!r}: {said}")
    return Declared()


def state_type(agent: type) -> type | None:
    """
    The class of the one object that the agent's state is; None: it is a mapping.

    Raises:
        TypeError, NameError: as `declared_state`.
    """
    return declared_state(agent).whole


def check_state(agent: type) -> Declared:
    """
    Look at everything about an agent's state that can be wrong in its class; to be called when the class is made.

    Raises:
        TypeError: what cannot work, and why; NameError: an annotation names what is not defined, or not yet.
    """
    declared = declared_state(agent)
    whole = declared.whole
    if whole is None:
        values_of(declared.of)
        return declared
    title = f"{agent.__qualname__}.state: {whole.__qualname__}"
    if getattr(agent, "concurrency", 1) != 1:
        said = "handlers that overlap would change one object together: leave concurrency at 1, or use a State"
        raise TypeError(f"{title}: {said}")
    fields = fields_of(whole)
    if any(field.name == "version" for field in fields):
        raise TypeError(f"{title}: its version is no field: write `version: ClassVar[int] = …`")
    version_of(whole)
    for field in fields:
        if not field.has_default:
            raise TypeError(f"{title}: a new state has nothing for {field.name}: give it a default or default_factory")
    if "upgrade" in dir(whole) and not inspect.ismethod(getattr(whole, "upgrade")):  # noqa: B009 - it is any class
        raise TypeError(f"{title}: upgrade is called before there is an object: make it a classmethod")
    return declared


def _evaluated(base: type, annotation: Any) -> Any:
    """An annotation alone: others of the class may name what only a type checker sees."""
    holder = type("holder", (), {"__annotations__": {"state": annotation}})
    spaces = (vars(sys.modules[base.__module__]), dict(vars(base)))
    return typing.get_type_hints(holder, *spaces)["state"]
