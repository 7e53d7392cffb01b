"""No room, a disk that fails: a typed error, nothing committed is harmed, and it goes on when the cause goes."""

from __future__ import annotations

import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import lmdb
import pytest
from agents import House
from disks import FailingDisk, failing_disk, filled, small_disk
from siblings import Line, Sibling
from storehouse import make_store

from regrow.config.spec import Durability
from regrow.ipc import explain
from regrow.ipc.client import Client
from regrow.ipc.errors import RemoteError, StoreError, StoreFull, StoreUnusable
from regrow.ipc.posts import Box, decode
from regrow.ipc.store import Store, Txn
from regrow.workers import box_pace

AGENTS = "poisoned_agents"
KEPT = "keeping_agents"
TIMEOUT_S = 20.0
SMALL = 1 << 17


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    with small_disk(tmp_path / "disk") as made:
        yield made


@pytest.fixture
def weak(tmp_path: Path) -> Iterator[FailingDisk]:
    """A disk that can fail."""
    with failing_disk(tmp_path) as made:
        yield made


@pytest.fixture
def kept(house: House, disk: Path) -> House:
    """A run_dir whose store is on the small disk."""
    make_store(house.run_dir, disk, map_bytes=SMALL, agent=0, other=0)
    return house


@pytest.fixture
def store(kept: House) -> Iterator[Store]:
    """The store on the small disk."""
    with closing(Store.open(str(kept.run_dir))) as made:
        yield made


def put(store: Store, key: bytes, value: bytes) -> None:
    """One row."""
    store.write(lambda txn: txn.put(key, value, db=store.state))


def until(condition: Callable[[], Any]) -> None:
    """Ask again and again: what is asked costs a message."""
    end_s = time.monotonic() + TIMEOUT_S
    while not condition():
        assert time.monotonic() < end_s


# the store


@pytest.mark.root
@pytest.mark.parametrize("spare", [0, 4096, 40_960])
@pytest.mark.parametrize("size", [10, 5000, 200_000, 2_000_000])
@pytest.mark.parametrize("level", [Durability.PROCESS, Durability.FULL])
def test_full_disk(house: House, disk: Path, spare: int, size: int, level: Durability) -> None:
    """Nothing can be written, or only a part: StoreFull, as often as it is tried. With room again it is."""
    make_store(house.run_dir, disk, level, map_bytes=SMALL)
    with closing(Store.open(str(house.run_dir))) as store:
        put(store, b"a", b"1" * 5000)
        put(store, b"n", b"0")
        with filled(disk, spare):
            for number in range(20):
                try:
                    put(store, b"b%d" % number, b"x" * size)
                    put(store, b"n", b"%d" % (number + 1))
                except StoreFull:
                    break
            known = store.row(b"n")
            for _ in range(3):
                with pytest.raises(StoreFull, match="make room there"):
                    store.write(lambda txn: [txn.put(b"c%d" % each, b"x" * 2000, db=store.state) for each in range(99)])
            assert store.row(b"a") == b"1" * 5000
            assert store.row(b"n") == known
            assert store.row(b"c0") is None
        put(store, b"c", b"x" * size)
        assert store.row(b"c") == b"x" * size
        assert store.row(b"n") == known


