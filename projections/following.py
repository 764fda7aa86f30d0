"""Following the logs: what is new, applied together with the position it leads to, in one transaction.

So an event is applied once, whoever asks and however often. A batch that fails is made smaller until one event is left;
that one is tried a few times and then set aside, and the others go on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import Connection

from domain.facts import Recorded
from projections import dead_letters
from projections.projection import Log, Projection
from projections.reading import Decode, Events, ReadEvents, reader

log_ = logging.getLogger(__name__)

MOST_EVENTS = 1000
MOST_USAGE_ROWS = 20_000
ATTEMPTS = 3
"""How often one event may fail before it is set aside."""

_OF_AN_EVENT = frozenset({"21", "22", "23", "44", "54", "P0"})
"""Classes of SQLSTATE that data causes: cardinality, data, integrity, check option, limits, raised by a trigger."""

_POSITION = "SELECT event_position, usage_position FROM consumers WHERE consumer = %s"
_BEGIN = "INSERT INTO consumers VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
_MOVE = {
    "events": "UPDATE consumers SET event_position = %s, moved_at = clock_timestamp() WHERE consumer = %s",
    "usage": "UPDATE consumers SET usage_position = %s, moved_at = clock_timestamp() WHERE consumer = %s",
}
_USAGE = """
    SELECT count(*) AS size, max(id) AS last
    FROM (SELECT id FROM usage WHERE id > %s ORDER BY id LIMIT %s) AS next
