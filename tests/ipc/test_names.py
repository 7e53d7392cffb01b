"""The names table, with the real LMDB and several processes."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from siblings import Line, Sibling

from regrow.ipc.errors import Refused, Unreachable
from regrow.ipc.names import FOLDER, MAX_NAME_BYTES, Names, Record
from regrow.ipc.names_open import MAP_BYTES, MAX_READERS
from regrow.ipc.process import start_time


def make_table(run_dir: Path) -> None:
    """What the root makes at its start."""
    lmdb.open(str(run_dir / FOLDER), map_size=MAP_BYTES, max_readers=MAX_READERS).close()


def record(name: str, *, pid: int | None = None, incarnation: int = 1, group: str = "", replicas: int = 1) -> Record:
    """The record of a process, of this one unless said."""
    pid = pid or os.getpid()
    return Record(name, incarnation, pid, start_time(pid), f"{name}.{incarnation}.0", group, replicas)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run_dir with an empty table."""
    make_table(tmp_path)
    return tmp_path


@pytest.fixture
def names(run_dir: Path) -> Iterator[Names]:
    """The table, open."""
    table = Names(str(run_dir))
    yield table
    table.close()


def test_announce_finds_and_replaces(names: Names) -> None:
    """Who announces last has the name; the record before is returned, and withdrawing is for the holder only."""
    first, second = record("a"), record("a", incarnation=2)
    assert names.get("a") is None
    assert names.announce("a", first) is None
    assert names.announce("a", second) == first
    assert names.get("a") == second
    assert not names.withdraw("a", first)
    assert names.get("a") == second
    assert names.withdraw("a", second)
    assert not names.withdraw("a", second)
    assert names.get("a") is None


@pytest.mark.parametrize("name", ["", "\0a", "x" * (MAX_NAME_BYTES + 1), "\ud800", "ä" * MAX_NAME_BYTES, "\1"])
def test_names_that_nobody_can_have(names: Names, name: str) -> None:
    """They are looked up like any other, as a name and as a group, and cannot be registered."""
    assert names.get(name) is None
    assert names.members(name) == []
    with pytest.raises(Refused) as refused:
        names.register(name, record("a"))
    assert refused.value.code == "bad_request"
    assert list(names) == []


def test_longest_name(names: Names) -> None:
    """A name of the greatest length works as any other does; as a group it has no members."""
    name = "x" * MAX_NAME_BYTES
    names.register(name, record("a"))
    assert names.get(name) == record("a")
    assert names.members(name) == []


def test_members_are_the_agents_of_the_group(names: Names) -> None:
    """By number; neither names that begin alike nor registered ones nor another group's."""
    for number in (10, 2, 0, 1):
        names.announce(f"w.{number}", record(f"w.{number}", group="w", replicas=11))
    for other in ("w", "wx.0", "w-a.0", "w.boss", "w/0"):
        names.announce(other, record(other))
    names.register("w.7", record("boss", group="w"))
    names.announce("w.sub.0", record("w.sub.0", group="w.sub"))
    assert names.members("w") == ["w.0", "w.1", "w.2", "w.10"]
    assert names.members("w.sub") == ["w.sub.0"]
    assert names.members("x") == []


def test_register_and_unregister(names: Names) -> None:
    """A taken name is refused to everybody, its holder included, and nothing changes (S221, S225)."""
    names.register("leader", record("a"))
    for other in (record("a"), record("b")):
        with pytest.raises(Refused) as refused:
            names.register("leader", other)
        assert refused.value.code == "already_registered"
        assert refused.value.details["pid"] == os.getpid()
    assert names.get("leader") == record("a")
    assert not names.withdraw("leader", record("b"))
    assert names.withdraw("leader", record("a"))
    names.register("leader", record("b"))


def test_name_of_a_dead_holder_is_free(names: Names) -> None:
    """The table still says who it was; the kernel says that it is dead, a zombie included (S224)."""
    with Sibling(lambda line: line.hear()) as holder:
        held = record("a", pid=holder.pid)
        names.register("leader", held)
        with pytest.raises(Refused):
            names.register("leader", record("b"))
        holder.signal(signal.SIGKILL)
        os.waitid(os.P_PIDFD, holder.pidfd, os.WEXITED | os.WNOWAIT)
        assert not held.is_alive()
        names.register("leader", record("b"))
        assert names.get("leader") == record("b")


def test_pid_that_is_used_again_is_somebody_else(names: Names) -> None:
    """A record with this pid and another start time is of a dead process."""
    mine = record("a")
    other = Record("b", 1, mine.pid, mine.started - 1, "b.1.0")
    assert mine.is_alive()
    assert not other.is_alive()
    names.register("leader", other)
    names.register("leader", mine)


def test_race_for_one_name_has_one_winner(names: Names, run_dir: Path) -> None:
    """Of eight processes that register at once, round after round, exactly one gets it; all agree on who."""

    def body(line: Line) -> None:
        table = Names(str(run_dir))
        mine = record("racer")
        while (key := line.hear()) != "end":
            try:
                table.register(key, mine)
                line.say(["won", os.getpid()])
            except Refused as refused:
                line.say(["lost", refused.details["pid"]])

    names.close()
    racers = [Sibling(body) for _ in range(8)]
    names.reopen()
    try:
        for turn in range(30):
            for racer in racers:
                racer.say(f"key{turn}")
            said = [racer.hear() for racer in racers]
            winners = [pid for word, pid in said if word == "won"]
            assert len(winners) == 1
            assert {pid for _, pid in said} == set(winners)
    finally:
        for racer in racers:
            racer.close()


