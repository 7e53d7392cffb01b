"""What the dead leave in run_dir, and only that, is removed: the real table, real sockets, real processes."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import lmdb
import msgspec
import pytest
from fake_daemon import FakeDaemon, event
from hub_host import HubHost, RawClient
from siblings import Line, Sibling

from regrow.ipc import sweep as sweep_module
from regrow.ipc.bell import SUFFIX, Bell
from regrow.ipc.names import FOLDER, Names, Record
from regrow.ipc.names_open import MAP_BYTES, MAX_READERS
from regrow.ipc.node import MailboxSpec, Node
from regrow.ipc.process import start_time
from regrow.ipc.sweep import BATCH, FRESH_S, is_surely_dead, sweep
from regrow.workers.system import hub_sweeper
from regrow.workers.system.hub_sweeper import DEATHS, PAUSE_S, Sweeper
from regrow.workers.system.hub_timers import Timers
from regrow.workers.system.inotify import Inotify

IN_DELETE = 0x200
EAGER = """
import json, sys
from regrow.workers.system import hub, hub_sweeper
hub_sweeper.PAUSE_S = 0.0
hub.run(**json.loads(sys.argv[1]))
"""


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """An empty table and no mailboxes, in a folder whose path is too long for an address."""
    made = tmp_path / ("x" * 100)
    (made / "mbox").mkdir(parents=True)
    (made / FOLDER).mkdir()
    lmdb.open(str(made / FOLDER), map_size=MAP_BYTES, max_readers=MAX_READERS).close()
    return made


@pytest.fixture
def names(run_dir: Path) -> Iterator[Names]:
    """The table, open."""
    table = Names(str(run_dir))
    yield table
    table.close()


def agent(run_dir: Path, name: str, *also: str, announces: bool = True) -> Callable[[Line], None]:
    """The body of a process that has a mailbox, and says its file once it is as far as it gets."""

    def body(line: Line) -> None:
        node = Node(str(run_dir), MailboxSpec(name, 1))
        bell = Bell(str(run_dir), node.mailbox_file + SUFFIX)
        if announces:
            node.announce()
        for other in also:
            node.register(other)
        line.say([file for file in os.listdir(run_dir / "mbox") if file.startswith(f"{name}.")])
        line.hear()
        bell.close()
        node.close()

    return body


def age(run_dir: Path) -> None:
    """Make all mailboxes old enough."""
    for path in (run_dir / "mbox").iterdir():
        found = path.lstat()
        os.utime(path, (found.st_atime, found.st_mtime - FRESH_S), follow_symlinks=False)


def swept(names: Names, run_dir: Path) -> tuple[int, int]:
    """What is removed."""
    return sweep(names, str(run_dir / "mbox"))


def files(run_dir: Path) -> set[str]:
    """The mailboxes that are there."""
    return set(os.listdir(run_dir / "mbox"))


def dead_socket(path: Path) -> None:
    """What a process leaves that was killed while it listened."""
    folder = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{folder}/{path.name}")
    os.close(folder)


def of_the_dead(name: str) -> Record:
    """A record with this process's pid, of one that had it before."""
    return Record(name, 1, os.getpid(), start_time(os.getpid()) - 1, f"{name}.1.00000000")


def test_nothing_to_sweep(names: Names, run_dir: Path) -> None:
    """Nothing is found in an empty run_dir."""
    assert swept(names, run_dir) == (0, 0)


def test_what_the_killed_left_is_removed(names: Names, run_dir: Path) -> None:
    """The names, mailbox and bell of a killed agent go, and those of one killed in `init`; nothing of the living."""
    names.close()
    with (
        Sibling(agent(run_dir, "living", "leader")) as living,
        Sibling(agent(run_dir, "begins", announces=False)) as begins,
        Sibling(agent(run_dir, "killed", "boss")) as killed,
        Sibling(agent(run_dir, "never", announces=False)) as never,
    ):
        names.reopen()
        stay = {*living.hear(), *begins.hear()}
        gone = {*killed.hear(), *never.hear()}
        assert len(gone) == 4
        age(run_dir)
        assert swept(names, run_dir) == (0, 0)
        for victim in (killed, never):
            victim.signal(signal.SIGKILL)
            os.waitid(os.P_PIDFD, victim.pidfd, os.WEXITED | os.WNOWAIT)  # a zombie is dead
        assert swept(names, run_dir) == (2, 4)
        assert {name for name, _ in names} == {"living", "leader"}
        assert files(run_dir) == stay
        for other in (living, begins):
            other.say("end")
            assert other.wait() == 0
        assert files(run_dir) == set()


