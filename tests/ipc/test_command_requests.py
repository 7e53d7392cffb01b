"""What a command is asked for as, and what its result says of itself: without a daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.spec import Limits
from regrow.ipc import CommandResult
from regrow.ipc.commands import run_command
from regrow.ipc.commands_request import limits_of, request_of

NO_NUL = st.binary(max_size=50).filter(lambda word: b"\0" not in word)


@given(argv=st.lists(NO_NUL, min_size=1, max_size=5))
def test_words_are_bytes_again(argv: list[bytes]) -> None:
    """Bytes, and the text that Python shows of them, are the same words, also where they are no UTF-8."""
    shown = [os.fsdecode(word) for word in argv]
    assert request_of(shown).argv == request_of(argv).argv == tuple(argv)
    asked = request_of(["true"], env={"X": shown[0]}, cwd=shown[0])
    assert (asked.env, asked.cwd) == ({b"X": argv[0]}, argv[0])


def test_paths_are_words() -> None:
    """As for `subprocess`."""
    assert request_of([Path("/bin/ls"), b"-l", "ü"]).argv == (b"/bin/ls", b"-l", "ü".encode())


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"argv": ["echo", "a", "x\ud800y"]}, r"argv[2] holds '\ud800', which utf-8 cannot write; pass bytes instead"),
        ({"argv": ["\udfff"]}, r"argv[0] holds '\udfff', which"),
        ({"argv": [Path("\ud800")]}, r"argv[0] holds '\ud800', which"),
        ({"env": {"X": "\ud800"}}, r"env['X'] holds '\ud800', which"),
        ({"env": {"\ud800": "1"}}, r"a name in env holds '\ud800', which"),
        ({"cwd": "/\ud800"}, r"cwd holds '\ud800', which"),
        ({"user": "\udc80"}, r"user is not UTF-8: '\x80'"),
    ],
)
def test_what_stands_for_no_bytes(asked: dict[str, Any], where: str) -> None:
    """Half a character is refused, and the word that holds it is named."""
    with pytest.raises(ValueError, match="cannot run a command") as raised:
        request_of(**{"argv": ["true"], **asked})
    assert where in str(raised.value)
    assert not isinstance(raised.value, UnicodeError)
    str(raised.value).encode()


@pytest.mark.parametrize(
    ("asked", "where"),
    [
        ({"argv": ["echo", 5]}, "argv[1] must be str, bytes or a path, not 5"),
        ({"argv": [None]}, "argv[0] must be"),
        ({"env": {"X": 1}}, "env['X'] must be"),
        ({"cwd": 3}, "cwd must be"),
    ],
)
def test_what_is_no_word(asked: dict[str, Any], where: str) -> None:
    """A number is not made a word by itself; which one it is, is said."""
    with pytest.raises(TypeError) as raised:
        request_of(**{"argv": ["true"], **asked})
    assert where in str(raised.value)


def came_to(**fields: Any) -> CommandResult:
    """A result with these fields."""
    plain = {"reason": "exit", "code": 0, "signal": None, "text": "", "stage": "", "errno": 0, "at": 0.0}
    output = {"stdout": b"", "stderr": b"", "stdout_cut": 0, "stderr_cut": 0}
    used = {"queued_s": 0.0, "duration_s": 0.0, "cpu_user_s": 0.0, "cpu_system_s": 0.0, "peak_memory_bytes": 0}
    return CommandResult(**{"argv": ("x",), **plain, **output, **used, **fields})


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "exit 0"),
        ({"code": 3}, "exit 3"),
        ({"reason": "signal", "code": None, "signal": "SIGSEGV"}, "SIGSEGV"),
        ({"reason": "timeout", "code": None, "text": "it took longer than 1 s"}, "timeout: it took longer than 1 s"),
        ({"stdout_cut": 7}, "exit 0 (7 bytes of stdout cut)"),
        ({"stderr_cut": 1}, "exit 0 (1 byte of stderr cut)"),
        ({"stdout_cut": 7, "stderr_cut": 12}, "exit 0 (7 bytes of stdout and 12 bytes of stderr cut)"),
        ({"reason": "oom", "text": "too much", "stdout_cut": 7}, "oom: too much (7 bytes of stdout cut)"),
    ],
)
def test_result_in_words(fields: dict[str, Any], said: str) -> None:
    """How it ended, why, and what of its output is missing."""
    assert str(came_to(**fields)) == said


@pytest.mark.parametrize("nice", [-21, 20, 50, True, 1.5, "5"])
def test_no_priority(nice: Any) -> None:
    """What the kernel would round to the next one it has is refused."""
    with pytest.raises(ValueError, match="nice is a number from -20 to 19, not "):
        request_of(["true"], nice=nice)


def test_input_that_is_text(tmp_path: Path) -> None:
    """Which bytes it would be is not guessed; nothing is started."""
    with pytest.raises(TypeError, match="its input must be bytes, not 'text'"):
        run_command(str(tmp_path), "", ["cat"], "text")  # type: ignore[arg-type]


def test_limits_are_as_in_the_file() -> None:
    """A text has a unit; a number is bytes or seconds, also one that is whole by chance."""
    texts = {"memory": "1GiB", "core": "0", "cpu": "2m", "file_size": "5B", "open_files": "16", "processes": "1"}
    assert limits_of(texts) == Limits(1 << 30, 16, 1, 0, 120, 5)
    assert limits_of({"memory": 1e9, "core": 0, "cpu": 2.0}) == Limits(memory_bytes=10**9, core_bytes=0, cpu_s=2)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("cpu", "1500ms", 'limit cpu must be whole seconds, not "1500ms"; write "2s"'),
        ("cpu", 0.25, 'limit cpu must be whole seconds, not 0.25; write "1s"'),
        ("cpu", "0s", "limit cpu must be 1 or more, not 0s"),
        ("cpu", float("inf"), "limit cpu must be a whole number, not 'inf'"),
        ("processes", 0, "limit processes must be 1 or more, not 0"),
        ("processes", True, "limit processes must be a whole number, not 'True'"),
        ("open_files", "3", "limit open_files must be 16 or more, not 3"),
        ("memory", "0B", "limit memory must be 1 or more, not 0B"),
        ("memory", 1.5, "limit memory must be a whole number, not '1.5'"),
        ("processes", 2**62 + 1, f"limit processes must be {2**62} or less, not {2**62 + 1}"),
        ("cpu", 1e300, f"limit cpu must be {2**62} or less, not 1e+300"),
        ("core", None, "limit core must be a whole number, not 'None'"),
    ],
)
def test_limit_that_none_can_hold(name: str, value: Any, said: str) -> None:
    """Nothing is rounded or held to what nobody has said; the line has what to write."""
    with pytest.raises(ValueError, match="limit") as raised:
        limits_of({name: value})
    assert str(raised.value) == said
