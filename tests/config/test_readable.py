"""Texts of others, as messages show them."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.errors import Problem
from regrow.config.readable import quoted, readable


@pytest.mark.parametrize(
    ("text", "shown", "in_quotes"),
    [
        ("größe", "größe", r"'gr\xf6\xdfe'"),
        (os.fsdecode(b"a\xffb"), r"a\xffb", r"'a\xffb'"),
        ("\ud800", r"\ud800", r"'\ud800'"),
        (r"\udcff", r"\udcff", r"'\\udcff'"),
        ("\\\udcff", r"\\xff", r"'\\\xff'"),
    ],
)
def test_shown(text: str, shown: str, in_quotes: str) -> None:
    """Bytes that are no UTF-8 are shown as bytes; a backslash that was typed stays what it is."""
    assert readable(text) == shown
    assert quoted(text, 100) == in_quotes


@given(st.binary())
def test_any_bytes(name: bytes) -> None:
    """Whatever a file is called, it can be written, and nothing is told of halves of characters."""
    assert readable(os.fsdecode(name)).encode().decode() == name.decode(errors="backslashreplace")


def test_a_file_of_any_name() -> None:
    """A problem names its file as it was typed."""
    assert str(Problem(os.fsdecode(b"\xff.toml"), 0, "", "cannot read the file")).startswith(r"\xff.toml: cannot")
