"""The store in several processes and threads, some of which end in the middle of something."""

from __future__ import annotations

import os
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import lmdb
import pytest
from mockups import MockNode
from siblings import Line, Sibling
from storehouse import make_store

from regrow.ipc import points, store_env, store_users
from regrow.ipc.points import Point
from regrow.ipc.posting import Posting
from regrow.ipc.store import INFO, SIGNS, Store, StoreUnusable, Txn

TIMEOUT_S = 20.0
SMALL = 1 << 17


@pytest.fixture
def folder(run_dir: Path, tmp_path: Path) -> Path:
    """Of a store whose map is soon full."""
    return Path(make_store(run_dir, tmp_path / "state", map_bytes=SMALL))


@pytest.fixture
def opened(run_dir: Path, folder: Path) -> Iterator[Store]:
    """The same, open."""
    with closing(Store.open(str(run_dir))) as made:
        yield made


def put(opened: Store, key: bytes, value: bytes) -> None:
    """One row, in a transaction of its own."""
    opened.write(lambda txn: txn.put(key, value, db=opened.state))


def get(opened: Store, key: bytes) -> bytes | None:
    """One row, read in both ways."""
    found: bytes | None = opened.read(lambda txn: txn.get(key, db=opened.state))
    assert found == opened.row(key)
    return found


def increment(opened: Store, key: bytes) -> None:
    """Read and write in one transaction."""

    def change(txn: Txn) -> None:
        txn.put(key, str(int(txn.get(key, b"0", db=opened.state)) + 1).encode(), db=opened.state)

    opened.write(change)


def fill(opened: Store, key: bytes, size: int) -> None:
    """A row of this size."""
    put(opened, key, bytes(size))


def size(opened: Store, key: bytes) -> int:
    """The size of a row."""
    return len(get(opened, key) or b"")


VERBS: dict[str, Callable[..., Any]] = {"put": put, "get": get, "fill": fill, "size": size}


def in_use(run_dir: Path, line: Line) -> None:
    """What another process does with the store on demand."""
    with closing(Store.open(str(run_dir))) as mine:
        for verb, *args in iter(line.hear, "end"):
            try:
                if verb == "hold":
                    mine.look(lambda _: line.ask("held"))
                    line.say(None)
                    continue
                line.say(VERBS[verb](mine, *args))
            except StoreUnusable as error:
                line.say(str(error))


def user(run_dir: Path) -> Sibling:
    """Another process that uses it."""
    return Sibling(lambda line: in_use(run_dir, line))


def done(sibling: Sibling) -> None:
    """Have it end."""
    sibling.say("end")
    assert sibling.wait() == 0


# the map


def test_map_grows_under_readers(opened: Store) -> None:
    """A hundred times what the map holds, while threads read: each sees what was committed before."""
    stop, newest, errors = threading.Event(), [-1], list[object]()

    def look() -> None:
        while not stop.is_set():
            known = newest[0]
            found = int(opened.row(b"newest") or -1)
            if found < known:
                errors.append((found, known))

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for number in range(100):
            put(opened, b"%d" % number, bytes(SMALL))
            put(opened, b"newest", b"%d" % number)
            newest[0] = number
    finally:
        stop.set()
        for thread in threads:
            thread.join(TIMEOUT_S)
    assert errors == []
    assert opened.env.info()["map_size"] >= 100 * SMALL


def test_map_that_others_have_grown(run_dir: Path, folder: Path) -> None:
    """Whoever reads or writes next has it as large, in turns."""
    with user(run_dir) as first, user(run_dir) as second:
        for number in range(8):
            grower, other = (first, second) if number % 2 else (second, first)
            grower.ask(("fill", b"%d" % number, SMALL << number))
            assert other.ask(("size", b"%d" % number)) == SMALL << number
            other.ask(("put", b"small", b"%d" % number))
        done(first)
        done(second)


def test_map_that_cannot_grow(run_dir: Path, folder: Path) -> None:
    """No more address space: an error that says so; with more of it everything is there, and goes on."""

    def body(line: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            put(mine, b"a", b"1")
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            before = resource.getrlimit(resource.RLIMIT_AS)
            content = bytes(64 << 20)
            resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (96 << 20), before[1]))
            for _ in range(2):
                try:
                    put(mine, b"b", content)
                except StoreUnusable as error:
                    line.say(str(error))
            resource.setrlimit(resource.RLIMIT_AS, before)
            line.say(get(mine, b"a"))
            put(mine, b"b", content)
            line.say(len(get(mine, b"b") or b""))

    with Sibling(body) as sibling:
        for _ in range(2):
            assert "Cannot allocate memory" in sibling.hear()
        assert sibling.hear() == b"1"
        assert sibling.hear() == 64 << 20
        assert sibling.wait() == 0


