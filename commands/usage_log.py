"""The usage log's writer: one thread, one COPY a round, and the check that keeps cached standings honest.

A request adds its row to the round that is gathering and awaits that round's one future. Before the rows are stored
the thread reads what the event log has changed; rows that rest on a changed standing are handed back instead, and
their requests decide again. So an answer reflects every change that was committed before its request came.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Protocol
from uuid import UUID

import psycopg
from psycopg import Connection

from commands.recorder import terminate_stale_holders
from commands.usage_row import COLUMNS

log = logging.getLogger(__name__)

USAGE_LOCK = 0x6C697A_757367
"""Key of the advisory lock that makes ids commit order ('liz', 'usg'): a reader that pages by id skips nothing."""

MAX_QUEUED_ROWS = 200_000
"""Rows that wait while the database is away; the oldest are dropped first, and counted."""

RECONNECT_SECONDS = 0.25

_BEGIN = f"BEGIN; SET LOCAL lock_timeout = '3s'; SELECT pg_advisory_xact_lock({USAGE_LOCK})"
_COPY = f"COPY usage ({', '.join(COLUMNS)}) FROM STDIN"


Checks = tuple[tuple[UUID, int], ...]
"""Aggregates that a row rests on, each with the log position at which it was read."""


class ChangeWatch(Protocol):
    """Knows which aggregates have changed; see projections.log_watch."""

    def look(self, connection: Any) -> None:
        """Read what was committed since the last look."""

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

    Its result is the indexes of the rows that rest on a changed standing; None where the round was not finished in
    time, so that nothing is known.
    """

    def cancel(self, msg: Any = None) -> bool:
        """Refuse to be cancelled."""
        del msg
        return False


class _Round:
    __slots__ = ("entries", "future", "timer")

    def __init__(self, future: RoundFuture, timer: asyncio.TimerHandle) -> None:
        self.entries: list[tuple[Checks, bytes]] = []
        self.future = future
        self.timer = timer


class UsageLog:
    """Owns the usage thread and its connection."""

    def __init__(
        self,
        connect: Callable[[], Connection[Any]],
        connect_login: Callable[[], Connection[Any]],
        watch: ChangeWatch,
        wait_seconds: float = 0.25,
    ) -> None:
        self._connect = connect
        self._connect_login = connect_login
        self._watch = watch
        self._wait_seconds = wait_seconds
        self._gathering: _Round | None = None
        self._wake = threading.Condition()
        self._stopping = False
        self._queued: list[bytes] = []
        self._connection: Connection[Any] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="usage", daemon=True)
        self.is_down = False
        self.stats = UsageStats()

    def start(self) -> None:
        """Start the thread. Call it with a running event loop."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """Store what is queued, if the database lets us, then end the thread."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def append(self, checks: Checks, line: bytes) -> tuple[RoundFuture, int]:
        """Add a row that rests on what `checks` names; return the round's future and the row's index.

        An empty line stores nothing and only asks whether something has changed.
        """
        with self._wake:
            if self._gathering is None:
                self._gathering = self._new_round()
                self._wake.notify()
            round_ = self._gathering
            round_.entries.append((checks, line))
        return round_.future, len(round_.entries) - 1

    async def is_current(self, aggregate_id: UUID, position: int) -> bool | None:
        """Tell whether what was read of an aggregate at `position` still holds; None where the database is away."""
        future, index = self.append(((aggregate_id, position),), b"")
        stale = await future
        return None if stale is None else index not in stale

    def queued(self) -> int:
        """Rows that wait to be stored."""
        gathering = self._gathering
        return len(self._queued) + (len(gathering.entries) if gathering else 0)

    def _new_round(self) -> _Round:
        assert self._loop is not None
        future = RoundFuture(loop=self._loop)
        timer = self._loop.call_later(self._wait_seconds, self._give_up, future)
        return _Round(future, timer)

    def _give_up(self, future: RoundFuture) -> None:
        if not future.done():
            self.stats.timeouts += 1
            future.set_result(None)

    # The thread.

    def _run(self) -> None:
        while True:
            with self._wake:
                while self._gathering is None and not self._stopping:
                    self._wake.wait(RECONNECT_SECONDS if self._queued else None)
                    if self._queued:
                        break
                round_, self._gathering = self._gathering, None
            if round_ is None and not self._queued:
                break
            self._carry_out(round_)
            if self._stopping and self.is_down:
                self.stats.dropped += len(self._queued)
                break
        if self._connection is not None:
            self._connection.close()

    def _carry_out(self, round_: _Round | None) -> None:
        entries = round_.entries if round_ else []
        stale: frozenset[int] | None = None
        try:
            connection = self._connected()
            self._watch.look(connection)
            changed = self._watch.changed_since
            stale = frozenset(
                index
                for index, (checks, _) in enumerate(entries)
                if any(changed(aggregate_id, position) for aggregate_id, position in checks)
            )
            self._queued.extend(line for index, (_, line) in enumerate(entries) if line and index not in stale)
            entries = []
            self._store(connection)
            self.is_down = False
        except psycopg.Error as error:
            self._failed(error)
            self._queued.extend(line for _, line in entries if line)
            self._bound()
        if round_ is not None:
            assert self._loop is not None
            self._loop.call_soon_threadsafe(_resolve, round_, None if self.is_down else stale)

    def _store(self, connection: Connection[Any]) -> None:
        if not self._queued:
            return
        connection.execute(_BEGIN)
        with connection.cursor().copy(_COPY) as copy:
            copy.write(b"".join(self._queued))
        connection.execute("COMMIT")
        self.stats.rows += len(self._queued)
        self.stats.rounds += 1
        self._queued.clear()

    def _failed(self, error: psycopg.Error) -> None:
        connection = self._connection
        if connection is None or connection.broken:
            self.stats.reconnects += 1
            self.is_down = True
            log.warning("usage rows wait, the database is away: %s", str(error).splitlines()[0])
            self._connection = None
            return
        connection.execute("ROLLBACK")
        if isinstance(error, psycopg.errors.LockNotAvailable):
            with self._connect_login() as login:
                log.warning(
                    "ended %d stale sessions that held the usage lock", terminate_stale_holders(login, USAGE_LOCK)
                )
        elif isinstance(error, psycopg.errors.CheckViolation):
            self._make_partitions(connection)
        else:
            self.is_down = True
            log.error("usage rows wait: %s", str(error).splitlines()[0])

    def _make_partitions(self, connection: Connection[Any]) -> None:
        row = connection.execute("SELECT (now() AT TIME ZONE 'UTC')::date AS today").fetchone()
        assert row is not None
        ensure_partitions(connection, row["today"] - timedelta(days=1), row["today"] + timedelta(days=2))

    def _bound(self) -> None:
        excess = len(self._queued) - MAX_QUEUED_ROWS
        if excess > 0:
            del self._queued[:excess]
            self.stats.dropped += excess

    def _connected(self) -> Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection


def ensure_partitions(connection: Connection[Any], first: date, last: date) -> None:
    """Make sure that the usage log has a partition for each day, both ends included."""
    connection.execute("SELECT ensure_usage_partitions(%s, %s)", (first, last))


def _resolve(round_: _Round, stale: frozenset[int] | None) -> None:
    round_.timer.cancel()
    if not round_.future.done():
        round_.future.set_result(stale)
