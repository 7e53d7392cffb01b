"""The loop of supervisors."""

from __future__ import annotations

import os
import select

from regrow.daemon.loop import Loop


def test_a_stop_before_the_run_counts() -> None:
    """What has ended before the loop runs is not waited for: a child may have failed while it was started."""
    loop = Loop()
    loop.stop()
    loop.run()
    reader, writer = os.pipe()
    loop.watch(reader, select.EPOLLIN, lambda _events: loop.stop())
    os.write(writer, b"x")
    loop.run()
    loop.unwatch(reader)
    os.close(reader)
    os.close(writer)
    loop.close()
