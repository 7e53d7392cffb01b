"""What a handler's signature makes of a message, and its annotation of a reply."""

from __future__ import annotations

import datetime
import enum
import functools
import inspect
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, Optional, Union

import msgspec
import pytest
from endless import longer_than_any_form
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Raw, Struct

from regrow.workers.handlers import Arguments, Handler
from regrow.workers.mismatch import BadArguments, BadReply
from regrow.workers.signature import parameters

encode = msgspec.msgpack.encode


DAY = datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Cat(Struct, tag="cat"):
    lives: int


class Dog(Struct, tag="dog"):
    tricks: list[str] = []


@dataclass
class Order:
    sku: str
    due: datetime.datetime
    price: Decimal = Decimal("1.5")


class Node(Struct):
    value: int
    next: Node | None = None


def call(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a function as a handler, the way a message does."""
    handler = Handler(function.__name__, function)
    return handler.function("the agent", *handler.arguments(Raw(encode(args)), Raw(encode(kwargs))))


def refused(function: Any, *args: Any, **kwargs: Any) -> BadArguments:
    """What the caller is told."""
    with pytest.raises(BadArguments) as raised:
        call(function, *args, **kwargs)
    return raised.value


def quote(self: Any, sku: str, quantity: int = 1) -> Any:
    """By position or by name."""
    return sku, quantity


def everything(self: Any, a: int, /, b: str = "b", *rest: int, k: bool, d: float = 0.5, **others: list[int]) -> Any:
    """In every way there is."""
    return a, b, rest, k, d, others


def only_named(self: Any, a: int, *, b: int = 2, c: int) -> Any:
    """Some by name only."""
    return a, b, c


def nothing(self: Any) -> str:
    """No arguments."""
    return f"of {self}"


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "expected"),
    [
        (quote, (), {"sku": "A1"}, ("A1", 1)),
        (quote, (), {"quantity": 2, "sku": "A1"}, ("A1", 2)),
        (quote, ("A1",), {}, ("A1", 1)),
        (quote, ("A1", 3), {}, ("A1", 3)),
        (quote, ("A1",), {"quantity": 3}, ("A1", 3)),
        (nothing, (), {}, "of the agent"),
        (everything, (1,), {"k": True}, (1, "b", (), True, 0.5, {})),
        (everything, (1, "x", 2, 3), {"k": False, "d": 1}, (1, "x", (2, 3), False, 1.0, {})),
        (everything, (1,), {"k": True, "a": [1], "z": []}, (1, "b", (), True, 0.5, {"a": [1], "z": []})),
        (everything, (1,), {"k": True, "rest": [7]}, (1, "b", (), True, 0.5, {"rest": [7]})),
        (only_named, (), {"a": 1, "c": 3}, (1, 2, 3)),
        (only_named, (1,), {"b": 0, "c": 3}, (1, 0, 3)),
    ],
)
def test_arguments_reach_their_parameters(function: Any, args: tuple[Any, ...], kwargs: Any, expected: Any) -> None:
    """By position, by name and mixed, as Python itself would give them."""
    assert call(function, *args, **kwargs) == expected


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "path", "text"),
    [
        (quote, (), {}, "$.sku", "missing"),
        (quote, (), {"sku": 1}, "$.sku", "expected str, got int"),
        (quote, (), {"sku": "A1", "quantity": "3"}, "$.quantity", "expected int, got str"),
        (quote, ("A1", "3"), {}, "$.quantity", "expected int, got str"),
        (quote, ("A1",), {"quantity": "3"}, "$.quantity", "expected int, got str"),
        (quote, ("A1", 1, 2), {}, "$[2]", "one too many: at most 2 by position, got 3"),
        (quote, ("A1", 1, 2), {"x": 1}, "$[2]", "one too many: at most 2 by position, got 3"),
        (quote, ("A1",), {"sku": "A1"}, "$.sku", "given twice, by position and by name"),
        (quote, (), {"sku": "A1", "colour": 1}, "$.colour", "no such argument"),
        (quote, ("A1",), {"colour": 1}, "$.colour", "no such argument"),
        (nothing, (1,), {}, "$[0]", "one too many: at most 0 by position, got 1"),
        (nothing, (), {"a": 1}, "$.a", "no such argument"),
        (everything, (), {"k": True}, "$.a", "missing"),
        (everything, (1,), {}, "$.k", "missing"),
        (everything, (1, "x", 2, "y"), {"k": True}, "$.rest[1]", "expected int, got str"),
        (everything, (1,), {"k": True, "z": [1, "y"]}, "$.others[...][1]", "expected int, got str"),
        (only_named, (1, 2), {"c": 3}, "$[1]", "one too many: at most 1 by position, got 2"),
    ],
)
def test_what_does_not_fit_is_named(function: Any, args: tuple[Any, ...], kwargs: Any, path: str, text: str) -> None:
    """The error has the place, the fault and the signature."""
    error = refused(function, *args, **kwargs)
    assert (error.path, str(error)) == (path, f"{path}: {text}; {Handler(function.__name__, function)}")


def test_signature_as_it_was_written() -> None:
    """The error shows the handler as its author knows it."""
    assert str(Handler("quote", quote)) == "handler quote(sku: str, quantity: int = 1)"


def test_parameters_as_inspect_tells_them() -> None:
    """The short cut for plain functions says what `inspect.signature` says; wrapped ones are left to that."""

    @functools.wraps(everything)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return everything(*args, **kwargs)

    def defaults(a: int, /, b: int = 1, *, c: int = 2, d: int) -> None: ...

    def rest(*args: int) -> None: ...

    def others(*, a: int = 1, **kwargs: int) -> None: ...

    for function in (quote, everything, only_named, nothing, wrapped, defaults, rest, others, Handler.reply, len):
        told = inspect.signature(function).parameters.values()
        assert parameters(function) == [(each.name, each.kind, each.default) for each in told]
    assert call(wrapped, 1, k=True) == (1, "b", (), True, 0.5, {})


def test_what_is_no_array_or_no_map() -> None:
    """Hand-made messages may hold anything where the arguments should be."""
    handler = Handler("quote", quote)
    for args, kwargs in ((encode({}), encode({})), (encode([]), encode([])), (encode(3), encode({"sku": "x"}))):
        with pytest.raises(BadArguments, match="expected"):
            handler.arguments(Raw(args), Raw(kwargs))
    with pytest.raises(BadArguments, match="not UTF-8"):
        handler.arguments(Raw(b"\x90"), Raw(b"\x81\xa3sku\xa1\xff"))
    with pytest.raises(BadArguments, match="as a key"):
        handler.arguments(Raw(b"\x90"), Raw(encode({1: 2})))


def test_long_forms_of_nothing() -> None:
    """An encoder may write an empty array and an empty map with more bytes than it needs."""
    handler = Handler("nothing", nothing)
    assert handler.arguments(Raw(b"\xdc\x00\x00"), Raw(b"\xde\x00\x00")) == ()


TYPES: list[tuple[Any, Any, Any]] = [
    (datetime.datetime, "2026-01-02T03:04:05Z", datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
    (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
    (datetime.timedelta, "PT1.5S", datetime.timedelta(seconds=1.5)),
    (bytes, b"\xff\x00", b"\xff\x00"),
    (Decimal, "1.10", Decimal("1.10")),
    (Colour, "blue", Colour.BLUE),
    (Literal["a", "b"], "b", "b"),
    (Cat | Dog, {"type": "dog", "tricks": ["roll"]}, Dog(["roll"])),
    (int | str, "3", "3"),
    (Optional[int], None, None),  # noqa: UP045 - people still write it
    (Union[int, None], 3, 3),  # noqa: UP007
    (float, 3, 3.0),
    (set[int], [1, 1, 2], {1, 2}),
    (tuple[int, str], [1, "x"], (1, "x")),
    (dict[int, str], {1: "x"}, {1: "x"}),
    (Order, {"sku": "A1", "due": "2026-01-02T00:00:00Z"}, Order("A1", DAY)),
    (Node, {"value": 1, "next": {"value": 2}}, Node(1, Node(2))),
    (list[Cat], [{"type": "cat", "lives": 9}], [Cat(9)]),
    (Annotated[int, Meta(ge=1)], 1, 1),
    (Any, {"a": [1, None]}, {"a": [1, None]}),
    (object, [1], [1]),
    (Raw, [1], Raw(encode([1]))),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "sent", "expected"), TYPES, ids=lambda each: str(each)[:30])
def test_types_are_converted(annotation: Any, sent: Any, expected: Any) -> None:
    """Whatever msgspec knows may be an argument, and comes as what its annotation says."""

    def take(self: Any, thing: Any) -> Any:
        return thing

    take.__annotations__["thing"] = annotation
    assert call(take, sent) == expected
    assert call(take, thing=sent) == expected
    assert type(call(take, sent)) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "sent", "path"),
    [
        (Annotated[int, Meta(ge=1)], 0, "$.thing"),
        (Colour, "green", "$.thing"),
        (Cat | Dog, {"type": "cow"}, "$.thing.type"),
        (Order, {"sku": "A1"}, "$.thing.due"),
        (list[dict[str, int]], [{"a": 1}, {"b": "x"}], "$.thing[1][...]"),
        (dict[int, str], {"a": "b"}, "$.thing"),
        (datetime.datetime, "yesterday", "$.thing"),
    ],
    ids=str,
)
def test_places_inside_arguments(annotation: Any, sent: Any, path: str) -> None:
    """The path leads into the argument, the same by position and by name."""

    def take(self: Any, thing: Any) -> Any: ...

    take.__annotations__["thing"] = annotation
    assert refused(take, sent).path == path
    assert refused(take, thing=sent).path == path


def test_default_is_shared_as_in_python() -> None:
    """A default that can be changed is one object for all calls, for better or worse; any object may be one."""

    def collect(self: Any, into: list[int] = [1]) -> Any:  # noqa: B006 - that is the point
        into.append(2)
        return into

    marker = object()

    def mark(self: Any, what: Any = marker) -> Any:
        return what

    handler = Handler("collect", collect)
    for expected in ([1, 2], [1, 2, 2]):
        assert handler.function(None, *handler.arguments(Raw(b"\x90"), Raw(b"\x80"))) == expected
    assert call(mark) is marker


class Foreign:
    """Nothing that a message could carry."""


@pytest.mark.parametrize("annotation", [Foreign, list[Foreign], dict[str, Foreign | None], complex])
def test_argument_that_no_message_can_carry(annotation: Any) -> None:
    """It is refused when the class is made, not when the first message comes."""

    def take(self: Any, thing: Any) -> None: ...

    take.__annotations__["thing"] = annotation
    with pytest.raises(TypeError, match=r"handler take: argument thing is of .*, which no message can be turned into"):
        Handler("take", take)


def test_union_that_cannot_be_told_apart() -> None:
    """What msgspec refuses is refused with the handler's name."""

    class Bird(Struct):
        wings: int

    class Fish(Struct):
        fins: int

    def take(self: Any, thing: Any) -> None: ...

    take.__annotations__["thing"] = Bird | Fish
    with pytest.raises(TypeError, match=r"handler take.*must be tagged"):
        Handler("take", take)


def reply(annotation: Any, value: Any) -> Any:
    """What the caller gets for `value`."""

    def give(self: Any) -> Any: ...

    give.__annotations__["return"] = annotation
    return msgspec.msgpack.decode(Handler("give", give).reply(value))


@pytest.mark.parametrize(
    ("annotation", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3),
        (float, 3.5, 3.5),
        (None, None, None),
        (str | None, None, None),
        (list[int], [1, 2], [1, 2]),
        (list[int], (1, 2), [1, 2]),
        (tuple[str, int], ("a", 1), ["a", 1]),
        (Order, Order("A", DAY), {"sku": "A", "due": DAY, "price": "1.5"}),
        (Colour, Colour.RED, "red"),
        (Any, {"a": b"x"}, {"a": b"x"}),
        (Foreign, 3, 3),
        (dict[str, Foreign], {"a": 1}, {"a": 1}),
    ],
    ids=str,
)  # fmt: skip
def test_replies(annotation: Any, value: Any, expected: Any) -> None:
    """What fits its annotation is sent; an annotation that msgspec cannot check checks nothing."""
    assert reply(annotation, value) == expected


