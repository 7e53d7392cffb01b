"""What the root tells the logger about the pipes that it holds."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from regrow.config.spec import LogRotation
from regrow.daemon import pipes
from regrow.daemon.loop import Loop
from regrow.daemon.streams import Streams
from regrow.workers.system.log_protocol import Closed, FromLogger, Hello, LoggerEnd, Lost, Open, RootEnd, ToLogger


def _ignore(*what: object) -> None:
    pass


class Logger:
    """The root's side, and the other end of the channel, where a logger would be."""

    def __init__(self, log_dir: Path) -> None:
        self.loop = Loop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.end = LoggerEnd(theirs.detach())
        self.channel = RootEnd(ours.detach())
        self.root = Streams(self.loop, self.channel, str(log_dir), _ignore, _ignore, _ignore)

    def take(self, child: str, incarnation: int, file: str = "") -> None:
        """A child is made, and prints nothing."""
        reader, writer = os.pipe()
        os.close(writer)
        self.root.take(pipes.Stream("sup", child, incarnation, LogRotation(), file=file), reader)

    def say(self, message: FromLogger) -> None:
        """The logger says this, and the root hears it."""
        self.end.send([message])
        self.hear()

    def say_alone(self, message: FromLogger) -> None:
        """The same, from a logger of before messages travelled together."""
        with socket.socket(fileno=os.dup(self.end.fileno())) as bare:
            bare.send(msgspec.msgpack.encode(message))
        self.hear()

    def hear(self) -> None:
        """The root takes what there is."""
        self.loop.call_later(0.0, self.loop.stop)
        self.loop.run()

    def opened(self) -> dict[str, bool]:
        """Which streams are opened now, each with whether its file is shared."""
        self.root.hand_on_all()
        found: dict[str, bool] = {}
        while (message := self._next()) is not None:
            assert isinstance(message, Open)
            found[f"{message.name} {message.stream}"] = message.shared
        return found

    def _next(self) -> ToLogger | None:
        try:
            received = self.end.receive()
        except BlockingIOError:
            return None
        assert received is not None
        assert received[1] is not None
        os.close(received[1])
        return received[0]

    def close(self) -> None:
        for stream in self.root.carried().streams.values():
            os.close(stream.fd)
        self.channel.close()
        self.end.close()
        self.loop.close()


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[Logger]:
    """Both ends, closed afterwards."""
    made = Logger(tmp_path)
    yield made
    made.close()


def test_a_successor_hears_which_files_are_shared(logger: Logger) -> None:
    """
    A dead logger may have left another stream's unfinished line: its successor is told of the other with the first
    of them, for it writes what that one prints before the next is there.
    """
    logger.take("web", 1)
    assert logger.opened() == {"web 1": False}
    logger.take("web", 2)
    logger.take("web", 3, file="spare")
    assert logger.opened() == {"web 2": True, "web 3": False}
    logger.say(Hello())
    assert logger.opened() == {"web 1": True, "web 2": True, "web 3": False}


def test_a_file_is_alone_again_when_the_other_stream_has_met_its_end(logger: Logger) -> None:
    """Of two streams in one file the first has ended: the second is alone in it for the next logger."""
    logger.take("web", 1)
    logger.take("web", 2)
    assert logger.opened() == {"web 1": True, "web 2": True}
    logger.say(Closed(1, ""))
    logger.say(Hello())
    assert logger.opened() == {"web 2": False}


def test_what_goes_through_an_exec_is_known_to_be_shared(logger: Logger) -> None:
    """The root that comes after takes up two streams in one file, and tells of both that they share it."""
    logger.take("web", 1)
    logger.take("web", 2)
    held = logger.root.carried()
    logger.root.take_up(held)
    assert logger.opened() == {"web 1": True, "web 2": True}
    logger.say(Closed(2, ""))
    logger.say(Hello())
    assert logger.opened() == {"web 1": False}


def test_a_logger_that_outlives_the_exec_of_its_root(logger: Logger) -> None:
    """It keeps its old code, and sends each message alone."""
    logger.take("web", 1)
    logger.opened()
    logger.say_alone(Closed(1, ""))
    logger.say_alone(Hello())
    assert logger.opened() == {}


def test_what_travels_together(logger: Logger) -> None:
    """All that fits into one packet, and the rest in the next ones, in order."""
    said: list[FromLogger] = [Closed(number, "x" * 4096) for number in range(20)]
    sent = [logger.end.send(said), logger.end.send(said[7:]), logger.end.send(said[14:])]
    assert sent == [7, 7, 6]
    heard = [logger.channel.receive() for _ in sent]
    assert [message for packet in heard for message in packet or ()] == said
    assert logger.end.send([Lost(1, 5, "y" * 60_000), Hello()]) == 1, "one that is large travels alone"
    assert logger.channel.receive() == (Lost(1, 5, "y" * 60_000),)
