"""Who may run what, decided without a kernel; and the removal of directories that resist."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.spec import CommandRule, CommandsSpec, Isolation, Limits
from regrow.ipc.commands_wire import Request
from regrow.workers.system import commands_rules
from regrow.workers.system.commands_folder import remove_folder
from regrow.workers.system.commands_rules import DEFAULTS, Denied, Granted, decide, find, lowered

SH = find("sh")


def granted(spec: CommandsSpec, *argv: str, is_inside: bool = True, **fields: object) -> Granted:
    """What is granted to a process of the tree, or an operator."""
    request = Request(argv=tuple(map(os.fsencode, argv)), timeout_s=1.0, **fields)  # type: ignore[arg-type]
    return decide(spec, request, is_inside=is_inside, is_operator=not is_inside)


def denied(spec: CommandsSpec, *argv: str, **fields: object) -> str:
    """The code of the refusal."""
    with pytest.raises(Denied) as raised:
        granted(spec, *argv, **fields)  # type: ignore[arg-type]
    return raised.value.code


@pytest.mark.parametrize("written", ["sh", SH])
@pytest.mark.parametrize("asked", ["sh", SH])
def test_names_and_paths(written: str, asked: str) -> None:
    """A name and its path are the same program, in the file and in a request."""
    spec = CommandsSpec(allow=(CommandRule(written, env=("*",)),))
    assert granted(spec, asked, "-c", "anything").executable == SH
    assert denied(spec, "cat") == "forbidden"
    assert denied(spec, "/elsewhere/sh") == "forbidden"


def test_nothing_is_allowed_by_default() -> None:
    """An empty list binds all but operators."""
    assert denied(CommandsSpec(), "sh") == "forbidden"
    assert granted(CommandsSpec(), "sh", is_inside=False).executable == SH


def test_a_program_that_is_allowed_and_missing() -> None:
    """It is said to be missing, and not that the list does not name it; one that is not named is not looked for."""
    spec = CommandsSpec(allow=(CommandRule("no-such-program"),))
    assert denied(spec, "no-such-program") == "not_found"
    assert denied(spec, "no-other-program") == "forbidden"


@pytest.mark.parametrize("number", [-2, -(2**63), 2**62 + 1, 2**64 - 1])
@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_limits_that_are_none(name: str, number: int) -> None:
    """The kernel would take a negative one for more than the file allows."""
    spec = CommandsSpec(limits=Limits(**{name: 100}))
    assert denied(spec, "sh", is_inside=False, limits=Limits(**{name: number})) == "bad_request"
    assert getattr(granted(spec, "sh", is_inside=False, limits=Limits(**{name: -1})).limits, name) == 100


def test_a_long_name_is_told_in_part() -> None:
    """Of megabytes a little is enough."""
    for name in ("a" * 3_000_000, "a/" * 1_000_000):
        with pytest.raises(Denied) as raised:
            granted(CommandsSpec(), name, is_inside=False)
        assert len(str(raised.value)) < 500


def test_what_may_not_be_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found where nothing else is, so that it is not said to be missing; what may be comes first."""
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setattr(commands_rules, "PATH", (str(first), str(second)))
    for folder, mode in ((first, 0o644), (second, 0o755)):
        folder.mkdir()
        (folder / "both").touch(mode)
    (first / "one").touch(0o644)
    (first / "folder").mkdir(0o755)
    assert (find("both"), find("one"), find("folder")) == (str(second / "both"), str(first / "one"), "")
    assert denied(CommandsSpec(), "folder", is_inside=False) == "not_found"


def test_strangers() -> None:
    """Who is neither runs nothing, whatever the list says."""
    spec = CommandsSpec(allow=(CommandRule("sh"),))
    with pytest.raises(Denied) as raised:
        decide(spec, Request(argv=(b"sh",), timeout_s=1.0), is_inside=False, is_operator=False)
    assert raised.value.code == "forbidden"


