"""How facts look as text: pure functions, so tables of what goes in and what comes out."""

from __future__ import annotations

import os
from typing import Any

import pytest
from fake_daemon import AT, entry, event, last_exit, supervisor

from regrow.daemon.cli import output
from regrow.daemon.cli.eventlines import event_line, event_words
from regrow.daemon.cli.lines import ADDED_KEYS, CONTRACT_KEYS, block, fact, status_lines, tree_lines
from regrow.daemon.cli.output import Screen, about, clock, exit_words, one_line, span

PLAIN = Screen()
HOUR = 3600


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0:00:00"), (0.9, "0:00:00"), (61, "0:01:01"), (3 * HOUR + 131, "3:02:11"), (2 * 86400 + 5, "2d 00:00:05")],
)
def test_span(seconds: float, text: str) -> None:
    """A running time counts hours, minutes and seconds, and days once there are any."""
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.25, "250ms"), (4.2, "4s"), (119, "119s"), (120, "2m"), (2 * HOUR, "2h"), (172_800, "2d")]
)
def test_about(seconds: float, text: str) -> None:
    """A rough time has one unit, small enough to mean something."""
    assert about(seconds) == text


def test_clock_leaves_out_today() -> None:
    """The date is shown unless it is today's."""
    assert len(clock(AT, AT + 1)) == len("10:02:11")
    assert len(clock(AT, AT + 3 * 86400)) == len("2026-09-21 10:02:11")


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (None, ""),
        (last_exit("exit", 3), "exit 3"),
        (last_exit("exit", 0), "exit 0"),
        (last_exit("signal", None, "SIGSEGV"), "SIGSEGV"),
        (last_exit("oom", None, "SIGKILL"), "SIGKILL (out of memory)"),
        (last_exit("start_timeout", None, "SIGKILL"), "SIGKILL (not ready in time)"),
        (last_exit("watchdog", None, "SIGABRT"), "SIGABRT (watchdog: no progress)"),
        (last_exit("exec_failed", None, None, "exec redis: No such file"), "cannot execute: exec redis: No such file"),
        (last_exit("exception", 1, None, "Traceback\n  x\nValueError: no\n"), "exception: ValueError: no"),
        (last_exit("exception", 1), "exit 1 (exception)"),
        (last_exit("shutdown", 82), "shutdown"),
        (last_exit("stopped", 0), "stopped"),
        (last_exit("stopped", None, "SIGTERM"), "SIGTERM (stopped)"),
        (last_exit("liveness", 7), "exit 7 (failed its liveness checks)"),
    ],
)
def test_exit_words(last: Any, words: str) -> None:
    """An exit is named by its signal or status and, where there is one, the reason behind it."""
    assert exit_words(last) == words


def test_control_characters_are_taken_out() -> None:
    """What a child put into its status line moves no cursor and breaks no line."""
    assert one_line("a\x1b[31mb\nc\t") == "a [31mb c"


def test_status_lines_are_fixed_width() -> None:
    """Each line has its columns at the same place as all others, whatever is in them."""
    entries: Any = [
        entry("redis", pid=4194304, restarts=12, last_exit=last_exit()),
        entry("a-worker-of-a-long-name", state="waiting", ready=False, pid=None),
    ]
    first, second = status_lines(entries, PLAIN)
    assert first == (
        "redis                    running (ready)  pid 4194304  up 3:02:11      restarts 12    last exit 1"
    )
    assert second == "a-worker-of-a-long-name  waiting          pid -        up -            restarts 0     last -"


def test_status_line_is_cut_and_painted_on_a_terminal() -> None:
    """On a terminal the state has a colour, and a line ends where the terminal does."""
    wide: Any = [entry("redis", detail="d" * 200)]
    (line,) = status_lines(wide, Screen(colour=True, width=60))
    assert "\x1b[32mrunning (ready)\x1b[0m" in line
    assert len(line.replace("\x1b[32m", "").replace("\x1b[0m", "")) == 60
    assert line.endswith("…")
    (narrow,) = status_lines(wide, Screen(colour=True, width=20))
    assert len(narrow) == 20


