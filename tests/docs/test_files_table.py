"""docs/operations.md names every file and folder that a daemon makes in its directories."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pages import TOP, Session

PAGE = TOP / "docs" / "operations.md"


def documented(place: str) -> set[str]:
    """What the table of files has in that directory."""
    table = PAGE.read_text().partition("## Files\n")[2].partition("\n## ")[0]
    return set(re.findall(rf"`<{place}>/([\w.]+)`", table))


@pytest.mark.parametrize("durability", ["system", "process"])
def test_files(session: Session, durability: str) -> None:
    """Of a tree with agents, posts and system commands."""
    session.run("regrow init yard", "wrote …\nwrote …\nnow try: …")
    file = Path(session.directory, "yard", "yard.toml")
    file.write_text(file.read_text().replace("[daemon]\n", f'[daemon]\ndurability = "{durability}"\n', 1))
    session.run("regrow up --detach yard/yard.toml", "yard is ready (pid 1000)")
    session.run("regrow post counter add n=1 --id one", "one")
    session.run("regrow call counter add n=1", "2")
    session.run("regrow run -- true", "")
    places = {"run_dir": session.run_dir, "state_dir": session.directory / ".yard-state"}
    for place, folder in places.items():
        made = {path.name for path in folder.iterdir()}
        assert made
        assert made <= documented(place), f"in {place}"
    session.run("regrow down", "yard: stopped")
    for place, folder in places.items():
        assert {path.name for path in folder.iterdir()} <= documented(place), f"in {place}"


def test_the_table_names_what_there_is() -> None:
    """What it says of the directories is more than nothing."""
    assert {"control.sock", "lock", "names", "store"} <= documented("run_dir")
    assert {"state", "begun", "snapshots", "keys"} <= documented("state_dir")
