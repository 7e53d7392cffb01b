"""Whatever stands in the file, loading gives a plan or ConfigErrors."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import ENVIRON

from regrow.config.errors import ConfigErrors
from regrow.config.keys import DAEMON, SUPERVISOR, WORKER
from regrow.config.load import load
from regrow.config.probes import KINDS


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Return one folder for all examples: Hypothesis wants no function-scoped one."""
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def attempt(folder: Path, content: bytes) -> None:
    """Load the content, accept a refusal, and check that it says where."""
    path = folder / "tree.toml"
    path.write_bytes(content)
    try:
        load([path], environ=ENVIRON)
    except ConfigErrors as errors:
        refused = errors.problems
    else:
        return
    assert refused
    lines = content.count(b"\n") + 1
    for problem in refused:
        assert problem.problem
        assert problem.code
        assert (problem.key + problem.problem + problem.hint).isprintable()
        assert problem.file != str(path) or 0 <= problem.line <= lines


@given(st.binary())
def test_any_bytes(folder: Path, content: bytes) -> None:
    """Bytes of any kind."""
    attempt(folder, content)


@given(st.text(alphabet="[]{}=\"'.,# \nabsw0123_-"))
def test_any_toml_like_text(folder: Path, text: str) -> None:
    """Text that looks like TOML."""
    attempt(folder, text.encode())


WORDS = st.one_of(
    st.sampled_from(["true", "1", "-1", "0", "1.5", "nan", "'5s'", "'1MiB'", "''", "[]", "{}", "'w'", "['w']",
                     "['app']",
                     "'one_for_all'", "'dynamic'", "1979-05-27", "'{name}'", "'{'", "'a:b'", "[['x']]", "9" * 30,
                     '"\\u0000"', "['true']", "'app'", "'json:dumps'", "'never'", "'./x'"]),
    st.builds(lambda key, value: f"{{ {key} = {value} }}",
              st.sampled_from([*KINDS, "timeout", "every", "first", "max", "memory", "core", "keep", "A"]),
              st.sampled_from(["1", "'5s'", "'x'", "true", "['true']", "{}", "'localhost:1'", "'http://localhost/'"])),
)  # fmt: skip


def tables(kind: str, keys: dict[str, Any], names: list[str]) -> st.SearchStrategy[str]:
    """Return tables of known and unknown keys with values of any type."""
    pairs = st.dictionaries(st.sampled_from([*keys, "unknown"]), WORDS, max_size=5)
    header = st.sampled_from([f"[{kind}.{name}]" if name else f"[{kind}]" for name in names])
    return st.builds(lambda head, keys: "\n".join([head, *(f"{k} = {v}" for k, v in keys.items())]), header, pairs)


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            tables("worker", WORKER.keys, ["w", "app", "'x.0'"]),
            tables("supervisor", SUPERVISOR.keys, ["app", "b", "w"]),
            tables("daemon", DAEMON.keys, [""]),
        ),
        max_size=6,
        unique_by=lambda table: table.split("\n")[0],
    )
)
def test_any_value_of_any_key(folder: Path, written: list[str]) -> None:
    """Valid TOML with the right keys and values of every type."""
    attempt(folder, "\n".join(written).encode())


def test_deep_trees_are_refused(folder: Path) -> None:
    """A chain of supervisors deeper than any sense is a problem, not a recursion error."""
    names = [f"s{number}" for number in range(3000)]
    text = "\n".join(f"[supervisor.{name}]\nchildren = ['{below}']" for name, below in pairwise(names))
    with pytest.raises(ConfigErrors, match="deeper than"):
        load([_written(folder, f"{text}\n[supervisor.s2999]\n")], environ=ENVIRON)


def _written(folder: Path, text: str) -> Path:
    path = folder / "tree.toml"
    path.write_text(text)
    return path
