"""The orders of the example in a real tree, in which everybody is killed: each ends right, and is paid for once."""

from __future__ import annotations

import os
import queue
import select
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from harness import Daemon, DaemonEnded
from logger_process import wait_until
from tree import short_directory

from regrow.ipc import Client, RunFailed, RunTimeout
from regrow.ipc.errors import ControlError, StoreUnusable
from regrow.ipc.points import Point

TOP = Path(__file__).parents[2]
POINTS = (
    Point.STEP_BEGUN, Point.STEP_RETURNED, Point.STEP_KEPT,
    Point.BEFORE_COMMIT, Point.INSIDE_COMMIT, Point.AFTER_COMMIT,
)  # fmt: skip
PASSAGES: dict[str, tuple[tuple[int, ...], ...]] = {"apple": ((1, 2, 3), (1, 2, 3), (1, 2, 3), *3 * [(1, 2, 7)])}
"""Of each point; the last commit is the end of the run. A pear is undone, so there is more to be passed by."""
PASSAGES["pear"] = ((1, 2, 3, 4, 5), (1, 2, 3, 4), (1, 2, 3, 4), *3 * [(1, 2, 7, 9, 12)])


def ids(victim: str, sku: str) -> list[str]:
    """The ids of orders, one for each place."""
    places = zip(POINTS, PASSAGES[sku], strict=True)
    return [f"{victim}-{point}-{passage}-{sku}" for point, passages in places for passage in passages]


FILE = """
[daemon]
name = "orders"
run_dir = "{folder}/run"
state_dir = "{folder}/state"
log_dir = "{folder}/log"

[supervisor.shop]
children = ["stock", "dispatch", "order"]
intensity = 1000

[worker.stock]
agent = "orders:Stock"
args = {{ pieces = {{ apple = 1000, pear = 1000 }} }}

[worker.dispatch]
agent = "orders:Dispatch"

[workflow.order]
workflow = "killed_orders:Order"
limit = {limit}
env = {{ LEDGER = "{folder}/ledger", KILLS = "{folder}/kills" }}
"""


class Shop:
    """The tree of the example in `folder`. `keep_up`: a root that is killed is started again."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.folder = folder
        shutil.copytree(TOP / "examples" / "order_workflow", folder, dirs_exist_ok=True)
        shutil.copy(TOP / "tests" / "programs" / "killed_orders.py", folder)
        (folder / "kills").mkdir()
        (folder / "regrow.toml").write_text(FILE.format(folder=folder, limit=limit))
        self.started: queue.SimpleQueue[None] = queue.SimpleQueue()

    @contextmanager
    def keep_up(self) -> Iterator[None]:
        """Inside, there is a daemon, now and again."""
        over_fd, end_fd = os.pipe()
        keeper = threading.Thread(target=self._keep_up, args=(over_fd,))
        keeper.start()
        try:
            self.started.get(timeout=20.0)
            yield
        finally:
            os.close(end_fd)
            keeper.join()
            os.close(over_fd)

    def _keep_up(self, over_fd: int) -> None:
        over = False
        while not over:
            (self.folder / "notify").unlink(missing_ok=True)
            daemon = Daemon(self.folder)
            try:
                daemon.start()
                self.started.put(None)
                over = over_fd in select.select([over_fd, daemon._pidfd], [], [])[0]
            except DaemonEnded:
                self.started.put(None)  # killed while it was starting
            finally:
                if over:
                    daemon.down()
                daemon.dispose()

    def ledger(self) -> dict[str, int]:
        """What was paid for each order."""
        paid: Counter[str] = Counter()
        for line in (self.folder / "ledger").read_text().splitlines():
            key, amount = line.split()
            paid[key.split("/")[0]] += int(amount)
        return dict(paid)


def outcome(shop: Shop, id: str, within_s: float) -> str:
    """What a run has come to, whatever becomes of the daemon meanwhile."""
    end_s = time.monotonic() + within_s
    while True:
        try:
            with Client(shop.folder / "run") as client:
                return str(client.workflow_result(id, 5.0))
        except RunFailed as failed:
            return f"{failed.step}: {failed.type}"
        except (ControlError, StoreUnusable, RunTimeout):  # there is no daemon at the moment
            if time.monotonic() > end_s:
                raise


def check(shop: Shop, orders: dict[str, str]) -> None:
    """Each order is as if nobody had been killed."""
    with Client(shop.folder / "run") as client:
        assert client.call("stock", "left", "apple") == 1000 - 2 * sum(sku == "apple" for sku in orders.values())
        assert client.call("stock", "left", "pear") == 1000
        for id, sku in orders.items():
            assert client.show_workflow(id)["status"] == ("finished" if sku == "apple" else "failed")
            while client.call("dispatch", "packed", id) < (sku == "apple"):
                pass  # it is on the way
            assert client.call("dispatch", "packed", id) == (sku == "apple")
    assert shop.ledger() == {id: 10 if sku == "apple" else 0 for id, sku in orders.items()}


@pytest.mark.parametrize(
    ("victim", "sku"), [("self", "apple"), ("self", "pear"), ("desk", "apple"), ("runs", "apple"), ("root", "pear")]
)
@pytest.mark.timeout(120)
def test_orders_and_kills(victim: str, sku: str) -> None:
    """Killed at each step and each commit: the run itself, who starts runs, their supervisor, the root with all."""
    with short_directory() as folder:
        shop = Shop(folder, limit=6 if victim == "self" else 1)  # who dies with another one may miss its own place
        orders = dict.fromkeys(ids(victim, sku), sku)
        with shop.keep_up():
            with Client(folder / "run") as client, client.transaction():
                for id in orders:
                    client.start_workflow("order", sku, 2, id=id)
            for id in orders:
                expected = "2 apple on the way, payment" if sku == "apple" else "ship: LookupError"
                assert outcome(shop, id, 60.0).startswith(expected)
            for _ in orders if victim == "root" else ():
                shop.started.get(timeout=20.0)
            check(shop, orders)
            kills = folder / "kills"
            wait_until(kills / "any", lambda: {kill.name for kill in kills.iterdir()} == set(orders))
