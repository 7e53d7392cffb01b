"""The specs that start_child brings: read like a [worker.X] table, refused with OTP's faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trees import ENVIRON

from regrow.config.errors import ConfigErrors
from regrow.config.load import worker_spec
from regrow.config.spec import AutoShutdown, DaemonSpec, Kind, Restart, Strategy, SupervisorSpec, WorkerSpec

DAEMON = DaemonSpec("shop", "/run/shop", "/state", "/log")
STATIC = SupervisorSpec("app", base_dir="/usr")
TEMPLATE = {"command": ["echo", "{name}"], "restart": "transient", "env": {"A": "1", "B": "2"}, "shutdown": "1s"}
DYNAMIC = SupervisorSpec("pool", Strategy.DYNAMIC, template=json.dumps(TEMPLATE), base_dir="/usr")


def spec(raw: object, supervisor: SupervisorSpec = STATIC) -> WorkerSpec:
    """Read one spec."""
    return worker_spec(raw, supervisor=supervisor, daemon=DAEMON, environ=ENVIRON)


def codes(raw: object, supervisor: SupervisorSpec = STATIC) -> list[str]:
    """Return the codes of what is wrong with a spec."""
    with pytest.raises(ConfigErrors) as caught:
        spec(raw, supervisor)
    assert all(problem.file == "" and problem.line == 0 for problem in caught.value.problems)
    return [problem.code for problem in caught.value.problems]


def test_whole_spec() -> None:
    """A spec is a name and the keys of a worker."""
    read = spec({"id": "job", "command": ["echo", "{run_dir}"], "restart": "temporary", "cwd": "bin"})
    assert (read.name, read.kind, read.group, read.index) == ("job", Kind.COMMAND, "job", None)
    assert read.command == ("echo", "/run/shop")
    assert (read.restart, read.cwd) == (Restart.TEMPORARY, "/usr/bin")


def test_spec_over_template() -> None:
    """Keys replace the template's, tables key by key; extra_args follow the command, literally."""
    read = spec({"id": "job-1", "shutdown": "2s", "env": {"B": "3"}, "extra_args": ["{x}", "{{y}}", "z"]}, DYNAMIC)
    assert read.command == ("echo", "job-1", "{x}", "{{y}}", "z")
    assert (read.restart, read.shutdown.timeout_s) == (Restart.TRANSIENT, 2.0)
    assert read.env == {"A": "1", "B": "3"}


def test_another_kind_replaces_the_templates() -> None:
    """A spec with a kind of its own does not inherit the template's kind."""
    read = spec({"id": "job", "function": "time:time"}, DYNAMIC)
    assert (read.kind, read.command) == (Kind.FUNCTION, ())


def test_relative_module_is_sought_in_the_base_dir(tmp_path: Path) -> None:
    """Modules of start_child specs are beside the file that the supervisor stands in."""
    (tmp_path / "mine.py").write_text("def main(): ...\n")
    read = spec({"id": "job", "function": "mine:main"}, SupervisorSpec("app", base_dir=str(tmp_path)))
    assert read.import_path == str(tmp_path)


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        ({}, "missing_id"),
        (None, "missing_id"),
        ([], "missing_id"),
        ("job", "missing_id"),
        ({"id": "job"}, "missing_start"),
        ({"id": "Job", "command": ["echo"]}, "invalid_id"),
        ({"id": "job.0", "command": ["echo"]}, "invalid_id"),
        ({"id": 3, "command": ["echo"]}, "invalid_id"),
        ({"id": "job", "command": ["echo"], "function": "time:time"}, "bad_combination"),
        ({"id": "job", "command": ["echo"], "restart": "always"}, "invalid_restart_type"),
        ({"id": "job", "command": ["echo"], "shutdown": -1}, "invalid_shutdown"),
        ({"id": "job", "command": ["echo"], "significant": 1}, "invalid_significant"),
        ({"id": "job", "command": ["echo"], "significant": True}, "bad_combination"),
        ({"id": "job", "command": ["no-such-program-x"]}, "invalid_command"),
        ({"id": "job", "command": ["echo"], "ready": {"tcp": 1, "timeout": None}}, "invalid_ready"),
        ({"id": "job", "command": ["echo"], "whatever": 1}, "unknown_key"),
        ({"id": "job", "command": ["echo"], "replicas": 2}, "bad_combination"),
        ({"id": "job", "function": "time:time", "extra_args": ["x"]}, "bad_combination"),
        ({"id": "job", "command": ["echo"], "extra_args": "x"}, "invalid_extra_args"),
        ({"id": "job", "command": ["{index}"]}, "invalid_placeholder"),
    ],
    ids=str,
)
def test_refused(raw: object, code: str) -> None:
    """Each fault has its code."""
    assert codes(raw) == [code]


def test_significant_under_dynamic_is_refused() -> None:
    """S128: a dynamic supervisor has no significant children."""
    assert codes({"id": "job", "significant": True}, DYNAMIC) == ["invalid_significant"]


def test_significant_where_it_means_something() -> None:
    """A transient significant child under any_significant is accepted; a permanent one is S12."""
    supervisor = SupervisorSpec("app", auto_shutdown=AutoShutdown.ANY_SIGNIFICANT, base_dir="/usr")
    raw = {"id": "job", "command": ["echo"], "significant": True}
    assert spec({**raw, "restart": "transient"}, supervisor).significant
    assert codes(raw, supervisor) == ["bad_combination"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    ["id", "command", "function", "args", "ready", "liveness", "env", "limits", "shutdown", "log", "user", "group",
     "cwd", "stop_signal", "umask", "normal_exit", "extra_args", "env_file", "stdout", "nice", "watchdog", "replicas"]
)  # fmt: skip


@given(st.one_of(JSON, st.dictionaries(KEYS, JSON)), st.sampled_from([STATIC, DYNAMIC]))
def test_any_json_is_read_or_refused(raw: Any, supervisor: SupervisorSpec) -> None:
    """No JSON value makes the reader fail otherwise than with ConfigErrors."""
    try:
        worker_spec(raw, supervisor=supervisor, daemon=DAEMON, environ=ENVIRON)
    except ConfigErrors:
        pass