def test_tree_is_drawn() -> None:
    """Children hang below their supervisor in start order, which shows its strategy."""
    entries: Any = [
        supervisor("app", strategy="rest_for_one"), entry("redis"),
        supervisor("pricing", "app"), entry("pricer.0", "pricing"), entry("pricer.1", "pricing"),
    ]  # fmt: skip
    assert [line.partition("  running")[0].rstrip() for line in tree_lines(entries, PLAIN)] == [
        "app [rest_for_one]",
        "├─ redis",
        "└─ pricing [one_for_one]",
        "   ├─ pricer.0",
        "   └─ pricer.1",
    ]
    assert tree_lines(entries, Screen(wide=False))[3].startswith("   |- pricer.0")


def test_tree_of_a_part() -> None:
    """A subtree whose supervisor is not shown is drawn from its own root."""
    entries: Any = [supervisor("pricing", "app"), entry("pricer.0", "pricing")]
    assert [line[:12] for line in tree_lines(entries, PLAIN)] == ["pricing [one", "└─ pricer.0 "]


def test_block_says_everything() -> None:
    """The block of one name: state since when, process, budget used, last exit with its text, detail, log."""
    one: Any = entry(
        "web", pid=4121, incarnation=3, restarts=2, detail="12 clients",
        last_exit=last_exit("oom", None, "SIGKILL", "first\nsecond"),
    )  # fmt: skip
    budget: Any = event(9, "restarting", "web", used=2, intensity=5, period_s=60.0)
    lines = block(one, PLAIN, AT + 3 * HOUR, budget, ["printed"], "/log/web.log")
    at, ago = clock(AT, AT + 3 * HOUR), "3h ago"
    assert lines == [
        f"● web  running (ready)  since {at}, {ago}",
        "  path       app/web",
        "  kind       command",
        "  pid        4121 (incarnation 3)",
        "  wanted     up",
        f"  restarts   2 (2 of 5 in 60 s used at {clock(AT)})",
        f"  last exit  SIGKILL (out of memory), {ago}",
        "             │ first",
        "             │ second",
        "  detail     12 clients",
        "  log        /log/web.log",
        "             │ printed",
    ]


def test_fact_has_every_key() -> None:
    """An entry as JSON has every key of the contract, in its order, even one the daemon left out."""
    short: Any = entry("web")
    del short["strategy"]
    assert tuple(fact(short)) == (*CONTRACT_KEYS, *ADDED_KEYS)
    assert fact(short)["strategy"] is None


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"event": "ready"}, "pid 4000"),
        ({"event": "exited", "reason": last_exit("oom", None, "SIGKILL")}, "SIGKILL (out of memory)"),
        ({"event": "waiting", "delay_s": 0.4}, "in 400ms"),
        (
            {"event": "restarting", "used": 2, "intensity": 3, "period_s": 5.0, "strategy": "rest_for_one",
             "scope": ["web", "db"]},
            "2 of 3 restarts in 5 s, rest_for_one, with web db",
        ),
        ({"event": "fault", "text": "fork: EAGAIN\n"}, "fork: EAGAIN"),
        ({"event": "stopping"}, ""),
    ],
)  # fmt: skip
def test_event_words(facts: dict[str, object], words: str) -> None:
    """An event says in words what it carries."""
    one: Any = {**event(1, "x", "web"), **facts}
    assert event_words(one) == words


def test_event_line() -> None:
    """Time, number, event, name, words, and which event led to it."""
    one: Any = event(41, "exited", "web", reason=last_exit(), cause=40)
    assert event_line(one, PLAIN, AT) == (
        f"{clock(AT, AT)}  #41     exited           web               exit 1  because of #40"
    )
    assert "\x1b[31mexited" in event_line(one, Screen(colour=True), AT)


class Terminal:
    """A stream that says it is a terminal, but has no size."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 0


@pytest.mark.parametrize(
    ("environ", "colour"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colour_only_where_wanted(monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], colour: bool) -> None:
    """A terminal gets colour unless NO_COLOR or TERM=dumb say otherwise."""
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((80, 24)))
    terminal: Any = Terminal()
    shown = output.screen(terminal, environ)
    assert (shown.colour, shown.width) == (colour, 80)
