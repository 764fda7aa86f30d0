"""Connections that give up where the server will never answer: psycopg's own wait for it as long as it takes."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any, TypeVar

from psycopg import AsyncConnection, Connection, waiting
from psycopg.abc import PQGen
from psycopg.rows import DictRow
from psycopg_pool import AsyncConnectionPool

from infra.pulse import ANSWER_SECONDS, DatabaseAway, Pulse, SessionLost

Result = TypeVar("Result")

INTERVAL_SECONDS = 0.1


def _watched(gen: PQGen[Result], pulse: Pulse, pid: int, *, while_away: bool) -> PQGen[Result]:
    """Lead one of psycopg's generators; whenever nothing has come for an interval, look whether it ever will.

    Raises SessionLost; DatabaseAway too, unless it shall wait `while_away`, and this process does not end.
    """
    noted = False
    try:
        wait = next(gen)
        while True:
            ready = yield wait
            if not ready:
                if not noted:
                    pulse.waits(pid, for_seconds=INTERVAL_SECONDS)
                    noted = True
                elif pulse.has_lost(pid):
                    raise SessionLost("the server does not know that it is waited for")
                if pulse.is_away and (pulse.is_ending or not while_away):
                    raise DatabaseAway("the database does not answer")
            wait = gen.send(ready)
            # What has come was no end of the connection.
            if ready and noted:
                pulse.heard(pid)
                noted = False
    except StopIteration as done:
        if noted:
            pulse.heard(pid)
            noted = False
        result: Result = done.value
        return result
    finally:
        if noted:
            pulse.forget(pid)


class WatchedConnection(Connection[DictRow]):
    """A synchronous one: it waits while the database is away, and gives up where its session is lost."""

    pulse: Pulse | None = None

    def wait(self, gen: PQGen[Any], interval: float = INTERVAL_SECONDS, timeout: float | None = None) -> Any:
        """Do as psycopg does, but raise SessionLost, and be closed then, where the server will never answer."""
        if self.pulse is None:
            return super().wait(gen, interval, timeout)
        try:
            return super().wait(_watched(gen, self.pulse, self.pgconn.backend_pid, while_away=True), interval, timeout)
        except (SessionLost, DatabaseAway):
            self.pgconn.finish()
            raise


class WatchedAsyncConnection(AsyncConnection[DictRow]):
    """The same for asynchronous use."""

    pulse: Pulse | None = None
    waits_while_away = True

    async def wait(self, gen: PQGen[Any], interval: float = INTERVAL_SECONDS, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - psycopg's
        """Do as psycopg does, but raise SessionLost or DatabaseAway, and be closed then."""
        if self.pulse is None:
            return await super().wait(gen, interval, timeout)
        watched = _watched(gen, self.pulse, self.pgconn.backend_pid, while_away=self.waits_while_away)
        try:
            return await super().wait(watched, interval, timeout)
        except (SessionLost, DatabaseAway):
            self.pgconn.finish()
            raise


class RequestConnection(WatchedAsyncConnection):
    """One of those that requests read by: nobody waits while the database is away."""

    waits_while_away = False


class ListeningConnection(AsyncConnection[DictRow]):
    """The pulse's own: it is closed when the server does not answer in time."""

    async def wait(self, gen: PQGen[Any], interval: float = INTERVAL_SECONDS / 2, timeout: float | None = None) -> Any:  # noqa: ASYNC109 - psycopg's
        """Do as psycopg does, but raise SessionLost, and be closed then, where nothing comes in time."""
        try:
            # Not as psycopg does it: where this is cancelled, nothing waits for the server to cancel the query.
            watched = _until(gen, time.monotonic() + ANSWER_SECONDS)
            return await waiting.wait_async(watched, self.pgconn.socket, interval, timeout)
        except SessionLost:
            self.pgconn.finish()
            raise


def _until(gen: PQGen[Result], deadline: float) -> PQGen[Result]:
    late = False
    try:
        wait = next(gen)
        while True:
            ready = yield wait
            if not ready:
                # Twice: where this process was held up, the answer may be there by now.
                if late:
                    raise SessionLost("the server did not answer in time")
                late = time.monotonic() > deadline
            wait = gen.send(ready)
    except StopIteration as done:
        result: Result = done.value
        return result


class RequestPool(AsyncConnectionPool[AsyncConnection[DictRow]]):
    """A pool that refuses at once while the database is away, also those who wait already.

    Call `watch` before it is opened.
    """

    _pulse: Pulse | None = None
    _waits: set[asyncio.Timeout]

    def watch(self, pulse: Pulse) -> None:
        """Go by a pulse."""
        self._pulse = pulse
        self._waits = set()
        pulse.when_away(self._refuse_waiting)

    async def getconn(self, timeout: float | None = None) -> AsyncConnection[DictRow]:  # noqa: ASYNC109 - psycopg's
        """Do as psycopg does, but raise DatabaseAway while it is."""
        if self._pulse is None:
            return await super().getconn(timeout)
        if not self._pulse.is_away:
            with suppress(TimeoutError):
                async with asyncio.timeout(None) as wait:
                    self._waits.add(wait)
                    try:
                        return await super().getconn(timeout)
                    finally:
                        self._waits.discard(wait)
        raise DatabaseAway("the database does not answer")

    def _refuse_waiting(self) -> None:
        # Each once: one that is about to end can't be ended again.
        waits, self._waits = self._waits, set()
        now = asyncio.get_running_loop().time()
        for wait in waits:
            wait.reschedule(now)
