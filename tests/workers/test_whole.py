"""State as one object of a class: what is written, what defaults do, and how versions change."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
import pytest
from fake_rows import FakeRows
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from regrow.ipc.errors import BadState
from regrow.ipc.statekeys import encode
from regrow.workers.state import State
from regrow.workers.whole import VERSION_ROW, Whole, check_state, declared_state, state_type

if TYPE_CHECKING:
    from nowhere import Unseen  # type: ignore[import-not-found]


class Line(Struct):
    sku: str
    count: int = 1


class Cart(Struct):
    owner: str = ""
    lines: list[Line] = []
    total: float = 0
    id: uuid.UUID = msgspec.field(default_factory=uuid.uuid4)


@dataclass
class Basket:
    owner: str = ""
    lines: dict[str, int] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    count: int = field(default=0, init=False)


def commit(whole: Whole[Any], rows: FakeRows, value: Any = None) -> set[bytes]:
    """Do what the end of a handler does; returns which rows were put."""
    whole.settle(value)
    return set(rows.commit())


@pytest.mark.parametrize("cls", [Cart, Basket])
def test_a_new_state_has_its_defaults_and_keeps_them(cls: type[Any]) -> None:
    """All fields are written once, so that a default that is made is made once."""
    rows = FakeRows()
    whole = Whole(cls, rows)
    made = whole.load()
    names = {each.name for each in (msgspec.structs.fields(cls) if cls is Cart else dataclasses.fields(cls))}
    assert commit(whole, rows) == {encode(name) for name in names} | {VERSION_ROW}
    assert commit(whole, rows) == set()
    again = Whole(cls, rows)
    assert again.load() == made
    assert commit(again, rows) == set()


def test_only_changed_fields_are_written() -> None:
    """A field changes by assignment or within; the rest is not put."""
    rows = FakeRows()
    whole = Whole(Cart, rows)
    cart = whole.load()
    commit(whole, rows)
    cart.lines.append(Line("a"))
    assert commit(whole, rows) == {encode("lines")}
    cart.lines[0].count = 2
    cart.total = 3
    assert commit(whole, rows) == {encode("lines"), encode("total")}
    assert Whole(Cart, rows).load() == cart


def test_a_new_object_in_its_place() -> None:
    """An agent may assign another object of the class, such as a changed copy."""
    rows = FakeRows()
    whole = Whole(Cart, rows)
    cart = whole.load()
    commit(whole, rows)
    copied = msgspec.structs.replace(cart, owner="Ann")
    assert commit(whole, rows, copied) == {encode("owner")}
    assert whole.value is copied
    whole.value = msgspec.structs.replace(copied, owner="Bob")
    assert commit(whole, rows) == {encode("owner")}
    with pytest.raises(BadState, match="the state: it is declared as Cart, not dict"):
        whole.settle({"owner": "Ann"})  # type: ignore[arg-type]


def test_a_rollback_gives_the_object_as_it_was() -> None:
    """What was changed, and even put, is gone; what is changed then is written."""
    rows = FakeRows()
    whole = Whole(Basket, rows)
    whole.load().lines["a"] = 1
    commit(whole, rows)
    whole.value.lines["a"] = 2
    whole.value.count = 5
    whole.settle()
    rows.roll_back()
    basket = whole.reload()
    assert (basket.lines, basket.count) == ({"a": 1}, 0)
    basket.lines["a"] = 2
    assert commit(whole, rows) == {encode("lines")}


@given(st.lists(st.tuples(st.sampled_from(["owner", "lines", "seen", "commit", "roll back"]), st.text(max_size=3))))
def test_it_does_what_an_object_does(steps: list[tuple[str, str]]) -> None:
    """After any changes, commits and rollbacks the rows are those of the last commit."""
    rows = FakeRows()
    whole = Whole(Basket, rows)
    basket, last = whole.load(), Basket()
    for verb, text in steps:
        match verb:
            case "owner":
                basket.owner = text
            case "lines":
                basket.lines[text] = basket.lines.get(text, 0) + 1
            case "seen":
                basket.seen ^= {text}
            case "commit":
                commit(whole, rows)
                last = Basket(basket.owner, dict(basket.lines), set(basket.seen))
            case _:
                rows.roll_back()
                basket = whole.reload()
        assert Whole(Basket, rows).load() == last
    rows.roll_back()
    assert whole.reload() == last


def test_what_cannot_be_stored_is_named() -> None:
    """A field of another type, or with something wrong in it, is found before the commit; nothing is put."""
    rows = FakeRows()
    whole = Whole(Cart, rows)
    cart = whole.load()
    commit(whole, rows)
    cart.owner = "Ann"
    cart.total = "much"  # type: ignore[assignment]
    with pytest.raises(BadState, match=r"state\['total'\]: expected float, got str; the type is float"):
        whole.settle()
    cart.total = 0
    cart.lines.append(object())  # type: ignore[arg-type]
    with pytest.raises(BadState, match=r"state\['lines'\] at \$\[0\]: .*object is unsupported"):
        whole.settle()
    cart.lines.clear()
    del cart.total
    with pytest.raises(BadState, match="Cart has lost this field"):
        whole.settle()
    assert rows.puts == {}


def test_what_is_stored_does_not_fit() -> None:
    """A field whose type was changed without a version is an error that names it."""
    rows = FakeRows()
    State[Any](rows)["owner"] = 5
    with pytest.raises(BadState, match=r"state\['owner'\]: expected str, got int; stored is 5; the type is str"):
        Whole(Cart, rows).load()


def test_a_field_without_default_and_row() -> None:
    """The error says what to do; with its row the object can be made."""

    class Named(Struct):
        name: str

    rows = FakeRows()
    with pytest.raises(BadState, match=r"state\['name'\]: Named has no default for it.*give it a default"):
        Whole(Named, rows).load()
    State[Any](rows)["name"] = "Ann"
    assert Whole(Named, rows).load() == Named("Ann")


def test_a_field_that_is_new_has_its_default() -> None:
    """A class may get a field with a default without a new version; other rows stay as they are."""
    rows = FakeRows()
    state = State[Any](rows)
    state.update({"owner": "Ann", "gone": 1, ("other", 1): 2})
    rows.commit()
    whole = Whole(Basket, rows)
    assert whole.load() == Basket("Ann")
    assert encode("owner") not in commit(whole, rows)
    assert state["gone"] == 1


def test_an_object_that_refuses_what_is_stored() -> None:
    """What a class says against its values is told with its name."""

    @dataclass
    class Positive:
        number: int = 1

        def __post_init__(self) -> None:
            if self.number < 1:
                raise ValueError("not positive")

    rows = FakeRows()
    State[Any](rows)["number"] = -1
    with pytest.raises(BadState, match="no Positive can be made of what is stored: not positive"):
        Whole(Positive, rows).load()


def test_a_frozen_dataclass_with_a_field_of_its_own() -> None:
    """A field that is no argument is set as a dataclass does it."""

    @dataclass(frozen=True)
    class Fixed:
        a: int = 1
        b: int = field(default=2, init=False)

    rows = FakeRows()
    State[Any](rows).update({"a": 5, "b": 6})
    made = Whole(Fixed, rows).load()
    assert (made.a, made.b) == (5, 6)


# -- versions ----------------------------------------------------------------------------------------


class First(Struct):
    customer: str = ""
    cents: int = 0


class Second(Struct):
    version: ClassVar[int] = 2

    owner: str = ""
    lines: list[Line] = []
    opened: datetime.datetime | None = None

    @classmethod
    def upgrade(cls, old: dict[str, Any], version: int) -> dict[str, Any]:
        assert version == 1
        return {"owner": old.pop("customer"), "lines": [{"sku": "old", "count": old.pop("cents")}]}


def stored_first() -> FakeRows:
    """What version 1 has left."""
    rows = FakeRows()
    whole = Whole(First, rows)
    whole.load().customer = "Ann"
    whole.value.cents = 7
    commit(whole, rows)
    State[Any](rows)["other", 1] = "not of the object"
    rows.commit()
    return rows


def test_an_older_version_is_upgraded() -> None:
    """It is read at once and written with the next commit, once; until then the rows are the old ones."""
    rows = stored_first()
    before = dict(rows.committed)
    whole = Whole(Second, rows)
    assert whole.load() == whole.reload() == Second("Ann", [Line("old", 7)])
    assert rows.puts == {}
    whole.settle()
    rows.roll_back()
    assert whole.reload() == Second("Ann", [Line("old", 7)])
    assert rows.committed == before
    commit(whole, rows)
    assert set(State[Any](rows)) == {"owner", "lines", "opened", ("other", 1)}
    again = Whole(Second, rows)
    assert again.load() == Second("Ann", [Line("old", 7)])
    assert commit(again, rows) == set()


def test_rows_without_a_version_are_of_the_first() -> None:
    """What a mapping has left, or somebody has set, is upgraded from version 1."""
    rows = FakeRows()
    State[Any](rows).update({"customer": "Ann", "cents": 3, "owner": "", "lines": []})
    assert Whole(Second, rows).load() == Second("Ann", [Line("old", 3)])


def test_a_newer_version_is_refused() -> None:
    """Older code touches nothing, and says what to do."""
    rows = stored_first()
    whole = Whole(Second, rows)
    whole.load()
    commit(whole, rows)
    with pytest.raises(BadState, match=r"version 2 of First, and this code has version 1: run the newer code, or"):
        Whole(First, rows).load()
    assert rows.puts == {}


def test_a_version_that_cannot_be_read() -> None:
    """Garbage in its row is an error, not a version."""
    rows = FakeRows()
    rows.put(VERSION_ROW, b"\xc1")
    with pytest.raises(BadState, match="the version of what is stored cannot be read"):
        Whole(First, rows).load()


def test_a_new_version_without_an_upgrade() -> None:
    """The error says which method is missing."""

    class Third(Struct):
        version: ClassVar[int] = 3

    with pytest.raises(BadState, match="version 1 of Third, and this code has version 3: give Third a classmethod"):
        Whole(Third, stored_first()).load()


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        (None, "upgrade returned no dict but None"),
        ({"customer": "Ann"}, "upgrade returned 'customer', and there is no such field"),
        ({"owner": 5}, r"state\['owner'\]: expected str, got int; stored is 5; the type is str"),
        ({"owner": object()}, r"state\['owner'\]: .*object is unsupported"),
        ({}, r"state\['owner'\]: Changed has no default for it"),
    ],
)
def test_what_an_upgrade_returns_is_checked(returned: Any, said: str) -> None:
    """It is the fields of the new version, of their types."""

    class Changed(Struct):
        owner: str
        version: ClassVar[int] = 2

        @classmethod
        def upgrade(cls, old: dict[str, Any], version: int) -> Any:
            return returned

    rows = stored_first()
    with pytest.raises(BadState, match=said):
        Whole(Changed, rows).load()
    assert rows.puts == {}


# -- what the class of an agent says -----------------------------------------------------------------


class WithCart:
    state: Cart


class Inheriting(WithCart):
    other: Unseen


class WithState:
    state: State[Line]


class WithAny:
    state: State  # type: ignore[type-arg]


class WithProperty(WithCart):
    @property
    def state(self) -> Any:  # type: ignore[override]
        """Something of its own."""


class WithDict:
    state: dict[str, int]


class WithUnseen:
    state: Unseen


def test_the_annotation_is_found() -> None:
    """As text too, inherited, and whatever other annotations name."""
    assert state_type(WithCart) is Cart
    assert check_state(Inheriting).whole is Cart
    assert declared_state(WithState) == check_state(WithState) == (None, Line)
    assert declared_state(WithAny) == declared_state(object) == declared_state(WithProperty) == (None, Any)
    assert state_type(WithState) is None
    real = type("Real", (), {"__annotations__": {"state": Basket}, "__module__": __name__})
    assert state_type(real) is Basket


def test_annotations_that_are_no_state() -> None:
    """They are refused with what is meant, or cannot be read yet."""
    with pytest.raises(TypeError, match=r"WithDict.state cannot be of dict\[str, int\]: declare a State"):
        check_state(WithDict)
    with pytest.raises(NameError):
        check_state(WithUnseen)


def agent_of(cls: type, concurrency: int = 1) -> type:
    """An agent whose state is of this class."""
    return type("Shop", (), {"__annotations__": {"state": cls}, "__module__": __name__, "concurrency": concurrency})


class NoDefault(Struct):
    name: str


class VersionField(Struct):
    version: int = 2


class VersionZero(Struct):
    version: ClassVar[int] = 0


class VersionText(Struct):
    version: ClassVar[str] = "2"


class NoClassmethod(Struct):
    version: ClassVar[int] = 2

    def upgrade(self, old: dict[str, Any], version: int) -> dict[str, Any]:
        return old


class Foreign(Struct):
    call: Callable[[], None] | None = None


class ForeignState(Struct):
    inner: FakeRows | None = None


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (NoDefault, "Shop.state: NoDefault: a new state has nothing for name: give it a default"),
        (VersionField, "write `version: ClassVar"),
        (VersionZero, "VersionZero.version must be a whole number from 1 up, not 0"),
        (VersionText, "must be a whole number"),
        (NoClassmethod, "make it a classmethod"),
        (Foreign, "field call of Foreign"),
        (ForeignState, "field inner of ForeignState"),
    ],
)
def test_a_class_that_cannot_be_a_state(cls: type, said: str) -> None:
    """It is refused when the agent's class is made."""
    with pytest.raises(TypeError, match=said):
        check_state(agent_of(cls))


def test_handlers_that_overlap_cannot_share_one_object() -> None:
    """With concurrency, state is a mapping."""
    assert check_state(agent_of(Cart)).whole is Cart
    with pytest.raises(TypeError, match=r"Shop\.state: Cart: handlers that overlap would change one object together"):
        check_state(agent_of(Cart, concurrency=2))


def test_a_class_that_is_no_struct() -> None:
    """Only a Struct or a dataclass has fields that can be rows."""
    with pytest.raises(TypeError, match="neither a Struct nor a dataclass"):
        Whole(int, FakeRows())