def test_stopped_process_keeps_all(names: Names, run_dir: Path) -> None:
    """A process that is stopped answers nobody, and lives."""
    names.close()
    with Sibling(agent(run_dir, "frozen")) as frozen:
        names.reopen()
        stay = set(frozen.hear())
        age(run_dir)
        frozen.signal(signal.SIGSTOP)
        os.waitid(os.P_PIDFD, frozen.pidfd, os.WSTOPPED | os.WNOWAIT)
        assert swept(names, run_dir) == (0, 0)
        assert files(run_dir) == stay


def test_mailbox_that_few_can_reach_stays(names: Names, run_dir: Path) -> None:
    """Where so many wait to be let in that no more can be, somebody listens."""
    path = run_dir / "mbox" / "busy.1.0a0a0a0a"
    folder = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as first:
        busy.bind(f"/proc/self/fd/{folder}/{path.name}")
        busy.listen(0)
        first.connect(f"/proc/self/fd/{folder}/{path.name}")
        age(run_dir)
        assert swept(names, run_dir) == (0, 0)
    os.close(folder)
    assert swept(names, run_dir) == (0, 1)


def test_fresh_file_stays(names: Names, run_dir: Path) -> None:
    """Between bind(2) and listen(2) nobody listens at a socket; it is looked at again when it is old."""
    dead_socket(run_dir / "mbox" / "a.1.00000000")
    assert swept(names, run_dir) == (0, 0)
    age(run_dir)
    assert swept(names, run_dir) == (0, 1)


def test_what_is_no_mailbox_stays(names: Names, run_dir: Path) -> None:
    """Neither other names nor other kinds of files are touched, nor what they point to."""
    mbox = run_dir / "mbox"
    dead_socket(mbox / "notes")
    dead_socket(mbox / "a.1.0000000")
    dead_socket(mbox / "a.x.00000000")
    dead_socket(run_dir / "elsewhere.1.00000000")
    (mbox / "b.1.00000000").touch()
    (mbox / "c.1.00000000").symlink_to(run_dir / "elsewhere.1.00000000")
    (mbox / "d.1.00000000").mkdir()
    dead_socket(mbox / os.fsdecode(b"odd\n\xff.1.00000000"))
    age(run_dir)
    before = files(run_dir)
    assert swept(names, run_dir) == (0, 1)
    assert before - files(run_dir) == {os.fsdecode(b"odd\n\xff.1.00000000")}
    assert stat.S_ISSOCK((run_dir / "elsewhere.1.00000000").stat().st_mode)


def test_many_records(names: Names, run_dir: Path) -> None:
    """All batches are looked at: thousands of dead records go, those of the living between them stay."""
    alive = Record("me", 1, os.getpid(), start_time(os.getpid()), "me.1.00000000")
    count = 10 * BATCH
    for number in range(count):
        names.announce(f"n{number:05}", of_the_dead("n") if number % 3 else alive)
    kept = {name for name, record in names if record == alive}
    assert swept(names, run_dir) == (count - len(kept), 0)
    assert {name for name, _ in names} == kept
    assert swept(names, run_dir) == (0, 0)


def test_keys_at_the_limits(names: Names, run_dir: Path) -> None:
    """The first and the last keys are looked at; what others keep beside the names is not."""
    value = msgspec.msgpack.encode(of_the_dead("n"))
    keys = [b"\1", b"\1\0", b"\xff" * 511, b"\xff"]
    with names.env.begin(write=True) as txn:
        for key in (b"\0sub:x", *keys):
            txn.put(key, value)
        txn.put(b"garbage", b"\xc1")
    assert swept(names, run_dir) == (len(keys), 0)
    with names.env.begin() as txn:
        assert [key for key, _ in txn.cursor()] == [b"\0sub:x", b"garbage"]


