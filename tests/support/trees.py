"""Writing trees for tests of the configuration, and reading what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regrow.config.errors import ConfigErrors, Problem
from regrow.config.load import load
from regrow.config.spec import Plan, SupervisorSpec, WorkerSpec

ENVIRON = {"PATH": "/usr/bin:/bin", "HOME": "/root"}


def write(folder: Path, text: str, name: str = "tree.toml") -> Path:
    """Write one file of a tree."""
    path = folder / name
    path.write_text(text)
    return path


def plan(folder: Path, text: str, *, check_system: bool = True, environ: Mapping[str, str] = ENVIRON) -> Plan:
    """Return the plan of one text."""
    return load([write(folder, text)], environ=environ, check_system=check_system)


def problems(folder: Path, text: str, *, check_system: bool = True) -> tuple[Problem, ...]:
    """Return what is wrong with one text; nothing when nothing is."""
    try:
        plan(folder, text, check_system=check_system)
    except ConfigErrors as errors:
        return errors.problems
    return ()


def workers(supervisor: SupervisorSpec) -> dict[str, WorkerSpec]:
    """Return all workers below a supervisor by name, in start order."""
    found: dict[str, WorkerSpec] = {}
    for child in supervisor.children:
        found |= workers(child) if isinstance(child, SupervisorSpec) else {child.name: child}
    return found


def worker(folder: Path, keys: str, *, environ: Mapping[str, str] = ENVIRON, check_system: bool = True) -> WorkerSpec:
    """Return the one worker `w` that has these keys."""
    text = f'[supervisor.app]\nchildren = ["w"]\n[worker.w]\n{keys}\n'
    (found,) = workers(plan(folder, text, environ=environ, check_system=check_system).root).values()
    return found
