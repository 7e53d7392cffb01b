"""Arguments that no message can carry: one error, whichever verb was to send them, and nothing was sent or kept."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from boxes import Box as Mailbox
from storehouse import make_store

from regrow.ipc import AsyncClient, Client
from regrow.ipc.errors import BadRequest
from regrow.ipc.groups import by_key
from regrow.ipc.posts import Box
from regrow.ipc.store import Store
from regrow.ipc.unsendable import Arguments, bad_arguments, bad_value, unsendable
from regrow.ipc.wire import UNSENDABLE, encode


@dataclass
class Order:
    """As a user would have it."""

    lines: Any = None


class Line(msgspec.Struct):
    """The same."""

    sku: Any = None


def itself() -> list[Any]:
    """A list that is its own element."""
    found: list[Any] = []
    found.append(found)
    return found


def unset() -> Line:
    """A Struct without one of its fields."""
    line = Line()
    del line.sku
    return line


CULPRITS = [
    (Arguments((object(),), {}), "$[0]", "no message can carry this object"),
    (Arguments((1, "a", {"b": [1, object()]}), {}), "$[2].b[1]", "no message can carry this object"),
    (Arguments((), {"order": Order([1, Line(print)])}), "$.order.lines[1].sku", "no message can carry this"),
    (Arguments((1,), {"order": {2: {print}}}), "$.order[2][…]", "no message can carry this"),
    (Arguments((), {"n": 1 << 64}), "$.n", "an integer is from -2**63 to 2**64 - 1"),
    (Arguments((), {"text": "a\ud800"}), "$.text", r"a text that is not UTF-8, 'a\ud800' in it"),
    (Arguments((), {"map": {"\ud800": 1}}), "$.map", "not UTF-8"),
    (Arguments((), {"map": {"\ud800": print}}), r"$.map['\ud800']", ""),
    (Arguments((), {"map": {object(): 1}}), "$.map", "no message can carry this object"),
    (Arguments((itself(),), {}), "$[0][0]", "nested too deeply, or within itself"),
    (Arguments((unset(),), {}), "$[0]", "unset"),
    (Arguments((), {"x" * 1000: print}), "$." + "x" * 198 + "…", ""),
]


@pytest.mark.parametrize(("said", "place", "why"), CULPRITS)
def test_place_and_reason(said: Arguments, place: str, why: str) -> None:
    """Which argument, where in it, and why; all of it can be printed."""
    with pytest.raises(UNSENDABLE) as found:
        encode((said.args, said.kwargs))
    path, text = unsendable(said, found.value)
    assert path == place
    assert why in text
    error = bad_arguments("depot", "store", said.args, said.kwargs, found.value)
    assert error.path == place
    assert str(error).startswith(f"depot does not take this: cannot encode the arguments of store: {place}: ")
    str(error).encode()


def test_other_things() -> None:
    """A handler's name that is none, and what is no argument."""
    with pytest.raises(UNSENDABLE) as found:
        encode(("\ud800", (), {}))
    error = found.value
    assert "the name of the handler, '\\ud800'" in str(bad_arguments("depot", "\ud800", (), {}, error))
    said = "t does not take this: cannot encode the message: $[1]: a text that is not UTF-8, '\\ud800' in it"
    assert str(bad_value("t", "the message", [1, "\ud800"], error)) == said


class Hostile:
    """Whoever looks into it gets an error."""

    @property
    def __struct_fields__(self) -> tuple[str, ...]:
        raise RuntimeError("keep out")


def test_no_look_does_harm() -> None:
    """Where the culprit cannot be looked for, the error says what it can."""
    with pytest.raises(UNSENDABLE) as found:
        encode(Hostile())
    assert unsendable(Hostile(), found.value) == ("$", "no message can carry this Hostile")


@pytest.fixture
def both(run_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """A run_dir with a mailbox, and with a store that knows it."""
    make_store(run_dir, tmp_path / "state", box=0, group=3)
    with Mailbox(run_dir):
        yield run_dir


BAD: dict[str, Any] = {"order": Order([object()])}
SAID = r"cannot encode the arguments of take: \$\.order\.lines\[0\]: no message can carry this object"
NOW = datetime(2100, 1, 1, tzinfo=UTC)


def test_all_verbs_of_a_client(both: Path) -> None:
    """The same error of each, with the same place; nothing has reached the mailbox or the store."""
    with Client(both) as client:
        raising: list[Callable[[], object]] = [
            lambda: client.call("box", "take", **BAD),
            lambda: client.cast("box", "take", **BAD),
            lambda: client.send("box", "take", **BAD).wait(),
            lambda: client.send_request("box", "take", **BAD).wait_response(),
            lambda: client.post("box", "take", **BAD),
            lambda: client.post("group", "take", **BAD),
            lambda: client.post("box", "take", delay=5.0, **BAD),
            lambda: client.post("box", "take", at=NOW + timedelta(days=1), **BAD),
        ]
        for verb in raising:
            with pytest.raises(BadRequest, match=SAID) as found:
                verb()
            assert found.value.path == "$.order.lines[0]"
        with pytest.raises(BadRequest, match=r"cannot encode the arguments of m:f: \$\[0\]: no message"):
            client.tasks("jobs").async_nolink("m:f", object())
        with pytest.raises(BadRequest, match=r"cannot encode the message: \$\.a: no message"):
            client.publish("topic", {"a": object()})
        for key in (object(), "\ud800", [1 << 70], itself()):
            with pytest.raises(BadRequest, match="cannot encode the key"):
                client.post(by_key("group", key), "take")
        assert client.send("box", "take").error is None
    assert_nothing_kept(both)


def test_all_verbs_of_an_async_client(both: Path) -> None:
    """As of the other."""

    async def talk() -> None:
        async with AsyncClient(both) as client:
            raising: list[Callable[[], Awaitable[object]]] = [
                lambda: client.call("box", "take", **BAD),
                lambda: client.cast("box", "take", **BAD),
                lambda: client.post("box", "take", **BAD),
                lambda: client.post("box", "take", delay=5.0, **BAD),
            ]
            for verb in raising:
                with pytest.raises(BadRequest, match=SAID) as found:
                    await verb()
                assert found.value.path == "$.order.lines[0]"
            delivery = await client.send("box", "take", **BAD)
            with pytest.raises(BadRequest, match=SAID):
                await delivery.wait()

    asyncio.run(talk())
    assert_nothing_kept(both)


def assert_nothing_kept(run_dir: Path) -> None:
    """No post, and none that is put off."""
    with closing(Store.open(str(run_dir))) as store:
        assert store.read(lambda txn: [Box(store.messages, name).length(txn) for name in ("box", "group.0")]) == [0, 0]
        assert store.read(lambda txn: txn.stat(store.messages)["entries"]) == 0
