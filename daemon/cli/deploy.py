"""Verbs that change the tree that runs to that of a file: plan, apply, applies, rollback."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from regrow.config.exits import DONE, REFUSED
from regrow.daemon.cli.act import bad_files, in_brief, wait_option
from regrow.daemon.cli.options import Function, ToldPath, daemon_options, format_option, reach, timeout_option
from regrow.daemon.cli.output import clock, dumps, json_list, one_line
from regrow.daemon.cli.report import say, say_if_none
from regrow.daemon.cli.waiting import Watch, begun, finished
from regrow.ipc.errors import Refused

if TYPE_CHECKING:
    IdParam = click.ParamType[int]
    from regrow.daemon.cli.app import Register
    from regrow.daemon.cli.shapes import Event
else:  # generic from click 8.2 on only
    IdParam = click.ParamType

files_argument = click.argument("files", metavar="[FILE]...", nargs=-1, type=ToldPath(dir_okay=False))

MOST_DIGITS = 18
GOOD = ("done", "unchanged", "requested")
CANCELLED = ("rolled_back", "requested")

SHOWN = 60
"""Characters of a value on a line; JSON has more of it."""


def register(verb: Register) -> None:
    """Add this module's verbs."""
    for command in (plan, apply, applies, rollback):
        verb("deploy", command)


class ApplyId(IdParam):
    """The number of an apply."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number. Fails on anything that is none."""
        text = str(value)
        if len(text) > MOST_DIGITS or not text.isascii() or not text.isdecimal() or int(text) == 0:
            raise click.UsageError(f"{text} is not the number of an apply: `regrow applies` has them", ctx)
        return int(text)


@click.command()
@files_argument
@timeout_option("60s", "How long to wait for the daemon, which reads the files.")
@format_option
@daemon_options
def plan(files: tuple[str, ...], timeout_s: float, as_json: bool, run_dir: str | None, daemon: str | None) -> int:
    """
    What `apply` would do, and why. Changes nothing.

    Compares FILE, by default the files of the daemon, with what the daemon runs. A line for each child that is not
    as it was; wrong files are told as `check` tells them.
    """
    with reach(run_dir, daemon) as client:
        try:
            answer = client.request("plan", within_s=timeout_s, files=absolute(files))
        except Refused as refusal:
            return bad_files(refusal, as_json)
    click.echo(dumps(answer) if as_json else "\n".join(_lines(answer)))
    return DONE


def applying(function: Function) -> Function:
    """What apply and rollback have in common."""
    for decorate in (
        daemon_options,
        format_option,
        timeout_option("30m", "How long to wait until it is done."),
        wait_option,
    ):
        function = decorate(function)
    return function


@click.command()
@files_argument
@click.option("--cancel", is_flag=True, help="End the apply that is under way: the old plan comes back.")
@applying
def apply(files: tuple[str, ...], cancel: bool, **options: Any) -> int:
    """
    Change the tree that runs to that of FILE, and only what has changed.

    FILE is by default what the daemon was started with. `plan` says beforehand what would be done. Replicas are
    replaced one at a time, each ready before the next; if a new process fails, the old plan comes back by itself.
    """
    if cancel and files:
        raise click.UsageError("--cancel takes no FILE: it ends the apply that is under way")
    if cancel:
        return carry_out("cancel_apply", {"wait": options["wait"]}, called="apply --cancel", good=CANCELLED, **options)
    return carry_out("apply", {"files": absolute(files)}, **options)


@click.command()
@click.argument("apply_id", metavar="[ID]", required=False, type=ApplyId())
@applying
def rollback(apply_id: int | None, **options: Any) -> int:
    """
    Apply the plan of an earlier apply again.

    Without ID the newest one, of those that were done, whose plan is not the present one.
    """
    return carry_out("rollback", {"apply": apply_id} if apply_id is not None else {}, **options)


@click.command()
@timeout_option("30s", "How long to wait for the daemon.")
@format_option
@daemon_options
def applies(timeout_s: float, as_json: bool, run_dir: str | None, daemon: str | None) -> None:
    """What was applied: when, by whom, and what became of it."""
    with reach(run_dir, daemon) as client:
        records = client.request("applies", within_s=timeout_s)
    if as_json:
        click.echo(json_list(records))
        return
    say_if_none(records, "nothing has been applied yet; `regrow plan` says what would be")
    for record in records:
        click.echo(record_line(record))


def carry_out(
    verb: str,
    fields: dict[str, Any],
    *,
    wait: bool,
    timeout_s: float,
    as_json: bool,
    run_dir: str | None,
    daemon: str | None,
    called: str = "",
    good: tuple[str, ...] = GOOD,
) -> int:
    """Have the daemon do it, and print what became of it; `good` are the outcomes that are a success."""
    with reach(run_dir, daemon) as client:
        watch = WatchOfApply(client)
        request_id = client.submit(verb, **fields)
        try:
            if wait:
                answer = finished(watch, request_id, f"regrow {called or verb}", timeout_s, "regrow applies")
            else:
                answer = begun(watch, request_id)
        except Refused as refusal:
            return bad_files(refusal, as_json)
    if as_json:
        click.echo(dumps(answer))
    elif answer["outcome"] in good:
        click.echo(_summary(answer))
    else:
        say(_summary(answer))
    for note in () if as_json else answer.get("notes", ()):
        say(one_line(note))
    return DONE if answer["outcome"] in good else REFUSED


