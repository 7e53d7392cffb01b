"""
Posting from an event loop: the loop never waits for the store, and what is posted meanwhile is committed together.

Source: architecture section 7.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar

from regrow.ipc.post_batch import kept
from regrow.ipc.posting import Posting
from regrow.ipc.transaction import Outgoing, Transaction

_OPEN: ContextVar[Together | None] = ContextVar("together", default=None)


class Together:
    """What one task posts in a block, until its end."""

    __slots__ = ("task", "transaction", "whose")

    def __init__(self, whose: AsyncPosting) -> None:
        self.whose = whose
        self.task = asyncio.current_task()
        self.transaction = Transaction()


class AsyncPosting:
    """The posts of one event loop, in the order in which `post` is called."""

    def __init__(self, posting: Posting) -> None:
        self.posting = posting
        self.write = posting.write
        self._waiting: list[tuple[Callable[[], Outgoing], asyncio.Future[str]]] = []
        self._busy: asyncio.Task[None] | None = None
        self._commit: asyncio.Future[list[str | Exception]] | None = None
        """That of a thread, which goes on when whoever awaits it is cancelled."""

    async def post(self, make: Callable[[], Outgoing]) -> str:
        """
        Keep what `make` returns, which is called in another thread; returns its id.

        Cancelled, it may be kept all the same.

        Raises:
            what `make` raises; StoreError.
        """
        together = _OPEN.get()
        if together is not None and together.whose is self and together.task is asyncio.current_task():
            out = await asyncio.to_thread(make)
            together.transaction.post(out)
            return out.id
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append((make, future))
        if self._busy is None:
            self._busy = asyncio.create_task(self._work())
        return await future

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:
        """
        What this task posts inside is kept at the end, all together; nothing of it when the block raises.

        Raises:
            StoreError: nothing was kept.
        """
        outer = _OPEN.get()
        if outer is not None and outer.whose is self and outer.task is asyncio.current_task():
            raise RuntimeError("a transaction of this task is open already")
        together = Together(self)
        token = _OPEN.set(together)
        try:
            yield
        finally:
            _OPEN.reset(token)
        if together.transaction:
            await asyncio.to_thread(self.posting.commit, together.transaction)

    async def close(self) -> None:
        """Wait for what is being committed, and let go of the store."""
        if self._busy is not None:
            await asyncio.wait((self._busy,))
        await self._committed()
        self.posting.close()

    async def _committed(self) -> None:
        if self._commit is not None and not self._commit.done():
            await asyncio.wait((self._commit,))

    async def _work(self) -> None:
        """Commit what waits, again and again until nothing does."""
        batch: list[tuple[Callable[[], Outgoing], asyncio.Future[str]]] = []
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                await self._committed()
                batch, self._waiting = self._waiting, []
                self._commit = loop.run_in_executor(None, kept, self.posting, [make for make, _ in batch])
                outcomes = await asyncio.shield(self._commit)
                for (_, future), outcome in zip(batch, outcomes, strict=True):
                    if future.done():
                        continue  # whoever awaited it was cancelled
                    if isinstance(outcome, str):
                        future.set_result(outcome)
                    else:
                        future.set_exception(outcome)
        finally:  # somebody may cancel all tasks that there are: nobody waits for this one then
            self._busy = None
            for _, future in (*batch, *self._waiting):
                future.cancel()
            self._waiting.clear()
