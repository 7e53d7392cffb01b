"""To whom posts may go, what may be in them, and what is refused, in words and at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from boxes import Box as Mailbox
from endless import longer_than_any_form
from siblings import Line, Sibling
from storehouse import make_store

from regrow.ipc import posting, posts, transaction
from regrow.ipc.client import Client
from regrow.ipc.errors import Backpressure, BadRequest, NoProcess, StoreError, StoreUnusable
from regrow.ipc.groups import by_key, least_outstanding, round_robin
from regrow.ipc.posts import Box, boxes, decode
from regrow.ipc.store import Store
from regrow.ipc.timed import scheduling


@pytest.fixture
def client(run_dir: Path, tmp_path: Path) -> Iterator[Client]:
    """One, beside a store that knows an agent and a group."""
    make_store(run_dir, tmp_path / "state", agent=0, group=3)
    with Client(run_dir) as made:
        yield made


def waiting(client: Client, name: str = "agent") -> list[Any]:
    """The arguments of the posts in a box."""
    with closing(Store.open(client.run_dir)) as store:
        rows = store.read(lambda txn: Box(store.messages, name).behind(txn, b"", 1 << 20, 1 << 30))
        return [msgspec.msgpack.decode(decode(value).args) for _, value in rows]


def lengths(client: Client) -> list[int]:
    """How many posts wait for each member."""
    return [len(waiting(client, f"group.{number}")) for number in range(3)]


ODD_NAMES = (
    "", "nobody", "agent.0", "group.7", "group.01", "a\0b", "\0mail:agent", "x" * 600, "é" * 300, "a/b", "../x",
    "\ud800",
)  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
def test_unknown_names(client: Client, name: str) -> None:
    """Nothing of that name is known: nothing is kept, and the store goes on."""
    for _ in range(2):
        with pytest.raises(NoProcess):
            client.post(name, "take")
        with pytest.raises(NoProcess):
            client.post(by_key(name, 1), "take")
    client.post("agent", "take")
    with closing(Store.open(client.run_dir)) as store:
        assert store.read(lambda txn: list(boxes(txn, store.messages))) == ["agent"]


def test_a_key_for_what_is_no_group(client: Client) -> None:
    """Is refused, as in a call: whoever gives one takes the name for a group."""
    for id in (None, "a"):
        with pytest.raises(NoProcess, match="agent by key 1: it is no group, and only groups have keys"):
            client.post(by_key("agent", 1), "take", id=id)
    with pytest.raises(NoProcess, match="it is no group"):
        client.cancel(by_key("agent", 1), "a")
    client.post(round_robin("agent"), "take")


def test_an_id_means_the_same_member_of_a_group(client: Client) -> None:
    """Whoever posts again with an id reaches the box that knows it, also from another process."""
    for id in ("a", "b", "c", "d"):
        first = client._posting.write("group", "take", (1,), {}, id)
        assert {client._posting.write("group", "take", (1,), {}, id).to for _ in range(7)} == {first.to}
    assert len({client._posting.write("group", "take", (1,), {}, id).to for id in "abcdefgh"}) > 1


def test_what_is_no_name_or_handler(client: Client) -> None:
    """Refused at once, not kept to be found out by the receiver."""
    with pytest.raises(BadRequest, match="a handler is a text"):
        client.post("group", None)  # type: ignore[arg-type]
    with pytest.raises(BadRequest, match="a name, or for a group"):
        client.post(5, "take")  # type: ignore[arg-type]


def test_groups(client: Client) -> None:
    """In turns; by a key always to the same one; to the emptiest one."""
    for number in range(9):
        client.post("group", "take", number)
    assert lengths(client) == [3, 3, 3]
    for number in range(6):
        client.post(round_robin("group"), "take", number)
    assert lengths(client) == [5, 5, 5]
    for key in ("a", "a", "a", 1, 1, b"x", ("t", 2)):
        client.post(by_key("group", key), "take", str(key))
    found = [{args[0] for args in waiting(client, f"group.{number}") if type(args[0]) is str} for number in range(3)]
    assert sum(len(each) for each in found) == 4  # no key is in two
    assert lengths(client)[1] >= 7
    for _ in range(30):
        client.post(least_outstanding("group"), "take", 0)
    assert max(lengths(client)) - min(lengths(client)) <= 1
    client.post("group.2", "take", "one of them")
    assert waiting(client, "group.2")[-1] == ["one of them"]
    with pytest.raises(BadRequest, match="cannot encode the key"):
        client.post(by_key("group", object()), "take")


def test_many_clients_that_post_once(run_dir: Path, client: Client) -> None:
    """They do not all begin with the same member."""
    for _ in range(60):
        with Client(run_dir) as other:
            other.post("group", "take")
    assert min(lengths(client)) > 0


def test_agents_that_no_file_knows(run_dir: Path, client: Client) -> None:
    """Started by somebody, they have a name; it may be posted to from then on, when they are gone as well."""
    with pytest.raises(NoProcess):
        client.post("box", "take")
    with Mailbox(run_dir):
        client.post("box", "take", 1)
    client.post("box", "take", 2)
    with Client(run_dir) as other:
        other.post("box", "take", 3)
    assert waiting(client, "box") == [[1], [2], [3]]


def nested(depth: int) -> list[Any]:
    """A list in a list, and so on."""
    made: list[Any] = []
    for _ in range(depth):
        made = [made]
    return made


circle: list[Any] = []
circle.append(circle)
UNSENDABLE = (object(), 1j, "\ud800", {object(): 1}, circle, nested(100_000), 1 << 64, bytes(17 << 20))
SENDABLE = (math.inf, -0.0, "", "\0", "é🦉", b"\xff", nested(200), {"a": {1: None}}, bytes(15 << 20))


@pytest.mark.parametrize("value", [*UNSENDABLE, longer_than_any_form()])
def test_arguments_that_cannot_be_sent(client: Client, value: Any) -> None:
    """The error comes at once, and nothing is kept; the same for keywords."""
    with pytest.raises(BadRequest):
        client.post("agent", "take", value)
    with pytest.raises(BadRequest):
        client.post("agent", "take", value=value)
    assert waiting(client) == []


@pytest.mark.parametrize("value", SENDABLE)
def test_arguments_that_can(client: Client, value: Any) -> None:
    """They come as they were."""
    client.post("agent", "take", value)
    assert waiting(client) == [[value]]


def test_nan(client: Client) -> None:
    """It comes as one."""
    client.post("agent", "take", math.nan)
    assert math.isnan(waiting(client)[0][0])


@pytest.mark.parametrize("id", ["", "x" * 201, "é" * 101, "a\0b", "\ud800", 5, b"x", True])
def test_ids_that_are_none(client: Client, id: Any) -> None:
    """Refused in words."""
    with pytest.raises(BadRequest):
        client.post("agent", "take", id=id)
    assert waiting(client) == []


def test_ids(client: Client) -> None:
    """Posts to one agent with the same id are one, with the first one's arguments; to another they are another."""
    for number in range(3):
        assert client.post("agent", "take", number, id="é" * 100) == "é" * 100
    client.post("group.0", "take", 5, id="é" * 100)
    assert waiting(client) == [[0]]
    assert waiting(client, "group.0") == [[5]]
    assert len({client.post("agent", "take") for _ in range(100)}) == 100


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, "5", None, True])
def test_expires(client: Client, seconds: Any) -> None:
    """A number of seconds, or nothing."""
    if seconds is None:
        client.post("agent", "take", expires=seconds)
        return
    with pytest.raises(BadRequest, match="expires"):
        client.post("agent", "take", expires=seconds)
    assert waiting(client) == []


