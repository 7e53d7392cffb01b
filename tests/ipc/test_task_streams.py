"""Streams of tasks: time-outs, failures, and what becomes of tasks whose results nobody takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import procs
import pytest
from taskdesk import JOBS, Jobs, jobs_tree

from regrow.ipc import CallTimeout, ProcessDown
from regrow.ipc.task import Exit, Ok
from regrow.ipc.task_stream import Stream
from regrow.workers.task import JOB_S

LONG_S = 60.0
SHORT_S = 0.3


def test_a_stream_of_results(jobs: Jobs) -> None:
    """One for each element, in order; none for no elements."""
    assert list(jobs.tasks.async_stream("taskwork:double", range(9))) == [Ok(2 * number) for number in range(9)]
    assert list(jobs.tasks.async_stream_nolink("taskwork:double", [])) == []


def test_elements_are_pulled_as_they_are_needed(jobs: Jobs) -> None:
    """Nothing before the first result is asked for; then no more than may run."""
    pulled = []

    def inputs() -> Iterator[str]:
        for word in "abcd":
            pulled.append(word)
            yield word

    stream = jobs.tasks.async_stream("taskwork:at_desk", inputs(), max_concurrency=2)
    assert pulled == []
    with stream:
        first = take_while(jobs, stream)
        assert first == Ok("a")
        assert pulled == ["a", "b"]


def take_while(jobs: Jobs, stream: Stream) -> Any:
    """The next result, while the desk serves whoever comes first."""
    import threading

    def serve() -> None:
        for asker in (jobs.desk.next(), jobs.desk.next()):
            asker.answer(asker.word if asker.word == "a" else "forever")

    clerk = threading.Thread(target=serve)
    clerk.start()
    try:
        return next(stream)
    finally:
        clerk.join()


def test_a_time_out_ends_the_stream(jobs: Jobs) -> None:
    """By default it is raised, and all that runs is killed."""
    stream = jobs.tasks.async_stream_nolink("taskwork:endless", [1, 2], max_concurrency=2, timeout=SHORT_S)
    with pytest.raises(CallTimeout):
        next(stream)
    assert all(procs.is_dead(pid) for pid in jobs.running().values())


def test_a_time_out_of_one_task(jobs: Jobs) -> None:
    """With `kill_task` it is that task's result, and the stream goes on."""
    options: dict[str, Any] = {"timeout": SHORT_S, "on_timeout": "kill_task", "max_concurrency": 3}
    results = list(jobs.tasks.async_stream("taskwork:endless", [0, 1, 0], **options))
    assert results[0] == results[2] == Ok(0)
    assert isinstance(results[1], Exit)
    assert (results[1].reason, results[1].input) == ("timeout", None)
    (result,) = jobs.tasks.async_stream("taskwork:endless", [7], zip_input_on_exit=True, **options)
    assert isinstance(result, Exit)
    assert result.input == 7


def test_a_result_wins_over_a_time_out(jobs: Jobs) -> None:
    """It was sent in time, though its process did not end (S246)."""
    (result,) = jobs.tasks.async_stream("taskwork:result_then_hang", [3], timeout=SHORT_S, on_timeout="kill_task")
    assert result == Ok(3)


def test_a_failure_ends_a_linked_stream(jobs: Jobs) -> None:
    """It is raised, and the other tasks are killed."""
    stream = jobs.tasks.async_stream("taskwork:endless_or_exit", [0, 5], max_concurrency=2, timeout=LONG_S)
    with pytest.raises(ProcessDown) as raised:
        next(stream)
    assert raised.value.down.code == 5
    assert all(procs.is_dead(pid) for pid in jobs.running().values())
    with pytest.raises(StopIteration):
        next(stream)


def test_an_exception_in_the_consumer(jobs: Jobs) -> None:
    """It leaves the loop, and by then the tasks are dead."""
    running: dict[str, int] = {}

    def consume() -> None:
        for _ in jobs.tasks.async_stream("taskwork:endless", [0, 1, 2], max_concurrency=3, timeout=LONG_S):
            running.update(jobs.running())
            raise KeyError("consumer")

    with pytest.raises(KeyError, match="consumer"):
        consume()
    assert len(running) >= 2
    assert all(procs.is_dead(pid) for pid in running.values())


def test_leaving_the_loop(jobs: Jobs) -> None:
    """The same with `break`."""
    running: dict[str, int] = {}
    for result in jobs.tasks.async_stream_nolink("taskwork:endless", [0, 1, 2], max_concurrency=3, timeout=LONG_S):
        assert result == Ok(0)
        running.update(jobs.running())
        break
    assert len(running) >= 2
    assert all(procs.is_dead(pid) for pid in running.values())


def test_an_exception_of_the_inputs(jobs: Jobs) -> None:
    """It is raised where results are taken; what ran is dead."""

    def inputs() -> Iterator[int]:
        yield 1
        yield 2
        raise KeyError("inputs")

    stream = jobs.tasks.async_stream("taskwork:endless", inputs(), max_concurrency=3, timeout=LONG_S)
    with pytest.raises(KeyError, match="inputs"):
        next(stream)
    assert all(procs.is_dead(pid) for pid in jobs.running().values())


def test_an_element_that_cannot_be_sent(jobs: Jobs) -> None:
    """It ends the stream like any error of the inputs."""
    stream = jobs.tasks.async_stream("taskwork:endless", [1, object()], max_concurrency=2, timeout=LONG_S)
    with pytest.raises(Exception, match="cannot encode the arguments"):
        next(stream)
    assert all(procs.is_dead(pid) for pid in jobs.running().values())


def test_a_stream_that_was_never_begun(jobs: Jobs) -> None:
    """It has nothing to end."""
    stream = jobs.tasks.async_stream("taskwork:endless", [1, 2])
    stream.close()
    assert list(stream) == []
    assert jobs.listed() == []


def test_as_many_as_the_supervisor_allows() -> None:
    """A stream that is as wide as `max_children` is never refused: a death has been noticed before the next start."""
    with jobs_tree(max_children=2) as jobs:
        results = list(jobs.tasks.async_stream("taskwork:double", range(30), max_concurrency=2))
        assert results == [Ok(2 * number) for number in range(30)]
        assert jobs.tree.call("count_children", supervisor=JOBS)["specs"] <= 2


def test_two_streams_one_within_the_other(jobs: Jobs) -> None:
    """Each has its own tasks, in one thread."""
    results = [
        (outer, inner)
        for outer in jobs.tasks.async_stream("taskwork:double", [1, 2])
        for inner in jobs.tasks.async_stream_nolink("taskwork:double", [3, 4])
    ]
    assert results == [(Ok(2), Ok(6)), (Ok(2), Ok(8)), (Ok(4), Ok(6)), (Ok(4), Ok(8))]


def test_the_time_of_a_job_is_five_seconds() -> None:
    """S233."""
    assert JOB_S == 5.0
