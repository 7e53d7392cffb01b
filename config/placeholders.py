"""Placeholders in strings: `{run_dir}`, `{name}`, `{env:HOME}`; `{{` and `}}` are braces."""

from __future__ import annotations

import re
from collections.abc import Mapping

from regrow.config.errors import did_you_mean

KNOWN = ("run_dir", "state_dir", "log_dir", "name", "index", "env:VAR")

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{|\}")


class PlaceholderError(ValueError):
    """A placeholder cannot be filled in; `hint` says what to write."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.hint = hint


def fill(text: str, values: Mapping[str, str], environ: Mapping[str, str]) -> str:
    """
    Return `text` with its placeholders filled in.

    `values` holds those that have a meaning here; a name that it lacks but KNOWN has is refused with that reason.

    Raises:
        PlaceholderError for an unknown placeholder, an unset variable, or a single brace.
    """
    if "{" not in text and "}" not in text:
        return text
    return _PART.sub(lambda match: _filled(match, values, environ), text)


def _filled(match: re.Match[str], values: Mapping[str, str], environ: Mapping[str, str]) -> str:
    whole, name = match[0], match[1]
    if whole in ("{{", "}}"):
        return whole[0]
    if name is None:
        raise PlaceholderError(f"a single `{whole}` in a string", f"write `{whole}{whole}` for a brace")
    if name in values:
        return values[name]
    if name.startswith("env:"):
        variable = name.removeprefix("env:")
        if variable in environ:
            return environ[variable]
        raise PlaceholderError(f"the environment variable {variable} is not set")
    if name == "index":
        raise PlaceholderError("`{index}` has a meaning only for a worker with `replicas`")
    if name in KNOWN:
        raise PlaceholderError(f"`{whole}` has no meaning here")
    hint = did_you_mean(name, KNOWN) or f"write `{{{whole}}}` for braces"
    raise PlaceholderError(f"unknown placeholder `{whole}`", hint)