@pytest.mark.parametrize(
    ("annotation", "value", "type", "text"),
    [
        (int, "3", "TypeError", "does not promise: $: expected int, got str"),
        (int, True, "TypeError", "does not promise: $: expected int, got bool"),
        (None, 3, "TypeError", "does not promise: $: expected null, got int"),
        (list[int], [1, "x"], "TypeError", "does not promise: $[1]: expected int, got str"),
        (dict[str, int], {"a": None}, "TypeError", "does not promise: $[...]: expected int, got None"),
        (Order, {"sku": "A"}, "TypeError", "does not promise: $.due: missing"),
        (Any, Foreign(), "TypeError", "cannot be sent: $: no message can carry this Foreign"),
        (Any, {"a": [1, {2: Foreign()}]}, "TypeError", "cannot be sent: $.a[1][2]: no message can carry this Foreign"),
        (Any, Order("A", Foreign()), "TypeError", "cannot be sent: $.due: no message can carry this Foreign"),  # type: ignore[arg-type]
        (Any, {"a": {1, 1 << 70}}, "OverflowError", "cannot be sent: $.a[…]: an integer is from -2**63"),
        (Any, ["\ud800"], "UnicodeEncodeError", "cannot be sent: $[0]: a text that is not UTF-8"),
        (Any, iter([1]), "TypeError", "cannot be sent: $: no message can carry this list_iterator"),
    ],
    ids=str,
)
def test_replies_that_are_none(annotation: Any, value: Any, type: str, text: str) -> None:
    """The error has the handler, the place and the fault."""
    with pytest.raises(BadReply) as raised:
        reply(annotation, value)
    assert raised.value.type == type
    assert text in str(raised.value)
    assert str(raised.value).startswith("handler give returned what ")


