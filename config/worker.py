"""One [worker.X] table, or one start_child spec, to a WorkerSpec."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from regrow.config import standby
from regrow.config.context import Context
from regrow.config.env_file import read_env_file
from regrow.config.keys import MOST_REPLICAS, WORKER
from regrow.config.probes import LONGEST_SOCKET_PATH
from regrow.config.sockets import check_probe, check_used
from regrow.config.sources import Source
from regrow.config.spec import Credentials, Kind, Limits, Output, OutputKind, Probe, Ready, ReadyKind, WorkerSpec
from regrow.config.system import SystemProblem, supplementary_groups
from regrow.config.values import BAD, At

KINDS = ("agent", "function", "command")
_AS_READ = (
    "command", "restart", "shutdown", "significant", "watchdog_s", "stop_signal", "normal_exit", "umask", "nice",
    "limits", "log", "update", "sockets", "standby",
)  # fmt: skip


def read_workers(context: Context, source: Source, path: tuple[str, ...], table: dict[str, Any]) -> list[WorkerSpec]:
    """
    Return what one [worker.X] table stands for: one worker, or its replicas in the order of their index.

    Empty when something was wrong with it, which has been reported.
    """
    name = path[-1]
    replicas = table.get("replicas")
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        only = read_worker(context, source, path, table, name)
        return [only] if only else []
    first = read_worker(context, source, path, table, name, 0)
    if first is None or not 1 <= replicas <= MOST_REPLICAS:
        return []
    if not _mentions_itself(table):
        return [replace(first, name=f"{name}.{index}", index=index, replicas=replicas) for index in range(replicas)]
    others = [read_worker(context, source, path, table, name, index) for index in range(1, replicas)]
    workers = [replace(worker, replicas=replicas) for worker in (first, *others) if worker]
    if first.standby:
        standby.check_alike(context.at(source, path), workers)
    return workers


def _mentions_itself(table: Mapping[str, Any]) -> bool:
    written = repr(table)
    return "{name}" in written or "{index}" in written


def read_worker(
    context: Context, source: Source, path: tuple[str, ...], table: dict[str, Any], group: str, index: int | None = None
) -> WorkerSpec | None:
    """
    Return the worker that a table describes, None when it has been reported why it is none.

    `group` is its address without the index. Relative paths start in the source's folder for `cwd` and `env_file`,
    and in the worker's working directory for everything else.
    """
    name = group if index is None else f"{group}.{index}"
    placeholders = {"name": name} if index is None else {"name": name, "index": str(index)}
    at = context.at(source, path, **placeholders)
    fields = WORKER.read(table, at)
    kind = _kind(table, at)
    if fields is BAD:
        return None
    cwd = _cwd(context, at, fields.get("cwd"))
    env = _env(context, at, fields)
    spec: dict[str, Any] = {key: fields[key] for key in _AS_READ if key in fields}
    if kind is Kind.COMMAND and "command" in fields:
        spec["executable"] = context.executable(fields["command"][0], cwd, env, at.down("command", 0))
    elif kind is not None and str(kind) in fields:
        spec["target"] = fields[str(kind)]
        spec["import_path"] = _import_path(context, at.down(str(kind)), fields, table, kind, cwd, env)
        spec["args_json"] = json.dumps(fields.get("args", {}))
    ready = fields.get("ready") or Ready(Probe(ReadyKind.NOTIFY if kind is Kind.AGENT else ReadyKind.STARTED))
    spec["ready"] = replace(ready, probe=_probe(context, at.down("ready"), ready.probe, cwd, env))
    if "liveness" in fields:
        liveness = fields["liveness"]
        spec["liveness"] = replace(liveness, probe=_probe(context, at.down("liveness"), liveness.probe, cwd, env))
    for stream in ("stdout", "stderr"):
        spec[stream] = _output(context, at.down(stream), fields.get(stream, Output()), cwd)
    _check_combinations(at, kind, fields, table)
    check_used(context, at.down("sockets"), fields.get("sockets", ()), fields.get("limits", Limits()).open_files)
    spec["credentials"] = _credentials(context, at, fields)
    if kind is None:
        return None
    return WorkerSpec(name=name, kind=kind, group=group, index=index, cwd=cwd, env=env, **spec)


def _kind(table: Mapping[str, Any], at: At) -> Kind | None:
    written = [kind for kind in KINDS if kind in table]
    if len(written) == 1:
        return Kind(written[0])
    if written:
        at.wrong(f"{' and '.join(written)} exclude one another", "keep one of them", "bad_combination")
    else:
        at.wrong("says not what to run", f"exactly one of {', '.join(KINDS)}", "missing_start")
    return None


def _cwd(context: Context, at: At, written: str | None) -> str:
    """Return the working directory, the folder of the file unless written."""
    if written is None:
        return at.source.folder
    cwd = _absolute(written, at.source.folder)
    context.directory(cwd, at.down("cwd"))
    return cwd


def _absolute(path: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, path))


def _env(context: Context, at: At, fields: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables of env_file with those of env over them."""
    beneath: dict[str, str] = {}
    if "env_file" in fields and context.check_system:
        beneath = read_env_file(_absolute(fields["env_file"], at.source.folder), at.down("env_file"))
    return {**beneath, **fields.get("env", {})}


