"""
What stands in the unit `regrow@.service`, of this machine or of one whose `/` is a folder here.

Source: systemd.unit(5) on specifiers, systemd.service(5) on command lines.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib import resources

UNIT = "regrow@.service"
PLACEHOLDER = "@REGROW@"


def text(*, user: bool, root: str = "") -> str:
    """The unit, with the regrow that runs now; with its path below `root`, if it is there."""
    folder = resources.files("regrow.systemd")
    template = (folder / "user" if user else folder) / UNIT
    return template.read_text().replace(PLACEHOLDER, command(root))


def filled(text: str, name: str, config: str) -> str:
    """
    The unit as it is for the instance `name`: its specifiers filled in; `config` is the folder of settings.

    Source: systemd.unit(5), specifiers. Nothing in the name is escaped: `units.link_of` refuses where that were needed.
    """
    known = {"%i": name, "%n": f"regrow@{name}.service", "%E": config, "%%": "%"}
    return re.sub("%.", lambda found: known.get(found[0], found[0]), text)


def command(root: str = "") -> str:
    """How this regrow is called, quoted for a unit; by its module where it was not called by a path of its own."""
    called = shutil.which(sys.argv[0]) if os.path.basename(sys.argv[0]) == "regrow" else None
    words = [os.path.abspath(called)] if called else [sys.executable, "-m", "regrow.daemon.cli.main"]
    words[0] = within(root, words[0]) or words[0]
    return " ".join(map(_quoted, words))


def _quoted(word: str) -> str:
    word = word.replace("%", "%%")
    return word if re.fullmatch(r"[\w@%+=:,./-]+", word) else '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'


def within(root: str, path: str) -> str:
    """The path that the machine whose `/` is `root` knows; empty where it has none."""
    return path if not root else path.removeprefix(root) if path.startswith(f"{root}/") else ""
