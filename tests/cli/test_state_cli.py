"""regrow state: what it prints and changes, with a daemon and without one."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from cli_calls import Cli, Done
from disks import LIBC, small_disk
from filled_store import content, make_filled

from regrow.daemon.cli import app
from regrow.ipc import clocks, timers
from regrow.ipc.clocks import SECOND, Due
from regrow.ipc.levels import read_owner
from regrow.ipc.posts import Box, written
from regrow.ipc.store import Txn
from regrow.ipc.timers import Timer
from regrow.workers.system.keeper_place import Place
from regrow.workers.system.keeper_preparing import prepare
from regrow.workers.system.store_site import Site

Offline = Callable[..., Done]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A store that no daemon has."""
    return make_filled(tmp_path)


@pytest.fixture
def run(capfdbinary: pytest.CaptureFixture[bytes]) -> Cli:
    """Run `regrow ARGS`."""

    def call(*args: str) -> Done:
        status = app.run(args)
        out, err = capfdbinary.readouterr()
        return Done(status, out.decode(), err.decode())

    return call


@pytest.fixture
def state(run: Cli, place: Place) -> Offline:
    """Run `regrow state ARGS` on that store."""
    return lambda *args: run("state", args[0], "--state-dir", place.state_dir, *args[1:])


def refusal(done: Done) -> str:
    """The one line of a failure with status 1."""
    assert (done.status, done.out) == (1, ""), done
    assert done.err.count("\n") == 1
    return done.err.removeprefix("regrow: ").rstrip("\n")


def test_owners_are_listed(state: Offline) -> None:
    """Each with its keys, without those that are regrow's own."""
    found = json.loads(state("list", "--format", "json").out)
    assert [(one["name"], one["keys"]) for one in found] == [("counter", 4), ("pair", 1)]
    assert found[0]["bytes"] > 50
    lines = state("list").out.splitlines()
    assert [line.split()[:3] for line in lines] == [["counter", "4", "keys"], ["pair", "1", "keys"]]


def test_keys_are_listed(state: Offline) -> None:
    """In their order, as they can be typed; below a prefix."""
    keys = [7, "list", "total", ["user", 1, {"$bytes": "eA=="}]]
    assert [one["key"] for one in json.loads(state("list", "counter", "--format", "json").out)] == keys
    begun = state("list", "counter", "--prefix", "l", "--format", "json").out
    assert [one["key"] for one in json.loads(begun)] == keys[1:2]
    below = state("list", "counter", "--prefix", '["user"]', "--format", "json").out
    assert [one["key"] for one in json.loads(below)] == keys[3:]
    assert state("list", "counter").out.splitlines()[2].split() == ["total", "1", "bytes", "3"]
    assert "keeps nothing" in refusal(state("list", "nobody"))


def test_get(state: Offline) -> None:
    """Whatever the key is; what JSON lacks is tagged."""
    assert state("get", "counter", "total").out == "3\n"
    assert state("get", "counter", "7").out == "seven\n"
    assert state("get", "counter", "7", "--format", "json").out == '"seven"\n'
    assert json.loads(state("get", "counter", '["user", 1, {"$bytes": "eA=="}]').out) == {"at": 1}
    assert json.loads(state("get", "counter", "list").out) == [1.5, None, {"$bytes": "AAE="[:2] + "=="}]
    at = {"$time": "2026-01-02T00:00:00+00:00"}
    assert json.loads(state("get", "pair", "shared").out) == {"$map": [[1, at]]}
    assert "see `regrow state list counter --state-dir" in refusal(state("get", "counter", "nothing"))


def test_set_and_delete(state: Offline, place: Place) -> None:
    """Durably, and the store is closed in order afterwards."""
    assert state("set", "counter", "total", '{"n": {"$bytes": "AAE="}}') == (0, "counter: total is set\n", "")
    assert json.loads(state("get", "counter", "total").out) == {"n": {"$bytes": "AAE="}}
    assert state("delete", "counter", "7").status == 0
    assert "cannot find '7'" in refusal(state("delete", "counter", "7"))
    owner = read_owner(place.folder)
    assert owner is not None
    assert owner.clean
    assert owner.durability is place.durability


@pytest.mark.parametrize(
    "args",
    [("set", "counter", "total", "nothing"), ("set", "counter", "total", '{"$bytes": 1}'), ("get", "counter", "[]"),
     ("set", "counter", "x" * 600, "1"), ("list", "--prefix", "x"), ("get", "counter", '["a", true]'),
     ("list", "counter", "--prefix", '["a", null]')],
)  # fmt: skip
def test_usage(state: Offline, args: tuple[str, ...]) -> None:
    """What cannot be a key or a value is said to be none."""
    done = state(*args)
    assert (done.status, done.out, done.err.count("\n")) == (2, "", 1)


