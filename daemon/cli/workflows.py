"""`regrow workflow`: runs of workflows, looked at and acted on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from regrow.config.exits import USAGE
from regrow.daemon.cli.arguments import read_value
from regrow.daemon.cli.options import Plain, Text, daemon_options, debug_option, format_option, reach, timeout_option
from regrow.daemon.cli.output import clock, dumps, json_list, one_line, span
from regrow.daemon.cli.replies import as_json as json_of
from regrow.daemon.cli.replies import as_plain, as_text
from regrow.daemon.cli.report import Failed, say_if_none
from regrow.daemon.cli.talk import arguments

if TYPE_CHECKING:
    from regrow.daemon.cli.app import Register
    from regrow.ipc.client import Client

COLUMNS = "{id:<24}  {workflow:<12}  {status:<9}  {time:>10}  {detail}"


def register(verb: Register) -> None:
    """Add this module's verbs."""
    verb("act", workflow)


@click.group(invoke_without_command=True)
@debug_option
@click.pass_context
def workflow(ctx: click.Context) -> None:
    """
    Start, watch, retry and cancel runs of workflows.

    A workflow is in the file as [workflow.NAME]; each of its runs has an ID.
    """
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(USAGE)


@workflow.command("list")
@click.argument("name", required=False, type=Plain())
@daemon_options
@format_option
def list_(name: str | None, as_json: bool, run_dir: str | None, daemon: str | None) -> None:
    """The runs that there are, the oldest first."""
    with runs_of(run_dir, daemon) as client:
        found = client.list_workflows(name)
    if as_json:
        click.echo(json_list(as_plain(run) for run in found))
        return
    say_if_none(found, "there are no runs" + (f" of {name}" if name else ""))
    for run in found:
        click.echo(line_of(run, time.time()).rstrip())


@workflow.command()
@click.argument("id", type=Text())
@daemon_options
@format_option
def show(id: str, as_json: bool, run_dir: str | None, daemon: str | None) -> None:
    """A run and its steps."""
    with runs_of(run_dir, daemon) as client:
        run = client.show_workflow(id)
    if as_json:
        click.echo(json_of(run))
        return
    for line in lines_of(run, time.time()):
        click.echo(line.rstrip())


@workflow.command()
@click.option("--id", metavar="ID", type=Text(), help="Of several starts with the same ID, only the first one counts.")
@click.option("--wait", is_flag=True, help="Wait for its end, and print what it returns.")
@timeout_option("60s", "How long to wait with --wait.")
@click.option("--json", "json_text", metavar="TEXT", help="All arguments, as for `regrow call`.")
@click.argument("name", type=Plain())
@click.argument("words", metavar="[KEY=VALUE]...", nargs=-1)
@daemon_options
@format_option
def start(
    name: str,
    words: tuple[str, ...],
    json_text: str | None,
    id: str | None,
    wait: bool,
    timeout_s: float,
    as_json: bool,
    run_dir: str | None,
    daemon: str | None,
) -> None:
    """
    Start a run of the workflow NAME, and print its ID.

    The arguments are written as for `call`.
    """
    given = arguments(words, json_text)
    with runs_of(run_dir, daemon) as client:
        own = client.start_workflow(name, *given.args, id=id, **given.kwargs)
        if not wait:
            click.echo(dumps({"id": own, "workflow": name}) if as_json else own)
            return
        result = client.workflow_result(own, timeout_s)
    text = json_of(result) if as_json else as_text(result)
    if text is not None:
        click.echo(text)


@workflow.command()
@click.argument("id", type=Text())
@click.argument("name", type=Plain())
@click.argument("value", required=False)
@daemon_options
def send(id: str, name: str, value: str | None, run_dir: str | None, daemon: str | None) -> None:
    """
    Send a run what it waits for with `receive(NAME)`.

    VALUE is JSON where it reads as JSON, and text otherwise.
    """
    said = None if value is None else read_value(value, "the value")
    with runs_of(run_dir, daemon) as client:
        client.send_to_run(id, name, said)
    click.echo(f"{id}: {name} is kept for it")


@workflow.command()
@click.argument("id", type=Text())
@daemon_options
def retry(id: str, run_dir: str | None, daemon: str | None) -> None:
    """
    Have a failed run go on from the step that has failed.

    Where steps were undone, from the first of these; where one could not be undone, that is tried first.
    """
    with runs_of(run_dir, daemon) as client:
        client.retry_workflow(id)
    click.echo(f"{id}: goes on")


@workflow.command()
@click.argument("id", type=Text())
@daemon_options
def cancel(id: str, run_dir: str | None, daemon: str | None) -> None:
    """Have a run undo what it has done, and end; it does so before its next step."""
    with runs_of(run_dir, daemon) as client:
        if not client.cancel_workflow(id):
            status = client.show_workflow(id)["status"]
            raise Failed(f"cannot cancel {id}: it is {status}")
    click.echo(f"{id}: is being cancelled")


@contextmanager
def runs_of(run_dir: str | None, daemon: str | None) -> Iterator[Client]:
    """
    A client of the daemon meant; errors leave as one line.

    Raises:
        Failed; ControlError: there is no daemon to talk to.
    """
    from regrow.ipc.client import Client
    from regrow.ipc.errors import MessageError, StoreError, WorkflowError

    with reach(run_dir, daemon) as control, Client(control.run_dir) as client:
        try:
            yield client
        except (MessageError, StoreError, WorkflowError) as error:
            raise Failed(str(error)) from error


def line_of(run: dict[str, Any], now: float) -> str:
    """One run on one line: how long it has run or waited, and what has become of it."""
    began = run["began"] or run["created"]
    error = run["not_undone"] or run["error"]
    detail = f"{error['step'] or 'run'}: {error['type']}: {error['text']}" if error else ""
    if run["cancelled"] and run["ended"] is None:
        detail = "is being cancelled"
    return COLUMNS.format(**{**run, "time": span((run["ended"] or now) - began), "detail": one_line(detail)})


def lines_of(run: dict[str, Any], now: float) -> Iterator[str]:
    """All about one run."""
    yield line_of(run, now)
    yield f"  process   {run['process']}"
    given = [*map(json_of, run["args"]), *(f"{key}={json_of(value)}" for key, value in run["kwargs"].items())]
    yield f"  arguments {' '.join(given)}"
    yield f"  created   {clock(run['created'])}"
    for step in run["steps"]:
        yield step_line(step)
    if run["status"] == "finished":
        yield f"  result    {json_of(run['result'])}"
    for title, error in (("error", run["error"]), ("not undone", run["not_undone"])):
        if error is not None:
            yield f"  {title}: {error['type']}: {one_line(error['text'])}"
            yield from (f"    {line}" for line in error["traceback"].splitlines())


def step_line(step: dict[str, Any]) -> str:
    """One call: its number, state and name, and what has come of it."""
    said = [f"attempt {step['attempts']}"] if step["attempts"] > 1 else []
    if step["state"] == "done" and step["result"] is not None:
        said.append(json_of(step["result"])[:80])
    if step["error"] is not None:
        said.append(one_line(f"{step['error']['type']}: {step['error']['text']}")[:80])
    if step["state"] == "open" and step["due"] is not None:
        said.append("no end" if step["due"] == float("inf") else f"until {clock(step['due'])}")
    if step["undone"] is not None:
        said.append({"done": "undone", "failed": "could not be undone"}.get(step["undone"], "is being undone"))
    return f"  {step['number']:>4}  {step['state']:<6}  {step['name']:<20}  {', '.join(said)}"