def test_name_that_is_given_anew_meanwhile_stays(
    names: Names, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor that announces itself after its predecessor was judged dead keeps its record."""
    successor = Record("a", 2, os.getpid(), start_time(os.getpid()), "a.2.00000000")
    names.announce("a", of_the_dead("a"))
    names.announce("b", of_the_dead("b"))

    def judged(record: Record) -> bool:
        dead = is_surely_dead(record)
        names.announce("a", successor)
        return dead

    monkeypatch.setattr(sweep_module, "is_surely_dead", judged)
    assert swept(names, run_dir) == (1, 0)
    assert list(names) == [("a", successor)]


@pytest.mark.parametrize("pid", [0, -1, 1 << 40])
def test_pid_that_nothing_can_have(pid: int) -> None:
    """Of what the kernel cannot be asked, it is not said that it is dead."""
    assert not is_surely_dead(Record("a", 1, pid, 1, "a.1.00000000"))


def test_stops_when_told(names: Names, run_dir: Path) -> None:
    """Once it is to go on no longer, the rest stays as it is."""
    names.announce("a", of_the_dead("a"))
    dead_socket(run_dir / "mbox" / "a.1.00000000")
    age(run_dir)
    assert sweep(names, str(run_dir / "mbox"), lambda: False) == (0, 0)
    assert len(list(names)) == 1


class Clock:
    """Seconds that pass when told."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_swept_once_in_many_deaths(names: Names, run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, and after as many deaths as it takes, with a pause between; nothing else sets a timer."""
    clock = Clock()
    monkeypatch.setattr("regrow.workers.system.hub_sweeper.time.monotonic", clock)
    sweeps: list[str] = []
    monkeypatch.setattr(hub_sweeper, "sweep", lambda _names, folder, _goes_on: sweeps.append(folder))
    timers = Timers(clock)
    with closing(Sweeper(names, str(run_dir), timers)) as sweeper:
        sweeper.start()
        for _ in range(DEATHS - 1):
            sweeper.happened("regrow.event.a.0.exited")
            sweeper.happened("regrow.event.a.0.starting")
        assert timers.wait_s() is None
        for _ in range(2 * DEATHS):
            sweeper.happened("regrow.event.a.0.stopped")
        assert timers.wait_s() == PAUSE_S
        clock.now_s += PAUSE_S
        sweeper.close()  # the first one has ended
        timers.run()
        assert timers.wait_s() is None
    assert sweeps == [str(run_dir / "mbox")] * 2


def await_removal(inotify: Inotify, file: str) -> None:
    """Wait until this file has been removed."""
    while all(one.name != file for one in inotify.events()):
        assert select.select([inotify], [], [], 20)[0], f"{file} is still there"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[HubHost]:
    """A run_dir without a hub yet."""
    with closing(HubHost(tmp_path)) as made:
        yield made


@pytest.fixture
def inotify(host: HubHost) -> Iterator[Inotify]:
    """Tells what is removed from its mailboxes."""
    with closing(Inotify()) as made:
        made.watch(f"{host.run_dir}/mbox", IN_DELETE)
        yield made


def test_hub_sweeps_at_its_start(host: HubHost, inotify: Inotify) -> None:
    """A hub that starts removes what is left; a writer of the table that does not come to its end holds up nobody."""
    run_dir = Path(host.run_dir)
    with closing(Names(host.run_dir)) as names:
        names.announce("a", of_the_dead("a"))
        dead_socket(run_dir / "mbox" / "a.1.00000000")
        age(run_dir)
        with names.env.begin(write=True):
            host.start()
            with closing(RawClient(host.run_dir)) as client:
                client.welcome()
                assert client.hear_all() == []
            assert names.get("a") is not None
        await_removal(inotify, "a.1.00000000")
        assert list(names) == []


def test_hub_that_is_held_up_ends_all_the_same(host: HubHost) -> None:
    """A hub that is told to stop does, though what it wanted to remove is held by a writer that goes on and on."""
    with closing(Names(host.run_dir)) as names:
        names.announce("a", of_the_dead("a"))
        with names.env.begin(write=True):
            hub = host.start()
            with closing(RawClient(host.run_dir)) as client:
                client.welcome()
            hub.signal(signal.SIGTERM)
            assert hub.wait() == 0


def test_hub_sweeps_after_many_deaths(host: HubHost, inotify: Inotify) -> None:
    """A hub that has heard of enough deaths sweeps again."""
    run_dir = Path(host.run_dir)
    with closing(FakeDaemon(run_dir)) as root:
        dead_socket(run_dir / "mbox" / "first.1.00000000")
        age(run_dir)
        arguments = {"run_dir": host.run_dir, "state_dir": host.state_dir}
        host.run(sys.executable, "-c", EAGER, json.dumps(arguments))
        await_removal(inotify, "first.1.00000000")
        dead_socket(run_dir / "mbox" / "second.1.00000000")
        age(run_dir)
        root.await_request("events")
        for seq in range(DEATHS):
            root.emit(event(seq + 1, "exited", "second"))
        await_removal(inotify, "second.1.00000000")