def test_transactions(client: Client) -> None:
    """All or nothing; not within each other."""
    with client.transaction():
        client.post("agent", "take", 1)
        client.post("group.0", "take", 2)
        assert waiting(client) == []
    assert (waiting(client), waiting(client, "group.0")) == ([[1]], [[2]])
    with pytest.raises(ZeroDivisionError):
        _fail(client)
    with pytest.raises(NoProcess):
        _post_to_nobody(client)
    with pytest.raises(RuntimeError, match="is open already"):
        _nest(client)
    assert (waiting(client), waiting(client, "group.0")) == ([[1]], [[2]])
    with client.transaction():
        pass
    client.post("agent", "take", 3)
    assert waiting(client) == [[1], [3]]


def _fail(client: Client) -> None:
    with client.transaction():
        client.post("agent", "take")
        _ = 1 / 0


def _post_to_nobody(client: Client) -> None:
    with client.transaction():
        client.post("agent", "take")
        client.post("nobody", "take")


def _nest(client: Client) -> None:
    with client.transaction():
        client.post("agent", "take")
        with client.transaction():
            client.post("agent", "take")


def test_limit(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full box takes nothing more, and says so; others do."""
    for module in (posting, posts):
        monkeypatch.setattr(module, "MAX_WAITING", 40)
    for number in range(40):
        client.post("agent", "take", number)
    with pytest.raises(Backpressure) as raised:
        client.post("agent", "take", 40)
    assert raised.value.length == raised.value.limit == 40
    assert len(waiting(client)) == 40
    client.post("group", "take")
    with closing(Store.open(client.run_dir)) as store:
        box = Box(store.messages, "agent")
        store.write(lambda txn: box.take_all(txn, [key for key, _ in box.behind(txn, b"", 3, 1 << 20)]))
    client.post("agent", "take", "again")
    assert waiting(client)[-1] == ["again"]


def scheduled(owner: str, id: str) -> transaction.Transaction:
    """One more schedule, to be committed."""
    made = transaction.Transaction()
    made.post(scheduling(owner, id, "every 1h", "take", (), {}, "once", None))
    return made


def test_limit_of_what_is_put_off(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has its own, which is not that of the box; when something was due or cancelled, there is room again."""
    monkeypatch.setattr(posting, "MAX_PUT_OFF", 40)
    for number in range(40):
        client.post("agent", "take", delay=3600.0, id=f"d{number}")
    for options in ({"delay": 3600.0}, {"at": datetime.now(UTC) + timedelta(hours=1)}):
        with pytest.raises(Backpressure, match="what is put off for it holds 40 messages of at most 40") as raised:
            client.post("agent", "take", **cast(Any, options))
        assert (raised.value.length, raised.value.limit) == (40, 40)
    client.post("agent", "take", 1)
    client.post("agent", "take", 2, delay=0.0)
    client.post("group", "take", delay=3600.0)
    assert waiting(client) == [[1], [2]]
    assert client.cancel("agent", "d7")
    client.post("agent", "take", delay=3600.0)
    for number in range(40):
        client._posting.check_put_off("agent", schedules=True)
        client._posting.commit(scheduled("agent", f"s{number}"))
    with pytest.raises(Backpressure, match="what is put off for it holds 40"):
        client._posting.check_put_off("agent", schedules=True)


def too_many(client: Client) -> None:
    """One more than there may be in a transaction."""
    with client.transaction():
        for number in range(4):
            client.post("agent", "take", number)


def test_limit_of_a_transaction(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """One post too many is refused where it is posted; those before it are kept, unless the block ends by that."""
    monkeypatch.setattr(transaction, "MOST_POSTS", 3)
    with client.transaction():
        for number in range(3):
            client.post("agent", "take", number)
        for options in ({}, {"delay": 1.0}):
            with pytest.raises(BadRequest, match="one transaction posts at most 3 messages; commit in parts"):
                client.post("agent", "take", 3, **cast(Any, options))
    assert waiting(client) == [[0], [1], [2]]
    with pytest.raises(BadRequest):
        too_many(client)
    assert len(waiting(client)) == 3


def test_forked_clients(run_dir: Path, client: Client) -> None:
    """A client goes on in forked processes, all at once; nothing is lost."""
    client.post("agent", "take", 0)

    def body(line: Line) -> None:
        line.hear()
        for _ in range(50):
            client.post("agent", "take", 1)
        client.close()

    siblings = [Sibling(body) for _ in range(4)]
    for sibling in siblings:
        sibling.say("go")
    for _ in range(50):
        client.post("agent", "take", 2)
    for sibling in siblings:
        with sibling:
            assert sibling.wait() == 0
    client.post("agent", "take", 3)
    found = [args[0] for args in waiting(client)]
    assert [found.count(number) for number in range(4)] == [1, 200, 50, 1]


def test_no_store(run_dir: Path) -> None:
    """A daemon without agents keeps nothing: said each time; with one, it goes on."""
    with Client(run_dir) as client:
        for _ in range(2):
            with pytest.raises(StoreUnusable, match="its tree has no agents"):
                client.post("agent", "take")
        make_store(run_dir, run_dir / "state", agent=0)
        client.post("agent", "take", 1)
        assert waiting(client) == [[1]]
        assert issubclass(StoreUnusable, StoreError)


class Arriving:
    """A table of names in which somebody announces himself right after he was looked for in vain."""

    def __init__(self) -> None:
        self.flags: set[bytes] = set()
        self.has_looked_for_posts = False

    def is_stale(self) -> bool:
        return False

    def get(self, name: str) -> None:
        self.has_looked_for_posts = posting.MAIL + name.encode() in self.flags

    def has_flag(self, key: bytes) -> bool:
        return key in self.flags

    def set_flag(self, key: bytes) -> None:
        self.flags.add(key)


def test_first_post_meets_first_start(client: Client) -> None:
    """Who is not there yet when somebody posts to him for the first time sees the sign of it when he is."""
    names = Arriving()
    with closing(Store.open(client.run_dir)) as store:
        assert posting.noted(lambda: cast(Any, names), store, "agent") is None
    assert names.has_looked_for_posts
