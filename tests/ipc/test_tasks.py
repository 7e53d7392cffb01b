"""Tasks of a client: what they are given and give back, how they end, and whose they are."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import processes
import procs
import pytest
from taskdesk import JOBS, Asker, Jobs, jobs_tree
from wire import TIMEOUT_S

from regrow.ipc import BadRequest, CallTimeout, NoProcess, ProcessDown, Refused, RemoteError, Unreachable
from regrow.ipc.process import start_time
from regrow.ipc.task import Exit, Ok
from regrow.ipc.tasks import TaskSupervisor

OWNER = Path(__file__).parents[1] / "programs" / "task_owner.py"


def test_arguments_and_results(jobs: Jobs) -> None:
    """Whatever messages carry goes there and comes back: by position, by name, bytes, nothing at all."""
    task = jobs.tasks.async_nolink("taskwork:give_back", 1, "two", b"3", [None], four={"five": 6.5})
    assert task.wait() == [[1, "two", b"3", [None]], {"four": {"five": 6.5}}]
    assert jobs.tasks.async_("taskwork:give_back").wait(returns=tuple[list[int], dict[str, int]]) == ([], {})


def test_a_result_is_fetched_as_often_as_one_likes(jobs: Jobs) -> None:
    """`wait` and `yield_` agree, however often they are asked."""
    task = jobs.tasks.async_nolink("taskwork:double", 4)
    assert [task.wait(), task.wait(), task.yield_()] == [8, 8, Ok(8)]
    assert task.done


def test_functions_of_installed_modules(jobs: Jobs) -> None:
    """A function need not be the user's, and those written in C need not tell their parameters."""
    assert jobs.tasks.async_("math:hypot", 3.0, 4.0).wait() == 5.0
    assert jobs.tasks.async_("os.path:basename", "/a/b").wait() == "b"


def test_coroutines(jobs: Jobs) -> None:
    """An `async def` function is run to its end."""
    assert jobs.tasks.async_("taskwork:later", 5).wait() == 5


@pytest.mark.parametrize("size", [1 << 20, (1 << 24) - 100])
def test_large_arguments_and_results(jobs: Jobs, size: int) -> None:
    """Up to what a message may hold, whatever sockets hold at once."""
    assert jobs.tasks.async_("builtins:len", b"x" * size).wait() == size
    assert len(jobs.tasks.async_("taskwork:large", size).wait()) == size


def test_what_cannot_be_sent_starts_nothing(jobs: Jobs) -> None:
    """Arguments that no message can carry, or too many of them, are refused here."""
    for begin in (jobs.tasks.async_, jobs.tasks.async_nolink, jobs.tasks.start_child):
        with pytest.raises(BadRequest):
            begin("taskwork:double", object())
        with pytest.raises(BadRequest):
            begin("builtins:len", b"x" * (1 << 24))
    assert jobs.listed() == []


@pytest.mark.parametrize("function", ["double", "taskwork:", ":double", "task work:double", "a:b:c", "taskwork:1", 7])
def test_what_names_no_function_starts_nothing(jobs: Jobs, function: Any) -> None:
    """`module:function` it has to be."""
    for begin in (jobs.tasks.async_, jobs.tasks.start_child):
        with pytest.raises(ValueError, match="module:function"):
            begin(function)
    with pytest.raises(ValueError, match="module:function"):
        jobs.tasks.async_stream(function, [1])
    assert jobs.listed() == []


@pytest.mark.parametrize(
    ("function", "args", "text"),
    [
        ("nowhere:function", [], "No module named 'nowhere'"),
        ("taskwork:nothing", [], "has no attribute 'nothing'"),
        ("taskwork:__doc__", [], "it is not callable"),
        ("taskwork:boom", ["bad luck"], "ValueError: bad luck"),
        ("taskwork:double", ["two"], "$.number: expected int, got str"),
        ("taskwork:double", [1, 2], "one too many"),
        ("taskwork:object_of_no_use", [], "no message can carry this object"),
        ("taskwork:large", [1 << 24], "16777216 are the limit"),
    ],
)
def test_failures_tell_why(jobs: Jobs, function: str, args: list[Any], text: str) -> None:
    """What went wrong in the task is in the reason of its end."""
    end = jobs.tasks.async_nolink(function, *args).yield_()
    assert isinstance(end, Exit)
    assert (end.reason, end.code) == ("exception", 1)
    assert text in end.text


def test_a_result_that_is_not_what_was_expected(jobs: Jobs) -> None:
    """The caller may say what type it wants."""
    with pytest.raises(RemoteError, match="the answer is not what was expected: Expected `array`"):
        jobs.tasks.async_("taskwork:give_back", 1).wait(returns=tuple[list[int], list[int]])
    with pytest.raises(RemoteError):
        list(jobs.tasks.async_stream("taskwork:double", [1], returns=str))


