"""
Pages of the documentation as programs: their files are written, their commands run, their output compared.

A fenced block ```` ```toml shop.toml ```` is a file of that name. A block ```` ```console ```` holds commands, each
after `$ `, and what they print. In what is expected `…` stands for anything in a line, alone on a line for any lines.
Blanks are as good as other blanks, clock times, ages and event numbers are not compared. The numbers after `pid`, of
four digits or more, are names: each stands for one process all over the page, also in commands. A command that prints
one line, an error of regrow, fails; any other one succeeds.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import processes
from harness import REGROW
from wire import TIMEOUT_S

from regrow.ipc.control import ControlClient
from regrow.ipc.errors import Unreachable

TOP = Path(__file__).parents[2]
"""Where README.md and docs/ are."""

LOOKS = ("regrow tree", "regrow status", "regrow why", "regrow events", "regrow logs")
"""What may come too early: it is asked again after the next event, until it shows what the page shows."""

PORTS = ("8471", "8472", "8480", "8765", "7300")
"""Ports that pages and examples use; a run gets free ones."""

LOG_DIR = re.compile(r"/var/log/regrow/\w+/")
"""Where pages find the logs, as root does."""

_FENCE = re.compile(r"^```(\w*)[ ]?([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_TOKEN = re.compile(
    r"(?P<pid>\bpid\s+(?P<number>\d+))|(?P<clock>\d\d:\d\d:\d\d)|(?P<up>\bup\s+\d+:\d\d:\d\d)|(?P<ago>\d+(?:ms|s) ago)"
    r"|(?P<seq>#\d+)|(?P<any>…)|(?P<blank>[ \t]+)"
)


class Block(NamedTuple):
    """One fenced block: the word after the fence, what follows it, the text."""

    language: str
    name: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    for match in _FENCE.finditer(page.read_text()):
        yield Block(match[1], match[2].strip(), match[3])


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Yield the commands of a console block with their output; a line may go on after a backslash."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.split("\n")
        command = [lines.pop(0)]
        while command[-1].endswith("\\"):
            command.append(lines.pop(0))
        yield "\n".join(command), "\n".join(lines).strip("\n")


class Session:
    """A shell in `directory` that does what a page says. `run` raises AssertionError where the page is wrong."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.run_dir = directory / ".run"
        self._pids: dict[str, str] = {}
        self._ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
        self._before = frozenset(processes.children())
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGROW_", "XDG_"))}
        self._environ = {
            **kept,
            "PATH": f"{Path(REGROW).parent}:{kept.get('PATH', os.defpath)}",
            "HOME": str(directory),
            "REGROW_RUN_DIR": str(self.run_dir),
        }

    def play(self, page: Path) -> None:
        """Do all that a page says, in its order."""
        for block in blocks(page):
            if block.name and block.language in ("toml", "python"):
                (self.directory / block.name).write_text(block.text)
            elif block.language == "console":
                for command, expected in commands(block.text):
                    self.run(command, expected)

    def run(self, command: str, expected: str) -> None:
        """Run one command and compare what it prints."""
        known = {**self._ports, **self._pids}
        command = re.sub(r"\b\d{4,}\b", lambda match: known.get(match[0], match[0]), command)
        command = LOG_DIR.sub(f"{self.directory}/.log/", command)
        self._seclude(command)
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            done = subprocess.run(
                ["bash", "-c", command], cwd=self.directory, env=self._environ, stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S, check=False,
            )  # fmt: skip
            said = done.stdout.strip("\n") + "\n"
            match = re.fullmatch(self._pattern(expected), said)
            if match is not None and (done.returncode == 0) is not _is_error(expected):
                self._pids.update({name.removeprefix("pid"): pid for name, pid in match.groupdict().items()})
                return
            again = command.startswith(LOOKS) and time.monotonic() < deadline_s
            assert again, f"$ {command}\nexpected:\n{expected}\ngot (status {done.returncode}):\n{said}"
            self._await_event()

    def close(self) -> None:
        """End the daemon if one is left, and wait until nothing of it is."""
        down = [REGROW, "down", "--now"]
        subprocess.run(down, env=self._environ, capture_output=True, timeout=TIMEOUT_S, check=False)
        processes.await_no_children(keep=self._before)

    def _await_event(self) -> None:
        """Wait until something happens in the tree, but not long: a line in a log is no event."""
        try:
            with ControlClient(self.run_dir) as client:
                request = client.submit("events", follow=True, limit=1)
                client.answer(request)
                client.receive(0.2)
        except Unreachable:
            pass

    def _seclude(self, command: str) -> None:
        """Give the daemon that is about to start, or to get keys, directories and ports that nobody else has."""
        started = re.match(r"regrow (?:up|keys) (.*)", command)
        for word in started[1].split() if started else ():
            path = self.directory / word
            if path.suffix != ".toml":
                continue
            text = path.read_text()
            if str(self.run_dir) not in text:
                places = "".join(f'{key}_dir = "{self.directory}/.{key}"\n' for key in ("run", "log"))
                places += f'state_dir = "{self.directory}/.{path.stem}-state"\n'  # a store is of one daemon
                head = "[daemon]\n"
                text = text.replace(head, head + places) if head in text else f"{text}\n{head}{places}"
            path.write_text(re.sub("|".join(PORTS), lambda match: self._ports[match[0]], text))

    def _pattern(self, expected: str) -> str:
        lines = [line.strip() for line in expected.split("\n")]
        pattern = "".join(r"(?:[^\n]*\n)*?" if line == "…" else rf"{self._line(line)}\n" for line in lines)
        seen: set[str] = set()

        def same(match: re.Match[str]) -> str:
            if match[1] in seen:
                return rf"(?P={match[1]})"
            seen.add(match[1])
            return match[0]

        return re.sub(r"\(\?P<(pid\d+)>\\d\+\)", same, pattern)

    def _line(self, line: str) -> str:
        pieces, at = [r"[ \t]*"], 0
        for token in _TOKEN.finditer(line):
            pieces += [re.escape(line[at : token.start()]), self._piece(token)]
            at = token.end()
        return "".join([*pieces, re.escape(line[at:]), r"[ \t]*"])

    def _piece(self, token: re.Match[str]) -> str:
        if token["pid"]:
            number = token["number"]
            if number in self._pids:
                return rf"pid\s+{self._pids[number]}"
            return rf"pid\s+(?P<pid{number}>\d+)"
        if token["clock"]:
            return r"\d\d:\d\d:\d\d"
        if token["up"]:
            return r"up\s+\S+"
        if token["ago"]:
            return r"\S+ ago"
        if token["seq"]:
            return r"#\d+"
        return r"[^\n]*?" if token["any"] else r"[ \t]+"


def _is_error(expected: str) -> bool:
    return expected.startswith("regrow: ") and "\n" not in expected


def _free_ports(count: int) -> list[str]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [str(each.getsockname()[1]) for each in sockets]
    for each in sockets:
        each.close()
    return ports
