"""Timers that are damaged: what becomes of them, and that the others do not mind."""

from __future__ import annotations

from typing import Any

import pytest
from timerworld import DAY, HOUR, World

from regrow.ipc import deadletters, scheduled, timers
from regrow.ipc.clocks import SECOND


def test_broken_rows(world: World) -> None:
    """A timer that cannot be read holds up no other."""
    world.delay("a", HOUR)
    key = timers.BY_WALL + (world.now.wall + (1 << 63)).to_bytes(8, "big") + bytes(8)
    world.schedule("every 5m")
    world.store.write(lambda txn: txn.put(key, b"?", db=world.db))
    world.store.write(lambda txn: txn.put(scheduled.key_of("agent", "s"), b"?", db=world.db))
    world.begin()
    assert [timer.id for _, timer in world.store.read(lambda txn: list(timers.listed(txn, world.db, world.now)))] == [
        "s", "a",
    ]  # fmt: skip
    assert world.store.read(lambda txn: list(scheduled.listed(txn, world.db, world.now))) == []
    world.pass_time(HOUR)
    assert world.fire() == 1
    assert len([text for text in world.complaints if "cannot be read" in text]) == 2
    world.schedule("every 5m")
    assert world.next_due() == 300 * SECOND


DAMAGE = [b"", b"?", b"\xff", b"\x93\xa5agent\xa1b\xc4\x01?", b"\x92\xa5agent\xa1b\x01\x02"]


@pytest.mark.parametrize("damage", DAMAGE, ids=repr)
@pytest.mark.parametrize("is_rebooted", [False, True])
def test_a_damaged_timer_of_a_post(world: World, damage: bytes, is_rebooted: bool) -> None:
    """It is a dead letter that shows the row, its id may come again, and those around it become posts."""
    for number, id in enumerate("abc"):
        world.delay(id, HOUR + number)
    key = world.store.read(lambda txn: timers.find(txn, world.db, "agent", "b"))
    assert key is not None
    world.store.write(lambda txn: txn.put(key, damage, db=world.db))
    if is_rebooted:
        world.reboot()
        world.begin()
    world.pass_time(2 * HOUR)
    assert world.fire() == 2
    assert world.take() == ["a", "c"]
    [(_, letter)] = world.store.read(lambda txn: list(deadletters.listed(txn, world.db)))
    assert (letter.to, letter.post.id, letter.cause) == ("agent", "b", deadletters.Cause.BAD_REQUEST)
    assert "it is damaged" in letter.text
    assert repr(damage)[2:-1] in letter.text or is_rebooted
    assert [text for text in world.complaints if "the post 'b' to agent" in text] == world.complaints
    assert len(world.complaints) == 1
    assert world.rows() == world.boots()
    world.delay("b", HOUR)
    world.pass_time(HOUR)
    assert world.fire() == 1


@pytest.mark.parametrize("damage", DAMAGE, ids=repr)
def test_a_damaged_timer_is_cancelled(world: World, damage: bytes) -> None:
    """As if it could be read: nothing is left of it, of a post or a schedule."""
    world.delay("a", HOUR)
    world.schedule("every 1h")

    def spoil(txn: Any) -> None:
        for id, of_schedule in (("a", False), ("s", True)):
            assert txn.put(timers.find(txn, world.db, "agent", id, schedule=of_schedule), damage, db=world.db)

    world.store.write(spoil)
    assert world.cancel("a")
    assert world.cancel_schedule()
    assert world.rows() == world.boots()
    world.delay("a", HOUR)
    world.pass_time(HOUR)
    assert world.fire() == 1


def test_a_damaged_timer_of_a_schedule(world: World) -> None:
    """It is gone and said to be, and is begun again by its agent as a new one."""
    world.schedule("every 5m")
    world.schedule("every 5m", "other")
    key = world.store.read(lambda txn: timers.find(txn, world.db, "agent", "s", schedule=True))
    assert key is not None
    world.store.write(lambda txn: txn.put(key, b"?", db=world.db))
    world.pass_time(300 * SECOND)
    assert world.fire() == 1
    assert [each.partition("@")[0] for each in world.take()] == ["other"]
    assert "the schedule 's' of agent cannot be read and is gone" in world.complaints[0]
    world.schedule("every 5m")
    world.pass_time(300 * SECOND)
    assert world.fire() == 2


@pytest.mark.parametrize("is_rebooted", [False, True])
def test_damaged_clock_of_a_boot(world: World, is_rebooted: bool) -> None:
    """In that boot it is known anyway; in the next one nobody knows when its timers were due, so they are due now."""
    world.delay("a", HOUR)
    world.store.write(lambda txn: txn.put(timers.OFFSET + world.now.boot, b"\xa1?", db=world.db))
    assert world.next_due() == HOUR
    if is_rebooted:
        world.reboot()
    world.begin()
    assert world.fire() == int(is_rebooted)
    assert len(world.complaints) == int(is_rebooted)
    world.set_clock(DAY)
    world.pass_time(HOUR)
    assert world.fire() == int(not is_rebooted)
