"""
What a function's signature says about its arguments: the types that messages are read into.

It is looked at once, when the class is made. Arguments may come by position, by name, or both.

Source: contract section 4; Python's inspect.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from inspect import Parameter
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple

from regrow.workers.mismatch import BadArguments, mismatch

Function = Callable[..., Any]
SCALARS = frozenset({bool, int, float, str, bytes, type(None)})

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_IMMUTABLE = (type(None), bool, int, float, str, bytes)


class Signature:
    """
    The arguments of one function, as types that messages are read into; its first `bound` parameters are left out.

    Raises:
        TypeError: an argument is of a type that no message can carry.
        NameError: an annotation names what is not defined, or not yet.
    """

    def __init__(self, function: Function, title: str, *, bound: int = 1) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        every = parameters(function)
        self.parameters = every[bound:]
        self._reserved = frozenset(each.name for each in every[:bound] if each.kind is not Parameter.POSITIONAL_ONLY)
        self._function = function
        self._bound = bound
        self.returns: Any = hints.get("return", Any)
        kinds = {each.kind for each in self.parameters}
        self.is_plain = kinds <= {Parameter.POSITIONAL_OR_KEYWORD}
        self.is_nameable = kinds <= set(_BY_NAME)
        self.positions = [each.name for each in self.parameters if each.kind in _BY_POSITION]
        self.names = frozenset(each.name for each in self.parameters if each.kind in _BY_NAME)
        self.rest = self._variable(Parameter.VAR_POSITIONAL)
        self.others = self._variable(Parameter.VAR_KEYWORD)
        self._title = title
        self.hints = [hints.get(each.name, Any) for each in self.parameters]
        self.fields = [_field(each, hint, title) for each, hint in zip(self.parameters, self.hints, strict=True)]

    def _variable(self, kind: Any) -> str:
        return next((each.name for each in self.parameters if each.kind is kind), "")

    def reader(self) -> Function:
        """What makes of an encoded array the values by position; raises what msgspec does."""
        if any(each.default is not Parameter.empty for each in self.parameters):
            decode = msgspec.msgpack.Decoder(self.struct(array=True)).decode
            return lambda args: astuple(decode(args))
        every: Any = tuple
        return msgspec.msgpack.Decoder(every[tuple(self.hints)]).decode

    def struct(self, *, array: bool = False) -> type[Struct]:
        """A type with one field for each parameter; one that comes as an array takes them by position."""
        try:
            return msgspec.defstruct(
                "Arguments", self.fields, array_like=array, kw_only=not array, forbid_unknown_fields=True, gc=False
            )
        except TypeError as error:
            raise TypeError(f"{self}: {error}") from None

    def bind(self, positional: Sequence[Raw], named: dict[str, Raw]) -> dict[str, Any]:
        """
        Give each argument to its parameter, as Python does when it calls; what is missing is found later.

        Raises:
            BadArguments: too many, unknown, or given twice.
        """
        if len(positional) > len(self.positions) and not self.rest:
            raise self.too_many(len(positional))
        bound: dict[str, Any] = dict(zip(self.positions, positional, strict=False))
        if self.rest:
            bound[self.rest] = positional[len(self.positions) :]
        others: dict[str, Raw] = {}
        for name, value in named.items():
            if name in self.names and name in bound:
                raise self.refuse(f"$.{name}", "given twice, by position and by name")
            if name in self.names:
                bound[name] = value
            elif self.others and name not in self._reserved:
                others[name] = value
            else:
                only = "is taken by position only" if name in self.positions else "no such argument"
                raise self.refuse(f"$.{name}", only)
        if self.others:
            bound[self.others] = others
        return bound

    def too_many(self, given: int) -> BadArguments:
        """More than the function takes by position."""
        most = len(self.positions)
        return self.refuse(f"$[{most}]", f"one too many: at most {most} by position, got {given}")

    def fault(self, error: Exception, *, by_position: bool = False) -> BadArguments:
        """What a decoding error means for this function's caller."""
        path, text = mismatch(error, self.positions if by_position else None)
        return self.refuse(path, text)

    def refuse(self, path: str, text: str) -> BadArguments:
        return BadArguments(path, f"{path}: {text}; {self}")

    def spread(self, function: Function) -> Function:
        """The function as one that takes `fields` in their order behind what is bound, whatever kinds they are of."""
        if self.is_plain:
            return function
        kinds = [(each.name, each.kind) for each in self.parameters]

        def call(*values: Any) -> Any:
            args: list[Any] = list(values[: self._bound])
            kwargs: dict[str, Any] = {}
            for (name, kind), value in zip(kinds, values[self._bound :], strict=True):
                if kind in _BY_POSITION:
                    args.append(value)
                elif kind is Parameter.VAR_POSITIONAL:
                    args.extend(value)
                elif kind is Parameter.KEYWORD_ONLY:
                    kwargs[name] = value
                else:
                    kwargs.update(value)
            return function(*args, **kwargs)

        return call

    def __str__(self) -> str:
        """As in the source, for people: `handler quote(sku: str, quantity: int = 1)`."""
        written = [
            each if each.annotation is Parameter.empty else each.replace(annotation=_Written(each.annotation))
            for each in list(inspect.signature(self._function).parameters.values())[self._bound :]
        ]
        return f"{self._title}{inspect.Signature(written)}"


