"""What README.md and docs/ show is what happens: each page is played from its first line to its last."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from pages import TOP, Session, blocks

PAGES = [TOP / "README.md", *sorted((TOP / "docs").glob("*.md"))]
PLAYED = [page for page in PAGES if any(block.language == "console" for block in blocks(page))]
_LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@pytest.mark.parametrize("page", PLAYED, ids=lambda page: page.name)
def test_page_is_true(page: Path, session: Session) -> None:
    """Every command of the page runs and prints what the page shows."""
    session.play(page)


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub addresses them."""
    kept = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in _HEADING.findall(page.read_text()))
    return {heading.strip().replace(" ", "-") for heading in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link to a file of the project, and to a heading in it, resolves."""
    wrong = []
    for link in _LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            wrong.append(link)
    assert wrong == []


def test_every_page_is_linked() -> None:
    """Who begins at README.md finds every page of docs/."""
    text = (TOP / "README.md").read_text()
    assert [page.name for page in PAGES[1:] if f"(docs/{page.name})" not in text] == []


def test_the_two_commands_exist() -> None:
    """What README.md tells a newcomer to type first is there, and is a program."""
    text = (TOP / "README.md").read_text()
    for command in ("examples/run", ".ci/run"):
        assert f"./{command}" in text
        assert os.access(TOP / command, os.X_OK)
