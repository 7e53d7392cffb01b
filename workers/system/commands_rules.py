"""
Who may run what: the decision about one request, from the file and from who asks.

Operators run what they like; processes of the tree run what `[commands] allow` names, whoever they run as; nobody else
runs anything.

Source: config-and-cli, [commands].
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from fnmatch import fnmatchcase

from msgspec import Struct
from msgspec.structs import asdict, replace

from regrow.config.readable import readable
from regrow.config.spec import CommandRule, CommandsSpec, Isolation, Limits
from regrow.config.units import LARGEST_BYTES, duration_text
from regrow.ipc.commands_wire import Request

PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where programs are looked for, and what they have as their PATH."""

DEFAULTS = Limits(open_files=1024, processes=1024, core_bytes=0)
"""What a command may use unless the file or its request says otherwise."""


MOST_SHOWN = 200
"""Characters of a program's name."""


class Denied(Exception):
    """A request is not carried out; `code` is that of a refusal."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(readable(text))  # names of programs may be any bytes
        self.code = code


class Granted(Struct, frozen=True):
    """
    What is run, with which limits; those in `request` are never wider.

    `counts_processes`: somebody has asked for a limit of processes, which is not just the usual one.
    """

    request: Request
    executable: str
    limits: Limits
    counts_processes: bool


def decide(spec: CommandsSpec, request: Request, *, is_inside: bool, is_operator: bool) -> Granted:
    """
    What of a request is carried out.

    Raises:
        Denied.
    """
    if not is_inside and not is_operator:
        raise Denied("forbidden", "only operators, and what runs in the tree, may run commands")
    _check_form(spec, request)
    name = os.fsdecode(request.argv[0])
    executable = find(name)
    if is_inside:
        _check_rules(spec.allow, request, name, executable)
    if not executable:
        shell = "; there is no shell: its words are arguments of their own" if " " in name else ""
        raise Denied("not_found", f"there is no program {_short(name)} in {':'.join(PATH)}{shell}")
    words = tuple(word for word in Isolation if word in request.isolate or word in spec.isolate)
    limits = lowered(lowered(spec.limits, DEFAULTS, fill=True), request.limits, fill=False)
    counts = any(one.processes not in (None, -1) for one in (spec.limits, request.limits))
    return Granted(replace(request, isolate=words), executable, limits, counts)


def _short(name: str) -> str:
    """As much of it as is told: a message that repeats megabytes is none."""
    return name if len(name) <= MOST_SHOWN else f"{name[:MOST_SHOWN]}…"


def find(name: str) -> str:
    """
    The absolute path of a program; empty when there is none of that name in PATH.

    A file that may not be executed is found where nothing else is: that it may not, is then said by who tries.
    """
    if "/" in name:
        return name
    found = [path for folder in PATH if os.path.isfile(path := f"{folder}/{name}")]
    return next((path for path in found if os.access(path, os.X_OK)), found[0] if found else "")


def _check_form(spec: CommandsSpec, request: Request) -> None:
    if not request.argv or not request.argv[0]:
        raise Denied("bad_request", "there is no program to run")
    texts = (*request.argv, *request.env, *request.env.values(), request.cwd)
    if any(b"\0" in text for text in texts):
        raise Denied("bad_request", "an argument or variable holds a NUL")
    if any(not name or b"=" in name for name in request.env):
        raise Denied("bad_request", "a variable has no name, or one with =")
    program = os.fsdecode(request.argv[0])
    if "/" in program and not os.path.isabs(program):
        raise Denied("bad_request", f"{_short(program)} is a relative path: commands run in a directory of their own")
    if request.cwd and not os.path.isabs(request.cwd):
        raise Denied("bad_request", f"{os.fsdecode(request.cwd)} is a relative path")
    if not 0 < request.timeout_s <= spec.max_timeout_s or not math.isfinite(request.timeout_s):
        most = duration_text(spec.max_timeout_s)
        said = f"a timeout of {request.timeout_s:g} s is not above 0 and at most {most} (max_timeout)"
        raise Denied("bad_request", said)
    if min(request.stdout_limit, request.stderr_limit) < 0:
        raise Denied("bad_request", "a limit of output is 0 or more")
    if any(limit is not None and not -1 <= limit <= LARGEST_BYTES for limit in asdict(request.limits).values()):
        raise Denied("bad_request", f"a limit is a number from 0 to {LARGEST_BYTES}, or -1 for none")
    unknown = sorted({*request.isolate} - {*Isolation})
    if unknown:
        raise Denied("bad_request", f"cannot isolate {unknown[0]}: there are {', '.join(Isolation)}")
    if request.shares_processes and Isolation.PROCESSES in {*request.isolate, *spec.isolate}:
        raise Denied("bad_request", "cannot both isolate and share the processes")


def _check_rules(rules: Collection[CommandRule], request: Request, name: str, executable: str) -> None:
    """Raises Denied unless some rule allows program, arguments and variables."""
    fitting = [rule for rule in rules if (find(rule.program) == executable if executable else rule.program == name)]
    name = _short(name)
    if not fitting:
        raise Denied("forbidden", f"{name} is not allowed: [commands] allow does not name it")
    arguments = [os.fsdecode(argument) for argument in request.argv[1:]]
    variables = [os.fsdecode(variable) for variable in request.env]
    if any(
        (rule.arguments is None or _all_match(arguments, rule.arguments)) and _all_match(variables, rule.env)
        for rule in fitting
    ):
        return
    patterns = next((rule.arguments for rule in fitting if rule.arguments is not None), ("*",))
    wrong = [f"the argument {one}" for one in arguments if not _all_match([one], patterns)]
    wrong += [f"the variable {one}" for one in variables if not _all_match([one], fitting[0].env)]
    what = (wrong or ["these arguments"])[0][:200]
    raise Denied("forbidden", f"{name} is not allowed with {what}: see [commands] allow")


def _all_match(texts: Collection[str], patterns: Collection[str]) -> bool:
    return all(any(fnmatchcase(text, pattern) for pattern in patterns) for text in texts)


def lowered(limits: Limits, other: Limits, *, fill: bool) -> Limits:
    """
    The stricter of each two limits; -1 is no limit. With `fill` those of `other` count only where `limits` says
    nothing.
    """
    made = {}
    for name, mine in asdict(limits).items():
        its = getattr(other, name)
        if mine is None or its is None:
            made[name] = its if mine is None else mine
        elif fill:
            made[name] = mine
        else:
            made[name] = max(mine, its) if -1 in (mine, its) else min(mine, its)
    return Limits(**made)