class WatchOfApply(Watch):
    """Says whom an apply waits for as soon as the daemon does: nothing but that child, or a signal, ends the wait."""

    def note(self, event: Event) -> bool:
        """Take in one event; whether it concerns a child waited for."""
        if event["event"] == "apply_waiting":
            self.clear()
            say(one_line(str(event.get("text", ""))))
        return super().note(event)


def _summary(answer: dict[str, Any]) -> str:
    """`apply 3 is done: 2 restart, 1 start (0.41 s)`."""
    if answer["outcome"] == "unchanged":
        return "nothing has changed"
    if answer["outcome"] == "requested":
        waits = f"; it {answer['waiting']}" if answer.get("waiting") else ""
        return f"requested; see `regrow applies`{waits}"
    counted = Counter(change["action"] for change in answer["changes"])
    parts = [*(f"{number} {action}" for action, number in counted.items()), *(f"[{name}]" for name in answer["tables"])]
    if answer["outcome"] == "done":
        return f"apply {answer['id']} is done: {', '.join(parts)} ({answer['seconds']:.2f} s)"
    why = "; ".join((one_line(answer["reason"]), *(one_line(in_brief(failure)) for failure in answer["failures"])))
    return f"apply {answer['id']} {ENDS[answer['outcome']]}: {why}"


ENDS = {
    "rolled_back": "was rolled back",
    "failed": "failed, and not all of the old plan could be brought back",
    "interrupted": "was interrupted",
}


def record_line(record: dict[str, Any]) -> str:
    """`3 * 12:02:11  done  by uid 0 (pid 77)  2 restart, 1 start`."""
    if "at" not in record:
        return f"{record['id']:<4} {record['outcome']}  {one_line(record['reason'])}"
    counted = Counter(change["action"] for change in record["changes"])
    parts = [f"{number} {action}" for action, number in counted.items()] + [f"[{name}]" for name in record["tables"]]
    what = f"brings {record['back_to']} back: " if record["back_to"] is not None else ""
    mark = "*" if record["present"] else " "
    line = f"{record['id']:<4} {mark} {clock(record['at'])}  {record['outcome']:<12} by {record['by']}"
    told = "; ".join(part for part in (what + ", ".join(parts), one_line(record["reason"])) if part)
    return f"{line}  {told}".rstrip()


def absolute(files: Sequence[str]) -> list[str]:
    """The daemon has a working directory of its own."""
    return [os.path.abspath(file) for file in files]


def _lines(answer: dict[str, Any]) -> Iterator[str]:
    changes, tables = answer["changes"], answer["tables"]
    if not changes and not tables:
        yield "nothing would change"
    wide = max((len(change["name"]) for change in changes), default=0)
    for change in changes:
        yield f"{change['action']:<8} {change['name']:<{wide}}  {'; '.join(_reasons(change))}".rstrip()
    sockets = {f"socket.{one['name']}": one for one in answer.get("sockets", ())}
    settings = {one["table"]: one["why"] for one in answer.get("settings", ())}
    for table in tables:
        action, why = _socket(sockets[table]) if table in sockets else ("change", _setting(settings.get(table, [])))
        yield f"{action:<8} [{table}]  {why}".rstrip()
    yield from answer.get("notes", ())


def _reasons(change: dict[str, Any]) -> Iterator[str]:
    """Why, in a few words each."""
    action, because = change["action"], change["because"]
    if action == "start":
        yield f"with {because}" if because else f"new under {_above(change)}"
    elif action == "stop":
        yield f"with {because}" if because else "no longer in the file"
    elif action == "move":
        yield f"from {change['left'] or 'the top'} to {_above(change)}"
    elif because:
        yield f"with {because}"
    for key in change["why"]:
        yield _key(key)


def _socket(one: dict[str, Any]) -> tuple[str, str]:
    """What becomes of a socket, and what of its address."""
    address, other, why = one["address"], one["other"], [_key(key) for key in one["why"]]
    if one["action"] == "listen":
        return "listen", f"at {address}"
    if one["action"] == "close":
        return "close", f"no longer in the file; {address} is closed when no worker has it any more"
    if other:
        return "change", f"{address} is that of [socket.{other}]: it stays open"
    return "change", "; ".join(why)


def _setting(why: list[dict[str, str]]) -> str:
    """What differs in a table that is about no child; such a one needs no new process of anybody's."""
    return "; ".join((*map(_key, why), "holds at once"))


def _key(key: dict[str, str]) -> str:
    return f"{key['key']}: {_short(key['before'])} -> {_short(key['after'])}"


def _above(change: dict[str, Any]) -> str:
    return change["supervisor"] or "the top"


def _short(value: str) -> str:
    text = one_line(value) or "unset"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"