def _import_path(
    context: Context,
    at: At,
    fields: Mapping[str, Any],
    table: Mapping[str, Any],
    kind: Kind,
    cwd: str,
    env: Mapping[str, str],
) -> str:
    """Return the folder that the target's module is imported from, "" where Python finds it by itself."""
    folders = import_folders(context, cwd, at.source.folder, env)
    known = "args" in fields or "args" not in table
    arguments = fields.get("args", {}) if known else None
    look = context.modules.check_agent if kind is Kind.AGENT else context.modules.check
    try:
        return look(fields[str(kind)], folders, arguments)
    except SystemProblem as error:
        if context.check_system:
            at.wrong(str(error), error.hint)
        return folders[0]


def import_folders(context: Context, cwd: str, folder: str, env: Mapping[str, str]) -> tuple[str, ...]:
    """Return where modules are searched before Python's own places, each once, in order."""
    paths = f"{env.get('PYTHONPATH', '')}:{context.environ.get('PYTHONPATH', '')}".split(":")
    return tuple(dict.fromkeys((cwd, folder, *(_absolute(path, cwd) for path in paths if path))))


def _probe(context: Context, at: At, probe: Probe, cwd: str, env: Mapping[str, str]) -> Probe:
    """Return the probe with an absolute path, a numeric host, an absolute program; one that can tell something."""
    at = at.down(str(probe.kind))
    probe = _resolved(context, at, probe, cwd, env)
    check_probe(context.sockets, probe, at)
    return probe


def _resolved(context: Context, at: At, probe: Probe, cwd: str, env: Mapping[str, str]) -> Probe:
    if probe.kind in (ReadyKind.UNIX, ReadyKind.FILE):
        path = probe.path if probe.path.startswith("@") else _absolute(probe.path, cwd)
        if probe.kind is ReadyKind.UNIX and len(path.encode()) > LONGEST_SOCKET_PATH >= len(probe.path.encode()):
            at.wrong(f"a socket's path has at most {LONGEST_SOCKET_PATH} bytes, {path} has more")
        return replace(probe, path=path)
    if probe.kind in (ReadyKind.TCP, ReadyKind.HTTP):
        return replace(probe, host=context.host(probe.host, at))
    if probe.kind is ReadyKind.EXEC:
        program = context.executable(probe.argv[0], cwd, env, at.down(0))
        return replace(probe, argv=(program, *probe.argv[1:]))
    return probe


def _output(context: Context, at: At, output: Output, cwd: str) -> Output:
    if output.kind is OutputKind.JOURNAL:
        context.journal(at)
    return replace(output, path=_absolute(output.path, cwd)) if output.kind is OutputKind.PATH else output


def _credentials(context: Context, at: At, fields: Mapping[str, Any]) -> Credentials | None:
    """Return the identity to take on; None where it is the daemon's own."""
    user = context.user(fields["user"], at.down("user")) if "user" in fields else None
    gid = context.group(fields["as_group"], at.down("group")) if "as_group" in fields else None
    if user is not None and gid is None and "as_group" not in fields:
        gid = user.gid
        if gid is None:
            at.down("user").wrong(f"the user id {user.uid} has no entry and so no group", "write `group` as well")
    if user is None and gid is None:
        return None
    if os.geteuid() != 0:
        if user is not None and user.uid != os.geteuid():
            _refuse_stranger(context, at.down("user"), "user")
        elif gid is not None and gid != os.getegid():
            _refuse_stranger(context, at.down("group" if "as_group" in fields else "user"), "group")
        return None
    if user is None:
        return Credentials(gid=gid)
    groups = supplementary_groups(user, gid) if gid is not None else None
    return Credentials(user.uid, gid, groups, user.home, user.name)


def _refuse_stranger(context: Context, at: At, noun: str) -> None:
    if context.check_system:
        at.wrong(f"only a daemon that runs as root can start a worker as another {noun}")


def _check_combinations(at: At, kind: Kind | None, fields: Mapping[str, Any], table: Mapping[str, Any]) -> None:
    """Report keys that exclude one another."""
    if kind is Kind.COMMAND and "args" in table:
        at.down("args").wrong("a command takes no args", "write them into `command`", "bad_combination")
    if fields.get("standby"):
        standby.check(at, kind, fields.get("restart"))
    if isinstance(table.get("update"), dict) and "hold" in table["update"] and not table["update"].get("canary"):
        said = "hold is how long canaries are watched, and there are none"
        at.down("update", "hold").wrong(said, "write canary = 1", "bad_combination")
    ready: Ready | None = fields.get("ready")
    streams = [fields.get(stream, Output()).kind for stream in ("stdout", "stderr")]
    if ready is not None and ready.probe.kind is ReadyKind.LINE and OutputKind.LOG not in streams:
        said = 'a line of output can be seen only where stdout or stderr is "log"'
        at.down("ready", "line").wrong(said, code="bad_combination")
