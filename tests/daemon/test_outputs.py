"""Where output goes, and that no amount of it harms anybody."""

from __future__ import annotations

import contextlib
import signal
import time
from pathlib import Path
from typing import Any

import procs
from farm import FOREVER, Farm, dead, python, shell


def bytes_in(folder: Path, pattern: str) -> int:
    """How much these files hold, of which one may be renamed meanwhile."""
    total = 0
    for file in folder.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


def speak(farm: Farm, name: str, **keys: Any) -> None:
    """A child that writes one line to each stream."""
    marker = farm.directory / f"{name}.up"
    script = f"echo to-out; echo to-err >&2; touch {marker}; exec tail -f /dev/null"
    farm.add(name, shell(script), ready={"file": str(marker)}, **keys)


def test_both_to_the_log(farm: Farm) -> None:
    """By default both streams are in one file, in the order in which they were written."""
    speak(farm, "both")
    assert farm.eventually(lambda: farm.log("both"), lambda log: "to-err" in log) == "to-out\nto-err\n"


def test_null(farm: Farm) -> None:
    """`null`: nothing anywhere."""
    speak(farm, "silent", stdout="null", stderr="null")
    assert farm.log("silent") == ""


def test_paths(farm: Farm) -> None:
    """A path each: appended to, never truncated."""
    out, err = farm.directory / "own.out", farm.directory / "own.err"
    out.write_text("before\n")
    speak(farm, "pathed", stdout=str(out), stderr=str(err))
    assert out.read_text() == "before\nto-out\n"
    assert err.read_text() == "to-err\n"


def test_stderr_follows_stdout(farm: Farm) -> None:
    """`stderr = "stdout"` goes wherever stdout goes, in order."""
    out = farm.directory / "joined.out"
    speak(farm, "joined", stdout=str(out), stderr="stdout")
    assert out.read_text() == "to-out\nto-err\n"


def test_one_logged_one_null(farm: Farm) -> None:
    """Each stream for itself."""
    speak(farm, "half", stdout="null")
    assert farm.eventually(lambda: farm.log("half")) == "to-err\n"


def test_inherit(farm: Farm) -> None:
    """`inherit`: the daemon's own output."""
    speak(farm, "heir", stdout="inherit", stderr="inherit")
    assert "to-out\nto-err\n" in farm.said()


def test_last_output_of_a_crash(farm: Farm) -> None:
    """What a child printed last is in last_exit, in why, and in its file; also without an end of line."""
    farm.add("crasher", shell("echo one; echo two; printf 'the last words' >&2; kill -SEGV $$"))
    reason = farm.exited("crasher")
    assert (reason["reason"], reason["signal"], reason["code"]) == ("signal", "SIGSEGV", None)
    last = farm.last_text("crasher", "the last words")
    assert "two" in last["text"]
    assert last["signal"] == "SIGSEGV"
    assert "the last words" in farm.why("crasher")
    assert farm.log("crasher") == "one\ntwo\nthe last words\n"


def test_output_that_is_no_text(farm: Farm) -> None:
    """Bytes that are no UTF-8 do not break the answers; the file has them as they are."""
    farm.add("binary", python(r"os.write(1, b'\xff\xfe\x00 raw \x1b[31m\n'); os._exit(4)"))
    last = farm.last_text("binary", "raw")
    assert last["code"] == 4
    assert farm.why("binary")
    assert (farm.directory / "log" / "binary.log").read_bytes() == b"\xff\xfe\x00 raw \x1b[31m\n"


def test_a_line_without_end(farm: Farm) -> None:
    """A megabyte without a newline: what is told of it is bounded."""
    farm.add("endless", python("import sys; sys.stdout.write('x' * (1 << 20)); sys.stdout.flush(); os._exit(5)"))
    farm.exited("endless")
    last = farm.last_text("endless", "xxx")
    assert len(last["text"]) <= 8192
    assert (farm.directory / "log" / "endless.log").stat().st_size >= 1 << 20


