"""`regrow dead`: posts that were not handled, and why; once more, or away with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from regrow.config.errors import nearest
from regrow.config.exits import USAGE
from regrow.daemon.cli.options import Function, Plain, debug_option, format_option
from regrow.daemon.cli.output import clock, dumps, json_list, one_line
from regrow.daemon.cli.report import Failed, say_if_none
from regrow.daemon.cli.stores import Which, of_store
from regrow.ipc.errors import StoreDamaged

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register
    from regrow.ipc.deadletters import DeadLetter
    from regrow.ipc.store import Store, Txn
    from regrow.workers.system.store_site import Site

CAUSES = {
    "attempts": "its handler has failed too often",
    "bad_request": "it fits no handler",
    "refused": "its handler has refused it",
    "expired": "it was not handled in time",
}


def register(verb: Register) -> None:
    """Add this module's verbs."""
    verb("talk", dead)


@click.group(invoke_without_command=True)
@debug_option
@click.pass_context
def dead(ctx: click.Context) -> None:
    """
    Look at posts that could not be handled; retry or drop them.

    Of the daemon that runs; or, with --file or --state-dir, also of one that does not.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


def which_letters(function: Function) -> Any:
    """NUMBER… or --all [NAME], as `words` and `everything`."""
    every = click.option("--all", "everything", is_flag=True, help="All of them, or all of those to the agent NAME.")
    return click.argument("words", metavar="[NUMBER|NAME]...", nargs=-1, type=Plain())(every(function))


@dead.command("list")
@click.argument("name", required=False, type=Plain())
@format_option
@of_store
def list_(which: Which, name: str | None, as_json: bool) -> None:
    """List the dead letters, the oldest first; with NAME, those to that agent."""
    from regrow.ipc.deadletters import listed

    def look(txn: Txn) -> list[tuple[int, DeadLetter]]:
        found = [row for row in listed(txn, store.messages) if name in (None, row[1].to)]
        if name is not None and not found:
            see_known(txn, store, "list", name)
        return found

    with which.reading() as store:
        found = store.read(look)
    if as_json:
        click.echo(json_list(brief(number, letter) for number, letter in found))
        return
    say_if_none(found, "there are no dead letters" + (f" to {name}" if name else ""))
    for number, letter in found:
        what = one_line(f"{letter.to}.{letter.post.handler}")
        why = one_line(letter.text.strip().rpartition("\n")[2])
        click.echo(f"{number:>5}  {clock(letter.at)}  {what:<24}  {letter.cause:<11}  {why}".rstrip())


@dead.command()
@click.argument("number", type=click.IntRange(min=1))
@format_option
@of_store
def show(which: Which, number: int, as_json: bool) -> None:
    """Show a dead letter with all that is known of it: what it said, and each attempt."""
    from regrow.ipc.deadletters import get
    from regrow.ipc.storedump import letter_to_json

    with which.reading() as store:
        letter = store.read(lambda txn: get(txn, store.messages, number))
    if letter is None:
        raise missing(which, "show", number)
    if as_json:
        click.echo(dumps({"number": number, **letter_to_json(letter)}))
        return
    for line in described(number, letter):
        click.echo(line)


@dead.command()
@which_letters
@format_option
@of_store
def retry(which: Which, words: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Put dead letters back at the end of their boxes, as if they had never been tried; they expire no more."""
    from regrow.ipc import deadletters

    site = which.site()
    with site.writing() as store, bells(site) as ring:

        def put_back(txn: Txn) -> list[tuple[int, DeadLetter]]:
            done = []
            for number in chosen(txn, store, which, "retry", words, everything=everything):
                found = deadletters.retry(txn, store.messages, number)
                if found is None:
                    raise missing(which, "retry", number)
                letter, was_empty = found
                if was_empty:
                    ring(letter.to)
                done.append((number, letter))
            return done

        tell(store.write(put_back), "posted again", "posted", as_json=as_json)


@dead.command()
@which_letters
@format_option
@of_store
def drop(which: Which, words: tuple[str, ...], everything: bool, as_json: bool) -> None:
    """Forget dead letters, and all that is known of them."""
    from regrow.ipc import deadletters

    with which.site().writing() as store:

        def forget(txn: Txn) -> list[tuple[int, DeadLetter]]:
            done = []
            for number in chosen(txn, store, which, "drop", words, everything=everything):
                try:
                    letter = deadletters.get(txn, store.messages, number)
                except StoreDamaged:
                    letter = deadletters.unreadable()
                if letter is None:
                    raise missing(which, "drop", number)
                deadletters.drop(txn, store.messages, number)
                done.append((number, letter))
            return done

        tell(store.write(forget), "dropped", "dropped", as_json=as_json)