def test_an_end_without_a_result(jobs: Jobs) -> None:
    """sys.exit(0) is a normal end and no result."""
    assert jobs.tasks.async_("taskwork:leave", 0).yield_() == Exit("normal", code=0)
    with pytest.raises(ProcessDown) as raised:
        jobs.tasks.async_nolink("taskwork:leave", 0).wait()
    assert raised.value.reason == "normal"


def test_a_reply_wins_over_the_death(jobs: Jobs) -> None:
    """A result that was sent counts, whatever the process died of afterwards (S246)."""
    assert jobs.tasks.async_("taskwork:result_then_death", "done").wait() == "done"
    assert list(jobs.tasks.async_stream("taskwork:result_then_death", ["a", "b"])) == [Ok("a"), Ok("b")]


def test_yield_may_be_repeated(jobs: Jobs) -> None:
    """None at the time-out, as often as it is asked; then the result."""
    task = jobs.tasks.async_nolink("taskwork:ask", jobs.desk.path, "x")
    asker = jobs.desk.next()
    assert [task.yield_(0), task.yield_(0.01), task.done] == [None, None, False]
    asker.answer("at last")
    assert task.yield_() == Ok("at last")


def test_shutdown_ends_a_task(jobs: Jobs) -> None:
    """Whether asked or killed at once, it ended by this: None, and it is no child any more."""
    for timeout in (5.0, "brutal_kill"):
        task = jobs.tasks.async_("taskwork:forever")
        assert task.shutdown(timeout) is None
        assert procs.is_dead(task.pid)
        jobs.wait_gone(task.name)
        assert task.shutdown(timeout) is None


def test_shutdown_gives_a_result_that_is_there(jobs: Jobs) -> None:
    """The result has come before the task was ended."""
    task = jobs.tasks.async_nolink("taskwork:result_then_nothing", jobs.desk.path)
    jobs.desk.next().answer("go on")
    assert task.shutdown("brutal_kill") == Ok("done")
    assert procs.is_dead(task.pid)
    task = jobs.tasks.async_nolink("taskwork:exit_with", 3)
    assert procs.wait_dead(task.pid, TIMEOUT_S)
    assert task.shutdown() == Exit("exit", code=3)


def test_shutdown_kills_what_does_not_end(jobs: Jobs) -> None:
    """After the time it is given."""
    task = jobs.tasks.async_nolink("taskwork:stubborn", jobs.desk.path)
    jobs.desk.next().answer("go on")
    assert task.shutdown(0.05) == Exit("killed", signal="SIGKILL")


def test_shutdown_after_a_time_out(jobs: Jobs) -> None:
    """A task that was given up can still be ended."""
    task = jobs.tasks.async_nolink("taskwork:forever")
    with pytest.raises(CallTimeout):
        task.wait(0.01)
    assert procs.state(task.pid) != "Z"
    assert not procs.is_dead(task.pid)
    assert task.shutdown() is None
    assert procs.is_dead(task.pid)


