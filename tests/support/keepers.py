"""A keeper in a process of its own, without a daemon: its run_dir, and what it says to its supervisor."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path

import procs

from regrow.config.spec import Durability
from regrow.daemon import commons
from regrow.ipc import meta_page
from regrow.ipc.levels import Owner, SteadyFile, read_owner, write_owner
from regrow.ipc.process import boot_id, start_time
from regrow.ipc.store import FOLDER, Store, Txn

TIMEOUT_S = 20.0
PROGRAM = "import json, sys; from regrow.workers.system import keeper; keeper.run(**json.loads(sys.argv[1]))"


class KeeperHouse:
    """Where keepers of one daemon run; `owner` is the root, this process unless said otherwise."""

    def __init__(self, directory: Path, durability: Durability = Durability.SYSTEM, name: str = "test") -> None:
        self.directory = directory
        self.run_dir, self.state_dir = directory / "run", directory / "state"
        self.durability, self.name = durability, name
        self.run_dir.mkdir()
        commons.make(str(self.run_dir), commons.Members())
        self.be_root(os.getpid())
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.settimeout(TIMEOUT_S)
        self._notify.bind(str(directory / "notify"))
        self.said: list[str] = []
        self.address_space = 0
        """Of what is started from now on, in bytes; 0: as much as we have."""
        self.pid = 0

    @property
    def folder(self) -> Path:
        """The store's."""
        return self.state_dir / FOLDER

    @property
    def data(self) -> Path:
        return self.folder / "data.mdb"

    @property
    def snapshots(self) -> list[Path]:
        return sorted((self.state_dir / "snapshots").glob("*.mdb"))

    def be_root(self, pid: int) -> None:
        """From now on this process counts as the daemon's root."""
        (self.run_dir / "identity").write_text(f'{{"pid": {pid}, "start": {start_time(pid)}}}')

    def start(self, **agents: int) -> str:
        """Start a keeper and wait until it is ready (""), or for the reason why it never will be."""
        arguments = {
            "run_dir": str(self.run_dir),
            "state_dir": str(self.state_dir),
            "durability": self.durability,
            "daemon": self.name,
            "agents": agents,
        }
        command = [sys.executable, "-c", PROGRAM, json.dumps(arguments)]
        if self.address_space:
            command = ["prlimit", f"--as={self.address_space}", *command]
        environ = {**os.environ, "NOTIFY_SOCKET": str(self.directory / "notify")}
        self.pid = os.posix_spawnp(command[0], command, environ)
        while True:
            for line in self._notify.recv(65536).decode().splitlines():
                self.said.append(line)
                if line == "READY=1":
                    return ""
                if line.startswith("X_REGROW_EXCEPTION="):
                    assert self.wait() == 1
                    return line.partition("=")[2]

    def wait(self) -> int:
        """Wait for the end of the keeper; its exit status."""
        pid, self.pid = self.pid, 0
        assert procs.wait_dead(pid, TIMEOUT_S)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def stop(self) -> None:
        """An orderly end."""
        os.kill(self.pid, signal.SIGTERM)
        assert self.wait() == 0

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def store(self) -> Store:
        return Store.open(str(self.run_dir))

    def owner(self) -> Owner:
        found = read_owner(str(self.folder))
        assert found is not None
        return found

    def reboot(self) -> None:
        """Make it look as if the power had failed just now: what is there was in use in another boot."""
        from msgspec.structs import replace

        owner = self.owner()
        assert owner.boot_id == boot_id()
        write_owner(str(self.folder), replace(owner, boot_id="another", pid=1, start=1))

    def new_root(self) -> None:
        """Make it look as if the root had been killed, and another started."""
        from msgspec.structs import replace

        write_owner(str(self.folder), replace(self.owner(), pid=(1 << 22) - 1, start=1))

    def await_said(self, part: str) -> str:
        """Wait until it says something with this in it."""
        while not (found := [line for line in self.said if part in line]):
            self.said += self._notify.recv(65536).decode().splitlines()
        return found[0]

    def dispose(self) -> None:
        if self.pid:
            self.kill()
        self._notify.close()


def put(house: KeeperHouse, *values: bytes, times: int = 1) -> None:
    """Commit each of these under the key `k`, and much beside it."""
    store = house.store()

    def commit(value: bytes, number: int) -> None:
        def change(txn: Txn) -> None:
            txn.put(b"k", value, db=store.state)
            txn.put(b"x%d" % number, os.urandom(3000), db=store.state)

        store.write(change)

    for value in values:
        for number in range(times):
            commit(value, number)
    store.close()


def value(house: KeeperHouse) -> bytes | None:
    """What is committed under the key `k`."""
    store = house.store()
    found: bytes | None = store.row(b"k")
    store.close()
    return found


def steady_txnid(house: KeeperHouse) -> int:
    """The transaction of the last steady point."""
    steady = SteadyFile(str(house.folder))
    meta = steady.newest()
    steady.close()
    return meta.txnid if meta is not None else 0


def last_txnid(house: KeeperHouse) -> int:
    """The last transaction."""
    fd = os.open(house.data, os.O_RDONLY)
    try:
        return meta_page.read(fd).txnid
    finally:
        os.close(fd)
