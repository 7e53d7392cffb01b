"""Placeholders in strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.placeholders import PlaceholderError, fill

VALUES = {"run_dir": "/run/x", "name": "web.0", "index": "0"}
ENVIRON = {"HOME": "/home/me"}


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("plain", "plain"),
        ("{run_dir}/a-{name}", "/run/x/a-web.0"),
        ("{env:HOME}/{index}", "/home/me/0"),
        ("{{name}}", "{name}"),
        ("{{{name}}}", "{web.0}"),
        ("a{{b}}c", "a{b}c"),
    ],
)
def test_filled(text: str, filled: str) -> None:
    """Known placeholders are filled in, doubled braces are braces."""
    assert fill(text, VALUES, ENVIRON) == filled


@pytest.mark.parametrize(
    ("text", "said", "hint"),
    [
        ("{nam}", "unknown placeholder `{nam}`", "did you mean `name`?"),
        ("{env:NOPE}", "NOPE is not set", ""),
        ("{state_dir}", "has no meaning here", ""),
        ("a}b", "a single `}`", "`}}`"),
        ("a{b", "a single `{`", "`{{`"),
        ("${HOME}", "unknown placeholder `{HOME}`", "{{HOME}}"),
        ("{}", "unknown placeholder `{}`", "{{}}"),
    ],
)
def test_refused(text: str, said: str, hint: str) -> None:
    """What cannot be filled in is refused, with what to write instead."""
    with pytest.raises(PlaceholderError) as caught:
        fill(text, VALUES, ENVIRON)
    assert said in str(caught.value)
    assert hint in caught.value.hint


def test_index_needs_replicas() -> None:
    """`{index}` outside a group says why it has no meaning."""
    with pytest.raises(PlaceholderError, match="replicas"):
        fill("{index}", {"name": "web"}, {})


@given(st.text())
def test_doubled_braces_round_trip(text: str) -> None:
    """Any text with its braces doubled means itself."""
    assert fill(text.replace("{", "{{").replace("}", "}}"), VALUES, ENVIRON) == text


@given(st.text(alphabet="{}nameindex:v "))
def test_any_text_is_filled_or_refused(text: str) -> None:
    """No text raises anything but PlaceholderError."""
    try:
        fill(text, VALUES, ENVIRON)
    except PlaceholderError:
        pass