def test_only_the_owner_may_wait(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that inherited a task by a fork cannot (S235)."""
    task = jobs.tasks.async_nolink("taskwork:double", 1)
    monkeypatch.setattr(task, "_owner", 1)
    for wait in (task.wait, task.yield_, task.shutdown):
        with pytest.raises(RuntimeError, match="only the process that has started"):
            wait()
    monkeypatch.undo()
    assert task.wait() == 2


def test_a_task_is_temporary_and_has_five_seconds(jobs: Jobs) -> None:
    """What the supervisor knows of it (S230)."""
    task = jobs.tasks.async_nolink("taskwork:forever")
    spec = jobs.tree.call("get_childspec", supervisor=JOBS, child=task.name)
    assert (spec["restart"], spec["shutdown"]) == ("temporary", 5.0)
    brutal = TaskSupervisor(jobs.client, JOBS, shutdown="brutal_kill").async_nolink("taskwork:forever")
    spec = jobs.tree.call("get_childspec", supervisor=JOBS, child=brutal.name)
    assert spec["shutdown"] == "brutal_kill"
    for each in (task, brutal):
        each.shutdown("brutal_kill")


def test_a_supervisor_that_is_none(jobs: Jobs) -> None:
    """The daemon's refusal is the caller's."""
    with pytest.raises(Refused) as refused:
        TaskSupervisor(jobs.client, "nobody").async_("taskwork:double", 1)
    assert refused.value.code == "noproc"


def test_several_threads(jobs: Jobs) -> None:
    """They may share a supervisor, and each gets its own."""
    results: dict[int, list[int]] = {}

    def work(base: int) -> None:
        results[base] = [jobs.tasks.async_nolink("taskwork:double", base + number).wait(20.0) for number in range(8)]

    threads = [threading.Thread(target=work, args=(base,)) for base in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT_S)
    assert results == {base: [2 * (base + number) for number in range(8)] for base in (0, 100, 200)}


def test_a_closed_client(jobs: Jobs) -> None:
    """What is out then is lost, and says so; the task itself goes on."""
    task = jobs.tasks.async_nolink("taskwork:ask", jobs.desk.path, "x")
    asker = jobs.desk.next()
    jobs.client.close()
    with pytest.raises(ProcessDown) as raised:
        task.wait()
    assert raised.value.reason == "noconnection"
    assert not asker.is_dead
    asker.answer("go")
    asker.wait_dead()
    jobs.wait_gone(task.name)


def test_a_closed_client_starts_nothing(jobs: Jobs) -> None:
    """There would be nobody to get the result."""
    jobs.client.close()
    with pytest.raises(NoProcess):
        jobs.tasks.async_("taskwork:double", 1)
    assert jobs.listed() == []


def test_arguments_in_a_spec(jobs: Jobs) -> None:
    """A task without an owner may have half a mebibyte of them, and no more."""
    begun = jobs.tasks.start_child("builtins:len", b"x" * ((1 << 19) - 100))
    jobs.wait_gone(begun.name)
    with pytest.raises(BadRequest, match="limit of a spec"):
        jobs.tasks.start_child("builtins:len", b"x" * (1 << 19))


def owner(jobs: Jobs, method: str) -> tuple[subprocess.Popen[bytes], Asker]:
    """Another process, which owns a task that asks."""
    command = [sys.executable, str(OWNER), str(jobs.tree.run_dir), method, "taskwork:at_desk", "x"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    asker = jobs.desk.next()
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], TIMEOUT_S)[0]
    return process, asker


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill the owner."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_a_linked_task_dies_with_its_owner(jobs: Jobs) -> None:
    """Its supervisor calls that *shutdown* (S231, S245)."""
    process, asker = owner(jobs, "async_")
    assert not asker.is_dead
    end(process)
    asker.wait_dead()
    exited = jobs.tree.stream.wait_events(lambda event: event["event"] == "exited" and event["pid"] == asker.pid)
    assert exited[0]["reason"]["code"] == 82


def test_a_task_without_link_outlives_its_owner(jobs: Jobs) -> None:
    """It comes to its own end, and nobody minds the result."""
    process, asker = owner(jobs, "async_nolink")
    end(process)
    assert not asker.is_dead
    asker.answer("done")
    asker.wait_dead()
    exited = jobs.tree.stream.wait_events(lambda event: event["event"] == "exited" and event["pid"] == asker.pid)
    assert exited[0]["reason"]["code"] == 0


def test_a_task_whose_owner_died_before_the_job(jobs: Jobs) -> None:
    """It ends with *shutdown* and does nothing (S233)."""
    dead = subprocess.Popen(["true"])
    began = start_time(dead.pid)
    dead.wait()
    args = {"owner": "@nobody", "pid": dead.pid, "began": began, "linked": False}
    spec = {"id": "orphan", "function": "regrow.workers.task:run", "args": args, "restart": "temporary"}
    jobs.tree.call("start_child", supervisor=JOBS, spec=spec)
    exited = jobs.tree.wait("exited", "orphan")
    assert exited["reason"]["code"] == 82


def test_two_tasks_at_once(jobs: Jobs) -> None:
    """Each has its own process."""
    tasks = [jobs.tasks.async_nolink("taskwork:ask", jobs.desk.path, word) for word in "ab"]
    askers = {asker.word: asker for asker in (jobs.desk.next(), jobs.desk.next())}
    assert {askers[word].pid for word in "ab"} == {task.pid for task in tasks}
    askers["b"].answer("second")
    assert tasks[1].wait() == "second"
    assert tasks[0].yield_(0) is None
    askers["a"].answer("first")
    assert tasks[0].wait() == "first"


def test_the_daemon_dies() -> None:
    """Its tasks die with it, and those who wait are told; why it was, nobody knows any more."""
    others = frozenset(processes.children())
    with jobs_tree() as jobs:
        task = jobs.tasks.async_nolink("taskwork:forever")
        root = jobs.tree.call("ping")["pid"]
        procs.kill(root)
        with pytest.raises(ProcessDown) as raised:
            task.wait(TIMEOUT_S)
        assert raised.value.reason == "unknown"
        assert task.shutdown() == Exit("unknown")
        with pytest.raises(Unreachable):
            jobs.tasks.async_nolink("taskwork:forever")
        jobs.tree.wait_exit()
        processes.await_no_children(keep=others)


def test_descriptors_are_given_back(jobs: Jobs) -> None:
    """A task costs none once it has ended."""
    assert jobs.tasks.async_("taskwork:double", 1).wait() == 2
    before = len(processes.descriptors())
    for number in range(10):
        assert jobs.tasks.async_("taskwork:double", number).wait() == 2 * number
    assert len(processes.descriptors()) <= before + 1