def test_reply_within_itself() -> None:
    """A circle is found, and its place is told."""
    circle: dict[str, Any] = {"a": 1}
    circle["b"] = [circle]
    with pytest.raises(BadReply, match=r"\$\.b\[0\]: nested too deeply, or within itself"):
        reply(Any, circle)


def test_reply_that_is_too_long() -> None:
    """What msgpack has no form for because of its length is an error of the handler's, and not the end of its agent."""
    with pytest.raises(BadReply, match=r"longer than 2\*\*32 - 1"):
        reply(Any, longer_than_any_form())


def test_init_arguments_from_the_file() -> None:
    """`init` takes the file's table by name, converted; what does not fit is named."""

    def init(self: Any, currency: str, every: datetime.timedelta, limit: Decimal = Decimal(3)) -> None: ...

    arguments = Arguments(init, "Pricer.init")
    assert arguments.read('{"currency": "EUR", "every": "PT2S"}') == ("EUR", datetime.timedelta(seconds=2), Decimal(3))
    with pytest.raises(BadArguments) as raised:
        arguments.read('{"currency": 3, "every": "PT2S"}')
    assert str(raised.value) == (
        "$.currency: expected str, got int; "
        "Pricer.init(currency: str, every: datetime.timedelta, limit: Decimal = Decimal('3'))"
    )
    with pytest.raises(BadArguments, match=r"\$\.colour: no such argument"):
        arguments.read('{"currency": "EUR", "every": "PT2S", "colour": 3}')