def test_export_and_import(state: Offline, run: Cli, place: Place, tmp_path: Path) -> None:
    """Everything comes back without a difference, in the form that was printed and in any other of the same JSON."""
    exported = state("export").out
    assert json.loads(exported)[0]["daemon"] == "shop"
    assert len(exported.splitlines()) == len(json.loads(exported))
    kinds = {next(iter(fact)) for fact in json.loads(exported)[1:]}
    assert kinds == {"owner", "box", "dead", "row"}
    ends = exported.rstrip("]\n")
    apart = (f"{ends}\n]\n", f"[\n{ends[1:]}\r\n\r\n ]", ends.replace("},\n", "}\n,\n") + " ]")
    for number, text in enumerate((exported, json.dumps(json.loads(exported), indent=2), *apart)):
        file = tmp_path / f"{number}.json"
        file.write_text(text)
        other = Place("other", str(tmp_path), str(tmp_path / f"state-{number}"), place.durability)
        prepare(other)
        where = ["--state-dir", other.state_dir]
        assert run("state", "import", str(file), "--state-dir", str(tmp_path / "none")).status == 1
        from regrow.workers.system.store_site import Site

        with Site(other).writing():
            pass
        assert run("state", "import", *where, str(file)).status == 0
        assert content(other) == content(place)
        assert "holds something already" in refusal(run("state", "import", *where, str(file)))
        assert run("state", "import", *where, "--replace", str(file)).status == 0
        assert content(other) == content(place)


def test_export_and_import_of_one(state: Offline, place: Place, tmp_path: Path) -> None:
    """The others keep what they have."""
    before = content(place)
    file = tmp_path / "counter.json"
    file.write_text(state("export", "counter").out)
    assert [fact["owner"] for fact in json.loads(file.read_text())] == ["counter"] * 6
    state("set", "counter", "total", "9")
    state("set", "counter", "new", "1")
    assert "counter keeps something already" in refusal(state("import", str(file)))
    assert state("import", "--replace", str(file)) == (0, "counter: 5 rows\n", "")
    assert content(place) == before
    assert "keeps nothing" in refusal(state("export", "nobody"))


@pytest.mark.parametrize(
    "text",
    ["", "nothing", "[]", '[{"regrow": "else"}]', '[{"regrow":"state","level":2,"daemon":"x","owner":null,"at":1}]',
     "HEAD,\n {}]", 'HEAD,\n {"owner":"x","key":null,"value":1}]', 'HEAD,\n {"owner":"","key":"a","value":1}]',
     'HEAD,\n {"row":["AA==", 1]}]', 'HEAD,\n {"box":"x","ordinal":1,"post":{}}]', "HEAD,\n nothing",
     "HEAD", "HEAD,\n", 'HEAD,\n ROW', 'HEAD,\n ROW,\n', 'HEAD,\n ROW\n ROW]', 'HEAD,\n ROW]\n ROW]',
     'HEAD,\n {"dead":1,"letter":{}}]', 'HEAD,\n {"owner":"x","key":"' + "a" * 600 + '","value":1}]'],
)  # fmt: skip
def test_bad_imports_change_nothing(state: Offline, place: Place, tmp_path: Path, text: str) -> None:
    """Refused in a line, with what is there as it was, although it was to be replaced."""
    before = content(place)
    file = tmp_path / "bad.json"
    head, row = '[{"regrow":"state","level":1,"daemon":"x","owner":null,"at":1.0}', '{"owner":"x","key":"a","value":1}'
    file.write_text(text.replace("HEAD", head).replace("ROW", row))
    assert "cannot import" in refusal(state("import", "--replace", str(file)))
    assert content(place) == before


def test_backup_and_restore(state: Offline, place: Place, tmp_path: Path) -> None:
    """What was there at the backup is there again, and what was there at the restoring is kept aside."""
    before = content(place)
    file = str(tmp_path / "shop.backup")
    assert state("backup", file).status == 0
    assert os.stat(file).st_mode & 0o777 == 0o600
    assert "it exists" in refusal(state("backup", file))
    state("set", "counter", "total", "9")
    changed = content(place)
    done = state("restore", file)
    assert done.status == 0, done
    assert content(place) == before
    aside = done.out.partition("is kept as ")[2].strip()
    assert state("backup", str(tmp_path / "aside")).status == 0
    assert state("restore", aside).status == 0
    assert content(place) == changed


