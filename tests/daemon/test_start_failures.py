"""Children that cannot be started: the stage and the reason are told, nobody else is concerned."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from farm import FOREVER, Farm, shell
from wire import CallError


def program(farm: Farm, name: str) -> Path:
    """A little executable of the test's own."""
    path = farm.directory / name
    path.write_text("#!/bin/sh\necho up\nexec tail -f /dev/null\n")
    path.chmod(0o755)
    return path


def replace_by_directory(path: Path) -> None:
    """A directory where the program was."""
    path.unlink()
    path.mkdir()


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda path: path.unlink(), "No such file or directory"),
    "mode": (lambda path: path.chmod(0o644), "Permission denied"),
    "interpreter": (lambda path: path.write_text("#!/no/such/interpreter\n"), "No such file or directory"),
    "format": (lambda path: path.write_bytes(b"\x7fELF garbage"), "Exec format error"),
    "directory": (replace_by_directory, "Permission denied"),
}


@pytest.mark.parametrize("under", ["sup", "many"])
@pytest.mark.parametrize("spoiled", SPOILED)
def test_executable_spoiled_after_the_check(farm: Farm, spoiled: str, under: str) -> None:
    """An executable that is gone or unusable at the time of the start: exec_failed, its path, the error."""
    name = f"{spoiled}-{under}"
    path = program(farm, name)
    farm.add(name, [str(path)], under=under, ready={"line": "up"})
    spoil, words = SPOILED[spoiled]
    entry = farm.stop_refused_start(name, lambda: spoil(path))
    assert entry["state"] == "failed"
    assert entry["pid"] is None
    assert entry["last_exit"]["reason"] == "exec_failed"
    assert str(path) in entry["last_exit"]["text"]
    assert words in entry["last_exit"]["text"]
    assert words in farm.why(name)
    farm.call("delete_child", supervisor=under, child=name)


def test_a_missing_interpreter_is_named(farm: Farm) -> None:
    """`No such file` about a script that is there means its interpreter: the text says so."""
    path = program(farm, "shebang")
    farm.add("shebang", [str(path)], ready={"line": "up"})
    entry = farm.stop_refused_start("shebang", lambda: path.write_text("#!/no/such/interpreter -x\n"))
    assert "/no/such/interpreter" in entry["last_exit"]["text"]


def test_missing_executable_in_start_child(farm: Farm) -> None:
    """A spec that cannot work is refused before anything is made, in the words of `regrow check`."""
    with pytest.raises(CallError) as refused:
        farm.add("ghost", ["/no/such/program"])
    assert refused.value.code == "bad_request"
    assert "/no/such/program" in refused.value.message
    with pytest.raises(CallError):
        farm.entry("ghost")


def test_cwd_vanished(farm: Farm) -> None:
    """The working directory has gone: the stage, the directory and the error are told."""
    cwd = farm.directory / "workplace"
    cwd.mkdir()
    farm.add("homeless", cwd=str(cwd))
    entry = farm.stop_refused_start("homeless", cwd.rmdir)
    assert entry["state"] == "failed"
    assert entry["last_exit"]["reason"] in ("exec_failed", "start_failed")
    assert f"enter {cwd}" in entry["last_exit"]["text"]
    assert "No such file or directory" in entry["last_exit"]["text"]
    assert str(cwd) in farm.why("homeless")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_output_path_not_writable(farm: Farm, stream: str) -> None:
    """Where the output is to go cannot be opened any more: stage and error."""
    folder = farm.directory / f"out-{stream}"
    folder.mkdir()
    name = f"mute-{stream}"
    keys: dict[str, Any] = {stream: str(folder / "file")}
    farm.add(name, FOREVER, under="sup", **keys)
    (folder / "file").unlink()
    entry = farm.stop_refused_start(name, folder.rmdir)
    assert entry["last_exit"]["reason"] in ("exec_failed", "start_failed")
    assert f"open {stream}" in entry["last_exit"]["text"]
    assert str(folder / "file") in entry["last_exit"]["text"]
    assert "No such file or directory" in entry["last_exit"]["text"]


@pytest.mark.skipif(os.path.exists("/run/systemd/journal/stdout"), reason="there is a journal here")
def test_journal_absent(farm: Farm) -> None:
    """`stdout = "journal"` on a host without one is refused before anything starts."""
    with pytest.raises(CallError) as refused:
        farm.add("chronicler", stdout="journal")
    assert refused.value.code == "bad_request"
    assert "there is no journal on this host" in refused.value.message