@pytest.mark.parametrize("mib", [16, 100])
def test_large_values(opened: Store, mib: int) -> None:
    """They fit, however small the map was."""
    put(opened, b"large", os.urandom(1 << 20) * mib)
    assert len(get(opened, b"large") or b"") == mib << 20
    put(opened, b"large", b"")
    assert get(opened, b"large") == b""


def test_many_rows_in_one_transaction(opened: Store) -> None:
    """More pages than LMDB keeps in its list of changed ones."""

    def change(txn: Txn) -> None:
        for number in range(100_000):
            txn.put(number.to_bytes(8, "little"), bytes(200), db=opened.state)

    opened.write(change)
    assert opened.read(lambda txn: txn.stat(opened.state)["entries"]) == 100_000


# processes


def test_many_processes(run_dir: Path, folder: Path) -> None:
    """Nothing is lost between those that change the same row."""

    def body(line: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            line.hear()
            for _ in range(200):
                increment(mine, b"n")

    siblings = [Sibling(body) for _ in range(6)]
    for sibling in siblings:
        sibling.say("go")
    for sibling in siblings:
        with sibling:
            assert sibling.wait() == 0
    with closing(Store.open(str(run_dir))) as mine:
        assert get(mine, b"n") == b"1200"


@pytest.mark.parametrize("point", [Point.BEFORE_COMMIT, Point.INSIDE_COMMIT, Point.AFTER_COMMIT])
def test_killed_writer(run_dir: Path, opened: Store, point: Point) -> None:
    """It has changed all or nothing, and the next one goes on."""

    def kill(here: Point) -> None:
        if here is point:
            os.kill(os.getpid(), signal.SIGKILL)

    def body(_: Line) -> None:
        points.install(kill)
        with closing(Store.open(str(run_dir))) as mine:
            mine.write(lambda txn: [txn.put(key, b"x" * 5000, db=mine.state) for key in (b"a", b"b")])

    for number in range(5):
        with Sibling(body) as sibling:
            assert sibling.wait() == -signal.SIGKILL
        expected = b"x" * 5000 if point is Point.AFTER_COMMIT else None
        assert get(opened, b"a") == get(opened, b"b") == expected
        put(opened, b"n", b"%d" % number)
        assert get(opened, b"n") == b"%d" % number


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_reader_that_is_killed_or_stopped(run_dir: Path, opened: Store, number: signal.Signals) -> None:
    """Nobody waits for it."""
    put(opened, b"k", b"old")

    def body(line: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            mine.read(lambda txn: line.ask(txn.get(b"k", db=mine.state)))

    with Sibling(body) as sibling:
        assert sibling.hear() == b"old"
        sibling.signal(number)
        for value in range(50):
            put(opened, b"k", b"%d" % value)
        assert get(opened, b"k") == b"49"
        if number is signal.SIGKILL:
            assert sibling.wait() == -signal.SIGKILL
            assert opened.env.reader_check() == 1


def test_no_place_among_the_readers(run_dir: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many read as may: whoever comes then reads as a writer would."""
    monkeypatch.setattr(store_env, "MAX_READERS", 3)
    (folder / "lock.mdb").unlink()
    with closing(Store.open(str(run_dir))) as mine:
        put(mine, b"k", b"v")
        held = [mine.env.begin() for _ in range(3)]
        with pytest.raises(lmdb.ReadersFullError):
            mine.env.begin()
        assert get(mine, b"k") == b"v"
        assert mine.look(lambda txn: txn.get(b"k", db=mine.state)) == b"v"
        put(mine, b"k", b"w")
        assert get(mine, b"k") == b"w"
        for txn in held:
            txn.abort()


# forks


def test_fork_leaves_the_readers_of_the_parent_alone(run_dir: Path, opened: Store) -> None:
    """A forked process opens the store for itself, and closes it: what its parent reads meanwhile stays what it is."""
    put(opened, b"k", b"v")

    def body(_: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            for number in range(10):
                put(mine, b"k", b"%d" % number)
            assert get(mine, b"k") == b"9"

    def look(txn: Txn) -> Any:
        table = opened.env.readers()
        with Sibling(body) as sibling:
            assert sibling.wait() == 0
        assert opened.env.readers() == table
        assert str(os.getpid()) in table
        return txn.get(b"k", db=opened.state)

    assert opened.read(look) == b"v"
    assert get(opened, b"k") == b"9"


def test_fork_while_threads_have_it(run_dir: Path, opened: Store) -> None:
    """A fork waits until the other threads are done with what they have begun; the child finds all of it there."""
    begun, go_on = threading.Event(), threading.Event()
    os.register_at_fork(before=go_on.set)

    def change(txn: Txn) -> None:
        begun.set()
        assert go_on.wait(TIMEOUT_S)
        txn.put(b"k", b"parent", db=opened.state)

    def body(line: Line) -> None:
        with closing(Store.open(str(run_dir))) as mine:
            mine.write(lambda txn: txn.put(b"seen", txn.get(b"k", db=mine.state), db=mine.state))

    thread = threading.Thread(target=opened.write, args=(change,))
    thread.start()
    assert begun.wait(TIMEOUT_S)
    with Sibling(body) as sibling:
        thread.join(TIMEOUT_S)
        assert sibling.wait() == 0
    assert get(opened, b"seen") == b"parent"


def test_fork_that_does_not_wait_for_ever(run_dir: Path, opened: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else keeps the writers' lock: a process whose thread waits for it can be forked all the same."""
    monkeypatch.setattr(store_users, "FORK_S", 0.05)
    with user(run_dir) as other:
        other.say(("hold",))
        assert other.hear() == "held"
        thread = threading.Thread(target=put, args=(opened, b"k", b"v"))
        thread.start()
        with Sibling(lambda _: None) as sibling:
            assert sibling.wait() == 0
        other.say("let go")
        assert other.hear() is None
        thread.join(TIMEOUT_S)
        done(other)
    assert get(opened, b"k") == b"v"


def test_fork_that_does_not_use_it(opened: Store) -> None:
    """It ends without touching anything."""
    put(opened, b"k", b"v")

    def look(txn: Txn) -> Any:
        table = opened.env.readers()
        with Sibling(lambda _: None) as sibling:
            assert sibling.wait() == 0
        assert opened.env.readers() == table
        return txn.get(b"k", db=opened.state)

    assert opened.read(look) == b"v"


# opening and closing


def test_one_for_all_in_a_process(run_dir: Path, folder: Path) -> None:
    """Each `open` gives the same one; with the last `close` it is closed, and can be opened again."""
    first = Store.open(str(run_dir))
    second = Store.open(f"{run_dir}/../{run_dir.name}")
    assert first is second
    first.close()
    put(second, b"k", b"v")
    second.close()
    with closing(Store.open(str(run_dir))) as third:
        assert third is not first
        assert get(third, b"k") == b"v"


USES: dict[str, Callable[[Store], object]] = {
    "read": lambda store: store.read(lambda txn: txn.get(b"k", db=store.state)),
    "row": lambda store: store.row(b"k"),
    "write": lambda store: store.write(lambda txn: txn.put(b"k", b"w", db=store.state)),
    "look": lambda store: store.look(lambda txn: txn.get(b"k", db=store.state)),
    "follow": Store.follow,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_used_after_it_was_closed(run_dir: Path, folder: Path, use: Callable[[Store], object]) -> None:
    """Another thread that goes on with it is told so, each time: it is not opened again behind the one's back."""
    store = Store.open(str(run_dir))
    put(store, b"k", b"v")
    store.close()
    errors: list[BaseException] = []

    def go_on() -> None:
        try:
            use(store)
        except StoreUnusable as error:
            errors.append(error)

    for _ in range(2):
        thread = threading.Thread(target=go_on)
        thread.start()
        thread.join(TIMEOUT_S)
    assert ["this process has closed it" in str(error) for error in errors] == [True, True]
    assert str(folder) not in Path("/proc/self/maps").read_text()
    with closing(Store.open(str(run_dir))) as again:
        use_again = USES["write" if use is USES["follow"] else "read"]
        use_again(again)
        with pytest.raises(StoreUnusable, match="this process has closed it"):
            use(store)
        assert get(again, b"k") is not None


def test_closed_in_the_middle_of_a_transaction(run_dir: Path, folder: Path) -> None:
    """By who has it open himself: nothing of it is committed, and it says why."""
    store = Store.open(str(run_dir))

    def change(txn: Txn) -> None:
        txn.put(b"k", b"v", db=store.state)
        store.close()

    with pytest.raises(StoreUnusable, match="this process has closed it"):
        store.write(change)
    with closing(Store.open(str(run_dir))) as again:
        assert get(again, b"k") is None


def test_threads_that_open_it_at_once(run_dir: Path, folder: Path) -> None:
    """They count as one: when it is closed it is closed."""
    for _ in range(20):
        posting = Posting(cast(Any, MockNode(str(run_dir))))
        barrier = threading.Barrier(4)
        found: list[Store] = []

        def take(posting: Posting = posting, barrier: threading.Barrier = barrier, found: Any = found) -> None:
            barrier.wait(TIMEOUT_S)
            found.append(posting.store)

        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT_S)
        assert len(set(map(id, found))) == 1
        posting.close()
        with closing(Store.open(str(run_dir))) as again:
            assert again is not found[0]


def test_a_transaction_within_one(opened: Store) -> None:
    """Is refused, and the outer one comes to nothing; the store goes on."""

    def change(txn: Txn) -> None:
        txn.put(b"k", b"v", db=opened.state)
        put(opened, b"l", b"w")

    with pytest.raises(RuntimeError, match="is open in this thread already"):
        opened.write(change)
    assert get(opened, b"k") is None
    put(opened, b"k", b"v")
    assert get(opened, b"k") == b"v"


def test_what_it_cannot_hold(opened: Store) -> None:
    """A key that is too long: the error says what is the matter, and does not take the store for broken."""
    with pytest.raises(StoreUnusable, match="larger than it can hold"):
        put(opened, b"k" * 512, b"v")
    assert get(opened, b"k" * 512) is None


def test_nobody_there(run_dir: Path, tmp_path: Path) -> None:
    """Neither a daemon, nor a store, nor anything that can be read: each is said."""
    with pytest.raises(StoreUnusable, match="no daemon runs there"):
        Store.open(str(tmp_path / "nowhere"))
    with pytest.raises(StoreUnusable, match="its tree has no agents"):
        Store.open(str(run_dir))
    (run_dir / INFO).write_text("{nonsense")
    with pytest.raises(StoreUnusable, match="access"):
        Store.open(str(run_dir))
    folder = Path(make_store(run_dir, tmp_path / "state"))
    folder.rename(tmp_path / "away")
    with pytest.raises(StoreUnusable, match="No such file"):
        Store.open(str(run_dir))
    (tmp_path / "away").rename(folder)
    (folder / SIGNS).rename(folder / "signs.away")
    for _ in range(2):
        with pytest.raises(StoreUnusable, match="No such file"):
            Store.open(str(run_dir))
    (folder / SIGNS).write_bytes(b"")
    with pytest.raises(StoreUnusable, match="mmap"):
        Store.open(str(run_dir))
    (folder / "signs.away").rename(folder / SIGNS)
    (folder / "data.mdb").write_bytes(os.urandom(65536))
    for _ in range(2):
        with pytest.raises(StoreUnusable):
            Store.open(str(run_dir))


# another store in its place


def replace(folder: Path, tmp_path: Path, value: bytes) -> None:
    """As a restore does."""
    other = tmp_path / f"other-{value.decode()}"
    other.mkdir()
    (other / "run").mkdir()
    made = Path(make_store(other / "run", other / "state"))
    with closing(Store.open(str(other / "run"))) as new:
        put(new, b"k", value)
    (made / "data.mdb").rename(folder / "data.mdb")
    with (folder / SIGNS).open("r+b") as signs:
        before = signs.read(2)
        signs.seek(1)
        signs.write(bytes([(before[1] + 1) % 256]))


def test_replaced(run_dir: Path, tmp_path: Path, folder: Path, opened: Store) -> None:
    """Whoever has it open goes over to the new one with whatever it does next, and so does who opens it again."""
    put(opened, b"k", b"old")
    with user(run_dir) as reader, user(run_dir) as writer:
        assert reader.ask(("get", b"k")) == writer.ask(("get", b"k")) == b"old"
        replace(folder, tmp_path, b"new")
        assert reader.ask(("get", b"k")) == b"new"
        writer.ask(("put", b"l", b"w"))
        with closing(Store.open(str(run_dir))) as again:
            assert again is opened
        assert get(opened, b"k") == b"new"
        assert reader.ask(("get", b"l")) == b"w"
        done(reader)
        done(writer)


def test_away_for_a_while(run_dir: Path, tmp_path: Path, folder: Path, opened: Store) -> None:
    """It cannot be opened anew at once: each use says so, until it is there."""
    put(opened, b"k", b"old")
    replace(folder, tmp_path, b"new")
    folder.rename(tmp_path / "away")
    for _ in range(2):
        with pytest.raises(StoreUnusable, match=r"No such file|not there"):
            get(opened, b"k")
        with pytest.raises(StoreUnusable, match=r"No such file|not there"):
            put(opened, b"k", b"v")
    (tmp_path / "away").rename(folder)
    assert get(opened, b"k") == b"new"
    put(opened, b"k", b"v")
    assert get(opened, b"k") == b"v"
