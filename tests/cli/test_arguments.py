"""How words become arguments, and replies words."""

from __future__ import annotations

import datetime
import io
import json
import sys
from typing import Any

import msgspec
import pytest

from regrow.daemon.cli.arguments import ArgumentError, read_json, read_value, read_words
from regrow.daemon.cli.replies import as_json, as_text, on_terminal
from regrow.daemon.cli.talk import arguments


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2", 2), ("-1.5e3", -1500.0), ("true", True), ("null", None), ("[1, 2]", [1, 2]), ('{"a": {}}', {"a": {}}),
        ('"2"', "2"), ("", ""), ("two", "two"), ("True", "True"), ("007", "007"), ("[1", "[1"), ("NaN", "NaN"),
        ("2 ", 2), ("a=b", "a=b"), ("1e999", "1e999"),
    ],
)  # fmt: skip
def test_value_is_json_or_text(text: str, value: Any) -> None:
    """What reads as JSON is JSON; everything else is the text that it is."""
    assert read_value(text, "n") == value
    assert type(read_value(text, "n")) is type(value)


def test_words() -> None:
    """Named and by position, in any order; the first = divides; a key is a Python name."""
    words = [r"\ud800", r'"\\ud800"', "sku=A1", "7", "n:=[2]", "note=a=b", "text", "größe=1", "x-y=2", "empty="]
    assert read_words(words) == (
        [r"\ud800", r"\ud800", 7, "text", "x-y=2"],
        {"sku": "A1", "n": [2], "note": "a=b", "größe": 1, "empty": ""},
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["n=1", "n=2"], "n is given twice"),
        (["n:=two"], "n is not JSON: it is broken off, or a word that JSON has not; write n=… for text"),
        (["n:=[1,]"], "n is not JSON: trailing comma in array, at byte 3; write n=… for text"),
        (["n:=é\udcff"], "n is not JSON: it is not UTF-8, at byte 2; write n=… for text"),
        ([f"n:={'[' * 10_000}"], "n is not JSON: it is nested too deeply; write n=… for text"),
        (["n=\udcff"], r"n cannot be sent: a text that is not UTF-8, '\xff' in it"),
        (["1", "\udcff"], r"argument 2 cannot be sent: a text that is not UTF-8, '\xff' in it"),
        ([r'n:=["\ud83d\ude00", "\ud800"]'],
         r"n is not JSON: \ud800, at byte 18, is half of a character; write n=… for text"),
        ([r'"\udc00"'], r"argument 1 cannot be sent: \udc00, at byte 1, is half of a character"),
        ([r'n={"\ud800": "x"}'], r"n cannot be sent: \ud800, at byte 2, is half of a character"),
        ([f"n={'[' * 10_000}"], "n is JSON that is nested too deeply"),
        (['n={"a": [18446744073709551616]}'],
         "n cannot be sent: $.a[0]: an integer is from -2**63 to 2**64 - 1; send a text, or a Decimal"),
        ([f"n={'x' * (16 << 20)}"], "n is too long: 16777221 bytes, and a message has at most 16777216"),
    ],
)
def test_wrong_words(words: list[str], said: str) -> None:
    """The fault is named, with its key and what to write."""
    with pytest.raises(ArgumentError) as caught:
        read_words(words)
    assert str(caught.value) == said


STDIN = [
    (b'{"n": "\xff"}', "standard input is not JSON: it is not UTF-8, at byte 7"),
    (b'{"n": ', "standard input is not JSON: it is broken off, or a word that JSON has not"),
    (b"", "standard input is not JSON: it is empty"),
    (b"[" * 100_000, "standard input is not JSON: it is nested too deeply"),
    (b'["\\ud800"]', "standard input is not JSON: \\ud800, at byte 2, is half of a character"),
    (b'[1 2, "\\ud800"]', "standard input is not JSON: expected ',' or ']', at byte 3"),
    (b"[1 2]", "standard input is not JSON: expected ',' or ']', at byte 3"),
    (b'{"n": 18446744073709551616}', "standard input cannot be sent: $.n: an integer is from -2**63 to 2**64 - 1;"),
    (b"3", "standard input must be a list (arguments by position) or an object (by name)"),
    (b" " * ((64 << 20) + 1), "standard input is too long: a message has at most 16777216 bytes"),
    (b'["' + b"x" * (17 << 20) + b'"]', "standard input is too long: 17825798 bytes, and a message has at most"),
]


@pytest.mark.parametrize(("found", "said"), STDIN, ids=[said[:60] for _, said in STDIN])
def test_standard_input_that_is_none(found: bytes, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with it, and where, in words; no more is read than a message can hold."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(found)))
    with pytest.raises(ArgumentError) as caught:
        arguments((), "-")
    assert str(caught.value).startswith(said)


def test_json() -> None:
    """A list is by position, an object by name, anything else no arguments."""
    assert read_json("[1, [2]]") == ([1, [2]], {})
    assert read_json('{"n": 1}') == ([], {"n": 1})
    for text, said in (("3", "a list .* or an object"), ("[1", "is not JSON"), ("", "is not JSON")):
        with pytest.raises(ArgumentError, match=said):
            read_json(text)


AT = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("value", "text", "in_json"),
    [
        (None, None, None),
        (True, "true", True),
        (2.0, "2.0", 2.0),
        (float("inf"), "inf", None),
        ("two\nlines", "two\nlines", "two\nlines"),
        ("", "", ""),
        (b"abc", "YWJj", "YWJj"),
        (AT, "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05+00:00"),
        ([1, "é"], '[1, "é"]', [1, "é"]),
        ({1: None, (1, 2): b"", b"k": 0}, '{"1": null, "[1, 2]": "", "aw==": 0}', {"1": None, "[1, 2]": "", "aw==": 0}),
        (msgspec.msgpack.Ext(7, b"abc"), '{"type": 7, "data": "YWJj"}', {"type": 7, "data": "YWJj"}),
    ],
)  # fmt: skip
def test_reply(value: Any, text: str | None, in_json: Any) -> None:
    """Text for people, JSON for programs, of whatever a message can carry."""
    assert as_text(value) == text
    assert json.loads(as_json(value)) == in_json
    assert "\n" not in as_json(value)


def test_long_reply_is_spread_out() -> None:
    """What does not fit a line is indented, and still JSON."""
    value = {"items": [{"sku": f"A{number}"} for number in range(20)]}
    text = as_text(value)
    assert text is not None
    assert max(map(len, text.splitlines())) < 30
    assert json.loads(text) == value


def test_terminal_is_not_commanded() -> None:
    """An agent's text moves no cursor; its lines stay lines."""
    assert on_terminal("a\tb\n\x1b[2Jc\r") == "a\tb\n [2Jc "
