"""The verb that runs a system command: run."""

from __future__ import annotations

import os
import select
import signal
import sys
from typing import TYPE_CHECKING, Any

import click

from regrow.config.spec import NICE, Isolation
from regrow.daemon.cli.options import daemon_options, format_option, timeout_option
from regrow.daemon.cli.output import dumps
from regrow.daemon.cli.report import INTERRUPTED, NOT_EXECUTABLE, NOT_FOUND, TIMED_OUT, say

if TYPE_CHECKING:
    SizeParam = click.ParamType[int]
    WordParam = click.Choice[str]
    from regrow.config.spec import Limits
    from regrow.daemon.cli.app import Register
    from regrow.ipc.commands import Command
    from regrow.ipc.commands_result import CommandResult

if not TYPE_CHECKING:
    SizeParam, WordParam = click.ParamType, click.Choice  # generic from click 8.2 on only

ALL = (1 << 62) - 1


def register(verb: Register) -> None:
    """Add this module's verb."""
    verb("talk", run)


class Size(SizeParam):
    """A size such as `64KiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Bytes."""
        from regrow.config.units import UnitError, size_bytes

        if isinstance(value, int):
            return value
        try:
            return size_bytes(str(value))
        except UnitError as error:
            self.fail(f"{error}; {error.hint}" if error.hint else str(error), param, ctx)


class IsolationWord(WordParam):
    """A word of `--isolate`: one at a time."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The word. Fails on a list of them, with how it is written."""
        if "," in str(value):
            words = " ".join(f"--isolate {word.strip()}" for word in str(value).split(",") if word.strip())
            self.fail(f"one word at a time: write {words or '--isolate network'}", param, ctx)
        return super().convert(value, param, ctx)


@click.command()
@click.argument("argv", metavar="-- ARGV...", nargs=-1, required=True, type=click.UNPROCESSED)
@timeout_option("60s", "How long it may take, waiting for its turn included.")
@click.option("-i", "--input", "feeds", is_flag=True, help="Let it read our standard input; default: nothing.")
@click.option("--env", "variables", metavar="NAME=VALUE", multiple=True, help="A variable; it inherits none.")
@click.option("--cwd", metavar="DIR", help="Where it runs; default: in a directory of its own, removed afterwards.")
@click.option("--user", metavar="USER", help="Who it runs as; default: you.")
@click.option("--limit", "bounds", metavar="NAME=VALUE", multiple=True, help="As in the file: memory=1GiB, cpu=10s, …")
@click.option(
    "--isolate", metavar="WHAT", multiple=True, type=IsolationWord([*map(str, Isolation), "all"]),
    help="Keep it away from: network, tmp, root (then read-only), processes, all.",
)
@click.option("--share-processes", is_flag=True, help="Let it see the host's processes.")
@click.option("--nice", metavar="N", type=click.IntRange(NICE[0], NICE[-1]), default=0, help="Its scheduling priority.")
@click.option("--max-output", metavar="SIZE", type=Size(), default=ALL, help="The most of each stream; default: all.")
@format_option
@daemon_options
def run(
    argv: tuple[str, ...],
    timeout_s: float,
    feeds: bool,
    variables: tuple[str, ...],
    bounds: tuple[str, ...],
    isolate: tuple[str, ...],
    max_output: int,
    as_json: bool,
    run_dir: str | None,
    daemon: str | None,
    **options: Any,
) -> int:
    """
    Run a system command in isolation, and print what it prints.

    It runs as a process of the daemon: without a shell, with nothing inherited from here. When this returns, nothing
    that it has started is left; so it is after ^C, and when this is killed. The exit status is its own; 128 and the
    signal's number if it died of one, 124 at the timeout, 127 if there is no such program, 126 if it could not be
    started, 1 if it was refused.
    """
    from regrow.daemon.cli.talk import talking

    env, limits = _pairs(variables, "--env"), _limits(bounds)
    _check(argv, isolates=isolate, **options)
    with talking("run", run_dir, daemon) as client:
        command = client.start_command(
            argv,
            timeout=timeout_s,
            feeds=feeds,
            env=env,
            limits=limits,
            isolate=tuple(map(str, Isolation)) if "all" in isolate else isolate,
            stdout_limit=max_output,
            stderr_limit=max_output,
            **options,
        )
        with command:
            kept = _relay(command, feeds=feeds, prints=not as_json)
            result = command.wait()
    if as_json:
        click.echo(dumps(_shown(result, kept)))
    elif result.reason != "exit":
        say(f"{argv[0]}: {result}")
    return _status(result)


