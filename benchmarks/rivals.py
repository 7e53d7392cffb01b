"""
The same call by other means: `multiprocessing.managers`, and an actor of Ray where Ray is installed.

A manager serves each caller in a thread, an actor of Ray is called through its own scheduler; neither says of what a
process that did not answer has died. The floor is that of `call`; no processor is assigned to anybody here.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.managers import BaseManager
from typing import Any

from benchmarks.contenders import Daemon, agent, supervisor, workspace
from benchmarks.measure import Row, Size, Summary
from benchmarks.raw import Raw
from regrow.ipc import Client

PAYLOAD = "x" * 64


class Echo:
    """What is called."""

    def echo(self, text: str) -> str:
        return text


class Manager(BaseManager):
    """Serves an Echo."""


Manager.register("Echo", Echo)


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    count, rounds = size.of(500, 20), size.of(10, 2)
    with workspace() as directory, ExitStack() as stack:
        daemon = stack.enter_context(Daemon(directory, supervisor("app", ["echo"]) + agent("echo", "agents:Echo")))
        client = stack.enter_context(Client(daemon.run_dir))
        manager = stack.enter_context(Manager(ctx=get_context("spawn")))
        echo: Any = manager.Echo()  # type: ignore[attr-defined]  # made by `register`
        stack.enter_context(Raw("server", directory / "raw"))
        raw = stack.enter_context(Raw("driver", directory / "raw"))
        sides: dict[str, Callable[[], list[float]]] = {
            "floor": lambda: [float(word) for word in raw.ask(f"calls {count} {len(PAYLOAD)}").split()],
            "regrow": lambda: timed_s(lambda: client.call("echo", "echo", PAYLOAD), count),
            "multiprocessing.managers": lambda: timed_s(lambda: echo.echo(PAYLOAD), count),
        }
        if importlib.util.find_spec("ray") is not None:
            call = stack.enter_context(RayActor())
            sides["Ray"] = lambda: timed_s(call, count)
        samples: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds + 1):
            for name, side in sides.items():
                taken = side()
                if number:
                    samples[name] += (second * 1e6 for second in taken)
    floor = Summary.of(samples.pop("floor"))
    return [Row(f"call, 64 B: {name}", "µs", floor, Summary.of(taken)) for name, taken in samples.items()]


def timed_s(call: Callable[[], object], count: int) -> list[float]:
    """Seconds that each of `count` calls takes."""
    taken = []
    for _ in range(count):
        began_s = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began_s)
    return taken


class RayActor:
    """An actor of Ray on this host, while the context lasts; what it enters is the call."""

    def __enter__(self) -> Callable[[], object]:
        ray: Any = importlib.import_module("ray")
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)
        actor = ray.remote(Echo).remote()
        return lambda: ray.get(actor.echo.remote(PAYLOAD))

    def __exit__(self, *_: object) -> None:
        ray: Any = importlib.import_module("ray")
        ray.shutdown()
