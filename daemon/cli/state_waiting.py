"""`regrow state`: what waits for agents; in their boxes, or for its time."""

from __future__ import annotations

import time
from typing import Any

import click

from regrow.daemon.cli.options import format_option
from regrow.daemon.cli.output import about, clock, json_list, one_line
from regrow.daemon.cli.stores import Which, of_store


def add_to(group: click.Group) -> None:
    """Add this module's commands."""
    for command in (boxes, timers):
        group.add_command(command)


@click.command()
@format_option
@of_store
def boxes(which: Which, as_json: bool) -> None:
    """How many posts wait for whom, and for how long the oldest has."""
    from regrow.ipc.posts import Box, decode
    from regrow.ipc.posts import boxes as names_of

    def look(txn: Any) -> list[dict[str, Any]]:
        facts = []
        for name in names_of(txn, store.messages):
            box = Box(store.messages, name)
            first = box.after(txn, -1, 1, 1)
            oldest = decode(first[0][1]).at if first else None
            facts.append({"name": name, "waiting": box.length(txn), "oldest": oldest})
        return facts

    with which.reading() as store:
        found = store.read(look)
    if as_json:
        click.echo(json_list(found))
        return
    now = time.time()
    for fact in found:
        age = f"the oldest for {about(max(now - fact['oldest'], 0))}" if fact["oldest"] is not None else ""
        click.echo(f"{fact['name']:<16}  {fact['waiting']:>9} waiting  {age}".rstrip())


@click.command()
@format_option
@of_store
def timers(which: Which, as_json: bool) -> None:
    """What will be posted when: posts that were put off, and schedules."""
    from regrow.ipc import clocks, posts, scheduled
    from regrow.ipc import timers as all_timers

    def look(txn: Any) -> list[dict[str, Any]]:
        facts = []
        for due, timer in all_timers.listed(txn, store.messages, clocks.now()):
            if timer.post is not None:
                handler, when = posts.decode(timer.post).handler, None
            else:
                schedule = scheduled.get(txn, store.messages, timer.to, timer.id)
                if schedule is None or schedule.is_over:
                    continue
                handler, when = schedule.handler, schedule.when
            at = due / clocks.SECOND
            facts.append({"at": at, "name": timer.to, "handler": handler, "id": timer.id, "schedule": when})
        return facts

    with which.reading() as store:
        found = store.read(look)
    if as_json:
        click.echo(json_list(found))
        return
    for fact in found:
        what = fact["schedule"] or f"id {fact['id']}"
        click.echo(one_line(f"{clock(fact['at'])}  {fact['name']:<16}  {fact['handler']:<16}  {what}"))
