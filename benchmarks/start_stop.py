"""
500 commands of one parallel supervisor: started until all are ready, stopped until all are gone.

Measured on the control socket of a running daemon, from the request to its answer; starting includes the process of
the supervisor. Floors: a loop of `posix_spawn`, which returns when the program runs; a loop of `pidfd_send_signal`,
then one of `waitid`.
"""

from __future__ import annotations

from benchmarks.contenders import Daemon, Floor, command, supervisor, workspace
from benchmarks.measure import Row, Sample, Size, Summary, interleave, ratio_row, timed_ms
from benchmarks.programs import Announcements, tiny_program

COUNT = 500


def measure(size: Size) -> list[Row]:
    """The rows of this benchmark."""
    with workspace() as directory:
        program = tiny_program(directory)
        heard = {kind: Announcements(directory / f"{kind}.fifo") for kind in ("floor", "regrow")}
        tables = supervisor("app", ["many"]) + supervisor("many", ["one"], 'start = "parallel"')
        tables += command("one", program, heard["regrow"].path, COUNT)
        with Floor("batch", COUNT, program, heard["floor"].path) as floor, Daemon(directory, tables) as daemon:
            heard["regrow"].next(COUNT)
            daemon.call("stop", names=["many"], timeout_s=60.0)
            found = interleave(
                {
                    "floor start": lambda: timed_ms(lambda: floor.ask("start")),
                    "floor stop": after(heard["floor"], lambda: timed_ms(lambda: floor.ask("stop"))),
                    "regrow start": lambda: timed_ms(lambda: daemon.call("start", names=["many"], timeout_s=60.0)),
                    "regrow stop": after(
                        heard["regrow"], lambda: timed_ms(lambda: daemon.call("stop", names=["many"], timeout_s=60.0))
                    ),
                },
                size.of(15, 2),
                settle_s=0.3,
            )
    return rows(found)


def after(heard: Announcements, sample: Sample) -> Sample:
    """The sample once all processes have announced themselves."""

    def both() -> float:
        heard.next(COUNT)
        return sample()

    return both


def rows(found: dict[str, Summary]) -> list[Row]:
    """Both directions."""
    return [
        ratio_row(f"{COUNT} commands: start until all ready", "ms", found["floor start"], found["regrow start"], 1.5),
        ratio_row(f"{COUNT} commands: stop until all gone", "ms", found["floor stop"], found["regrow stop"], 3),
    ]