"""


@dataclass(frozen=True, slots=True)
class Positions:
    """How far a consumer has come in each log; 0 in one that it does not follow."""

    events: int
    usage: int

    def of(self, log: Log) -> int:
        """Return the position in one log."""
        return self.events if log == "events" else self.usage


@dataclass(frozen=True, slots=True)
class Step:
    """What a step did: how many rows it passed, where it has come to, and whether there may be more."""

    passed: int
    position: int
    more: bool


@dataclass(frozen=True, slots=True)
class _Batch:
    after: int
    size: int
    last: int
    events: Events


class _SingleFailed(Exception):
    """One event alone could not be applied; `__cause__` says why."""

    def __init__(self, batch: _Batch) -> None:
        super().__init__()
        self.after, self.position = batch.after, batch.last


def positions(connection: Connection[Any], projection: Projection, *, lock: bool = False) -> Positions:
    """Return how far a projection has come; with `lock`, nobody else moves it until the transaction ends."""
    query = f"{_POSITION} FOR UPDATE" if lock else _POSITION
    row = connection.execute(query, (projection.name,)).fetchone()
    if row is None:
        begins = [0 if log in projection.logs else None for log in ("events", "usage")]
        connection.execute(_BEGIN, (projection.name, *begins))
        row = connection.execute(query, (projection.name,)).fetchone()
    assert row is not None
    return Positions(row["event_position"] or 0, row["usage_position"] or 0)


def is_of_an_event(error: Exception) -> bool:
    """Tell whether an event is at fault, and not a lost connection, a full disk, a missing table or right."""
    if isinstance(error, psycopg.Error):
        return error.sqlstate[:2] in _OF_AN_EVENT if error.sqlstate else isinstance(error, psycopg.DataError)
    return not isinstance(error, OSError | MemoryError)


class Follower:
    """Brings one projection forward. Used by one thread at a time; the connection is in autocommit mode."""

    def __init__(
        self,
        projection: Projection,
        decode: Decode,
        most_events: int = MOST_EVENTS,
        most_usage_rows: int = MOST_USAGE_ROWS,
        read_events: ReadEvents | None = None,
    ) -> None:
        self.projection = projection
        self._read_events = read_events or reader(decode)
        self._most: dict[Log, int] = {"events": most_events, "usage": most_usage_rows}
        self._limit = dict(self._most)
        self._failing: tuple[Log, int, int] | None = None

    def step(self, connection: Connection[Any], log: Log, upto: int | None = None) -> Step:
        """Apply the next batch of a log, up to and including position `upto` where given.

        Raises what no event is at fault for, and TooManyDeadLetters.
        """
        try:
            with connection.transaction():
                batch = self._apply_next(connection, log, upto)
        except _SingleFailed as failed:
            return self._note_failure(connection, log, failed)
        except Exception as error:
            # A batch may also be too large for the time that there is.
            self._limit[log] = max(1, self._limit[log] // 2)
            if not is_of_an_event(error):
                raise
            log_.info(
                "%s: a batch of %s failed, a smaller one follows: %s", self.projection.name, log, type(error).__name__
            )
            return Step(0, positions(connection, self.projection).of(log), more=True)
        more = batch.size == self._limit[log]
        self._limit[log] = min(self._most[log], self._limit[log] * 2)
        return Step(batch.size, batch.last, more)

    def catch_up(self, connection: Connection[Any]) -> int:
        """Apply all that is new; return how many rows that were."""
        passed = 0
        for log in self.projection.logs:
            more = True
            while more:
                step = self.step(connection, log)
                passed, more = passed + step.passed, step.more
        return passed

    def redrive(self, connection: Connection[Any], log: Log, position: int) -> None:
        """Apply an event that was set aside, and forget its dead letter. Raises whatever its function raises.

        Raises LookupError where the log does not hold it any more: its dead letter is forgotten all the same.
        """
        with connection.transaction():
            positions(connection, self.projection, lock=True)
            if not dead_letters.remove(connection, self.projection.name, log, position):
                return
            batch = self._read(connection, log, position - 1, 1, position)
            if batch.size:
                self._apply(connection, log, batch)
        if not batch.size:
            raise LookupError("the log does not hold it any more, so it is forgotten")

    def _apply_next(self, connection: Connection[Any], log: Log, upto: int | None) -> _Batch:
        after = positions(connection, self.projection, lock=True).of(log)
        batch = self._read(connection, log, after, self._limit[log], upto)
        if batch.size == 0:
            return batch
        try:
            self._apply(connection, log, batch)
        except Exception as error:
            if batch.size == 1 and is_of_an_event(error):
                raise _SingleFailed(batch) from error
            # Half of what it was, whatever the limit is: a small batch must become smaller too.
            self._limit[log] = batch.size
            raise
        connection.execute(_MOVE[log], (batch.last, self.projection.name))
        return batch

    def _read(self, connection: Connection[Any], log: Log, after: int, limit: int, upto: int | None) -> _Batch:
        if log == "events":
            events = self._read_events(connection, after, limit)
            if upto is not None:
                events = [(position, event) for position, event in events if position <= upto]
            return _Batch(after, len(events), events[-1][0] if events else after, events)
        found = connection.execute(_USAGE, (after, limit)).fetchone()
        assert found is not None
        if upto is not None and found["last"] is not None and found["last"] > upto:
            found = connection.execute(
                "SELECT count(*) AS size, max(id) AS last FROM usage WHERE id > %s AND id <= %s", (after, upto)
            ).fetchone()
            assert found is not None
        return _Batch(after, found["size"], found["last"] or after, [])

    def _apply(self, connection: Connection[Any], log: Log, batch: _Batch) -> None:
        if log == "events":
            assert self.projection.apply_events is not None
            self.projection.apply_events(connection, [_readable(position, event) for position, event in batch.events])
        else:
            assert self.projection.apply_usage is not None
            self.projection.apply_usage(connection, batch.after, batch.last)

    def _note_failure(self, connection: Connection[Any], log: Log, failed: _SingleFailed) -> Step:
        attempts = self._failing[2] + 1 if self._failing and self._failing[:2] == (log, failed.position) else 1
        if attempts < ATTEMPTS:
            self._failing = (log, failed.position, attempts)
            return Step(0, failed.after, more=True)
        self._failing = None
        name, reason = self.projection.name, _one_line(failed)
        with connection.transaction():
            if positions(connection, self.projection, lock=True).of(log) < failed.position:
                dead_letters.set_aside(connection, name, log, failed.position, reason)
                connection.execute(_MOVE[log], (failed.position, name))
                log_.error("%s set %s position %d aside: %s", name, log, failed.position, reason)
        return Step(1, failed.position, more=True)


def _readable(position: int, event: Recorded | Exception) -> tuple[int, Recorded]:
    if isinstance(event, Exception):
        raise event
    return position, event


def _one_line(failed: _SingleFailed) -> str:
    cause = failed.__cause__
    text = str(cause).splitlines()[0] if str(cause) else ""
    return f"{type(cause).__name__}: {text}"
