"""`regrow state`: what waits for agents; in their boxes, or for its time."""

from __future__ import annotations

import time
from typing import Any

import click
import msgspec

from regrow.config.exits import REFUSED
from regrow.daemon.cli.options import format_option
from regrow.daemon.cli.output import about, clock, json_list, one_line
from regrow.daemon.cli.report import say_if_none
from regrow.daemon.cli.stores import Which, of_store
from regrow.ipc.errors import StoreDamaged


def add_to(group: click.Group) -> None:
    """Add this module's commands."""
    for command in (boxes, timers):
        group.add_command(command)


@click.command()
@format_option
@of_store
def boxes(which: Which, as_json: bool) -> None:
    """How many posts wait for whom, and for how long the oldest has."""
    from regrow.ipc.posts import Box
    from regrow.ipc.posts import boxes as names_of

    def look(txn: Any) -> list[dict[str, Any]]:
        facts = []
        for name in names_of(txn, store.messages):
            box = Box(store.messages, name)
            first = box.after(txn, -1, 1, 1)
            oldest = posted_at(first[0][1]) if first else None
            facts.append({"name": name, "waiting": box.length(txn), "oldest": oldest})
        return facts

    with which.reading() as store:
        found = store.read(look)
    if as_json:
        click.echo(json_list(found))
        return
    say_if_none(found, "there are no posts, and have been none")
    now = time.time()
    for fact in found:
        age = f"the oldest for {about(max(now - fact['oldest'], 0))}" if fact["oldest"] is not None else ""
        click.echo(f"{fact['name']:<16}  {fact['waiting']:>9} waiting  {age}".rstrip())


@click.command()
@format_option
@of_store
def timers(which: Which, as_json: bool) -> None:
    """
    What will be posted when: posts that were put off, and schedules.

    Those that are damaged are told on standard error; the exit status is 1 then.
    """
    with which.reading() as store:
        found, damaged = store.read(lambda txn: all_timers(txn, store.messages))
    try:
        show(found, as_json=as_json)
    finally:
        for text in damaged:
            click.echo(text, err=True)
    if damaged:
        click.get_current_context().exit(REFUSED)


def show(found: list[dict[str, Any]], *, as_json: bool) -> None:
    """Timers, a line each."""
    if as_json:
        click.echo(json_list(found))
        return
    say_if_none(found, "no post is put off, and there are no schedules")
    for fact in found:
        what = fact["schedule"] or f"id {fact['id']}"
        click.echo(one_line(f"{clock(fact['at'])}  {fact['name']:<16}  {fact['handler']:<16}  {what}"))


def all_timers(txn: Any, db: Any) -> tuple[list[dict[str, Any]], list[str]]:
    """The timers, the earliest first, and what is to be said of those that are damaged."""
    from regrow.ipc import clocks, posts, scheduled, timers

    facts, damaged = [], [str(damaged_timer(key, why)) for key, why in timers.unreadable(txn, db)]
    for due, timer in timers.listed(txn, db, clocks.now()):
        when, handler = None, ""
        if timer.post is not None:
            try:
                handler = posts.decode(timer.post).handler
            except msgspec.MsgspecError as error:
                key = timers.find(txn, db, timer.to, timer.id) or b""
                damaged.append(str(damaged_timer(key, f"the post {one_line(timer.id)} to {timer.to}: {error}")))
                continue
        else:
            schedule = scheduled.get(txn, db, timer.to, timer.id)
            if schedule is None or schedule.is_over:
                continue
            handler, when = schedule.handler, schedule.when
        at = due / clocks.SECOND
        facts.append({"at": at, "name": timer.to, "handler": handler, "id": timer.id, "schedule": when})
    return facts, damaged


def damaged_timer(key: bytes, why: str) -> StoreDamaged:
    """What is to be said of it."""
    return StoreDamaged("a timer", key, why, "it will be put away when it is due, and the others are not touched by it")


def posted_at(post: bytes) -> float | None:
    """When it was posted, in seconds since the epoch; None: it is damaged, which its agent will find."""
    from regrow.ipc.posts import decode

    try:
        return decode(post).at
    except msgspec.MsgspecError:
        return None
