"""
From a message to a call, and from what it returns to a reply.

A message costs one decoding, which checks and converts at once; a reply is checked as its receiver will see it.

Source: contract section 4; architecture section 6.
"""

from __future__ import annotations

import inspect
import types
import typing
from typing import Any

import msgspec
from msgspec import Raw
from msgspec.structs import astuple

from regrow.ipc.unsendable import unsendable
from regrow.ipc.wire import EMPTY_ARRAY, EMPTY_MAP, REPLY, UNREADABLE, UNSENDABLE, value_in
from regrow.workers.mismatch import BadArguments, BadReply, mismatch
from regrow.workers.signature import SCALARS, Function, Signature, foreign_type

_UNCHECKED = (Any, object, inspect.Parameter.empty)

_encode = msgspec.msgpack.Encoder().encode
_raws = msgspec.msgpack.Decoder(list[Raw]).decode
_raws_by_name = msgspec.msgpack.Decoder(dict[str, Raw]).decode
_json_raws_by_name = msgspec.json.Decoder(dict[str, Raw]).decode


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
        self._positional: Function | None = None
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
            if self._signature.is_plain and kwargs == EMPTY_MAP:
                if self._positional is None:  # most handlers are always called in one of the two ways
                    self._positional = self._signature.reader()
                values: tuple[Any, ...] = self._positional(args)
                return values
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

    def reply(self, value: Any, id: int | None = None) -> bytes:
        """
        Encode what the handler returned; for the call `id`, as the whole message that answers it.

        It is checked as the caller will see it: encoded, against the annotation. What is exactly of an annotated
        plain type needs no second look.

        Raises:
            BadReply: it cannot be sent, or is not what the annotation says.
        """
        try:
            encoded = _encode(value) if id is None else _encode((REPLY, id, value))
        except UNSENDABLE as error:
            path, text = unsendable(value, error)
            said = f"handler {self.name} returned what cannot be sent: {path}: {text}"
            raise BadReply(type(error).__name__, said) from error
        if self._returns is not None and type(value) not in self._exact:
            try:
                self._returns(encoded if id is None else value_in(encoded, id))
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


def _reply_check(returns: Any) -> tuple[Function | None, frozenset[Any]]:
    """How a reply is checked (None: not at all), and the types of values that need no check."""
    if returns in _UNCHECKED:
        return None, frozenset()
    try:
        if foreign_type(returns) is not None:
            return None, frozenset()
        decode = msgspec.msgpack.Decoder(returns).decode
    except TypeError:  # NoReturn, Self and the like
        return None, frozenset()
    union = typing.get_origin(returns) in (typing.Union, types.UnionType)
    plain = {type(None) if each is None else each for each in (typing.get_args(returns) if union else (returns,))}
    exact = frozenset(each for each in plain if isinstance(each, type) and each in (*SCALARS, list, dict))
    return decode, exact | {int} if float in exact else exact


__all__ = ["Arguments", "BadArguments", "BadReply", "Handler", "Signature"]