def test_killed_in_the_middle_of_a_write(names: Names, run_dir: Path) -> None:
    """A process killed inside its transaction leaves neither its changes nor its lock."""

    def body(line: Line) -> None:
        table = Names(str(run_dir))
        with table.env.begin(write=True) as txn:
            txn.put(b"half", b"\x90")
            txn.put(b"a", b"\x90")
            line.say("in it")
            line.hear()

    names.announce("a", record("a"))
    names.close()
    with Sibling(body) as writer:
        writer.hear()
        writer.kill()
        names.reopen()
        names.announce("b", record("b"))
    assert [name for name, _ in names] == ["a", "b"]


def test_killed_readers_do_not_fill_the_table(run_dir: Path) -> None:
    """Pages that a dead process was reading are taken back when room runs out."""

    def body(line: Line) -> None:
        table = Names(str(run_dir))
        with table.env.begin() as txn:
            line.say(str(txn.get(b"a")))
            line.hear()

    with Sibling(body) as reader:
        reader.hear()
        table = Names(str(run_dir))  # while the reader lives: who opens a table that nobody has, clears its slots
        reader.kill()
    try:
        used = 0
        for number in range(MAP_BYTES // 4096):  # each change takes three pages, or more
            table.announce("a", record("a", incarnation=number))
            used = max(used, table.env.info()["last_pgno"])
        assert used > MAP_BYTES // 4096 - 10
    finally:
        table.close()


def test_slots_of_dead_readers_are_taken_back(tmp_path: Path) -> None:
    """More processes than there are reader slots may have read and died."""
    lmdb.open(str(tmp_path / FOLDER), max_readers=4).close()  # the first to open it decides

    def keep(line: Line) -> None:
        kept = lmdb.open(str(tmp_path / FOLDER), max_readers=4)
        line.say("open")
        line.hear()
        kept.close()

    keeper = Sibling(keep)
    keeper.hear()

    def body(line: Line) -> None:
        table = Names(str(tmp_path))
        assert table.get("a") is None
        line.say("read")
        line.hear()

    try:
        for _ in range(6):
            with Sibling(body) as reader:
                assert reader.hear() == "read"
    finally:
        keeper.close()


def test_daemon_started_anew(tmp_path: Path) -> None:
    """A new table is noticed and opened; while there is none, the old one answers and nothing breaks."""
    make_table(tmp_path)
    names = Names(str(tmp_path))
    names.announce("a", record("a"))
    assert not names.is_stale()
    shutil.rmtree(tmp_path / FOLDER)
    for _ in range(2):
        assert names.is_stale()
        with pytest.raises(Unreachable) as unreachable:
            names.reopen()
        assert unreachable.value.absent
        assert names.get("a") == record("a")
    make_table(tmp_path)
    assert names.is_stale()
    names.reopen()
    assert not names.is_stale()
    assert names.get("a") is None
    names.close()


def test_no_daemon(tmp_path: Path) -> None:
    """It says that there is none, where it looked and what to do."""
    with pytest.raises(Unreachable, match=r"cannot reach the daemon at .*; start it with") as unreachable:
        Names(str(tmp_path / "nothing"))
    assert unreachable.value.absent


def test_forked_process_reads_and_writes(names: Names, run_dir: Path) -> None:
    """A fork opens the table anew; its parent's stays as it was, and so does its parent's slot among the readers."""
    names.announce("a", record("a"))
    assert names.get("a") is not None
    slots = names.env.readers()

    def body(line: Line) -> None:
        assert names.is_stale()
        names.reopen()
        assert names.get("a") is not None
        names.announce("b", record("b"))
        other = Names(str(run_dir))
        assert other.get("b") == record("b")
        other.close()
        names.close()
        line.say("done")

    with Sibling(body) as fork:
        assert fork.hear() == "done"
        assert fork.wait() == 0
    assert names.env.readers() == slots
    assert names.get("b") is not None
    names.announce("c", record("c"))


def test_many_threads_share_one_table(run_dir: Path) -> None:
    """Opened, used and closed by many threads at once, it is open as long as one of them needs it."""
    failures: list[BaseException] = []

    def body(number: int) -> None:
        try:
            for turn in range(40):
                table = Names(str(run_dir))
                table.announce(f"n{number}", record(f"n{number}", incarnation=turn))
                found = table.get(f"n{number}")
                assert found is not None
                assert found.incarnation == turn
                table.close()
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_writers_killed_at_random_leave_a_whole_table(names: Names, run_dir: Path) -> None:
    """Whatever moment they are killed at: each record that is there can be read, and others can write."""

    def body(line: Line) -> None:
        table = Names(str(run_dir))
        line.say("on it")
        number = 0
        while True:
            number += 1
            table.announce(f"k{number % 50}", record(f"k{number % 50}", incarnation=number))

    names.close()
    for _ in range(25):
        with Sibling(body) as writer, Sibling(body) as other:
            writer.hear()
            other.hear()
            writer.kill()
            other.kill()
    names.reopen()
    names.announce("mine", record("mine"))
    found = dict(names)
    assert found.pop("mine") == record("mine")
    assert all(name == held.name and int(name[1:]) == held.incarnation % 50 for name, held in found.items())