def test_file_size_limit(house: House, tmp_path: Path) -> None:
    """The process may not have larger files: the same; others are not concerned."""
    make_store(house.run_dir, tmp_path / "state", map_bytes=SMALL)

    def body(line: Line) -> None:
        with closing(Store.open(str(house.run_dir))) as mine:
            put(mine, b"a", b"1")
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
            for size in (100_000, 1_000_000):
                try:
                    for number in range(3):
                        put(mine, b"b%d" % number, b"x" * size)
                except StoreFull as error:
                    line.say(str(error))
            line.ask(mine.row(b"a"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            put(mine, b"b", b"x" * 1_000_000)

    with Sibling(body) as sibling:
        assert "File too large" in sibling.hear()
        assert "File too large" in sibling.hear()
        assert sibling.hear() == b"1"
        with closing(Store.open(str(house.run_dir))) as store:
            put(store, b"c", b"x" * 1_000_000)
        sibling.say("go on")
        assert sibling.wait() == 0


@pytest.mark.root
@pytest.mark.parametrize("level", [Durability.PROCESS, Durability.FULL])
def test_disk_that_fails(house: House, weak: FailingDisk, level: Durability) -> None:
    """It is read-only from one moment to the next: that is said, what is there can be read; it is mended, and used."""
    make_store(house.run_dir, weak.path, level, map_bytes=SMALL)
    with closing(Store.open(str(house.run_dir))) as store:
        put(store, b"a", b"1")
        weak.fail()
        for _ in range(3):
            with pytest.raises(StoreUnusable, match="Read-only file system"):
                put(store, b"a", b"2")
            assert store.row(b"a") == b"1"
        weak.replace()
        put(store, b"b", b"2")
        assert (store.row(b"a"), store.row(b"b")) == (b"1", b"2")
        with closing(Store.open(str(house.run_dir))) as again:
            assert again is store


class Panicking:
    """An environment in which a write to the first pages has failed: LMDB does nothing with it any more."""

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env

    def begin(self, **_: object) -> None:
        raise lmdb.PanicError("mdb_txn_begin: MDB_PANIC: Update of meta page failed or environment had fatal error")

    def close(self) -> None:
        self._env.close()


@pytest.mark.parametrize("verb", ["write", "read", "row"])
def test_panic(house: House, tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is opened anew, and what was asked is done."""
    make_store(house.run_dir, tmp_path / "state", map_bytes=SMALL)
    with closing(Store.open(str(house.run_dir))) as store:
        put(store, b"a", b"1")
        monkeypatch.setattr(store, "env", Panicking(store.env))
        match verb:
            case "write":
                put(store, b"a", b"1")
            case "read":
                assert store.read(lambda txn: txn.get(b"a", db=store.state)) == b"1"
        assert store.row(b"a") == b"1"


@pytest.mark.parametrize("text", ["Input/output error", "No space left on device", "Disk quota exceeded"])
def test_injected(house: House, tmp_path: Path, text: str) -> None:
    """What no file system here would do: the commit fails, and the transaction after it is a new one."""
    make_store(house.run_dir, tmp_path / "state", map_bytes=SMALL)
    kind: type[StoreError] = StoreUnusable if text.startswith("Input") else StoreFull
    with closing(Store.open(str(house.run_dir))) as store:
        put(store, b"a", b"1")

        def fail(txn: Txn) -> None:
            txn.put(b"a", b"2", db=store.state)
            raise lmdb.Error(f"mdb_txn_commit: {text}")

        with pytest.raises(kind, match=text):
            store.write(fail)
        assert store.row(b"a") == b"1"
        put(store, b"a", b"3")


# agents and clients


def post_both(client: Client) -> None:
    """To two agents at once."""
    with client.transaction():
        client.post("agent", "fill", "c", 10)
        client.post("other", "fill", "c", 10)


def in_box(house: House, name: str) -> list[Any]:
    """The posts that wait."""
    with closing(Store.open(str(house.run_dir))) as store:
        rows = store.read(lambda txn: Box(store.messages, name).behind(txn, b"", 1000, 1 << 30))
        return [decode(value) for _, value in rows]


@pytest.mark.root
def test_agent_on_a_full_disk(kept: House, disk: Path) -> None:
    """The caller has the error, by its type; the agent lives on with the state that it had, and goes on."""
    agent = kept.start(f"{AGENTS}:Filler")
    assert kept.call("agent", "fill", "a", 10) == 1
    pid = agent.pid
    with filled(disk):
        for _ in range(3):
            with pytest.raises(RemoteError, match="make room there") as raised:
                kept.call("agent", "fill", "b", 100_000)
            assert raised.value.type == "StoreFull"
            assert kept.call("agent", "count") == 1
        with Client(kept.run_dir) as client:
            with pytest.raises(StoreFull):
                client.post("agent", "fill", "c", 10)
            with pytest.raises(StoreFull):
                post_both(client)
        assert in_box(kept, "agent") == in_box(kept, "other") == []
    assert kept.call("agent", "fill", "b", 100_000) == 2
    assert agent.pid == pid
    assert "what fill has changed is undone" in agent.printed()
    assert agent.stop() == 0


@pytest.mark.root
@pytest.mark.parametrize("kind", ["Counter", "Waiter"])
def test_posts_wait_for_room(kept: House, disk: Path, kind: str) -> None:
    """They stay where they are, no attempt is counted, and each takes effect once when there is room."""
    with Client(kept.run_dir) as client, client.transaction():
        for _ in range(50):
            client.post("agent", "count")
    with filled(disk):
        agent = kept.start(f"{KEPT}:{kind}")
        until(lambda: kept.call("agent", "total") == 0 and "posts wait" in agent.printed())
        posts = in_box(kept, "agent")
        assert len(posts) == 50
        assert all(post.failures == () for post in posts)
    until(lambda: kept.call("agent", "total") == 50)
    assert in_box(kept, "agent") == []
    assert agent.stop() == 0


@pytest.mark.root
def test_whole_object_is_rolled_back(kept: House, disk: Path) -> None:
    """The object is as it was committed last."""
    agent = kept.start(f"{AGENTS}:Shop")
    assert kept.call("agent", "add", "a") == ["a"]
    with filled(disk):
        for _ in range(2):
            with pytest.raises(RemoteError, match="StoreFull"):
                kept.call("agent", "add", "b", size=50_000)
            assert kept.call("agent", "lines") == ["a"]
    assert [line[:1] for line in kept.call("agent", "add", "c", size=50_000)] == ["a", "c"]
    assert agent.stop() == 0


@pytest.mark.root
@pytest.mark.parametrize("how", ["kill", "raise"])
def test_poison_on_a_full_disk(kept: House, disk: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What a post has come to cannot be written down: the agent starts, lives, and handles none before it can be. Then
    the attempt counts, and the box goes on.
    """
    monkeypatch.setattr(explain, "last_exit", lambda *_: {"reason": "signal", "signal": 9, "at": 1.0})
    monkeypatch.setattr(box_pace, "retry_delay_s", lambda post: 0.0)
    agent = kept.start(f"{AGENTS}:OnceOnly")
    with Client(kept.run_dir) as client:
        client.post("agent", "take", 0)
        until(lambda: kept.call("agent", "got") == [0])
        agent.stop()
        client.post("agent", "take", 1, how)
        client.post("agent", "take", 2)
    with filled(disk):
        agent = kept.start(f"{AGENTS}:OnceOnly", await_ready=False)
        assert agent.wait() == (-signal.SIGKILL if how == "kill" else 1)
        agent = kept.start(f"{AGENTS}:OnceOnly")
        until(lambda: kept.call("agent", "got") and "posts wait" in agent.printed())
    until(lambda: kept.call("agent", "got") == [0, 2])
    assert in_box(kept, "agent") == []
    assert agent.stop() == 0


@pytest.mark.root
def test_agent_on_a_disk_that_fails(house: House, weak: FailingDisk) -> None:
    """Calls have the error, posts wait, reads go on; with the disk mended, everything does."""
    make_store(house.run_dir, weak.path, map_bytes=SMALL, agent=0)
    agent = house.start(f"{KEPT}:Counter")
    assert house.call("agent", "count") == 1
    with Client(house.run_dir) as client:
        client.post("agent", "count")
        until(lambda: house.call("agent", "total") == 2)
    weak.fail()
    for _ in range(2):
        with pytest.raises(RemoteError, match="StoreUnusable"):
            house.call("agent", "count")
        assert house.call("agent", "total") == 2
    with Client(house.run_dir) as client, pytest.raises(StoreUnusable):
        client.post("agent", "count")
    weak.replace()
    assert house.call("agent", "count") == 3
    with Client(house.run_dir) as client:
        client.post("agent", "count")
        until(lambda: house.call("agent", "total") == 4)
    assert agent.stop() == 0
