"""How a worker follows the logs: while it holds its lease, turn after turn in a thread, each when there is word."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import psycopg
from psycopg import Connection

from projections.behaviour import MovedByAnother
from projections.dead_letters import TooManyDeadLetters
from workers.feed import Feed
from workers.lease import Lease
from workers.log_reader import ENDS, UsageWatch

log = logging.getLogger(__name__)

LOOK_SECONDS = 2.0
"""After so long without word, the logs are looked at all the same."""
STANDBY_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn did.

    Up to the positions all is applied; `more`: there may be more to do at once. `caught_up`: nothing is beyond them.
    """

    more: bool = False
    caught_up: bool = False
    event_position: int = 0
    usage_position: int = 0


class Turns(ABC):
    """Owns its connection and, while it holds the lease, its feed. `connect` gives a synchronous connection.

    `pause_seconds` is waited between two turns where the last one left nothing to do.
    """

    TITLE: ClassVar[str]
    """What log lines call it."""

    def __init__(
        self,
        worker: str,
        connect: Callable[[], Connection[Any]],
        open_feed: Callable[[], Feed],
        pause_seconds: float = 0.0,
    ) -> None:
        self._connect = connect
        self._open_feed = open_feed
        self._pause_seconds = pause_seconds
        self._lease = Lease(worker)
        self._connection: Connection[Any] | None = None
        self._feed: Feed | None = None
        self._retry_pause = FIRST_PAUSE_SECONDS
        self._usage = UsageWatch()
        self._events_end = -1
        self._said = ""

    @abstractmethod
    def _work(self, connection: Connection[Any]) -> Turn:
        """Do what there is to do, up to one batch of each log. Called in a thread, one at a time, with the lease."""

    @abstractmethod
    def _forget(self) -> None:
        """Forget what was in memory: another process may work now, or the last commit may have been lost."""

    async def run(self) -> None:
        """Work until cancelled; what is under way is finished first."""
        try:
            while True:
                await self._once()
        finally:
            await self._close_feed()
            await asyncio.to_thread(self._disconnect)

    async def _once(self) -> None:
        try:
            turn = await _to_its_end(self._turn)
        except (psycopg.Error, OSError, TooManyDeadLetters, MovedByAnother) as error:
            self._say(logging.WARNING, f"waits: {str(error).splitlines()[0] if str(error) else repr(error)}")
            await asyncio.to_thread(self._disconnect)
            await asyncio.sleep(self._retry_pause)
            self._retry_pause = min(self._retry_pause * 2, LONGEST_PAUSE_SECONDS)
            return
        self._retry_pause = FIRST_PAUSE_SECONDS
        self._say(logging.INFO, "works" if turn is not None else "stands by")
        if turn is None:
            await self._close_feed()
            await asyncio.sleep(STANDBY_SECONDS)
            return
        if self._feed is None:
            self._feed = self._open_feed()
        await self._feed.settle(turn.event_position, turn.usage_position, caught_up=turn.caught_up)
        if not turn.more:
            await asyncio.sleep(self._pause_seconds)
            await self._feed.wait(LOOK_SECONDS)

    def _say(self, level: int, what: str) -> None:
        """Log what is going on where it is something else than before: an outage is one line, not one every turn."""
        if what != self._said:
            self._said = what
            log.log(level, "the %s %s", self.TITLE, what)

    def _turn(self) -> Turn | None:
        """Take a turn; None where another process holds the lease. Runs in a thread."""
        if self._connection is None:
            self._connection = self._connect()
        if not self._lease.hold_now(self._connection):
            self._forget()
            return None
        return self._work(self._connection)

    def _may_have_news(self, connection: Connection[Any]) -> bool:
        """Tell whether the logs are worth a look."""
        row = connection.execute(ENDS).fetchone()
        assert row is not None
        events_moved = row["events"] != self._events_end
        self._events_end = row["events"]
        return self._usage.may_have_news(row["usage"]) or events_moved

    async def _close_feed(self) -> None:
        if self._feed is not None:
            await self._feed.close()
            self._feed = None

    def _disconnect(self) -> None:
        self._forget()
        if self._connection is None:
            return
        with suppress(psycopg.Error):
            self._lease.give_up_now(self._connection)
        self._connection.close()
        self._connection = None


async def _to_its_end(work: Callable[[], Turn | None]) -> Turn | None:
    """Run in a thread. A cancellation waits for it, since the connection is the thread's."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