class Taken(NamedTuple):
    """One parameter of a function; kind and default as of inspect.Parameter."""

    name: str
    kind: Any
    default: Any = Parameter.empty


def parameters(function: Function) -> list[Taken]:
    """
    The parameters of a function, in their order.

    `inspect.signature` says the same; its first use costs a newly forked process a third of a millisecond.

    Raises:
        ValueError: it is written in C and does not tell.
    """
    if type(function) is not types.FunctionType or function.__dict__.keys() & {"__wrapped__", "__signature__"}:
        return [Taken(each.name, each.kind, each.default) for each in inspect.signature(function).parameters.values()]
    code = function.__code__
    names, count, named = code.co_varnames, code.co_argcount, code.co_kwonlyargcount
    defaults = (Parameter.empty,) * (count - len(function.__defaults__ or ())) + (function.__defaults__ or ())
    kinds: list[Any] = [Parameter.POSITIONAL_ONLY] * code.co_posonlyargcount
    kinds += [Parameter.POSITIONAL_OR_KEYWORD] * (count - len(kinds))
    found = [Taken(*each) for each in zip(names, kinds, defaults, strict=False)]
    rest = list(names[count + named :])
    if code.co_flags & inspect.CO_VARARGS:
        found.append(Taken(rest.pop(0), Parameter.VAR_POSITIONAL))
    given = function.__kwdefaults__ or {}
    by_name = names[count : count + named]
    found += [Taken(name, Parameter.KEYWORD_ONLY, given.get(name, Parameter.empty)) for name in by_name]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        found.append(Taken(rest.pop(0), Parameter.VAR_KEYWORD))
    return found


class _Written:
    """An annotation that prints as it was written."""

    def __init__(self, annotation: Any) -> None:
        self._text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)

    def __repr__(self) -> str:
        return self._text


def _field(parameter: Taken, hint: Any, title: str) -> tuple[Any, ...]:
    """The field of a Struct that stands for this parameter."""
    _check_carried(hint, f"{title}: argument {parameter.name}")
    match parameter.kind:
        case Parameter.VAR_POSITIONAL:
            return (parameter.name, list[hint], [])
        case Parameter.VAR_KEYWORD:
            return (parameter.name, dict[str, hint], {})
    default = parameter.default
    if default is Parameter.empty:
        return (parameter.name, hint)
    if type(default) in _IMMUTABLE:
        return (parameter.name, hint, default)
    return (parameter.name, hint, msgspec.field(default_factory=lambda: default))  # one for all calls, as in Python


def _check_carried(hint: Any, what: str) -> None:
    if hint in SCALARS or hint is Any:
        return
    try:
        foreign = foreign_type(hint)
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None
    if foreign is not None:
        raise TypeError(f"{what} is of {foreign.__qualname__}, which no message can be turned into")


def foreign_type(hint: Any) -> type | None:
    """
    A type somewhere in the annotation that msgspec knows nothing of.

    Raises:
        TypeError: msgspec cannot work with the annotation at all.
    """
    return None if hint in SCALARS else _foreign(msgspec.inspect.type_info(hint), set())


def _foreign(info: Any, seen: set[int]) -> type | None:
    """A type somewhere in `info` that msgspec knows nothing of."""
    if id(info) in seen:
        return None
    seen.add(id(info))
    if isinstance(info, msgspec.inspect.CustomType):
        return info.cls if info.cls is not object else None
    if isinstance(info, Struct):
        info = [getattr(info, name) for name in info.__struct_fields__]
    parts = info if isinstance(info, tuple | list) else ()
    return next((found for part in parts if (found := _foreign(part, seen)) is not None), None)
