"""
What a runtime does with the posts to its agent, one after the other: handle, or put away what cannot be.

Source: architecture section 7.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from regrow.ipc.deadletters import Cause
from regrow.ipc.errors import Backpressure, StoreError
from regrow.ipc.mailbox import unknown_handler
from regrow.ipc.posting import process
from regrow.ipc.posts import BOX_IS_FULL, TOO_MANY_PUT_OFF, Post
from regrow.ipc.transaction import Overtaken, Transaction
from regrow.workers.box import BATCH_S, NotNow, PostBox
from regrow.workers.doorkeeper import Doorkeeper
from regrow.workers.handlers import Handler
from regrow.workers.mismatch import BadArguments
from regrow.workers.unit import UNIT, Owner, Unit


class Life(Protocol):
    """The agent's, as far as posts are concerned."""

    @property
    def ending(self) -> object | None:
        """Why it ends: nothing more is to be begun then."""

    def exits(self, error: SystemExit) -> None:
        """A handler has called `sys.exit()`."""


class PostHandling:
    """The posts of one agent."""

    def __init__(
        self,
        agent: Any,
        handlers: Mapping[str, Handler],
        box: PostBox,
        owner: Owner,
        life: Life,
    ) -> None:
        self._agent = agent
        self._handlers = handlers
        self._replies = type(agent).replies
        self._box = box
        self._owner = owner
        self._life = life
        self.next_s = 0.0
        """When it is their turn again (monotonic), if there are other messages as well."""

    def handle_some(self, unit: Unit, keeper: Doorkeeper) -> None:
        """Handle posts for a while, and commit what they have done; for handlers that are plain functions."""
        box, agent, handlers, life = self._box, self._agent, self._handlers, self._life
        self._enter(unit)
        try:
            while life.ending is None and (post := box.next()) is not None:
                keeper.task = post
                if keeper.is_parked:
                    keeper.unpark()
                handler = handlers.get(post.handler)
                if handler is None:
                    self._nobody(post)
                    continue
                try:
                    handler.function(agent, *handler.arguments(post.args, post.kwargs))
                    is_lent = unit.is_used and unit.settle()
                    box.done(unit.transaction)
                    if is_lent:
                        unit.renew()
                except BadArguments as error:
                    unit.roll_back()
                    box.bury(post, Cause.BAD_REQUEST, error.text)
                except (Exception, SystemExit) as error:  # noqa: BLE001 - let it crash, with a record of it
                    self._failed(post, unit, error)
                except BaseException:
                    box.leave_open()
                    raise
            box.commit()
        except (StoreError, Overtaken, NotNow) as error:
            self._undone(unit, error)
        finally:
            keeper.task = None
            self._leave(unit)
            self.next_s = time.monotonic() + BATCH_S

    async def handle_some_async(self) -> None:
        """The same, for handlers of which some are `async def`; each post is committed on its own."""
        box = self._box
        unit = Unit(self._owner)
        UNIT.set(unit)
        self._enter(unit)
        end_s = time.monotonic() + BATCH_S
        try:
            while self._life.ending is None and (post := box.next()) is not None:
                handler = self._handlers.get(post.handler)
                if handler is None:
                    self._nobody(post)
                else:
                    await self._handle(post, handler, unit)
                box.commit()
                if time.monotonic() >= end_s:
                    break
            box.commit()  # what was put away behind the last one
        except (StoreError, Overtaken, NotNow) as error:
            self._undone(unit, error)
        finally:
            unit.is_over = True

    async def _handle(self, post: Post, handler: Handler, unit: Unit) -> None:
        from asyncio import CancelledError

        try:
            values = handler.arguments(post.args, post.kwargs)
            try:
                result = handler.function(self._agent, *values)
                if handler.is_async:
                    await result
            finally:
                process.end_if_forked(self._owner.pid, self._owner.name)
            if unit.is_used:
                unit.settle()
            self._box.done(unit.transaction)
            unit.renew()
        except BadArguments as error:
            unit.roll_back()
            self._box.bury(post, Cause.BAD_REQUEST, error.text)
        except (Exception, SystemExit, CancelledError) as error:  # noqa: BLE001 - let it crash, with a record of it
            self._failed(post, unit, error)
        except BaseException:
            self._box.leave_open()
            raise

    def _enter(self, unit: Unit) -> None:
        unit.transaction = Transaction(self._box.batch)
        unit.keep = self._box.commit

    def _leave(self, unit: Unit) -> None:
        unit.transaction = Transaction()
        unit.keep = unit.keep_alone
        unit.renew()

    def _nobody(self, post: Post) -> None:
        """Put away what no handler is there for."""
        text = unknown_handler(post.handler, type(self._agent), self._handlers)
        self._box.bury(post, Cause.BAD_REQUEST, text)

    def _failed(self, post: Post, unit: Unit, error: BaseException) -> None:
        """Put it on record. What belongs to the sender ends here; anything else ends the agent."""
        unit.roll_back()
        if isinstance(error, (StoreError, Overtaken)):
            raise error
        if isinstance(error, self._replies):
            self._box.bury(post, Cause.REFUSED, "".join(traceback.format_exception_only(error)).strip())
            return
        if isinstance(error, Backpressure) and error.where in (BOX_IS_FULL, TOO_MANY_PUT_OFF):
            raise NotNow(str(error))  # it would have to be posted on, and takes its turn again
        with suppress(StoreError):  # the next incarnation does it, before it handles any
            if isinstance(error, SystemExit):
                self._box.fail(post, "exit", f"sys.exit({error.code!r})")
            else:
                self._box.fail(post, "exception", "".join(traceback.format_exception(error)))
        if not isinstance(error, SystemExit):
            raise error
        self._life.exits(error)

    def _undone(self, unit: Unit, error: StoreError | Overtaken | NotNow) -> None:
        self._box.give_up(None if isinstance(error, Overtaken) else error)
        unit.roll_back()  # now it reads what is in the store