def test_several_rules() -> None:
    """One rule must allow all of it."""
    rules = (CommandRule("sh", ("a",)), CommandRule("sh", ("b",), ("B",)))
    spec = CommandsSpec(allow=rules)
    assert granted(spec, "sh", "a", "a").executable
    assert granted(spec, "sh", "b", env={b"B": b""}).executable
    assert denied(spec, "sh", "a", "b") == "forbidden"
    assert denied(spec, "sh", "a", env={b"B": b""}) == "forbidden"
    assert granted(spec, "sh").executable


def test_forced_isolation() -> None:
    """What the file isolates is isolated whatever is asked for."""
    spec = CommandsSpec(isolate=(Isolation.NETWORK,))
    assert granted(spec, "sh", is_inside=False, isolate=("tmp",)).request.isolate == ("network", "tmp")
    spec = CommandsSpec(isolate=(Isolation.PROCESSES,))
    assert denied(spec, "sh", is_inside=False, shares_processes=True) == "bad_request"


def test_limits_of_a_request() -> None:
    """A request may lower what the file says, and not raise it; without both there are defaults."""
    assert granted(CommandsSpec(), "sh", is_inside=False).limits == DEFAULTS
    spec = CommandsSpec(limits=Limits(open_files=100, memory_bytes=1000))
    limits = granted(spec, "sh", is_inside=False, limits=Limits(open_files=200, memory_bytes=500, cpu_s=3)).limits
    assert (limits.open_files, limits.memory_bytes, limits.cpu_s, limits.core_bytes) == (100, 500, 3, 0)


VALUES = st.none() | st.integers(-1, 5)
LIMITS = st.builds(Limits, memory_bytes=VALUES, open_files=VALUES, processes=VALUES)


@given(LIMITS, LIMITS)
def test_lowered_is_never_wider(mine: Limits, its: Limits) -> None:
    """The stricter of two holds, whichever way round."""
    one, other = lowered(mine, its, fill=False), lowered(its, mine, fill=False)
    assert one == other
    for name in ("memory_bytes", "open_files", "processes"):
        found, said = getattr(one, name), [getattr(mine, name), getattr(its, name)]
        bounds = [value for value in said if value not in (None, -1)]
        assert found == (min(bounds) if bounds else -1 if -1 in said else None)


def test_folder_made_unchangeable(tmp_path: Path) -> None:
    """Files and folders that are immutable, or only grow, go too; so does the folder itself."""
    top = tmp_path / "top"
    (top / "in" / "it").mkdir(parents=True)
    frozen = [top / "in" / "it" / "file", top / "in" / "it", top / "in", top / "grows", top]
    frozen[0].touch()
    frozen[3].touch()
    for path, flag in zip(frozen, ("+i", "+i", "+a", "+a", "+i"), strict=True):
        if subprocess.run(["chattr", flag, path], capture_output=True, check=False).returncode:
            subprocess.run(["chattr", "-R", "-ia", top], capture_output=True, check=False)
            pytest.skip("no such flags for us, or on this file system")
    assert remove_folder(str(top))
    assert not top.exists()


def test_folder_that_is_none(tmp_path: Path) -> None:
    """A link in its place is not followed, and what it leads to keeps its mode."""
    (tmp_path / "kept").mkdir(mode=0o750)
    (tmp_path / "top").symlink_to("kept")
    assert not remove_folder(str(tmp_path / "top"))
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o750


def test_folder_that_resists(tmp_path: Path) -> None:
    """Locked, deep beyond the longest path, full of links: gone, and what the links lead to is not."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    top = tmp_path / "top"
    top.mkdir()
    (top / "link").symlink_to(kept)
    (top / "locked").mkdir(mode=0o000)
    at = os.open(top, os.O_RDONLY)
    for _ in range(600):
        os.mkdir("deeper-and-deeper", dir_fd=at)
        below = os.open("deeper-and-deeper", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=at))
    os.symlink(kept, "link", dir_fd=at)
    os.close(at)
    assert remove_folder(str(top))
    assert not top.exists()
    assert (kept / "file").exists()
    assert remove_folder(str(top))
