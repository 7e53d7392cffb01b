"""Tasks whose owner is another user than the daemon: one that may operate it, and one that may not."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from configs import Config
from taskdesk import JOBS, Jobs, jobs_tree

from regrow.ipc import Client, Exit, Ok, Refused
from regrow.ipc.errors import ControlError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="becomes other users"),
]

NOBODY = 65534


def as_nobody(body: Callable[[], str]) -> str:
    """What `body` gives in a process of that user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "no answer"
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            text = body()
        except BaseException as error:  # noqa: BLE001 - nothing may unwind into the test of the parent
            text = f"{type(error).__name__}: {error}"
        finally:
            os.write(writer, text.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        text = answer.read().decode()
    os.waitpid(pid, 0)
    return text


def admitting(who: str) -> Callable[[Config], None]:
    """A file that lets nobody in as this."""

    def describe(config: Config) -> None:
        config.directory.chmod(0o755)
        text = config.text
        config.text = lambda: f'{text()}\n[access]\n{who} = ["user:nobody"]\n'  # type: ignore[method-assign]

    return describe


def test_an_operator() -> None:
    """It has tasks as the daemon's user has; whom it may not kill, the supervisor ends."""
    with jobs_tree(admitting("operators")) as jobs:

        def body() -> str:
            with Client(jobs.tree.run_dir) as client:
                tasks = client.tasks(JOBS)
                assert tasks.async_("taskwork:double", 21).wait() == 42
                assert tasks.async_nolink("taskwork:exit_with", 3).yield_() == Exit("exit", code=3)
                assert tasks.async_("taskwork:forever").shutdown() is None
                assert tasks.async_("taskwork:forever").shutdown("brutal_kill") is None
                with tasks.async_stream("taskwork:endless", [0, 1, 2], max_concurrency=3) as results:
                    assert next(results) == Ok(0)
                assert client.control.count_children(JOBS)["active"] == 0
                tasks.close()
            return "done"

        assert as_nobody(body) == "done"
        assert ended(jobs) == []


def test_a_viewer() -> None:
    """It may not start anything."""
    with jobs_tree(admitting("viewers")) as jobs:

        def body() -> str:
            try:
                with Client(jobs.tree.run_dir) as client:
                    client.tasks(JOBS).async_("taskwork:double", 21)
            except Refused as refused:
                return refused.code
            except ControlError as error:
                return type(error).__name__
            return "done"

        assert as_nobody(body) in ("forbidden", "Unreachable")
        assert ended(jobs) == []


def ended(jobs: Jobs) -> list[str]:
    """What is left of the tasks."""
    return jobs.listed()
