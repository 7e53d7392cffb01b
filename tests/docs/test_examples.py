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
    """What `regrow init` writes runs: its agent counts, refuses what it should, and counts on after its death."""
    session.run("regrow init yard", "wrote yard/yard.toml\nwrote yard/yard_workers.py\nnow try: regrow up …")
    session.run("regrow up --detach yard/yard.toml", "yard is ready (pid 1000)")
    session.run("regrow status counter clock", "counter running (ready) pid 2000 …\nclock …")
    session.run("regrow call counter add n=2", "2")
    session.run("regrow call counter add 3", "5")
    session.run("regrow call counter add n=-1", "regrow: counter: ValueError: cannot add -1: this counter goes up")
    session.run("regrow call counter add n=two", "regrow: counter does not take this: $.n: expected int, …")
    session.run("kill -9 2000", "")
    session.run("regrow status counter clock", "counter running (ready) pid 3000 …\nclock …")
    session.run("regrow call counter value", "5")
    session.run("regrow stop counter", "counter: stopped")
    session.run("regrow post counter add n=4 --id once", "once")
    session.run("regrow start counter", "counter: started (pid 4000)")
    session.run("regrow call counter add", "10")
    session.run("regrow down", "yard: stopped")


SHOPPING = """\
an apple: 0.5 EUR
in the cart: {'apple': 3, 'pear': 1}
refused: pricer.0: LookupError: no cheese here; there is apple, pear, melon
paid: 2.25 EUR for 4 pieces
pricer.0 ended: killed
and yet a pear is 0.75 EUR
label: *** APPLE ***
label: *** PEAR ***
no label: RuntimeError: melons are too round for labels
"""


def test_fleet(session: Session) -> None:
    """The agents of the fleet work for the command line, a script and an event loop, and after a death."""
    shutil.copytree(TOP / "examples" / "fleet", session.directory, dirs_exist_ok=True)
    session.run("regrow up --detach fleet.toml", "fleet is ready (pid 1000)")
    session.run("regrow status regrow.hub", "● regrow.hub running (ready) …\n…")
    session.run("regrow call pricer quote sku=apple currency=USD", "0.55")
    session.run("regrow call rates put currency=USD rate=1.2", "")
    session.run("regrow call rates put currency=DEM rate=2", "regrow: rates: LookupError: DEM is not traded here")
    session.run("regrow call cart add customer=Ada sku=apple quantity=3 --key Ada", '{"apple": 3}')
    session.run(
        "regrow call cart checkout customer=Ada --key Ada", '{"customer": "Ada", "items": {"apple": 3}, "total": 1.5}'
    )
    session.run("regrow logs ledger", "Ada pays 1.50")
    session.run("python shopping.py", SHOPPING.replace("pricer.0: L", "…: L").rstrip())
    session.run("python rush.py", "40 of 40 paid 192.00 USD\nsold so far: {'apple': 86, 'pear': 1, 'melon': 40}")
    session.run("regrow status cart.1", "● cart.1 running (ready) …\n…\n pid 2000 (incarnation 1)\n…")
    session.run("kill -9 2000", "")
    session.run("regrow status cart.1", "● cart.1 running (ready) …\n…\n pid 3000 (incarnation 2)\n…")
    session.run("python rush.py", "40 of 40 paid 192.00 USD\nsold so far: {'apple': 166, 'pear': 1, 'melon': 80}")
    session.run("regrow down", "fleet: stopped")


def test_orders(session: Session) -> None:
    """Orders are carried out, or undone; the page's verbs show what has become of them."""
    shutil.copytree(TOP / "examples" / "order_workflow", session.directory, dirs_exist_ok=True)
    session.run("regrow up --detach orders.toml", "orders is ready (pid 1000)")
    session.run("python place.py 3 apple 1 pear", "3 apple on the way, payment …\n1 pear on the way, payment …")
    declined = "no order: Declined: 100 is more than the card allows"
    sold_out = "no order: RemoteError: stock: SoldOut: 1 of pear are left, not 5"
    session.run("python place.py 20 apple 5 pear", f"{declined}\n{sold_out}")
    session.run("regrow call stock left sku=apple", "97")
    session.run("regrow workflow start order sku=apple --id o-17 --wait", "1 apple on the way, payment 3")
    session.run("regrow workflow list order", "…\no-17 order finished …")
    session.run("regrow down", "orders: stopped")


def test_web(session: Session) -> None:
    """Both servers are restarted while somebody visits, then there is none for a while: every visit is answered."""
    shutil.copytree(TOP / "examples" / "web", session.directory, dirs_exist_ok=True)
    session.run("regrow check web.toml", "ok: 1 supervisor, 2 workers, 1 socket")
    session.run("regrow up --detach web.toml", "web is ready (pid 1000)")
    restarts = "for n in 0 1 0 1; do regrow restart web.$n > restarted.$n; done & "
    session.run(f"{restarts} python visit.py 8472; wait", "500 of 500 visits answered, 0 failed")
    session.run("cat restarted.0 restarted.1", "web.0: restarted (pid …)\nweb.1: restarted (pid …)")
    session.run("regrow stop web.0 web.1", "web.0: stopped\nweb.1: stopped")
    waiting = "python visit.py 8472 > visited & "
    session.run(f"{waiting} regrow start web.1; wait; cat visited", "web.1: started (pid …)\n500 of 500 …, 0 failed")
    session.run("regrow down", "web: stopped")
