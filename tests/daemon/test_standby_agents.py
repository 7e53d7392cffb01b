"""Spares of agents: what they have made before they have a name, and that it is nobody's business."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from configs import Config
from spares import MODULE, Garden, dead

from regrow.ipc import Client
from regrow.ipc.bell import MBOX
from regrow.ipc.names import FOLDER

FORKING = MODULE + """
def ask(write_fd, agent):
    os.write(write_fd, agent.call("other", "who")[0].encode())

class Forking(Worker):
    def init(self):
        if self.name == "other":
            self.seen = ["other"]
            return
        read_fd, write_fd = os.pipe()
        process = multiprocessing.get_context("fork").Process(target=ask, args=(write_fd, self))
        process.start()
        process.join()
        run = subprocess.run(["printenv", "REGROW_NAME"], capture_output=True, text=True)
        self.seen = [os.read(read_fd, 99).decode(), run.stdout.strip(), str(process.exitcode)]

    @handler
    def who(self) -> list[str]:
        return [*self.seen, str(os.getpid())]
"""

ASYNC = MODULE + """
class Async(Agent):
    async def init(self):
        self.seen = self.name

    @handler
    async def who(self) -> list[str]:
        other = (await self.aio.call("other", "who"))[:1] if self.name == "worker" else []
        return [self.seen, *other, str(os.getpid())]
"""


@pytest.fixture
def garden(directory: Path, config: Config) -> Iterator[Garden]:
    """A garden that is not planted yet; it leaves nothing behind."""
    garden = Garden(directory, config)
    yield garden
    garden.finish()


def own_mailboxes(garden: Garden) -> list[str]:
    """Whose mailboxes and bells there are."""
    return sorted(name.partition(".")[0] for name in os.listdir(garden.run_dir / MBOX))


def switches(pid: int) -> dict[str, str]:
    """How often each thread has waited."""
    found = {}
    for thread in os.listdir(f"/proc/{pid}/task"):
        status = Path(f"/proc/{pid}/task/{thread}/status").read_text()
        found[thread] = status.partition("\nvoluntary_ctxt_switches:")[2].split()[0]
    return found


def all_wait(pid: int) -> bool:
    """Whether each thread waits."""
    return all(
        Path(f"/proc/{pid}/task/{thread}/stat").read_text().rpartition(") ")[2].startswith("S")
        for thread in os.listdir(f"/proc/{pid}/task")
    )


def test_a_spare_is_nobody(garden: Garden) -> None:
    """It has ZeroMQ's threads, which do not wake up; no mailbox, no place in the names table; it leaves none."""
    garden.plant("worker", "other", agent="spares_module:Worker", standby=0)
    names = own_mailboxes(garden)
    garden.config.workers["worker"]["standby"] = 1
    garden.reload()
    spare = garden.stands("worker")
    garden.until(lambda: all_wait(spare), bool)
    before = switches(spare)
    assert len(before) > 1
    assert own_mailboxes(garden) == names
    with lmdb.open(str(garden.run_dir / FOLDER), readonly=True, create=False) as table:
        assert str(spare) not in table.readers()
    garden.crash_until_new("other")
    with Client(str(garden.run_dir)) as client:
        assert client.call("other", "who")[0] == "other"
    assert switches(spare) == before
    os.kill(spare, 9)
    assert dead(spare)
    garden.stands("worker", 2)
    assert own_mailboxes(garden) == names


def test_a_stopped_spare_is_in_nobodys_way(garden: Garden) -> None:
    """Others take and give up names, and start anew, while it is stopped."""
    garden.plant("worker", agent="spares_module:Worker")
    spare = garden.stands("worker")
    os.kill(spare, 19)
    with Client(str(garden.run_dir)) as client:
        new = garden.crash_until_new("worker")
        assert new != spare
        assert client.call("worker", "who") == ["worker", "-", str(new)]
    assert dead(spare)


def test_an_init_that_forks(garden: Garden) -> None:
    """Processes that `init` forks find what they find in an agent without a spare, and use the agent's verbs."""
    garden.plant("other", "worker", agent="spares_module:Forking", module=FORKING)
    with Client(str(garden.run_dir)) as client:
        assert client.call("worker", "who")[:3] == ["other", "worker", "0"]
        spare = garden.takes_over("worker")
        assert client.call("worker", "who") == ["other", "worker", "0", str(spare)]


def test_an_async_agent(garden: Garden) -> None:
    """Its event loop is made before it has a name, and serves it then."""
    garden.plant("other", "worker", agent="spares_module:Async", module=ASYNC)
    spare = garden.takes_over("worker")
    with Client(str(garden.run_dir)) as client:
        assert client.call("worker", "who") == ["worker", "other", str(spare)]