def test_closes_all_its_descriptors(farm: Farm) -> None:
    """A child that closes everything it has lives on, and its end is noticed all the same."""
    code = "import signal, select\nnotify('READY=1')\nos.closerange(0, 1024)\nselect.select([], [], [])"
    pid = farm.add("closer", python(code), ready="notify")
    assert farm.entry("closer")["state"] == "running"
    farm.crash("closer")
    assert farm.exited("closer")["signal"] == "SIGKILL"
    assert dead(pid)


def test_flood(farm: Farm) -> None:
    """Over 100 MB as fast as it goes: files stay bounded, the daemon answers, deaths are noticed at once."""
    code = """
line = b"a line of the flood, neither short nor long\\n" * 1500
notify("READY=1")
for _ in range(1900):
    os.write(1, line)
notify("STATUS=done")
import select; select.select([], [], [])
"""
    farm.add("victim", under="quick", stdout="null", stderr="null")
    farm.add("flood", python(code), ready="notify", log={"max_size": "1MiB", "keep": 2})
    folder = farm.directory / "log"
    slowest, rounds = 0.0, 0
    while farm.entry("flood")["detail"] != "done":
        begun = time.monotonic()
        if rounds % 5 == 0:
            farm.crash_until_new("victim")
        slowest, rounds = max(slowest, time.monotonic() - begun), rounds + 1
        assert bytes_in(folder, "flood.log*") < 5 << 20
    assert slowest < 2.0
    farm.call("stop", names=["flood"])
    assert sorted(file.name for file in folder.glob("flood.log*")) == ["flood.log", "flood.log.1", "flood.log.2"]


def test_a_flood_does_not_starve_the_others_output(farm: Farm) -> None:
    """While one child floods, another one's lines arrive."""
    farm.add("tide", shell("exec yes"), log={"max_size": "256KiB", "keep": 1})
    farm.add("quiet", shell("echo heard; exec tail -f /dev/null"), ready={"line": "^heard$", "timeout": "10s"})
    farm.call("stop", names=["tide"])
    farm.remove("quiet")


def test_logger_killed(farm: Farm) -> None:
    """The logger dies while a child writes: no line is lost or doubled, nobody's pipe breaks."""
    code = """
import sys
notify("READY=1")
for number in range(20000):
    print(number)
sys.stdout.flush()
notify("STATUS=done")
import select; select.select([], [], [])
"""
    farm.add("counter", python(code), ready="notify")
    for _ in range(3):
        farm.crash_until_new("regrow.logger")
    farm.eventually(lambda: farm.entry("counter")["detail"], lambda detail: detail == "done")
    farm.eventually(lambda: farm.log("counter"), lambda log: log.endswith("19999\n"))
    assert farm.log("counter").split() == [str(number) for number in range(20000)]


def test_logs_reopened_on_hangup(farm: Farm) -> None:
    """After logrotate has moved a file away, SIGHUP makes the logger write to a new one."""
    code = """
import signal
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"second\\n"))
os.write(1, b"first\\n")
notify("READY=1")
while True: signal.pause()
"""
    pid = farm.add("rotated", python(code), ready="notify")
    farm.eventually(lambda: farm.log("rotated"))
    file = farm.directory / "log" / "rotated.log"
    file.rename(file.with_suffix(".moved"))
    procs.kill(farm.call("ping")["pid"], signal.SIGHUP)

    def printed_anew() -> bool:
        procs.kill(pid, signal.SIGUSR1)
        return file.exists() and bool(file.read_text())

    farm.eventually(printed_anew)
    assert file.with_suffix(".moved").read_text().startswith("first\n")
    assert set(file.read_text().split()) == {"second"}


def test_unused(farm: Farm) -> None:
    """A child that prints nothing costs no file."""
    farm.add("wordless", FOREVER)
    assert farm.log("wordless") == ""
