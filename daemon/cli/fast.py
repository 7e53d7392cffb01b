"""
`regrow status` without click, whose import costs more than everything else together.

Understands the plain uses only: names, --all, --format, --run-dir, --name. Anything else (help, a mistyped
option, completion) is left to click. A test holds both paths to the same output.
"""

from __future__ import annotations

from regrow.daemon.cli.report import fail

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

FORMATS = ("text", "json")


def status(args: Sequence[str]) -> int | None:
    """
    Do `regrow status ARGS`.

    Returns:
        The exit status; None when click has to look at `args`, in which case nothing has been done.
    """
    options = _parse(args)
    if options is None:
        return None
    names, valued, everything = options
    from regrow.daemon.cli.status import show_status

    try:
        show_status(
            names,
            everything=everything,
            as_json=valued.get("--format") == "json",
            run_dir=valued.get("--run-dir"),
            daemon=valued.get("--name"),
        )
        flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the outermost frame: every failure becomes a line and a status
        return fail(error)
    return 0


def flush() -> None:
    """Meet a closed pipe here rather than at the interpreter's end."""
    import sys

    sys.stdout.flush()


def _parse(args: Sequence[str]) -> tuple[list[str], dict[str, str], bool] | None:
    names: list[str] = []
    valued: dict[str, str] = {}
    everything = False
    rest = iter(args)
    for word in rest:
        if not word.isprintable():  # refused by click's types, as of all verbs
            return None
        option, equals, value = word.partition("=")
        if not word.startswith("-"):
            names.append(word)
        elif word == "--all":
            everything = True
        elif option in ("--format", "--run-dir", "--name"):
            valued[option] = value if equals else next(rest, "-")
            if valued[option].startswith("-") or not valued[option].isprintable():
                return None
        else:
            return None
    if valued.get("--format", "text") not in FORMATS:
        return None
    return names, valued, everything
