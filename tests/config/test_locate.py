"""Lines of key paths, in every layout that TOML allows."""

from __future__ import annotations

import pytest
import tomli
from hypothesis import given
from hypothesis import strategies as st

from regrow.config.locate import Locator

TEXT = '''\
# a comment with = and [brackets]
top = 1
dotted.a.b = "x # no comment"
"quo\\u0074ed key" = 'y'

[worker.web]     # line 6
command = [
  "a",           # ] not the end
  'b',
  """
three ] lines
""", "c",
]
ready = { tcp = 80,
  timeout = "5s" }
env = { A = "1", B.C = "}" }

[worker."x.y"]
z = 1979-05-27 07:32:00

  [ worker . spaced ]
  k = 1
[[list]]
a = 1
[[list]]
a = 2
[list.sub]
b = 3
[worker.web.liveness]
every = 1
'''

PLACES = {
    ("top",): 2,
    ("dotted",): 3,
    ("dotted", "a", "b"): 3,
    ("quoted key",): 4,
    ("worker",): 6,
    ("worker", "web"): 6,
    ("worker", "web", "command"): 7,
    ("worker", "web", "command", 0): 8,
    ("worker", "web", "command", 1): 9,
    ("worker", "web", "command", 2): 10,
    ("worker", "web", "command", 3): 12,
    ("worker", "web", "ready", "tcp"): 14,
    ("worker", "web", "ready", "timeout"): 15,
    ("worker", "web", "env", "A"): 16,
    ("worker", "web", "env", "B", "C"): 16,
    ("worker", "x.y"): 18,
    ("worker", "x.y", "z"): 19,
    ("worker", "spaced", "k"): 22,
    ("list", 0, "a"): 24,
    ("list", 1): 25,
    ("list", 1, "a"): 26,
    ("list", 1, "sub", "b"): 28,
    ("worker", "web", "liveness", "every"): 30,
}


@pytest.mark.parametrize(("path", "line"), PLACES.items(), ids=str)
def test_line_of_path(path: tuple[str | int, ...], line: int) -> None:
    """Tables, dotted and quoted keys, arrays, inline tables, long strings: each path has its own line."""
    assert Locator(TEXT).line(path) == line


def test_missing_key_has_the_line_of_its_table() -> None:
    """A key that is not written is missing where its table stands."""
    assert Locator(TEXT).line(("worker", "web", "nothing", "below")) == 6
    assert Locator(TEXT).line(("nowhere",)) == 1


def test_windows_lines() -> None:
    """CRLF ends a line as LF does."""
    assert Locator("a = 1\r\n[b]\r\nc = [\r\n1,\r\n2]\r\n").line(("b", "c", 1)) == 5


@given(st.text(alphabet="ab=[]{}\"'#,.\n\\ 1"))
def test_any_text_gives_a_line(text: str) -> None:
    """No text, valid TOML or not, makes the locator fail or give a line that is not there."""
    locator = Locator(text)
    assert 1 <= locator.line(("a", "b")) <= text.count("\n") + 1


KEYS = st.text(alphabet="abc", min_size=1, max_size=3)
VALUES = st.recursive(
    st.sampled_from(["1", '"s"', "'l'", '"""m\n]"""', "true", "1.5e3", "'''\n}'''", "2020-01-01"]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[\n{', '.join(items)}]"),
        st.dictionaries(KEYS, inner, max_size=3).map(
            lambda items: "{" + ", ".join(f"{key} = {value}" for key, value in items.items()) + "}"
        ),
    ),
    max_leaves=8,
)


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=3), max_size=3))
def test_every_key_is_found_where_it_was_written(tables: dict[str, dict[str, str]]) -> None:
    """In generated documents each key of each table has exactly the line it was written at."""
    lines: list[str] = []
    places: dict[tuple[str, ...], int] = {}
    for table, pairs in tables.items():
        lines.append(f"[{table}]")
        for key, value in pairs.items():
            places[table, key] = sum(line.count("\n") + 1 for line in lines) + 1
            lines.append(f"{key} = {value}")
    text = "\n".join(lines)
    tomli.loads(text)
    locator = Locator(text)
    assert {path: locator.line(path) for path in places} == places
