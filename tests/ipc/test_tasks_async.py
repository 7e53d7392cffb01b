"""Tasks in an event loop: the same, awaitable, and nothing else waits meanwhile."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from typing import Any

import procs
import pytest
from configs import Config
from taskdesk import JOBS, PROGRAM, Asker, Jobs

from regrow.ipc import AsyncClient, CallTimeout, Exit, Ok, ProcessDown, Refused
from regrow.ipc.task_aio import AsyncTaskSupervisor

FOREMAN = PROGRAM.with_name("foreman.py")
Body = Callable[[AsyncTaskSupervisor], Awaitable[Any]]


def describe(config: Config) -> None:
    """An agent with an event loop beside the supervisor of its tasks."""
    shutil.copy(FOREMAN, config.directory / "foreman.py")
    config.workers["foreman"] = {"agent": "foreman:AsyncForeman"}
    config.supervisor("app", "foreman jobs")


def run(jobs: Jobs, body: Body) -> Any:
    """Run `body` in a loop of its own."""

    async def main() -> Any:
        async with AsyncClient(jobs.tree.run_dir) as client:
            tasks = client.tasks(JOBS)
            try:
                return await body(tasks)
            finally:
                tasks.close()

    return asyncio.run(main())


async def at_desk(jobs: Jobs) -> Asker:
    """The next who asks, without holding up the loop."""
    return await asyncio.to_thread(jobs.desk.next)


def test_results_and_failures(jobs: Jobs) -> None:
    """As without a loop."""

    async def body(tasks: AsyncTaskSupervisor) -> None:
        assert await (await tasks.async_("taskwork:double", 4)).wait() == 8
        task = await tasks.async_nolink("taskwork:exit_with", 3)
        assert await task.yield_() == Exit("exit", code=3)
        with pytest.raises(ProcessDown):
            await (await tasks.async_("taskwork:boom", "no luck")).yield_()
        with pytest.raises(Refused):
            await AsyncTaskSupervisor(tasks._verbs, "nobody").async_("taskwork:double", 1)

    run(jobs, body)


def test_time_outs_and_ends(jobs: Jobs) -> None:
    """`yield_` may be repeated, `wait` gives up, `shutdown` ends it all the same."""

    async def body(tasks: AsyncTaskSupervisor) -> None:
        task = await tasks.async_nolink("taskwork:forever")
        assert [await task.yield_(0), await task.yield_(0.01), task.done] == [None, None, False]
        with pytest.raises(CallTimeout, match=r"within 0\.01 s"):
            await task.wait(0.01)
        assert await task.shutdown() is None
        assert procs.is_dead(task.pid)

    run(jobs, body)


def test_several_at_once(jobs: Jobs) -> None:
    """One that waits holds up none of the others, and gets its own."""

    async def body(tasks: AsyncTaskSupervisor) -> None:
        begun = await asyncio.gather(*(tasks.async_("taskwork:at_desk", word) for word in "abc"))
        waits = [asyncio.create_task(task.wait()) for task in begun]
        askers = {asker.word: asker for asker in [await at_desk(jobs) for _ in "abc"]}
        for word in "cab":
            askers[word].answer(f"for {word}")
        assert await asyncio.gather(*waits) == ["for a", "for b", "for c"]

    run(jobs, body)


def test_a_wait_that_is_cancelled(jobs: Jobs) -> None:
    """The task goes on, and may be waited for again."""

    async def body(tasks: AsyncTaskSupervisor) -> None:
        task = await tasks.async_nolink("taskwork:at_desk", "x")
        asker = await at_desk(jobs)
        wait = asyncio.create_task(task.wait())
        done, _ = await asyncio.wait([wait], timeout=0.01)
        assert not done
        wait.cancel()
        asker.answer("still there")
        assert await task.wait() == "still there"

    run(jobs, body)


def test_a_start_that_is_cancelled(jobs: Jobs) -> None:
    """What was started for nobody is killed."""

    async def body(tasks: AsyncTaskSupervisor) -> None:
        start = asyncio.create_task(tasks.async_nolink("taskwork:at_desk", "x"))
        asker = await at_desk(jobs)
        start.cancel()
        await asyncio.wait([start])
        if start.cancelled():
            await asyncio.to_thread(asker.wait_dead)
        else:
            await start.result().shutdown("brutal_kill")

    run(jobs, body)


def test_streams(jobs: Jobs) -> None:
    """`async for`, as long as one likes; leaving the block ends what runs."""

    async def body(tasks: AsyncTaskSupervisor) -> dict[str, int]:
        running: dict[str, int] = {}
        results = [result async for result in tasks.async_stream("taskwork:double", range(5))]
        assert results == [Ok(2 * number) for number in range(5)]
        async with tasks.async_stream_nolink("taskwork:endless", [0, 1, 2], max_concurrency=3) as stream:
            async for result in stream:
                assert result == Ok(0)
                running = await asyncio.to_thread(jobs.running)
                break
        assert len(running) >= 2
        return running

    assert all(procs.is_dead(pid) for pid in run(jobs, body).values())


def test_a_stream_that_is_cancelled(jobs: Jobs) -> None:
    """While it waits for a result: the tasks are dead when the block is left."""

    async def body(tasks: AsyncTaskSupervisor) -> list[Asker]:
        askers = []

        async def take() -> None:
            async with tasks.async_stream("taskwork:at_desk", "ab", max_concurrency=2, timeout=60.0) as stream:
                async for _ in stream:
                    pass

        taking = asyncio.create_task(take())
        askers += [await at_desk(jobs), await at_desk(jobs)]
        taking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await taking
        return askers

    assert all(asker.is_dead for asker in run(jobs, body))


def test_options_of_a_stream(jobs: Jobs) -> None:
    """They are refused by the call itself."""

    async def body(tasks: AsyncTaskSupervisor) -> None:
        with pytest.raises(ValueError, match="max_concurrency"):
            tasks.async_stream("taskwork:double", [1], max_concurrency=0)

    run(jobs, body)


def test_an_agent_with_an_event_loop(jobs: Jobs) -> None:
    """A handler awaits its task, while another handler is answered."""
    request = jobs.client.send_request("foreman", "do", "taskwork:at_desk", "x")
    asker = jobs.desk.next()
    assert jobs.client.call("foreman", "idle") == "idle"
    asker.answer("the result")
    assert request.wait_response() == "the result"
    assert jobs.client.call("foreman", "do_all", "taskwork:double", [1, 2, 3]) == [2, 4, 6]
    assert jobs.client.call("foreman", "heard") == []
