"""Keeps the asynchronous views up with the logs: takes word from its feed, and brings each projection forward."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection

from projections.dead_letters import TooManyDeadLetters
from projections.following import Follower
from workers.feed import Feed
from workers.lease import Lease
from workers.log_reader import UsageWatch

log = logging.getLogger(__name__)

WORKER = "projector"

LOOK_SECONDS = 2.0
"""After so long without word, the logs are looked at all the same."""
STANDBY_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0


_ENDS = """
    SELECT coalesce((SELECT max(notification_id) FROM licensing_events), 0) AS events,
        CASE WHEN is_called THEN last_value ELSE 0 END AS usage
    FROM usage_id_seq
"""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one turn did. Positions are the least of all projections that follow the log; `more`: there may be more."""

    held: bool
    more: bool = False
    event_position: int = 0
    usage_position: int = 0


class Projector:
    """Owns its connection and, while it holds the lease, its feed. `connect` gives a synchronous connection."""

    def __init__(
        self,
        connect: Callable[[], Connection[Any]],
        followers: Sequence[Follower],
        open_feed: Callable[[], Feed],
    ) -> None:
        self._connect = connect
        self._followers = followers
        self._open_feed = open_feed
        self._lease = Lease(WORKER)
        self._connection: Connection[Any] | None = None
        self._feed: Feed | None = None
        self._pause = FIRST_PAUSE_SECONDS
        self._usage = UsageWatch()
        self._events_end = -1
        self._last = _Turn(held=False)
        self._said = ""

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
        except (psycopg.Error, OSError, TooManyDeadLetters) as error:
            self._say(logging.WARNING, f"waits: {str(error).splitlines()[0] if str(error) else repr(error)}")
            await asyncio.to_thread(self._disconnect)
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE_SECONDS)
            return
        self._pause = FIRST_PAUSE_SECONDS
        self._say(logging.INFO, "works" if turn.held else "stands by")
        if not turn.held:
            await self._close_feed()
            await asyncio.sleep(STANDBY_SECONDS)
            return
        if self._feed is None:
            self._feed = self._open_feed()
        await self._feed.settle(turn.event_position, turn.usage_position, caught_up=not turn.more)
        if not turn.more:
            await self._feed.wait(LOOK_SECONDS)

    def _say(self, level: int, what: str) -> None:
        """Log what is going on where it is something else than before: an outage is one line, not one every turn."""
        if what != self._said:
            self._said = what
            log.log(level, "the projector %s", what)

    def _turn(self) -> _Turn:
        """Bring each projection forward by one batch of each log. Runs in a thread."""
        if self._connection is None:
            self._connection = self._connect()
        connection = self._connection
        if not self._lease.hold_now(connection):
            self._last = _Turn(held=False)
            return self._last
        if self._last.held and not self._last.more and not self._may_have_news(connection):
            return self._last
        more = False
        failed: Exception | None = None
        reached: dict[str, list[int]] = {"events": [], "usage": []}
        for follower in self._followers:
            try:
                for name in follower.projection.logs:
                    step = follower.step(connection, name)
                    more |= step.more
                    reached[name].append(step.position)
            except (psycopg.Error, TooManyDeadLetters) as error:
                if connection.closed or isinstance(error, psycopg.errors.LockNotAvailable):
                    raise
                # What is wrong with one view holds up none of the others.
                failed = failed or error
        if failed is not None:
            raise failed
        self._last = _Turn(
            held=True,
            more=more,
            event_position=min(reached["events"], default=0),
            usage_position=min(reached["usage"], default=0),
        )
        return self._last

    def _may_have_news(self, connection: Connection[Any]) -> bool:
        row = connection.execute(_ENDS).fetchone()
        assert row is not None
        events_moved = row["events"] != self._events_end
        self._events_end = row["events"]
        return self._usage.may_have_news(row["usage"]) or events_moved

    async def _close_feed(self) -> None:
        if self._feed is not None:
            await self._feed.close()
            self._feed = None

    def _disconnect(self) -> None:
        if self._connection is None:
            return
        with suppress(psycopg.Error):
            self._lease.give_up_now(self._connection)
        self._connection.close()
        self._connection = None
        self._last = _Turn(held=False)


async def _to_its_end(work: Callable[[], _Turn]) -> _Turn:
    """Run in a thread. A cancellation waits for it, since the connection is the thread's."""
    task = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise
