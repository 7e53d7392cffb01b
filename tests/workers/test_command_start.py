"""However the process of a command is made, the program finds the same; and fails in the same words."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from forks import in_fork
from msgspec.structs import replace
from selfportrait import SHOW

from regrow.config.spec import Limits
from regrow.workers.shim_image import MACHINES
from regrow.workers.system import commands_child, commands_start
from regrow.workers.system.commands_child import Failure, Launch, Person
from regrow.workers.system.commands_start import Started, Starter

pytestmark = pytest.mark.skipif(
    os.uname().machine not in MACHINES or os.uname().machine != "x86_64", reason="no shim for this processor"
)

LAUNCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "limits": {"limits": Limits(1 << 30, 100, 4567, 0, 60, 1 << 20), "limits_processes": True, "nice": 3},
    "user": {"person": Person(65534, 65533, (7, 9, 65533), "nobody", is_change=True), "cwd": b"/tmp"},
}

FAILURES: dict[str, tuple[dict[str, Any], str]] = {
    "program": ({"executable": "/nonsuch"}, "cannot exec /nonsuch: No such file or directory"),
    "interpreter": (
        {"executable": "SCRIPT"},
        "cannot exec SCRIPT (its interpreter /nonsuch): No such file or directory",
    ),
    "directory": ({"cwd": "/nonsuch"}, "cannot enter /nonsuch: No such file or directory"),
    "bytes": ({"cwd": b"/nonsuch/\xff"}, r"cannot enter /nonsuch/\xff: No such file or directory"),
    "no program": ({"executable": "/etc/passwd"}, "cannot exec /etc/passwd: Permission denied"),
}


@contextlib.contextmanager
def launched(**keys: Any) -> Iterator[tuple[Launch, int]]:
    """A launch of a shell whose output can be read from the descriptor."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    plain = Launch(
        executable="/bin/sh", argv=(b"zeroth", b"-c", SHOW.encode(), b"script", b"", b"\xff last"),
        env={b"A": b"1", b"EMPTY": b"", b"\xfe": b"\xff"}, cwd="/usr", person=Person(0, 0, ()), limits=Limits(),
        limits_processes=False, nice=0, drops_capabilities=False, streams=(null, writer, writer), host_proc=proc,
    )  # fmt: skip
    try:
        yield replace(plain, **keys), reader
    finally:
        for fd in (reader, writer, null, proc):
            os.close(fd)


def ended(started: Started) -> tuple[int, Failure | None]:
    """How it ended, and why it did not run."""
    try:
        _, status = os.waitpid(started.pid, 0)
        return os.waitstatus_to_exitcode(status), started.failure(os.read(started.status_fd, 4096))
    finally:
        os.close(started.status_fd)


def by_shim(launch: Launch) -> Started:
    """A process that must not be forked."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(commands_child, "start", None)
        return Starter().start(launch, -1)


def by_fork(launch: Launch) -> Started:
    """A process that is forked, as where no shim can be had."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(commands_start, "MACHINES", {})
        return Starter().start(launch, -1)


def shown(start: Callable[[Launch], Started], keys: dict[str, Any]) -> bytes:
    """What a shell finds that is started so, but for its own pid and its pipe."""
    with launched(**keys) as (launch, reader):
        started = start(launch)
        assert ended(started) == (0, None)
        pipe = os.readlink(f"/proc/self/fd/{reader}").encode()
        return re.sub(rb"\b%d\b" % started.pid, b"PID", os.read(reader, 65_536).replace(pipe, b"PIPE"))


@pytest.mark.root
@pytest.mark.parametrize("name", LAUNCHES)
def test_program_finds_what_a_forked_one_finds(name: str) -> None:
    """Arguments, environment, ids, masks, signals, limits, scores, descriptors; and we are as we were."""
    in_fork(partial(alike, LAUNCHES[name]))


def alike(keys: dict[str, Any]) -> None:
    """Made in both ways."""
    score = Path("/proc/self/oom_score_adj").read_text()
    found = shown(by_shim, keys)
    assert Path("/proc/self/oom_score_adj").read_text() == score
    assert found == shown(by_fork, keys)
    assert found.startswith(b"zeroth\0-c\0")
    assert found.endswith(b"2  \xff last\n")


@pytest.mark.parametrize("name", FAILURES)
def test_fails_as_a_forked_one_fails(name: str, tmp_path: Path) -> None:
    """What was tried, on what, and why not."""
    in_fork(partial(fail, name, tmp_path / "script"))


def fail(name: str, script: Path) -> None:
    """In both ways."""
    script.write_text("#!/nonsuch\n")
    script.chmod(0o755)
    keys, text = FAILURES[name]
    keys = {key: str(script) if value == "SCRIPT" else value for key, value in keys.items()}
    for start in (by_shim, by_fork):
        with launched(**keys) as (launch, _):
            status, failure = ended(start(launch))
        assert failure is not None
        assert (status, failure.text) == (commands_child.NOT_RUN, text.replace("SCRIPT", str(script)))
