"""The usage log's writer: one COPY a round, and the check that keeps cached standings honest.

A request adds its row to the round that is gathering and awaits that round's one future. In the round trip that
stores the rows, the log's changes are read first; rows that rest on a changed standing are handed back instead of
stored, and their requests decide again. So an answer reflects every change that was committed before its request came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any, Protocol
from uuid import UUID, uuid4

import psycopg
from psycopg import AsyncConnection, Connection

from commands.recorder import terminate_stale_holders
from commands.usage_connection import USAGE_LOCK, Change, Sessions, UsageConnection

log = logging.getLogger(__name__)

MAX_QUEUED_ROWS = 200_000
"""Rows that wait while the database is away; the oldest are dropped first, and counted."""

MAX_ROUND_ROWS = 10_000
"""Rows of one COPY. One that takes as long as others wait for the lock would be ended by them, again and again."""

RECONNECT_SECONDS = 0.25
LOOK_SECONDS = 5.0
"""How often the log is looked at where nobody asks: whoever was erased is to be forgotten by all processes."""
STOP_SECONDS = 5.0
"""How long the last rows may take to be stored when the process ends."""

Checks = tuple[tuple[UUID, int], ...]
"""Aggregates that a row rests on, each with the log position at which it was read."""


class ChangeWatch(Protocol):
    """Knows which aggregates have changed; see projections.log_watch."""

    def query(self) -> str:
        """Return the SQL that selects the changes that were committed since the last time."""

    def learn(self, changes: Sequence[Change]) -> None:
        """Take note of what the query gave."""

    def changed_since(self, aggregate_id: UUID, position: int) -> bool:
        """Tell whether the aggregate has an event after a position."""


@dataclass(slots=True)
class UsageStats:
    """Counts since the start, for metrics."""

    rows: int = 0
    rounds: int = 0
    dropped: int = 0
    timeouts: int = 0
    reconnects: int = 0


class RoundFuture(asyncio.Future[frozenset[int] | None]):
    """Awaited by many requests: one of them being cancelled must not cancel it for the others.

    Its result is the indexes of the rows that rest on a changed standing; None where the round did not find out in
    time. Whether such a row is stored is for its request to say then, by `UsageLog.settle`, of the `round`.
    """

    round: _Round
    """Where the result is None; for good it would be a cycle, which only a collection frees."""

    def cancel(self, msg: Any = None) -> bool:
        """Refuse to be cancelled."""
        del msg
        return False


class _Round:
    """Rows that are dealt with together. They are its own until `stale` is known, or it has failed or is late."""

    __slots__ = ("entries", "future", "is_left", "kept", "stale", "timer")

    timer: asyncio.TimerHandle

    def __init__(self, future: RoundFuture) -> None:
        self.entries: list[tuple[Checks, bytes]] = []
        self.future = future
        self.stale: frozenset[int] | None = None
        self.kept: set[int] = set()
        self.is_left = False

    def resolve(self) -> bool:
        """Tell those who wait what is known; return False where they were told before."""
        self.timer.cancel()
        if self.future.done():
            return False
        if self.stale is None:
            self.future.round = self
        self.future.set_result(self.stale)
        return True

    def leave(self) -> list[bytes]:
        """Return the rows whose requests have said that they are kept; the others' requests still will, or will not.

        Rows that rest on nothing are kept whatever has changed.
        """
        self.is_left = True
        return [
            line for index, (checks, line) in enumerate(self.entries) if line and (not checks or index in self.kept)
        ]


class UsageLog:
    """Owns a task and its connection. All of it runs on one event loop, and is used from there only."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[AsyncConnection[Any]]],
        connect_login: Callable[[], Connection[Any]],
        watch: ChangeWatch,
        wait_seconds: float = 0.25,
        sessions: Sessions | None = None,
    ) -> None:
        self._connect = connect
        self._connect_login = connect_login
        self._watch = watch
        self._wait_seconds = wait_seconds
        self._sessions = sessions
        self._gathering: _Round | None = None
        self._under_way: _Round | None = None
        self._queued: list[bytes] = []
        self._settled: list[bytes] = []
        self._unsure: list[bytes] = []
        self._writer_id = uuid4()
        self._number = 0
        self._at_once = MAX_ROUND_ROWS
        self._wake = asyncio.Event()
        self._stopping = False
        self._connection: UsageConnection | None = None
        self._task: asyncio.Task[None] | None = None
        self.is_down = False
        self.is_stuck = False
        self.stats = UsageStats()

    def start(self) -> None:
        """Start the task. Call it with a running event loop."""
        self._task = asyncio.create_task(self._run(), name="usage log")

    async def stop(self) -> None:
        """Store what is queued, if the database lets us in five seconds, then end the task."""
        self._stopping = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=STOP_SECONDS)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.stats.dropped += self.queued()
        if self._connection is not None:
            await self._connection.close()

    def append(self, checks: Checks, line: bytes) -> tuple[RoundFuture, int]:
        """Add a row that rests on what `checks` names; return the round's future and the row's index.

        An empty line stores nothing and only asks whether something has changed.
        """
        round_ = self._gathering
        if round_ is None:
            round_ = self._gathering = self._new_round()
            self._wake.set()
        if len(round_.entries) >= MAX_QUEUED_ROWS:
            # The database hangs, and memory has an end: nothing is known of this row, and it is not kept.
            self.stats.dropped += 1
            return round_.future, -1
        round_.entries.append((checks, line))
        return round_.future, len(round_.entries) - 1

    def settle(self, future: RoundFuture, index: int) -> None:
        """Have a row stored whose round had no result: its request is answered by it."""
        round_ = future.round
        checks, line = round_.entries[index] if index >= 0 else ((), b"")
        if not checks or not line:
            return
        if not round_.is_left:
            round_.kept.add(index)
        else:
            # Not to those that are queued: some of them may be on their way just now.
            self._settled.append(line)
            self._wake.set()

    async def is_current(self, aggregate_id: UUID, position: int) -> bool | None:
        """Tell whether what was read of an aggregate at `position` still holds; None where the database is away."""
        future, index = self.append(((aggregate_id, position),), b"")
        stale = await future
        return None if stale is None else index not in stale

    def give_up_waiting(self) -> None:
        """Let nobody wait any longer for what is gathered or under way: the database is away. Rows are settled then."""
        for round_ in (self._gathering, self._under_way):
            if round_ is not None:
                self._give_up(round_)

    def queued(self) -> int:
        """Rows that wait to be stored."""
        waiting = len(self._queued) + len(self._settled) + len(self._unsure)
        return waiting + (len(self._gathering.entries) if self._gathering else 0)

    def _new_round(self) -> _Round:
        loop = asyncio.get_running_loop()
        round_ = _Round(RoundFuture(loop=loop))
        round_.timer = loop.call_later(self._wait_seconds, self._give_up, round_)
        if self._sessions is not None and self._sessions.is_away:
            self._give_up(round_)
        return round_

    def _give_up(self, round_: _Round) -> None:
        # What has changed may be known by now, though the rows are not stored yet.
        if round_.resolve():
            self.stats.timeouts += 1

    async def _run(self) -> None:
        while not (self._stopping and self.queued() == 0 and self._gathering is None):
            if self._gathering is None and not self._stopping:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), RECONNECT_SECONDS if self._has_to_try() else LOOK_SECONDS)
            is_due = not self._wake.is_set()
            if self.is_down and self._sessions is not None and self._sessions.is_away and not self._stopping:
                # Nobody waits for it, and a server that is just starting has better things to do than to refuse.
                await asyncio.sleep(RECONNECT_SECONDS)
            self._wake.clear()
            round_, self._gathering = self._gathering, None
            if round_ is not None or self._has_to_try() or is_due:
                await self._carry_out_safely(round_)
            if self._stopping and (self.is_down or self.is_stuck):
                return

    def _has_to_try(self) -> bool:
        """Tell whether the database must be tried though nobody asks: who is not ready gets no requests."""
        return bool(self._queued or self._settled or self._unsure) or self.is_down or self.is_stuck

    async def _carry_out_safely(self, round_: _Round | None) -> None:
        self._under_way = round_
        try:
            await self._carry_out(round_)
        except Exception:
            # Whatever it is, the next round begins on a new connection: this task must not end before the process.
            log.exception("a round of the usage log failed")
            self.is_stuck = True
            await self._disconnect()
            self._leave(round_)

    async def _carry_out(self, round_: _Round | None) -> None:
        entries = round_.entries if round_ else []
        self._take_settled()

        def learn(changes: list[Change]) -> list[bytes]:
            self._watch.learn(changes)
            if round_ is not None:
                self._decide(round_)
            return self._queued[: self._at_once]

        try:
            connection = await self._connected()
            if self._queued or any(line for _, line in entries):
                await self._store(connection, learn)
            else:
                learn(await connection.look(self._watch.query()))
            self.stats.rounds += 1
            self.is_down = self.is_stuck = False
        except (psycopg.Error, OSError) as error:
            await self._failed(error)
        self._leave(round_)

    def _decide(self, round_: _Round) -> None:
        """Take the rows that rest on nothing that has changed; of those who wait no longer, what they have kept."""
        if round_.future.done():
            self._queued.extend(round_.leave())
            return
        round_.stale = stale = self._stale(round_.entries)
        self._queued.extend(line for index, (_, line) in enumerate(round_.entries) if line and index not in stale)

    def _leave(self, round_: _Round | None) -> None:
        """Have done with a round: what has changed may be known even where the rows could not be stored."""
        if round_ is not None:
            if round_.stale is None and not round_.is_left:
                self._queued.extend(round_.leave())
            round_.resolve()
        self._take_settled()

    def _take_settled(self) -> None:
        """Queue what was settled meanwhile, up to the bound."""
        self._queued += self._settled
        self._settled.clear()
        self._bound()

    def _stale(self, entries: Sequence[tuple[Checks, bytes]]) -> frozenset[int]:
        changed = self._watch.changed_since
        stale = set()
        for index, (checks, _) in enumerate(entries):
            for aggregate_id, position in checks:
                if changed(aggregate_id, position):
                    stale.add(index)
        return frozenset(stale)

    async def _store(self, connection: UsageConnection, learn: Callable[[list[Change]], list[bytes]]) -> None:
        self._number += 1
        try:
            await connection.store(self._watch.query(), learn, self._writer_id, self._number)
        except Exception as error:
            if not connection.is_open or not isinstance(error, psycopg.Error | OSError):
                # Nobody knows whether these are stored: the next connection asks.
                self._unsure, self._queued = self._queued[: self._at_once], self._queued[self._at_once :]
            raise
        stored = len(self._queued[: self._at_once])
        del self._queued[:stored]
        self._at_once = MAX_ROUND_ROWS
        self.stats.rows += stored
        if self._queued:
            self._wake.set()

    async def _failed(self, error: Exception) -> None:
        first_line = str(error).splitlines()[0] if str(error) else repr(error)
        if self._connection is None or not self._connection.is_open:
            # One that was lost says nothing of the database; where a new one is refused, it is away.
            was_down, self.is_down = self.is_down, self._connection is None
            if self.is_down and not was_down:
                log.warning("usage rows wait, the database is away: %s", first_line)
            self.stats.reconnects += 1
            await self._disconnect()
        elif isinstance(error, psycopg.errors.LockNotAvailable):
            ended = await asyncio.to_thread(self._end_stale_holders)
            log.warning("ended %d stale sessions that held the usage log's lock", ended)
        elif isinstance(error, psycopg.errors.CheckViolation):
            await self._disconnect()
            await self._make_partitions()
        elif isinstance(error, psycopg.DataError | psycopg.IntegrityError):
            self._isolate(first_line)
        else:
            # The database can be asked, but does not take rows: a full disk, a missing right.
            self.is_stuck = True
            log.error("usage rows wait: %s", first_line)

    def _isolate(self, reason: str) -> None:
        """Narrow down which row the server refuses, and drop it: the others must not wait for it for ever."""
        tried = len(self._queued[: self._at_once])
        self._at_once = max(1, tried // 2)
        if tried == 1:
            del self._queued[0]
            self.stats.dropped += 1
            log.error("a usage row was refused and is lost: %s", reason)

    def _end_stale_holders(self) -> int:
        try:
            with self._connect_login() as login:
                return terminate_stale_holders(login, USAGE_LOCK)
        except psycopg.Error as error:
            log.warning("sessions that hold the usage log's lock can't be ended: %s", error)
            return 0

    async def _make_partitions(self) -> None:
        """Make the partitions of all days that wait: they are past ones where the database was away for long."""
        days = [date.fromisoformat(line[:10].decode()) for line in self._queued]
        try:
            async with await self._connect() as connection:
                await connection.execute("SELECT ensure_usage_partitions(%s, %s)", (min(days), max(days)))
        except (psycopg.Error, OSError) as error:
            log.warning("partitions of the usage log can't be made: %s", error)

    def _bound(self) -> None:
        excess = len(self._queued) - MAX_QUEUED_ROWS
        if excess > 0:
            del self._queued[:excess]
            self.stats.dropped += excess

    async def _connected(self) -> UsageConnection:
        if self._connection is None or not self._connection.is_open:
            await self._disconnect()
            self._connection = UsageConnection(await self._connect(), self._sessions)
        if self._unsure:
            if await self._connection.has_stored(self._writer_id, self._number):
                self.stats.rows += len(self._unsure)
            else:
                self._queued = self._unsure + self._queued
            self._unsure = []
        return self._connection

    async def _disconnect(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