def test_init_with_any_arguments() -> None:
    """`**options` takes what the file has."""

    def init(self: Any, a: int = 1, **options: int) -> Any:
        return a, options

    arguments = Arguments(init, "X.init")
    assert arguments.function(None, *arguments.read('{"a": 2, "z": 3}')) == (2, {"z": 3})
    with pytest.raises(BadArguments, match=r"\$\.options\[\.\.\.\]: expected int, got str"):
        arguments.read('{"z": "3"}')


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)  # fmt: skip


@given(st.lists(json_values, max_size=4), st.dictionaries(st.sampled_from("abkdzr"), json_values, max_size=4))
def test_same_as_python(args: list[Any], kwargs: dict[str, Any]) -> None:
    """Without annotations, a message calls exactly what the same call in Python calls, and fails where that fails."""

    def both(self: Any, a, /, b=1, *rest, k, d=0.5, **others) -> Any:  # type: ignore[no-untyped-def]
        return a, b, rest, k, d, others

    try:
        expected = both("the agent", *args, **kwargs)
    except TypeError:
        refused(both, *args, **kwargs)
    else:
        assert call(both, *args, **kwargs) == expected


@given(args=json_values, kwargs=json_values, data=st.binary(max_size=20))
def test_whatever_comes_is_read_or_refused(args: Any, kwargs: Any, data: bytes) -> None:
    """No message makes a decoder raise anything but BadArguments."""

    def take(self: Any, a: int | datetime.datetime, b: list[Cat | Dog], c: Order | None = None) -> None: ...

    handlers = [Handler("take", take), Handler("everything", everything), Handler("quote", quote)]
    for handler in handlers:
        for first, second in ((encode(args), encode(kwargs)), (encode([]), data), (data, encode({}))):
            error = None
            try:
                handler.arguments(Raw(first), Raw(second))
            except BadArguments as raised:
                error = raised
            assert error is None or (error.path.startswith("$") and str(error).endswith(str(handler)))


@given(st.lists(st.tuples(st.text(), st.integers(-(1 << 63), (1 << 63) - 1))))
def test_what_is_sent_is_what_comes(pairs: list[tuple[str, int]]) -> None:
    """Typed values survive the way there, and a typed reply the way back."""

    def take(self: Any, pairs: list[tuple[str, int]]) -> list[tuple[str, int]]:
        return pairs

    handler = Handler("take", take)
    assert call(take, pairs) == pairs
    assert msgspec.msgpack.decode(handler.reply(pairs), type=list[tuple[str, int]]) == pairs


def test_self_is_not_the_callers_to_give() -> None:
    """Where other arguments may have any name, that of the agent itself still is refused, and crashes nothing."""

    def keep(self: Any, **others: int) -> dict[str, int]:
        return others

    def quote(self: Any, /, **others: int) -> dict[str, int]:
        return others

    assert refused(keep, self=1).path == "$.self"
    assert call(keep, a=1) == {"a": 1}
    assert call(quote, self=1) == {"self": 1}