def chosen(
    txn: Txn, store: Store, which: Which, verb: str, words: tuple[str, ...], *, everything: bool
) -> list[int]:
    """
    The numbers that are meant, in their order.

    Raises:
        click.UsageError.
    """
    from regrow.ipc import deadletters

    if everything and verb == "drop" and not words:
        return list(deadletters.numbers(txn, store.messages))
    if everything:
        if len(words) > 1:
            raise click.UsageError(f"--all is of all agents, or of one: {' '.join(words)}")
        name = words[0] if words else None
        found = [number for number, letter in deadletters.listed(txn, store.messages) if name in (None, letter.to)]
        if name is not None and not found:
            see_known(txn, store, verb, name)
        return found
    if not words:
        raise click.UsageError(f"say which NUMBER, or --all; see `regrow dead list{which.options}`")
    wrong = [word for word in words if not (word.isascii() and word.isdigit() and 0 < int(word) < 1 << 64)]
    if wrong:
        raise click.UsageError(f"{wrong[0]!r:.100} is no number; for all letters to an agent: {verb} --all NAME")
    return list(dict.fromkeys(map(int, words)))


def see_known(txn: Txn, store: Store, verb: str, name: str) -> None:
    """
    See that posts may go, or have gone, to that name.

    Raises:
        Failed.
    """
    from regrow.ipc.posting import known_names

    known = known_names(txn, store)
    if name not in known:
        near = nearest(name, sorted(known))
        hint = f"did you mean {near}?" if near is not None else "see `regrow status`"
        raise Failed(f"cannot {verb} dead letters to {name[:200]!r}: no agent has that name; {hint}")


@contextmanager
def bells(site: Site) -> Iterator[Callable[[str], None]]:
    """What tells a name that its box is no longer empty; nothing where no daemon runs."""
    if not site.running:
        yield lambda _name: None
        return
    from regrow.ipc.node import Node
    from regrow.ipc.posting import Posting

    node = Node(site.running)
    posting = Posting(node)
    try:
        yield posting.ring
    finally:
        posting.close()
        node.close()


def brief(number: int, letter: DeadLetter) -> dict[str, Any]:
    """A letter in a list."""
    post = letter.post
    return {
        "number": number, "to": letter.to, "handler": post.handler, "cause": letter.cause, "at": letter.at,
        "attempts": len(post.failures), "id": post.id, "sender": post.sender, "text": letter.text,
    }  # fmt: skip


def described(number: int, letter: DeadLetter) -> Iterator[str]:
    """A letter in lines for people."""
    from regrow.ipc.taggedjson import value_to_json

    post = letter.post
    yield f"dead letter {number}: {letter.to} {one_line(post.handler)}"
    yield f"  why       {CAUSES[letter.cause]}, {clock(letter.at)}"
    yield f"  posted    {clock(post.at)} by {post.sender or 'a client'}, id {one_line(post.id)}"
    if post.expires_at:
        yield f"  expired   {clock(post.expires_at)}"
    yield f"  args      {dumps(value_to_json(bytes(post.args)))}"
    yield f"  kwargs    {dumps(value_to_json(bytes(post.kwargs)))}"
    for count, failure in enumerate(post.failures, 1):
        yield f"  attempt {count}, {clock(failure.at)}, incarnation {failure.incarnation}: {failure.reason}"
        yield from indented(failure.text)
    if letter.text and not post.failures:
        yield from indented(letter.text)


def indented(text: str) -> Iterator[str]:
    """The lines of a traceback, without what could command a terminal."""
    for line in text.rstrip().split("\n"):
        shown = "".join(c if c.isprintable() else " " for c in line).rstrip()
        yield f"    {shown}".rstrip()


def tell(done: list[tuple[int, DeadLetter]], words: str, result: str, *, as_json: bool) -> None:
    """A line for each letter."""
    if as_json:
        click.echo(json_list({"number": number, "to": letter.to, "result": result} for number, letter in done))
        return
    say_if_none(done, "there are no dead letters")
    for number, letter in done:
        click.echo(f"{number}: {letter.to} {one_line(letter.post.handler)} {words}")


def missing(which: Which, verb: str, number: int) -> Failed:
    """There is none of that number."""
    return Failed(f"cannot {verb} {number}: there is no such dead letter; see `regrow dead list{which.options}`")
