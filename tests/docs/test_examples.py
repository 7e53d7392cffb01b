"""The examples and the starter come up as they are, and what their comments promise holds."""

from __future__ import annotations

import shutil

from pages import TOP, Session

CHILDREN = (
    "app", "catalogue", "pricing", "rates", "pricer.0", "pricer.1", "pricer.2", "front", "customer", "heartbeat",
    "orders",
)  # fmt: skip


def test_shop(session: Session) -> None:
    """All of the shop becomes ready; a killed part of a group takes the group along; an order is packed."""
    shutil.copytree(TOP / "examples", session.directory, dirs_exist_ok=True)
    session.run("regrow up --detach shop.toml", "shop is ready (pid 1000)")
    lines = [f"{name} running (ready) pid {2000 + at} …" for at, name in enumerate(CHILDREN)]
    session.run("regrow status", "\n".join(lines))
    session.run(f"kill -9 {2000 + CHILDREN.index('rates')}", "")
    session.run("regrow why pricer.1", "…\n  because rates (incarnation 1) ended: SIGKILL\n…")
    session.run("regrow status catalogue", "…\n  pid        2001 (incarnation 1)\n…")
    session.run("python order.py apples", "apples: in work (pid 3000)")
    session.run("python order.py apples pears", "apples: …\npears: in work (pid 4000)")
    session.run("regrow logs apples", "packing order apples\n…")
    session.run("regrow logs customer", "…\ncustomer: 200, … bytes\n…")
    session.run("regrow down", "shop: stopped")


def test_starter(session: Session) -> None:
    """What `regrow init` writes runs: its agent counts, refuses what it should, and begins again after its death."""
    session.run("regrow init yard", "wrote yard/yard.toml\nwrote yard/yard_workers.py\nnow try: regrow up …")
    session.run("regrow up --detach yard/yard.toml", "yard is ready (pid 1000)")
    session.run("regrow status counter clock", "counter running (ready) pid 2000 …\nclock …")
    session.run("regrow call counter add n=2", "2")
    session.run("regrow call counter add 3", "5")
    session.run("regrow call counter add n=-1", "regrow: counter: ValueError: cannot add -1: this counter goes up")
    session.run("regrow call counter add n=two", "regrow: counter does not take this: $.n: expected int, …")
    session.run("kill -9 2000", "")
    session.run("regrow status counter clock", "counter running (ready) pid 3000 …\nclock …")
    session.run("regrow call counter value", "0")
    session.run("regrow down", "yard: stopped")
