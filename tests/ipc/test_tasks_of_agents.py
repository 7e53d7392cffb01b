"""Tasks of an agent: the result comes first, then `on_down`."""

from __future__ import annotations

import shutil
from typing import Any

from configs import Config
from taskdesk import PROGRAM, Jobs

FOREMAN = PROGRAM.with_name("foreman.py")


def describe(config: Config) -> None:
    """An agent beside the supervisor of its tasks."""
    shutil.copy(FOREMAN, config.directory / "foreman.py")
    config.workers["foreman"] = {"agent": "foreman:Foreman"}
    config.supervisor("app", "foreman jobs")


def heard(jobs: Jobs, name: str) -> list[Any]:
    """What the agent was told of one task, once it says at the desk that it was."""
    asker = jobs.desk.next()
    assert asker.word == f"told {name}"
    asker.answer("go on")
    return [entry for entry in jobs.client.call("foreman", "heard") if entry[0] == name]


def test_a_result_then_the_death(jobs: Jobs) -> None:
    """A handler starts a task and returns; when `on_down` is called the result is there."""
    name = jobs.client.call("foreman", "begin", "taskwork:at_desk", "x")
    asker = jobs.desk.next()
    assert name not in [entry[0] for entry in jobs.client.call("foreman", "heard")]
    asker.answer("the result")
    assert heard(jobs, name) == [[name, "the result", "normal"]]


def test_a_failure_is_a_death(jobs: Jobs) -> None:
    """Of a task that is not linked the agent gets DOWN with the reason, and lives on (S231)."""
    name = jobs.client.call("foreman", "begin", "taskwork:boom", "no luck")
    assert heard(jobs, name) == [[name, None, "exception"]]
    assert jobs.tree.entry("foreman")["incarnation"] == 1


def test_waiting_in_a_handler(jobs: Jobs) -> None:
    """A task that was waited for is not told of again, nor are those of a stream."""
    before = jobs.client.call("foreman", "heard")
    assert jobs.client.call("foreman", "do", "taskwork:double", 4) == 8
    assert jobs.client.call("foreman", "do_all", "taskwork:double", [1, 2, 3]) == [2, 4, 6]
    name = jobs.client.call("foreman", "begin", "taskwork:exit_with", 3)
    heard(jobs, name)
    assert jobs.client.call("foreman", "heard") == [*before, [name, None, "exit"]]


def test_the_agent_dies(jobs: Jobs) -> None:
    """What is linked to it dies with it; what is not goes on."""
    jobs.client.send("foreman", "do", "taskwork:at_desk", "linked").wait()
    linked = jobs.desk.next()
    pid = jobs.tree.pid("foreman")
    jobs.tree.crash("foreman")
    linked.wait_dead()
    jobs.tree.wait_new(foreman=pid)
