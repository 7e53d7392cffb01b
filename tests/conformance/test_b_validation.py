"""Section B: what is refused before anything is started, by `regrow check` and by start_child."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from cli import BAD_CONFIG, problems
from configs import Config
from harness import DaemonEnded
from tree import SUP, Grow, Tree

BAD_FLAGS = [
    ("strategy", "one_for_nobody"),
    ("intensity", -1),
    ("intensity", "infinity"),
    ("period", "0s"),
    ("period", "infinity"),
    ("auto_shutdown", "sometimes"),
]

BAD_SPECS: dict[str, tuple[dict[str, Any], str]] = {
    "restart": ({"restart": "prmanent"}, "restart"),
    "shutdown": ({"shutdown": "-10s"}, "shutdown"),
    "shutdown_number": ({"shutdown": -10}, "shutdown"),
    "significant": ({"significant": "maybe"}, "significant"),
    "command": ({"command": "not a list"}, "command"),
    "no_command": ({"command": None}, "command"),
}
"""Faults of a worker's table: the keys that differ from a good one, and the key the refusal must name."""


@pytest.mark.parametrize(("key", "value"), BAD_FLAGS)
def test_c16_bad_supervisor_flags(config: Config, key: str, value: object) -> None:
    """A bad flag is refused with its key path."""
    config.supervisor("app", "a:P", **{key: value})
    assert f"supervisor.app.{key}" in problems(config.write())


def test_c16_nothing_is_started_with_bad_flags(tree: Tree, config: Config) -> None:
    """`regrow up` on such a file ends with status 78 and has started nothing."""
    config.supervisor("app", "a:P", intensity=-1).write()
    with pytest.raises(DaemonEnded) as ended:
        tree.start()
    assert ended.value.status == BAD_CONFIG
    assert tree.trace() == []


def test_c17_unknown_keys_are_refused(config: Config) -> None:
    """
    An unknown key is a fault, with a hint.

    Interpretation: OTP ignores unknown keys (S14); regrow refuses them on purpose, because a key that is
    spelt wrongly and ignored is a setting that silently does not hold.
    """
    config.supervisor("app", "a:P", stratgy="one_for_all")
    config.workers["a"]["restrat"] = "temporary"
    found = problems(config.write())
    assert "supervisor.app.stratgy" in found
    assert "worker.a.restrat" in found
    assert "strategy" in found


def bad_spec(config: Config, keys: dict[str, Any]) -> dict[str, Any]:
    """A worker's table with faults; a key that is `None` is missing."""
    return {key: value for key, value in {**config.actor("x"), **keys}.items() if value is not None}


@pytest.mark.parametrize("fault", BAD_SPECS)
def test_c18_start_child_refuses_bad_specs(grow: Grow, fault: str) -> None:
    """start_child answers bad_request and names the key; nothing is started, no spec is kept."""
    keys, named = BAD_SPECS[fault]
    tree = grow()
    refused = tree.refused("start_child", supervisor=SUP, spec={"id": "x", **bad_spec(tree.config, keys)})
    assert refused.code == "bad_request"
    assert named in refused.message
    assert tree.children() == []
    assert tree.tries("x") == 0


def test_c18_start_child_without_id_or_start(grow: Grow) -> None:
    """An empty spec is a missing id; an id alone is a missing start: command, function or agent (S2)."""
    tree = grow()
    empty = tree.refused("start_child", supervisor=SUP, spec={})
    assert (empty.code, "id" in empty.message) == ("bad_request", True)
    no_start = tree.refused("start_child", supervisor=SUP, spec={"id": "x"})
    assert (no_start.code, "command" in no_start.message) == ("bad_request", True)
    no_id = tree.refused("start_child", supervisor=SUP, spec=tree.config.actor("x"))
    assert (no_id.code, "id" in no_id.message) == ("bad_request", True)
    not_a_table = tree.refused("start_child", supervisor=SUP, spec="x")
    assert not_a_table.code == "bad_request"
    assert tree.children() == []


@pytest.mark.parametrize("fault", BAD_SPECS)
def test_c19_bad_specs_in_the_file(config: Config, fault: str) -> None:
    """The same faults in a static list are refused with the key path of the worker."""
    keys, named = BAD_SPECS[fault]
    config.supervisor("app", "x")
    config.workers["x"] = bad_spec(config, keys)
    found = problems(config.write())
    assert f"worker.x.{named}" in found or ("worker.x" in found and named in found)


RESTARTS = (None, "permanent", "transient", "temporary")
AUTO_SHUTDOWNS = (None, "never", "any_significant", "all_significant")
COMBINATIONS = list(itertools.product(RESTARTS, (True, False), AUTO_SHUTDOWNS))


def combination(config: Config, number: int) -> bool:
    """Add supervisor s<number> with worker w<number> in one of the combinations; whether it is allowed."""
    restart, significant, auto_shutdown = COMBINATIONS[number]
    config.supervisor(f"s{number}", f"w{number}", auto_shutdown=auto_shutdown)
    config.worker(f"w{number}", restart=restart, significant=significant)
    return not significant or (restart in RESTARTS[2:] and auto_shutdown in AUTO_SHUTDOWNS[2:])


def test_c20_significant_combinations(config: Config) -> None:
    """Significant is refused under auto_shutdown never and for permanent children; all else is accepted."""
    allowed = [combination(config, number) for number in range(len(COMBINATIONS))]
    config.supervisor("app", " ".join(f"s{number}" for number in range(len(COMBINATIONS))))
    found = problems(config.write())
    for number, good in enumerate(allowed):
        assert (f"worker.w{number}." in found) != good, COMBINATIONS[number]


def test_c20_accepted_combinations_are_accepted_together(config: Config) -> None:
    """A file of nothing but allowed combinations has no problem."""
    good = [number for number in range(len(COMBINATIONS)) if combination(Config(config.directory), number)]
    for number in good:
        combination(config, number)
    config.supervisor("app", " ".join(f"s{number}" for number in good))
    assert problems(config.write()) == ""


def test_c20_start_child_refuses_bad_combinations(grow: Grow) -> None:
    """start_child checks a spec against the running supervisor's auto_shutdown, before restart (S13)."""
    tree = grow()
    refused = tree.start_refused("a", restart="temporary", significant=True)
    assert (refused.code, "auto_shutdown" in refused.message) == ("bad_request", True)
    refused = tree.start_refused("a", restart="permanent", significant=True)
    assert (refused.code, "auto_shutdown" in refused.message) == ("bad_request", True)
    assert tree.tries("a") == 0


def test_c21_shutdown_values(config: Config) -> None:
    """0, a time, infinity and brutal_kill are accepted for workers and supervisors alike."""
    values = ("0s", "1000ms", "infinity", "brutal_kill")
    for number, value in enumerate(values):
        config.supervisor(f"s{number}", f"w{number}", shutdown=value)
        config.worker(f"w{number}", shutdown=value)
    config.supervisor("app", " ".join(f"s{number}" for number in range(len(values))))
    assert problems(config.write()) == ""