def test_restore_where_nothing_is(run: Cli, state: Offline, place: Place, tmp_path: Path) -> None:
    """A new host: the file of the daemon says where, and the store may be of another name if that is said."""
    file = str(tmp_path / "shop.backup")
    state("backup", file)
    toml = tmp_path / "new.toml"
    toml.write_text(
        f'[daemon]\nname = "new"\nrun_dir = "{tmp_path}/r"\nstate_dir = "{tmp_path}/s"\n'
        '[supervisor.sup]\nchildren = ["w"]\n[worker.w]\ncommand = ["true"]\n'
    )
    where = ["--file", str(toml)]
    assert "of the daemon 'shop', not 'new'" in refusal(run("state", "restore", *where, file))
    assert run("state", "restore", *where, "--force-name", file).status == 0
    new = Place("new", f"{tmp_path}/r", f"{tmp_path}/s", place.durability)
    assert content(new) == content(place)
    assert prepare(new).store_id == prepare(place).store_id
    assert run("state", "get", *where, "counter", "total").out == "3\n"


def test_what_is_no_backup_is_not_restored(state: Offline, place: Place, tmp_path: Path) -> None:
    """Garbage, a torn file, another program's, a newer format: the store is as it was."""
    before = content(place)
    good = tmp_path / "good"
    state("backup", str(good))
    content_of_good = good.read_bytes()
    (tmp_path / "garbage").write_bytes(os.urandom(100_000))
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "torn").write_bytes(content_of_good[: len(content_of_good) // 2])
    lmdb.open(str(tmp_path / "foreign"), subdir=False, lock=False).close()
    (tmp_path / "newer").write_bytes(content_of_good)
    with lmdb.open(str(tmp_path / "newer"), subdir=False, lock=False, max_dbs=8) as env:
        meta = env.open_db(b"meta")
        with env.begin(write=True) as txn:
            txn.put(b"format", b"\x63", db=meta)
    for name in ("garbage", "empty", "torn", "foreign", "newer"):
        assert f"{tmp_path}/{name}" in refusal(state("restore", str(tmp_path / name))), name
    assert content(place) == before
    assert not [name for name in os.listdir(place.folder) if "restored" in name]


def test_compact(state: Offline, place: Place) -> None:
    """Free pages are given back, and nothing else is lost."""
    for number in range(30):
        state("set", "counter", f"k{number}", json.dumps("x" * 20_000))
    for number in range(30):
        state("delete", "counter", f"k{number}")
    before, size = content(place), os.path.getsize(place.data)
    assert state("compact").status == 0
    assert content(place) == before
    assert os.path.getsize(place.data) < size / 2
    assert state("verify").status == 0
    facts = json.loads(state("size", "--format", "json").out)
    assert facts["map_bytes"] > 1 << 29
    assert facts["free_pages"] == 0


def test_verify(state: Offline, place: Place) -> None:
    """All is well; then a record is not, then a page is not."""
    done = state("verify")
    assert (done.status, done.out.endswith("pages: ok\n")) == (0, True)
    assert json.loads(state("verify", "--format", "json").out)["faults"] == []
    from regrow.workers.system.store_site import Site

    with Site(place).writing() as store:

        def spoil(txn: lmdb.Transaction) -> None:
            txn.put(b"counter\0 bad\0", b"\xc1", db=store.state)
            txn.put(b"q\0", b"", db=store.messages)
            txn.put(b"?", b"", db=store.messages)
            txn.put(b"iother\0x", bytes(8), db=store.messages)
            txn.delete(b"bcounter\0", db=store.messages)

        store.write(spoil)
    done = state("verify", "--format", "json")
    faults = json.loads(done.out)["faults"]
    assert done.status == 1
    assert len(faults) == 7
    assert faults[0].startswith("state of counter: bad: ")
    assert done.err.count("\n") == 1
    with open(place.data, "r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(4096 * 2))
    done = state("verify")
    assert (done.status, done.err.count("\n")) == (1, 1)
    assert "faults" in done.out


def test_truncated_store_is_not_opened(state: Offline, place: Place) -> None:
    """LMDB would be killed by it: it is said instead."""
    os.truncate(place.data, 3 * 4096)
    assert "truncated" in refusal(state("list"))
    assert state("verify").status == 1


def test_size_and_boxes(state: Offline, place: Place) -> None:
    """Pages add up; posts are counted, and the oldest has an age."""
    facts = json.loads(state("size", "--format", "json").out)
    assert {one["name"]: one["entries"] for one in facts["databases"]}["state"] == 6
    assert facts["file_bytes"] == os.path.getsize(place.data)
    assert facts["pages"] >= facts["free_pages"] + sum(one["pages"] for one in facts["databases"])
    assert [line.split()[0] for line in state("size").out.splitlines()][:2] == ["file", "state"]
    found = json.loads(state("boxes", "--format", "json").out)
    assert [(one["name"], one["waiting"]) for one in found] == [("counter", 3), ("other", 1)]
    assert "3 waiting  the oldest for 2m" in state("boxes").out or "oldest for 120s" in state("boxes").out


def test_nobody_has_that_name(state: Offline) -> None:
    """A slip of the hand makes no new owner."""
    assert "no agent has that name" in refusal(state("set", "cuonter", "total", "1"))


def test_no_store(run: Cli, tmp_path: Path) -> None:
    """It is said, and none is made."""
    assert "it is not there" in refusal(run("state", "list", "--state-dir", str(tmp_path / "nowhere")))
    assert not (tmp_path / "nowhere").exists()
    done = run("state", "list", "--run-dir", str(tmp_path))
    assert done.status == 69
    assert "--file FILE" in done.err


def test_somebody_has_it_open(state: Offline, place: Place) -> None:
    """What would be changed under his feet is refused; looking is not."""
    read, write = os.pipe()
    done_read, done_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        env = lmdb.open(place.folder, max_dbs=8, map_size=0)
        os.write(write, b"x")
        os.read(done_read, 1)
        env.close()
        os._exit(0)
    try:
        os.read(read, 1)
        assert state("get", "counter", "total").out == "3\n"
        for args in (("set", "counter", "total", "1"), ("compact",)):
            assert f"pid {pid} has it open" in refusal(state(*args))
    finally:
        os.write(done_write, b"x")
        os.waitpid(pid, 0)
        for fd in (read, write, done_read, done_write):
            os.close(fd)
    assert state("set", "counter", "total", "1").status == 0


@pytest.mark.root
def test_read_only_file_system(run: Cli, tmp_path: Path) -> None:
    """It is said what to do, which then works; what is there stays as it is."""
    with small_disk(tmp_path / "disk", "64m") as disk:
        place = make_filled(disk)
        assert LIBC.mount(b"none", bytes(disk), b"tmpfs", 32 | 1, b"") == 0  # MS_REMOUNT | MS_RDONLY
        before = Path(place.data).read_bytes()
        for args in (("list",), ("get", "counter", "total"), ("verify",), ("export",), ("backup", f"{tmp_path}/b.mdb")):
            said = refusal(run("state", args[0], "--state-dir", place.state_dir, *args[1:]))
            assert "nothing can be written there" in said
            assert said.endswith(f"copy {place.state_dir} to where it can be, and name the copy: --state-dir DIR")
        assert "Read-only file system" in refusal(
            run("state", "set", "--state-dir", place.state_dir, "counter", "total", "1")
        )
        shutil.copytree(place.state_dir, tmp_path / "copy")
        assert run("state", "get", "--state-dir", str(tmp_path / "copy"), "counter", "total").out == "3\n"
        assert Path(place.data).read_bytes() == before


def test_damaged_timers_and_posts(state: Offline, place: Place) -> None:
    """Each is named, with what will become of it; the others are listed."""
    now = clocks.now()

    def put(txn: Txn) -> None:
        for number, id in enumerate("abc", 1):
            due = Due(now.elapsed + number * 3600 * SECOND, by_elapsed=True)
            post = written("counter", "count", [number], {}, "", id, 0.0, 0.0)
            timers.put(txn, store.messages, Timer("counter", id, b"?" if id == "b" else post), due, now)
        key = timers.find(txn, store.messages, "counter", "c")
        txn.put(key, b"?", db=store.messages)
        first, _ = Box(store.messages, "other").after(txn, -1, 1, 1)[0]
        txn.put(Box(store.messages, "other").key(first), b"?", db=store.messages)

    with Site(place).writing() as store:
        store.write(put)
    done = state("timers", "--format", "json")
    assert [one["id"] for one in json.loads(done.out)] == ["a"]
    assert done.status == 1
    assert done.err.count("cannot read a timer in the store, row b") == done.err.count("\n") == 2
    assert "the post b to counter" in done.err
    boxes = {one["name"]: (one["waiting"], one["oldest"]) for one in json.loads(state("boxes", "--format", "json").out)}
    assert boxes["other"] == (1, None)
    assert boxes["counter"][0] == 3