def _check(argv: tuple[str, ...], *, isolates: tuple[str, ...], **options: Any) -> None:
    """
    What can be told without a daemon.

    Raises:
        click.UsageError.
    """
    program, cwd = argv[0], options["cwd"]
    (options["user"] or "").encode()  # a name that is no text is told as in every verb
    if not program:
        raise click.UsageError("the program is an empty word: write `regrow run -- PROGRAM …`")
    if "/" in program and not os.path.isabs(program):
        wanted = f"write a name in PATH, or {os.path.abspath(program)}"
        raise click.UsageError(f"{program} is a relative path, and commands run elsewhere: {wanted}")
    if cwd is not None and not os.path.isabs(cwd):
        raise click.UsageError(f"--cwd takes an absolute path, not {cwd or 'nothing'}: write {os.path.abspath(cwd)}")
    if options["share_processes"] and {Isolation.PROCESSES, "all"} & {*isolates}:
        raise click.UsageError("--share-processes and --isolate processes (or all) exclude each other: leave one out")


def _limits(bounds: tuple[str, ...]) -> Limits:
    from regrow.ipc.commands_request import limits_of

    try:
        return limits_of(_pairs(bounds, "--limit"))
    except ValueError as error:
        raise click.UsageError(f"--limit: {error}") from None


def _pairs(texts: tuple[str, ...], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.UsageError(f"{option} takes NAME=VALUE, not {text}")
        found[name] = value
    return found


def _relay(command: Command, *, feeds: bool, prints: bool) -> dict[str, bytearray]:
    """Carry input and output until the command ends. Returns the output, unless it was printed as it came."""
    kept = {"stdout": bytearray(), "stderr": bytearray()}
    poll = select.poll()
    poll.register(command, select.POLLIN)
    if feeds:
        poll.register(0, select.POLLIN)
    while not command.done:
        ready = dict(poll.poll())  # the deadline of the command ends this
        if 0 in ready and feeds:
            piece = os.read(0, 1 << 16)
            if piece:
                command.write(piece)
            else:
                command.end_input()
                poll.unregister(0)
        if command.fileno() in ready or command.done:
            for stream, output in command.receive():
                if prints:
                    _write(stream, output)
                else:
                    kept[stream] += output
    return kept


def _write(stream: str, output: bytes) -> None:
    """Bytes as they are; whoever reads slowly slows the command."""
    target = sys.stdout.buffer if stream == "stdout" else sys.stderr.buffer
    target.write(output)
    target.flush()


def _shown(result: CommandResult, kept: dict[str, bytearray]) -> dict[str, Any]:
    """The result as JSON has it; bytes that are no UTF-8 are shown as such."""
    import msgspec

    texts = {stream: output.decode(errors="backslashreplace") for stream, output in kept.items()}
    return {**msgspec.structs.asdict(result), **texts}


def _status(result: CommandResult) -> int:
    if result.code is not None:
        return result.code
    if result.signal is not None:
        return 128 + getattr(signal, result.signal, 0)
    if result.reason == "start_failed":
        return NOT_FOUND if result.stage == "exec" and result.errno == 2 else NOT_EXECUTABLE
    return {"timeout": TIMED_OUT, "cancelled": INTERRUPTED}.get(result.reason, 1)
