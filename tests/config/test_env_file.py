"""Files of environment variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.env_file import parse_env_file


@pytest.mark.parametrize(
    ("line", "variables"),
    [
        ("A=1", {"A": "1"}),
        ("  export A = b c  ", {"A": "b c"}),
        ("A=", {"A": ""}),
        ("# A=1", {}),
        ("; A=1", {}),
        ("A=b#c", {"A": "b#c"}),
        ("A='b \"c\" $D'  # comment", {"A": 'b "c" $D'}),
        ('A="b\\n\\"c\\" \\\\ \\$D \\x"', {"A": 'b\n"c" \\ $D \\x'}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A={name}", {"A": "{name}"}),
        ("A=b=c", {"A": "b=c"}),
    ],
)
def test_variables(line: str, variables: dict[str, str]) -> None:
    """Plain, quoted, exported and commented lines mean what they mean elsewhere."""
    assert parse_env_file(line) == (variables, [])


@pytest.mark.parametrize(
    "line", ["nonsense", "=x", "1A=2", "A='x", 'A="x', "A='x' y", "NOTIFY_SOCKET=x", "A=\0", "ä=1"]
)
def test_wrong_line_is_reported(line: str) -> None:
    """A line that is no variable is reported by its number and gives none."""
    variables, wrong = parse_env_file(f"# first\n{line}\n")
    assert variables == {}
    assert [number for number, _ in wrong] == [2]


NAMES = st.from_regex(r"[A-Z][A-Z0-9_]*", fullmatch=True)


@given(st.dictionaries(NAMES, st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"))))
def test_quoted_values_round_trip(variables: dict[str, str]) -> None:
    """Any value written in double quotes, escaped, is read back."""
    lines = []
    for name, value in variables.items():
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r")
        lines.append(f'{name}="{escaped}"')
    ours = ("REGROW_", "NOTIFY_", "WATCHDOG_")
    kept = {name: value for name, value in variables.items() if not name.startswith(ours)}
    read, _ = parse_env_file("\n".join(lines))
    assert {name: read[name] for name in kept} == kept


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    """No text makes the parser fail."""
    parse_env_file(text)
