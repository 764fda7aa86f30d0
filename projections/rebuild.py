"""Making a projection's tables anew from the logs, beside those that are served, and swapping or comparing them.

The copies are in a schema of their own that comes first on the search path, with a position and dead letters of their
own. So the ordinary code fills them, and a rebuild that was ended goes on where it was.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from itertools import count
from typing import Any

import psycopg
from psycopg import Connection
from psycopg.sql import SQL, Composed, Identifier, Literal

from projections import dead_letters
from projections.following import Follower, Positions, positions
from projections.projection import Projection
from projections.reading import Decode, ReadEvents
from projections.second_tables import LIVE, in_schema, make_like, put_in_place

RETENTION_LOCK = "lizenzserver usage retention"
"""Held shared by rebuilds: the usage log's days stay while somebody folds them."""

_EVENTS_AT_ONCE = 5_000
_USAGE_ROWS_AT_ONCE = 50_000

_COLLECT_AFTER = 1_000_000
"""So many new objects before the cyclic collector looks at them; a batch is freed before it has as many."""

_SWAP_ATTEMPTS = 60
_SWAP_PAUSE_SECONDS = 0.5
"""Between two attempts to get the tables' locks, for those who queue behind this one."""

_FIRST_DAY = """
    SELECT min(to_date(right(c.relname, 8), 'YYYYMMDD')) AS day
    FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'lizenzserver.usage'::regclass
"""
_SCHEMA_VERSION = "SELECT checksum FROM lizenzserver.schema_migrations ORDER BY number DESC LIMIT 1"
_ENDS = """
    SELECT coalesce((SELECT max(notification_id) FROM licensing_events), 0) AS events,
        coalesce((SELECT max(id) FROM usage), 0) AS usage, coalesce((SELECT min(id) FROM usage), 1) AS first
"""
_REACHED = """
    UPDATE lizenzserver.consumers AS live
    SET event_position = second.event_position, usage_position = second.usage_position, moved_at = clock_timestamp()
    FROM consumers AS second WHERE live.consumer = second.consumer
"""
_LEAVE_OUT = """
    UPDATE consumers SET event_position = greatest(event_position, %s), usage_position = greatest(usage_position, %s)
    WHERE consumer = %s
"""


class RebuildUnderWay(Exception):
    """Another process rebuilds or checks this projection. The message names it."""


class NotComplete(Exception):
    """Tables that must be exact lack events that could not be applied. The message names the first."""


class StillRead(Exception):
    """The old tables could not be replaced, since somebody reads them. The message is one line for a person."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many rows of the logs have been folded, and how many there are in all."""

    done: int
    total: int


OnProgress = Callable[[Progress], None]


