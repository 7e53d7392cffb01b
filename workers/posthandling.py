"""
What a runtime does with the posts to its agent, one after the other: handle, or put away what cannot be.

Source: architecture section 7.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from regrow.ipc.deadletters import Cause
from regrow.ipc.errors import Backpressure, StoreError
from regrow.ipc.mailbox import unknown_handler
from regrow.ipc.posts import BOX_IS_FULL, TOO_MANY_PUT_OFF
from regrow.ipc.transaction import Overtaken, Transaction
from regrow.workers.box import BATCH_S, Entry, NotNow, PostBox
from regrow.workers.doorkeeper import Doorkeeper
from regrow.workers.handlers import Handler
from regrow.workers.mismatch import BadArguments
from regrow.workers.unit import UNIT, Owner, Unit


class PostHandling:
    """
    Args:
        exits: is told of a handler's `sys.exit()`.
        is_over: whether nothing more is to be begun.
    """

    def __init__(
        self,
        agent: Any,
        handlers: Mapping[str, Handler],
        box: PostBox,
        owner: Owner,
        exits: Callable[[SystemExit], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._agent = agent
        self._handlers = handlers
        self._replies = type(agent).replies
        self._box = box
        self._owner = owner
        self._exits = exits
        self._is_over = is_over
        self.next_s = 0.0
        """When it is their turn again (monotonic), if there are other messages as well."""

    def handle_some(self, unit: Unit, keeper: Doorkeeper) -> None:
        """Handle posts for a while, and commit what they have done; for handlers that are plain functions."""
        box = self._box
        self._enter(unit)
        try:
            while not self._is_over() and (entry := box.next()) is not None:
                keeper.task = entry
                if keeper.is_parked:
                    keeper.unpark()
                found = self._prepare(entry)
                if found is not None:
                    handler, values = found
                    try:
                        handler.function(self._agent, *values)
                        self._finish(entry, unit)
                    except (Exception, SystemExit) as error:  # noqa: BLE001 - let it crash, with a record of it
                        self._failed(entry, unit, error)
                    except BaseException:
                        box.leave_open()
                        raise
                if box.is_batch_over():
                    break
            box.commit()
        except (StoreError, Overtaken, NotNow) as error:
            self._undone(unit, error)
        finally:
            keeper.task = None
            self._leave(unit)
            self.next_s = time.monotonic() + BATCH_S

    async def handle_some_async(self) -> None:
        """The same, for handlers of which some are `async def`; each post is committed on its own."""
        from asyncio import CancelledError

        box = self._box
        unit = Unit(self._owner)
        UNIT.set(unit)
        self._enter(unit)
        end_s = time.monotonic() + BATCH_S
        try:
            while not self._is_over() and (entry := box.next()) is not None:
                found = self._prepare(entry)
                if found is not None:
                    handler, values = found
                    try:
                        result = handler.function(self._agent, *values)
                        if handler.is_async:
                            await result
                        self._finish(entry, unit)
                    except (Exception, SystemExit, CancelledError) as error:  # noqa: BLE001 - let it crash, with a record of it
                        self._failed(entry, unit, error)
                    except BaseException:
                        box.leave_open()
                        raise
                box.commit()
                if time.monotonic() >= end_s:
                    break
        except (StoreError, Overtaken, NotNow) as error:
            self._undone(unit, error)
        finally:
            unit.is_over = True

    def _enter(self, unit: Unit) -> None:
        unit.transaction = Transaction(self._box.batch)
        unit.keep = self._box.commit

    def _leave(self, unit: Unit) -> None:
        unit.transaction = Transaction()
        unit.keep = unit.keep_alone

    def _prepare(self, entry: Entry) -> tuple[Handler, tuple[Any, ...]] | None:
        """The handler and its arguments; None: there is none, or they do not fit."""
        post = entry.post
        handler = self._handlers.get(post.handler)
        if handler is None:
            text = unknown_handler(post.handler, type(self._agent).__name__, self._handlers)
            self._box.bury(entry, Cause.BAD_REQUEST, text)
            return None
        try:
            return handler, handler.arguments(post.args, post.kwargs)
        except BadArguments as error:
            self._box.bury(entry, Cause.BAD_REQUEST, error.text)
            return None

    def _finish(self, entry: Entry, unit: Unit) -> None:
        if unit.is_used:
            unit.settle()
        self._box.done(entry, unit.transaction)
        unit.renew()

    def _failed(self, entry: Entry, unit: Unit, error: BaseException) -> None:
        """Put it on record. What belongs to the sender ends here; anything else ends the agent."""
        unit.roll_back()
        if isinstance(error, (StoreError, Overtaken)):
            raise error
        if isinstance(error, self._replies):
            self._box.bury(entry, Cause.REFUSED, "".join(traceback.format_exception_only(error)).strip())
            return
        if isinstance(error, Backpressure) and error.where in (BOX_IS_FULL, TOO_MANY_PUT_OFF):
            raise NotNow(str(error))  # it would have to be posted on, and takes its turn again
        with suppress(StoreError):  # the next incarnation does it, before it handles any
            if isinstance(error, SystemExit):
                self._box.fail(entry, "exit", f"sys.exit({error.code!r})")
            else:
                self._box.fail(entry, "exception", "".join(traceback.format_exception(error)))
        if not isinstance(error, SystemExit):
            raise error
        self._exits(error)

    def _undone(self, unit: Unit, error: StoreError | Overtaken | NotNow) -> None:
        self._box.give_up(None if isinstance(error, Overtaken) else error)
        unit.roll_back()  # now it reads what is in the store
