"""
Section Q: tasks.

Interpretation: a task's reference is its name, which is never used twice. A linked task that fails raises in its
owner where it is waited for; OS processes have no exit signals, so it can do no more than that. A task's result and
its DOWN come to its owner in this order; a client sees them as `wait` and `down`, an agent also by `on_down`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import processes
import procs
import pytest
from configs import Config
from taskdesk import JOBS, Asker, Desk, Jobs
from tree import Tree
from wire import TIMEOUT_S

from regrow.ipc.errors import CallTimeout, ProcessDown, Refused
from regrow.ipc.task import Exit, Ok

Start = Callable[..., Jobs]


@pytest.fixture
def start(directory: Path, config: Config, tree: Tree) -> Iterator[Start]:
    """Start a tree whose supervisor `jobs` has the given keys."""
    made: list[Jobs] = []

    def begin(**keys: Any) -> Jobs:
        made.append(Jobs(directory, config, tree, **keys))
        return made[0]

    yield begin
    for jobs in made:
        jobs.close()


@pytest.fixture
def jobs(start: Start) -> Jobs:
    """The tree without anything special."""
    return start()


class Clerk(threading.Thread):
    """Serves the desk while the test's thread takes results; its failures are the test's."""

    def __init__(self, desk: Desk, serve: Callable[[Desk], None]) -> None:
        super().__init__()
        self._desk = desk
        self._serve = serve
        self._failure: BaseException | None = None

    def run(self) -> None:
        """Serve."""
        try:
            self._serve(self._desk)
        except BaseException as failure:  # noqa: BLE001 - told in the test's own thread
            self._failure = failure

    def __enter__(self) -> Clerk:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.join(TIMEOUT_S)
        if self._failure is not None:
            raise self._failure


def in_order(words: str) -> Callable[[Desk], None]:
    """Wait until all of these have asked, then let one after the other end, in this order."""

    def serve(desk: Desk) -> None:
        asking = {asker.word: asker for asker in (desk.next() for _ in words.split())}
        for word in words.split():
            asking[word].answer(word)
            asking[word].wait_dead()

    return serve


def one_by_one(count: int) -> Callable[[Desk], None]:
    """Let each end as soon as it asks."""

    def serve(desk: Desk) -> None:
        for _ in range(count):
            asker = desk.next()
            asker.answer(asker.word)

    return serve


def test_c166_a_failing_linked_task(jobs: Jobs) -> None:
    """Its owner gets an exception where it waits, whichever way it waits."""
    task = jobs.tasks.async_("taskwork:boom", "no luck")
    with pytest.raises(ProcessDown) as raised:
        task.wait()
    assert raised.value.reason == "exception"
    assert "ValueError: no luck" in raised.value.down.text
    with pytest.raises(ProcessDown):
        jobs.tasks.async_("taskwork:exit_with", 3).yield_()


def test_c166_a_failing_task_without_link(jobs: Jobs) -> None:
    """Its owner gets the DOWN with the reason, and nothing else."""
    task = jobs.tasks.async_nolink("taskwork:exit_with", 3)
    assert task.yield_() == Exit("exit", code=3)
    assert task.down is not None
    assert (task.down.name, task.down.reason, task.down.code) == (task.name, "exit", 3)


def test_c167_a_task_that_succeeds(jobs: Jobs) -> None:
    """The result, then the DOWN of the same name with reason normal; then it is no child any more."""
    task = jobs.tasks.async_nolink("taskwork:at_desk", "done")
    assert jobs.listed() == [task.name]
    asker = jobs.desk.next()
    asker.answer("done")
    asker.wait_dead()
    assert task.yield_() == Ok("done")
    assert task.down is not None
    assert (task.down.name, task.down.reason) == (task.name, "normal")
    jobs.wait_gone(task.name)


def test_c168_max_children(start: Start) -> None:
    """Beyond the limit each way of starting a task is refused, and makes no process."""
    jobs = start(max_children=1)
    task = jobs.tasks.async_("taskwork:forever")
    for begin in (jobs.tasks.async_, jobs.tasks.async_nolink, jobs.tasks.start_child):
        with pytest.raises(Refused) as refused:
            begin("taskwork:forever")
        assert refused.value.code == "max_children"
    assert jobs.listed() == [task.name]
    assert task.shutdown("brutal_kill") is None


def test_c169_wait_with_no_time(jobs: Jobs) -> None:
    """It fails with a time-out; the task goes on, and later neither its answer nor its DOWN arrives."""
    task = jobs.tasks.async_nolink("taskwork:at_desk", "late")
    with pytest.raises(CallTimeout):
        task.wait(timeout=0)
    asker = jobs.desk.next()
    asker.answer("an answer")
    asker.wait_dead()
    assert task.yield_(0) is None
    with pytest.raises(CallTimeout):
        task.wait()
    jobs.wait_gone(task.name)


def test_c170_ordered(jobs: Jobs) -> None:
    """Results in the order of the elements, however the tasks end."""
    with Clerk(jobs.desk, in_order("d c b a")):
        results = list(jobs.tasks.async_stream("taskwork:at_desk", "abcd", max_concurrency=4))
    assert results == [Ok(word) for word in "abcd"]


def test_c170_unordered(jobs: Jobs) -> None:
    """Results as the tasks end."""
    with Clerk(jobs.desk, in_order("d c b a")):
        results = list(jobs.tasks.async_stream("taskwork:at_desk", "abcd", max_concurrency=4, ordered=False))
    assert results == [Ok(word) for word in "dcba"]


def test_c170_unordered_one_at_a_time(jobs: Jobs) -> None:
    """With a concurrency of 1 that is the order of the elements."""
    with Clerk(jobs.desk, one_by_one(4)):
        results = list(jobs.tasks.async_stream("taskwork:at_desk", "abcd", max_concurrency=1, ordered=False))
    assert results == [Ok(word) for word in "abcd"]


def test_c172_taking_one_result(jobs: Jobs) -> None:
    """Whoever stops taking results leaves no task behind, and nothing that would still be told."""
    assert jobs.tasks.async_("taskwork:double", 1).wait() == 2
    before = processes.descriptors()
    with jobs.tasks.async_stream("taskwork:endless", [0, 1, 2, 3], max_concurrency=4) as results:
        assert next(results) == Ok(0)
        running = jobs.running()
    assert len(running) >= 3
    assert all(procs.is_dead(pid) for pid in running.values())
    for name in running:
        jobs.wait_gone(name)
    assert processes.descriptors() <= before


def test_c173_max_children_in_a_stream(start: Start) -> None:
    """The consumer gets the refusal; what ran was killed."""
    jobs = start(max_children=1)
    stream = jobs.tasks.async_stream("taskwork:endless", [1, 2], max_concurrency=2)
    with pytest.raises(Refused) as refused:
        next(stream)
    assert refused.value.code == "max_children"
    (exited,) = jobs.tree.stream.wait_events(lambda event: event["event"] == "exited")
    assert exited["reason"]["signal"] == "SIGKILL"
    assert jobs.listed() == []


def test_c174_a_stream_of_failures(jobs: Jobs) -> None:
    """Without links each failure is a result, in order; with the element when that is wanted."""
    results = list(jobs.tasks.async_stream_nolink("taskwork:exit_with", [1, 2, 3, 4]))
    assert results == [Exit("exit", code=code) for code in (1, 2, 3, 4)]
    results = list(jobs.tasks.async_stream_nolink("taskwork:exit_with", [5], zip_input_on_exit=True))
    assert results == [Exit("exit", code=5, input=5)]


def test_c175_restart_of_a_task(jobs: Jobs) -> None:
    """A permanent one is done again, with its arguments, after a *shutdown*; by default it is not."""
    once = jobs.tasks.start_child("taskwork:at_desk", "once")
    asker = jobs.desk.next()
    asker.answer("exit 82")
    jobs.wait_gone(once.name)
    again = jobs.tasks.start_child("taskwork:at_desk", "again", restart="permanent")
    first = jobs.desk.next()
    first.answer("exit 82")
    second = jobs.desk.next()
    assert (first.word, second.word) == ("again", "again")
    assert (first.pid, again.pid) == (again.pid, first.pid)
    assert second.pid != first.pid
    assert jobs.listed() == [again.name]
    second.answer("forever")


def test_c176_concurrency(jobs: Jobs) -> None:
    """Never more than two at a time; a third starts only after the process of one has ended."""
    most: list[int] = []

    def serve(desk: Desk) -> None:
        running: list[Asker] = []
        for _ in range(6):
            running = [asker for asker in running if not asker.is_dead]
            running.append(desk.next())
            running = [asker for asker in running if not asker.is_dead]
            most.append(len(running))
            if len(running) == 2:
                assert desk.is_empty()
                running[0].answer("done")
        running[-1].answer("done")

    with Clerk(jobs.desk, serve):
        results = list(jobs.tasks.async_stream("taskwork:at_desk", range(6), max_concurrency=2))
    assert results == [Ok("done")] * 6
    assert max(most) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"max_concurrency": 0},
        {"max_concurrency": 1.5},
        {"on_timeout": "ignore"},
        {"timeout": "5s"},
        {"timeout": -1},
        {"timeout": float("nan")},
    ],
)
def test_c177_refused_before_anything_starts(jobs: Jobs, options: dict[str, Any]) -> None:
    """Bad options are refused by the call itself: no element is pulled, no task is started."""
    pulled: list[int] = []

    def inputs() -> Iterator[int]:
        pulled.append(1)
        yield 1

    for stream in (jobs.tasks.async_stream, jobs.tasks.async_stream_nolink):
        with pytest.raises((TypeError, ValueError)):
            stream("taskwork:double", inputs(), **options)
    assert pulled == []
    assert jobs.tree.call("count_children", supervisor=JOBS)["specs"] == 0