class Rebuild:
    """One projection's second set of tables.

    `connection` is the owner's, and is used for nothing else. `append_lock` is the key of the advisory lock that
    appending to the event log takes: where it is given, the tables are written in the events' own transaction, and
    are exact at the log's end. `read_events` serves the long fold before the end.
    """

    def __init__(
        self,
        connection: Connection[Any],
        projection: Projection,
        decode: Decode,
        append_lock: int | None = None,
        read_events: ReadEvents | None = None,
    ) -> None:
        self._connection = connection
        self._projection = projection
        self._follower = Follower(projection, decode, _EVENTS_AT_ONCE, _USAGE_ROWS_AT_ONCE)
        self._bulk = Follower(projection, decode, _EVENTS_AT_ONCE, _USAGE_ROWS_AT_ONCE, read_events)
        self._append_lock = append_lock
        self._schema = f"lizenzserver_rebuild_{projection.name.replace('-', '_')}"

    def begin(self, *, afresh: bool = False) -> bool:
        """Make the second tables, or find those of a rebuild that was ended; tell whether it goes on from there.

        Raises RebuildUnderWay.
        """
        self._lock()
        self._connection.execute("SELECT pg_advisory_lock_shared(hashtext(%s))", (RETENTION_LOCK,))
        first_day = _only(self._connection.execute(_FIRST_DAY).fetchone())["day"]
        origin = self._origin(first_day)
        goes_on = not afresh and self._begun_from() == origin
        if not goes_on:
            self.drop()
            with self._connection.transaction():
                self._make(first_day, origin)
        self._use_second_tables()
        # A server that crashes loses the last batches together with their position.
        self._connection.execute("SET synchronous_commit TO off")
        return goes_on

    def _lock(self) -> None:
        try:
            with self._connection.transaction():
                # A process that has just ended may still hold it for a moment.
                self._connection.execute("SET LOCAL lock_timeout TO '2s'")
                self._connection.execute("SELECT pg_advisory_lock(hashtext(%s))", (self._schema,))
        except psycopg.errors.LockNotAvailable:
            msg = f"{self._projection.name} is being rebuilt or checked by another process"
            raise RebuildUnderWay(msg) from None

    def drop(self) -> None:
        """Remove the second tables."""
        self._connection.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(self._schema)))

    def fold(self, on_progress: OnProgress) -> None:
        """Apply the logs up to where they end now. Raises what keeps a batch from being applied."""
        more = True
        with _seldom_collected():
            while more:
                steps = [self._bulk.step(self._connection, log) for log in self._projection.logs]
                more = any(step.more for step in steps)
                on_progress(self._progress())

    def swap(self) -> None:
        """Fold the rest, and put the second tables in the place of the live ones, in one transaction.

        The live consumer waits meanwhile; readers see the old tables until the commit. Raises NotComplete; and
        StillRead where readers of the old tables did not end for a minute: the second tables stay.
        """
        for table in self._projection.tables:
            self._connection.execute(SQL("ANALYZE {}").format(in_schema(self._schema, table)))
        for attempt in count(1):
            try:
                self._swap()
            except psycopg.errors.LockNotAvailable:
                if attempt == _SWAP_ATTEMPTS:
                    msg = f"somebody reads {self._projection.name} without an end, such as a backup: try again later"
                    raise StillRead(msg) from None
                time.sleep(_SWAP_PAUSE_SECONDS)
            else:
                return

    def _swap(self) -> None:
        name = self._projection.name
        with self._connection.transaction():
            self._connection.execute("SET LOCAL synchronous_commit TO on")
            self._connection.execute("SET LOCAL lock_timeout TO '500ms'")
            # Readers with a snapshot hold it shared, whoever applies takes it first too.
            self._connection.execute("LOCK TABLE lizenzserver.consumers IN ACCESS EXCLUSIVE MODE")
            if self._append_lock is not None:
                self._connection.execute("SELECT pg_advisory_xact_lock(%s)", (self._append_lock,))
            self._live_positions()
            self._follower.catch_up(self._connection)
            self._refuse_gaps()
            self._connection.execute(_REACHED)
            self._connection.execute("DELETE FROM lizenzserver.dead_letters WHERE consumer = %s", (name,))
            self._connection.execute("INSERT INTO lizenzserver.dead_letters SELECT * FROM dead_letters")
            # Orders wait for this transaction: it must not wait long for who reads the old tables, such as a backup.
            self._connection.execute("SET LOCAL lock_timeout TO '200ms'")
            for table in self._projection.tables:
                put_in_place(self._connection, self._schema, table)
            self.drop()

    def compare(self, on_progress: OnProgress) -> dict[str, int]:
        """Fold the logs as far as the live tables have, and return for each table how many rows differ.

        A row that is in one set of tables only counts as one. What the live consumer has set aside is left out.
        """
        # No rebuild may go on from here: it would never know what was left out.
        self._note_origin(None)
        self._fold_to(self._bulk, self._live_positions(), on_progress)
        with self._connection.transaction():
            self._connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            self._fold_to(self._follower, self._live_positions(), on_progress)
            return {table: self._differing(table) for table in self._projection.tables}

    def _refuse_gaps(self) -> None:
        """Where an event sets a licence's state and not a sum, it can't be applied later: nothing may be missing."""
        if self._append_lock is None:
            return
        for letter in dead_letters.listed(self._connection, self._projection.name):
            msg = (
                f"{self._projection.name} stays as it is: the event at position {letter.position} can't be applied"
                f" ({letter.error}); once it can, begin with --afresh"
            )
            raise NotComplete(msg)

    def _make(self, first_day: date, origin: str) -> None:
        self._connection.execute(SQL("CREATE SCHEMA {}").format(Identifier(self._schema)))
        self._note_origin(origin)
        for table in ("consumers", "dead_letters", *self._projection.tables):
            make_like(self._connection, self._schema, table)
        if self._projection.carry_over is not None:
            self._use_second_tables()
            self._projection.carry_over(self._connection, first_day)

    def _origin(self, first_day: date) -> str:
        """Return what the second tables come from: the usage log's first day, the schema's version, and the code."""
        schema = _only(self._connection.execute(_SCHEMA_VERSION).fetchone())["checksum"]
        functions = (self._projection.apply_events, self._projection.apply_usage, self._projection.carry_over)
        modules = {inspect.getmodule(function) for function in functions if function is not None}
        sources = sorted(inspect.getsource(module) for module in modules if module is not None)
        code = hashlib.sha256("".join(sources).encode()).hexdigest()
        return f"{first_day} {schema} {code}"

    def _note_origin(self, origin: str | None) -> None:
        self._connection.execute(SQL("COMMENT ON SCHEMA {} IS {}").format(Identifier(self._schema), Literal(origin)))

    def _begun_from(self) -> str | None:
        """Return the origin of the second tables that are there; None if there are none to go on from."""
        row = self._connection.execute(
            "SELECT obj_description(to_regnamespace(%s)::oid, 'pg_namespace') AS comment", (self._schema,)
        ).fetchone()
        origin: str | None = _only(row)["comment"]
        return origin

    def _use_second_tables(self) -> None:
        self._connection.execute(SQL("SET search_path TO {}, {}").format(Identifier(self._schema), Identifier(LIVE)))

    def _live_positions(self) -> Positions:
        if self._append_lock is not None:
            return Positions(_only(self._connection.execute(_ENDS).fetchone())["events"], 0)
        with self._connection.transaction():
            self._connection.execute(SQL("SET LOCAL search_path TO {}").format(Identifier(LIVE)))
            live = positions(self._connection, self._projection)
            self._use_second_tables()
        return live

    def _fold_to(self, follower: Follower, upto: Positions, on_progress: OnProgress) -> None:
        for log in self._projection.logs:
            for position in (*self._set_aside(log, upto.of(log)), None):
                end = upto.of(log) if position is None else position - 1
                more = True
                while more:
                    more = follower.step(self._connection, log, end).more
                    on_progress(self._progress())
                if position is not None:
                    left_out = (position, 0) if log == "events" else (0, position)
                    self._connection.execute(_LEAVE_OUT, (*left_out, self._projection.name))

    def _set_aside(self, log: Any, upto: int) -> list[int]:
        after = positions(self._connection, self._projection).of(log)
        with self._connection.transaction():
            self._connection.execute(SQL("SET LOCAL search_path TO {}").format(Identifier(LIVE)))
            found = dead_letters.positions(self._connection, self._projection.name, log)
            self._use_second_tables()
        return [position for position in found if after < position <= upto]

    def _progress(self) -> Progress:
        """Count positions: the logs' numbers have few gaps."""
        reached = positions(self._connection, self._projection)
        ends = _only(self._connection.execute(_ENDS).fetchone())
        before = ends["first"] - 1
        parts = {
            "events": (reached.events, ends["events"]),
            "usage": (max(0, reached.usage - before), ends["usage"] - before),
        }
        followed = [parts[log] for log in self._projection.logs]
        return Progress(sum(done for done, _ in followed), sum(total for _, total in followed))

    def _differing(self, table: str) -> int:
        count: Composed = SQL(
            "SELECT count(*) AS rows FROM ((TABLE {live} EXCEPT ALL TABLE {second})"
            " UNION ALL (TABLE {second} EXCEPT ALL TABLE {live})) AS differing"
        ).format(live=in_schema(LIVE, table), second=in_schema(self._schema, table))
        rows: int = _only(self._connection.execute(count).fetchone())["rows"]
        return rows


@contextmanager
def _seldom_collected() -> Iterator[None]:
    """Hold the cyclic collector back. Events make no cycles, and going through each batch was half of folding it."""
    before = gc.get_threshold()
    gc.set_threshold(_COLLECT_AFTER, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _only(row: dict[str, Any] | None) -> dict[str, Any]:
    assert row is not None
    return row
