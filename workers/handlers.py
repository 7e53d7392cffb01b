"""
From a message to a call: what a handler's signature says about its arguments, and its annotation about its reply.

A signature is turned into msgspec types once, when its class is made; a message then costs one decoding, which checks
and converts at once. Arguments may come by position, by name, or both.

Source: contract section 4; architecture section 6.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from inspect import Parameter
from typing import Any

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import astuple

from regrow.ipc.wire import EMPTY_ARRAY, EMPTY_MAP
from regrow.workers.mismatch import BadArguments, BadReply, mismatch, unsendable

Function = Callable[..., Any]
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
UNSENDABLE = (TypeError, ValueError, OverflowError, RecursionError)

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
_IMMUTABLE = (type(None), bool, int, float, str, bytes)
_SCALARS = frozenset({bool, int, float, str, bytes, type(None)})
_UNCHECKED = (Any, object, Parameter.empty)

_encode = msgspec.msgpack.Encoder().encode
_raws = msgspec.msgpack.Decoder(list[Raw]).decode
_raws_by_name = msgspec.msgpack.Decoder(dict[str, Raw]).decode
_json_raws_by_name = msgspec.json.Decoder(dict[str, Raw]).decode


class Signature:
    """
    The arguments of one function, as types that messages are read into; its first `bound` parameters are left out.

    Raises:
        TypeError: an argument is of a type that no message can carry.
        NameError: an annotation names what is not defined, or not yet.
    """

    def __init__(self, function: Function, title: str, *, bound: int = 1) -> None:
        hints = typing.get_type_hints(function, include_extras=True)
        self.parameters = list(inspect.signature(function).parameters.values())[bound:]
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
            elif self.others:
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
            for each in self.parameters
        ]
        return f"{self._title}{inspect.Signature(written)}"


class _Written:
    """An annotation that prints as it was written."""

    def __init__(self, annotation: Any) -> None:
        self._text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)

    def __repr__(self) -> str:
        return self._text


class Handler:
    """
    One function that messages may call.

    `function` calls `method` with an agent and what `arguments` returns. `is_async`: it returns a coroutine.
    """

    __slots__ = (
        "_exact", "_is_nameable", "_named", "_positional", "_returns", "_signature", "function", "is_async", "method",
        "name",
    )  # fmt: skip

    def __init__(self, name: str, function: Function) -> None:
        signature = Signature(function, f"handler {name}")
        self.name = name
        self.method = function
        self._signature = signature
        self.function = signature.spread(function)
        self.is_async = inspect.iscoroutinefunction(function)
        self._is_nameable = signature.is_nameable
        self._named = msgspec.msgpack.Decoder(signature.struct()).decode
        self._positional = msgspec.msgpack.Decoder(signature.struct(array=True)).decode if signature.is_plain else None
        self._returns, self._exact = _reply_check(signature.returns)

    def arguments(self, args: Raw, kwargs: Raw) -> tuple[Any, ...]:
        """
        Read an encoded array and an encoded map as this handler's arguments.

        Raises:
            BadArguments.
        """
        by_position = args != EMPTY_ARRAY
        try:
            if not by_position and self._is_nameable:
                return astuple(self._named(kwargs))
            if self._positional is not None and kwargs == EMPTY_MAP:
                return astuple(self._positional(args))
        except UNREADABLE as error:
            raise self._signature.fault(error, by_position=by_position) from None
        return self._bound(args, kwargs)

    def _bound(self, args: Raw, kwargs: Raw) -> tuple[Any, ...]:
        signature = self._signature
        try:
            bound = signature.bind(_raws(args), _raws_by_name(kwargs))
            return astuple(self._named(_encode(bound)))
        except UNREADABLE as error:
            raise signature.fault(error) from None

    def reply(self, value: Any) -> bytes:
        """
        Encode what the handler returned.

        It is checked as the caller will see it: encoded, against the annotation. What is exactly of an annotated
        plain type needs no second look.

        Raises:
            BadReply: it cannot be sent, or is not what the annotation says.
        """
        try:
            encoded = _encode(value)
        except UNSENDABLE as error:
            path, text = unsendable(value, error)
            said = f"handler {self.name} returned what cannot be sent: {path}: {text}"
            raise BadReply(type(error).__name__, said) from error
        if self._returns is not None and type(value) not in self._exact:
            try:
                self._returns(encoded)
            except UNREADABLE as error:
                path, text = mismatch(error)
                said = f"handler {self.name} returned what it does not promise: {path}: {text}"
                raise BadReply("TypeError", said) from error
        return encoded

    def __str__(self) -> str:
        return str(self._signature)


class Arguments:
    """The arguments of `init`, from the file: a JSON object."""

    def __init__(self, function: Function, title: str) -> None:
        self._signature = Signature(function, title)
        self._decode = msgspec.json.Decoder(self._signature.struct()).decode
        self.function = self._signature.spread(function)

    def read(self, args_json: str) -> tuple[Any, ...]:
        """
        What `function` is to be given behind the agent.

        Raises:
            BadArguments.
        """
        try:
            bound = self._signature.bind((), _json_raws_by_name(args_json))
            return astuple(self._decode(msgspec.json.encode(bound)))
        except UNREADABLE as error:
            raise self._signature.fault(error) from None


def _field(parameter: Parameter, hint: Any, title: str) -> tuple[Any, ...]:
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
    if hint in _SCALARS or hint is Any:
        return
    try:
        foreign = _foreign(msgspec.inspect.type_info(hint), set())
    except TypeError as error:
        raise TypeError(f"{what}: {error}") from None
    if foreign is not None:
        raise TypeError(f"{what} is of {foreign.__qualname__}, which no message can be turned into")


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


def _reply_check(returns: Any) -> tuple[Function | None, frozenset[Any]]:
    """How a reply is checked (None: not at all), and the types of values that need no check."""
    if returns in _UNCHECKED:
        return None, frozenset()
    try:
        if _foreign(msgspec.inspect.type_info(returns), set()) is not None:
            return None, frozenset()
        decode = msgspec.msgpack.Decoder(returns).decode
    except TypeError:  # NoReturn, Self and the like
        return None, frozenset()
    union = typing.get_origin(returns) in (typing.Union, types.UnionType)
    plain = {type(None) if each is None else each for each in (typing.get_args(returns) if union else (returns,))}
    exact = frozenset(each for each in plain if isinstance(each, type) and each in (*_SCALARS, list, dict))
    return decode, exact | {int} if float in exact else exact


__all__ = ["Arguments", "BadArguments", "BadReply", "Handler", "Signature"]