def test_environment_too_large(farm: Farm) -> None:
    """The kernel refuses a variable of that size: exec_failed with its words."""
    with pytest.raises(CallError) as refused:
        farm.add("heavy", env={"BIG": "x" * 200_000})
    assert refused.value.code == "start_failed"
    assert "Argument list too long" in refused.value.message


def test_output_to_a_pipe_nobody_reads(farm: Farm) -> None:
    """Opening a FIFO without a reader waits: for the start timeout, not for ever, and the supervisor not at all."""
    fifo = farm.directory / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(CallError) as refused:
        farm.add("patient", stdout=str(fifo), ready={"line": "never", "timeout": "300ms"}, stderr="log")
    assert refused.value.code in ("start_failed", "bad_request"), refused.value


def test_exits_before_ready(farm: Farm) -> None:
    """A child that dies before it was ready has failed to start; code and last words are in the refusal."""
    with pytest.raises(CallError) as refused:
        farm.add("stillborn", shell("echo no licence found >&2; exit 3"), ready="notify")
    assert refused.value.code == "start_failed"
    assert "3" in refused.value.message
    farm.wait("start_failed", "stillborn")


def test_last_words_of_a_failed_start(farm: Farm) -> None:
    """What a child printed before it died unready is in last_exit and why of a child that stays in the tree."""
    flag = farm.directory / "licence"
    flag.touch()
    script = f"if ! test -e {flag}; then echo no licence found >&2; exit 3; fi; echo up; exec tail -f /dev/null"
    farm.add("licensed", shell(script), ready={"line": "^up$"})
    entry = farm.stop_refused_start("licensed", flag.unlink)
    assert entry["last_exit"]["code"] == 3
    farm.last_text("licensed", "no licence found")
    assert "no licence found" in farm.why("licensed")


def test_exits_zero_before_ready(farm: Farm) -> None:
    """Exit 0 before ready is a failed start as well: whoever waits for readiness did not get it."""
    with pytest.raises(CallError) as refused:
        farm.add("hasty", shell("exit 0"), ready="notify", restart="transient")
    assert refused.value.code == "start_failed"


def test_user_vanished(farm: Farm) -> None:
    """A user that does not exist is found before anything starts."""
    with pytest.raises(CallError) as refused:
        farm.add("stranger", FOREVER, user="no-such-user-here")
    assert refused.value.code == "bad_request"
    assert "no-such-user-here" in refused.value.message


def test_first_start_fails_on_automatic_restart(farm: Farm) -> None:
    """An executable that vanishes under a running child: its restart fails, is told, and tried again later."""
    path = program(farm, "vanishing")
    farm.add("vanishing", [str(path)], ready={"line": "up"})  # its interpreter has read it
    path.unlink()
    farm.crash("vanishing")
    farm.wait("exited", "vanishing")
    waiting = farm.wait("waiting", "vanishing")
    assert waiting["delay_s"] > 50
    entry = farm.entry("vanishing")
    assert entry["state"] == "waiting"
    assert entry["last_exit"]["signal"] == "SIGKILL", entry
    farm.remove("vanishing")


def test_killed_by_somebody_before_ready(farm: Farm) -> None:
    """The signal is told wherever its end is: by the event, the status, why, and to who has asked for the start."""
    with pytest.raises(CallError) as refused:
        farm.add("victim", shell("kill -KILL $$"), ready="notify", restart="temporary")
    assert refused.value.code == "start_failed"
    assert "SIGKILL" in refused.value.message
    failed = farm.wait("start_failed", "victim")
    assert (failed["reason"]["reason"], failed["reason"]["signal"]) == ("start_failed", "SIGKILL")
    assert failed["cause"] == farm.wait("starting", "victim")["seq"]

    path = program(farm, "unlucky")
    farm.add("unlucky", [str(path)], under="quick", ready={"line": "up"})
    once = '[ -e "$0.again" ] || { touch "$0.again"; kill -KILL $$; }'
    path.write_text(f"#!/bin/sh\n{once}\necho up\nexec tail -f /dev/null\n")
    farm.crash("unlucky")
    assert farm.wait("start_failed", "unlucky")["reason"]["signal"] == "SIGKILL"
    farm.wait("ready", "unlucky", count=2)
    assert "a start of unlucky failed: SIGKILL (ended before it was ready)" in farm.why("unlucky")
    assert farm.entry("unlucky")["last_exit"]["signal"] == "SIGKILL"
    farm.remove("unlucky", under="quick")
