"""Keeps the asynchronous views up with the logs: takes word from its feed, and brings each projection forward."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg import Connection

from projections.dead_letters import TooManyDeadLetters
from projections.following import Follower
from workers.feed import Feed
from workers.turns import Turn, Turns

WORKER = "projector"


class Projector(Turns):
    """Brings each projection forward by one batch of each log a turn."""

    TITLE = "projector"

    def __init__(
        self,
        connect: Callable[[], Connection[Any]],
        followers: Sequence[Follower],
        open_feed: Callable[[], Feed],
    ) -> None:
        super().__init__(WORKER, connect, open_feed)
        self._followers = followers
        self._last: Turn | None = None

    def _forget(self) -> None:
        self._last = None

    def _work(self, connection: Connection[Any]) -> Turn:
        if self._last is not None and not self._last.more and not self._may_have_news(connection):
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
        self._last = Turn(
            more=more,
            caught_up=not more,
            event_position=min(reached["events"], default=0),
            usage_position=min(reached["usage"], default=0),
        )
        return self._last
