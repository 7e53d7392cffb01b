"""Verbs that change what runs: start, stop, restart, reload, down."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from regrow.config.exits import BAD_CONFIG, DONE, REFUSED
from regrow.daemon.cli.options import Function, daemon_options, format_option, names_argument, reach, timeout_option
from regrow.daemon.cli.output import dumps, json_list
from regrow.daemon.cli.report import Failed, say
from regrow.daemon.cli.waiting import Watch, accepted, finished, gone, open_root
from regrow.daemon.why import STACKS
from regrow.ipc.control import ControlClient
from regrow.ipc.errors import Refused, Unreachable

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register
    from regrow.daemon.cli.shapes import Hello, Outcome

wait_option = click.option(
    "--wait/--no-wait", "wait", default=True, show_default=True, help="Return when it is done, or once it is begun."
)


def register(verb: Register) -> None:
    """Add this module's verbs."""
    verb("run", down)
    for command in (start, stop, restart, reload):
        verb("act", command)


def acting(function: Function) -> Function:
    """What start, stop and restart have in common."""
    for decorate in (
        daemon_options,
        format_option,
        timeout_option("60s", "How long to wait until it is done."),
        wait_option,
        names_argument(required=True),
    ):
        function = decorate(function)
    return function


@click.command()
@acting
def start(names: tuple[str, ...], **options: Any) -> int:
    """
    Start stopped children; done when ready.

    OTP's restart_child. A supervisor's name means its subtree, a replicated worker's all its replicas.
    """
    return act("start", names, **options)


@click.command()
@acting
def stop(names: tuple[str, ...], **options: Any) -> int:
    """
    Stop children and keep them stopped; done when nothing is left.

    OTP's terminate_child. A supervisor's name means its subtree, a replicated worker's all its replicas.
    """
    return act("stop", names, **options)


@click.command()
@acting
def restart(names: tuple[str, ...], **options: Any) -> int:
    """
    Stop children, then start them; done when ready.

    A supervisor's name means its subtree, a replicated worker's all its replicas. Not counted as a restart.
    """
    return act("restart", names, **options)


@click.command()
@timeout_option("60s", "How long to wait until it is done.")
@format_option
@daemon_options
def reload(timeout_s: float, as_json: bool, run_dir: str | None, daemon: str | None) -> int:
    """Read the files again and change what has changed."""
    with reach(run_dir, daemon) as client:
        watch = Watch(client)
        try:
            answer = finished(watch, client.submit("reload"), "regrow reload", timeout_s)
        except Refused as refusal:
            return bad_files(refusal, as_json)
    click.echo(dumps(answer) if as_json else _summary(answer))
    return DONE


@click.command()
@click.option("--now", is_flag=True, help="Kill everything at once instead of stopping it in order.")
@wait_option
@timeout_option("5m", "How long to wait until nothing is left.")
@format_option
@daemon_options
def down(now: bool, wait: bool, timeout_s: float, as_json: bool, run_dir: str | None, daemon: str | None) -> None:
    """
    Stop everything, in order, until nothing is left.

    The order is the reverse of the start.
    """
    with reach(run_dir, daemon) as client:
        hello: Hello = client.request("ping")
        pidfd = open_root(client, hello["pid"])
        try:
            watch = Watch(client)
            client.request("down", now=now)
            if wait:
                gone(watch, pidfd, "regrow down", timeout_s)
                _check_orderly(client)
        finally:
            os.close(pidfd)
    result = "stopped" if wait else "stopping"
    fact = {"name": hello["name"], "result": result, "pid": hello["pid"]}
    click.echo(dumps(fact) if as_json else f"{hello['name']}: {result}")


def _check_orderly(client: ControlClient) -> None:
    """
    A root that ends in order takes its socket's name away.

    Raises:
        Failed: it was killed on its way, and may have left something behind.
    """
    if not os.path.lexists(client.path):
        return
    try:
        ControlClient(client.path, timeout_s=1.0).close()  # somebody has already started the next one
    except Unreachable:
        raise Failed(
            f"cannot say that all is stopped: {client.label} was killed before it was done; "
            "the next `regrow up FILE` finds and ends what is left"
        ) from None


def act(
    verb: str,
    names: Sequence[str],
    *,
    wait: bool,
    timeout_s: float,
    as_json: bool,
    run_dir: str | None,
    daemon: str | None,
) -> int:
    """Do one of start, stop, restart and print an outcome for each child it concerned."""
    with reach(run_dir, daemon) as client:
        watch = Watch(client, names)
        request_id = client.submit(verb, names=list(names), timeout_s=timeout_s)
        if wait:
            outcomes = finished(watch, request_id, f"regrow {verb} {' '.join(names)}", timeout_s)
        else:
            outcomes = accepted(watch, request_id)
    if outcomes is None:
        outcomes = [{"name": name, "result": "requested"} for name in names]
    return _print_outcomes(verb, outcomes, as_json)


def _print_outcomes(verb: str, outcomes: Sequence[Outcome], as_json: bool) -> int:
    refused = [outcome for outcome in outcomes if outcome.get("error")]
    if as_json:
        click.echo(json_list(outcomes))
    for outcome in outcomes:
        if outcome in refused:
            say(f"cannot {verb} {outcome['name']}: {_without_traceback(_message(outcome), outcome['name'])}")
        elif not as_json:
            pid = f" (pid {outcome['pid']})" if outcome.get("pid") is not None else ""
            click.echo(f"{outcome['name']}: {outcome['result'].replace('_', ' ')}{pid}")
    return REFUSED if refused else DONE


def _message(outcome: Outcome) -> str:
    error = outcome.get("error")
    return str(error.get("message") or error.get("code")) if isinstance(error, dict) else str(error)


def _without_traceback(message: str, name: str) -> str:
    """An error is one line, with the way to the rest of it."""
    brief = in_brief(message)
    return message if brief == message else f"{brief}; see `regrow why {name}`"


def in_brief(text: str) -> str:
    """Of a traceback in it the last line; of the stacks of a process that hung nothing."""
    head, traceback, lines = text.partition("Traceback (most recent call last):")
    if traceback:
        return head + lines.rstrip().rpartition("\n")[2]
    return text.partition(f"; {STACKS}")[0]


def bad_files(refusal: Refused, as_json: bool) -> int:
    """
    Files that are wrong, which the daemon has read: nothing has changed; the problems as `check` shows them.

    Raises:
        Refused: it was refused for something else.
    """
    if "problems" not in refusal.details:
        raise refusal
    problems = refusal.details["problems"]
    if as_json:
        click.echo(json_list(problems))
        return BAD_CONFIG
    for problem in problems:
        click.echo(problem if isinstance(problem, str) else _problem_line(problem), err=True)
    say("nothing has changed")
    return BAD_CONFIG


def _problem_line(problem: dict[str, Any]) -> str:
    from regrow.config.errors import Problem

    return str(Problem(**{key: problem[key] for key in Problem.__struct_fields__ if key in problem}))


def _summary(answer: Any) -> str:
    """`reloaded: supervisors a b, [access] holds from now on`; `reloaded: nothing has changed`."""
    if not isinstance(answer, dict):
        return "reloaded"
    lists = {key: names for key, names in answer.items() if isinstance(names, list) and names}
    tables = lists.pop("tables", [])
    parts = [f"{key} {' '.join(map(str, names))}" for key, names in lists.items()]
    if tables:
        verb = "holds" if len(tables) == 1 else "hold"
        parts.append(f"{' '.join(f'[{table}]' for table in tables)} {verb} from now on")
    return f"reloaded: {', '.join(parts) or 'nothing has changed'}"

