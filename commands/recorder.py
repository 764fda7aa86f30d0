"""The commit path: events, the views that clients see at once, and idempotency answers in one transaction.

Positions are commit order. Every transaction that appends holds one advisory lock until it has committed, so a
reader that tails the log by position misses nothing. The library's own way, an EXCLUSIVE table lock, needs more
rights than the service has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID
from weakref import WeakKeyDictionary

from eventsourcing.persistence import StoredEvent
from eventsourcing.postgres import PostgresApplicationRecorder, PostgresDatastore
from psycopg import Connection
from psycopg.errors import CheckViolation
from psycopg.pq import TransactionStatus

from commands.one_trip import Answer, Statement, Trip
from domain.facts import Recorded

EVENTS_LOCK = 0x6C697A_6C6F67
"""Key of the advisory lock that appending transactions hold ('liz', 'log')."""

LOCK_TIMEOUT_SECONDS = 3
"""How long a transaction waits for the lock before it takes the holder for stuck."""

EVENTS_TABLE = "licensing_events"


class InlineViews(Protocol):
    """Writes the views of a batch of events in the transaction that it is handed."""

    def need_positions(self, events: Sequence[Recorded]) -> bool:
        """Tell whether a view holds the position of one of the events."""

    def apply(self, statements: Any, events: Sequence[tuple[int | None, Recorded]]) -> None:
        """Execute the statements that write what the events change; positions are None where no view needs one."""


@dataclass(frozen=True, slots=True)
class IdempotentAnswer:
    """A sealed first answer, as stored for 24 hours. `subject_ids` are the data subjects whom it shows."""

    scope_hash: bytes
    body_hash: bytes
    answer_sealed: bytes
    created_at: datetime
    subject_ids: Sequence[UUID] = ()


Finish = Callable[[Connection[Any]], Sequence[IdempotentAnswer]]
"""Called after the views are written, before the commit: gives the answers to keep."""

# Arrays go in binary (%b): escaping them as text took a quarter of the writer thread's time in a profile.
_INSERT = f"""
    INSERT INTO {EVENTS_TABLE} (originator_id, originator_version, topic, state)
    SELECT * FROM unnest(%b::uuid[], %b::bigint[], %b::text[], %b::bytea[])
    RETURNING notification_id
"""  # noqa: S608 - the table's name is a constant

# The target list is evaluated from left to right.
_TAKE_LOCK = f"SELECT set_config('lock_timeout', '{LOCK_TIMEOUT_SECONDS}s', true), pg_advisory_xact_lock({EVENTS_LOCK})"

# Arrays of arrays must all be of one length: whom an answer shows travels as one text, as '{id,id}'.
_KEEP_ANSWERS = """
    INSERT INTO idempotency (scope_hash, body_hash, answer_sealed, created_at, subject_ids)
    SELECT scope_hash, body_hash, answer_sealed, created_at, subject_ids::uuid[]
    FROM unnest(%b::bytea[], %b::bytea[], %b::bytea[], %b::timestamptz[], %b::text[])
        AS new (scope_hash, body_hash, answer_sealed, created_at, subject_ids)
    ON CONFLICT (scope_hash) DO UPDATE
        SET body_hash = excluded.body_hash, answer_sealed = excluded.answer_sealed, created_at = excluded.created_at,
            subject_ids = excluded.subject_ids
        WHERE idempotency.created_at <= excluded.created_at - interval '24 hours'
    RETURNING true
"""

_TAIL = f"""
    SELECT notification_id, originator_id, originator_version, topic, state
    FROM {EVENTS_TABLE} WHERE notification_id > %s ORDER BY notification_id LIMIT %s
"""  # noqa: S608

_OF_AGGREGATE = f"""
    SELECT originator_id, originator_version, topic, state
    FROM {EVENTS_TABLE} WHERE originator_id = %b ORDER BY originator_version
"""  # noqa: S608

_REQUIRE_KEYS = "SELECT require_keys(%b::uuid[])"

_KEYS_CONSTRAINT = "data_subjects_key"
"""Under this name the database refuses what rests on a data subject that was erased meanwhile."""

_STALE_HOLDERS = """
    SELECT pg_terminate_backend(l.pid)
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
      AND l.classid = (%(key)s::bigint >> 32)::int::oid AND l.objid = (%(key)s::bigint & 4294967295)::bigint::oid
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND a.xact_start < clock_timestamp() - make_interval(secs => %(seconds)s) AND l.pid <> pg_backend_pid()
"""


class AnswerTaken(Exception):
    """Another request stored its answer under the same idempotency key first."""


class OrderOutdated(Exception):
    """What an order was made from holds no longer: somebody was erased, or has more licences. It must be made anew.

    `erased` are the data subjects whose keys are gone.
    """

    def __init__(self, erased: frozenset[UUID]) -> None:
        super().__init__("what the order was made from holds no longer")
        self.erased = erased


def outdated(error: CheckViolation) -> OrderOutdated | None:
    """Return what the database's refusal means, where it is about a data subject."""
    if error.diag.constraint_name != _KEYS_CONSTRAINT:
        return None
    return OrderOutdated(frozenset(map(UUID, filter(None, (error.diag.message_detail or "").split(",")))))


def terminate_stale_holders(connection: Connection[Any], key: int, seconds: float = LOCK_TIMEOUT_SECONDS) -> int:
    """End the sessions that have held an advisory lock in a transaction older than `seconds`; return how many.

    A frozen client keeps its lock for ever: the server's own timeouts do not end a COPY that waits for data.
    The connection must be of the login that opened the stale session, without a role set.
    """
    return len(connection.execute(_STALE_HOLDERS, {"key": key, "seconds": seconds}).fetchall())


class LicensingRecorder(PostgresApplicationRecorder):
    """The library's recorder with our lock, our views, and no blind retries.

    The library's `insert_events` repeats a lost COMMIT and then reports a false conflict; here every error rises
    to the writer, which looks before it repeats.
    """

    def __init__(self, datastore: PostgresDatastore, views: InlineViews) -> None:
        super().__init__(datastore, events_table_name=EVENTS_TABLE)
        self._views = views
        self._prepared: WeakKeyDictionary[Connection[Any], dict[Statement, bytes]] = WeakKeyDictionary()

    def trip(self, connection: Connection[Any]) -> Trip:
        """Begin to gather statements that go to the server together."""
        return Trip(connection, self._prepared.setdefault(connection, {}))

    def insert_events(
        self,
        stored_events: Sequence[StoredEvent],
        *,
        connection: Connection[Any] | None = None,
        recorded: Sequence[Recorded] = (),
        finish: Finish | None = None,
        has_lock: bool = False,
        **_: Any,
    ) -> Sequence[int]:
        """Append events and write their views in one transaction; return the positions.

        `connection` is needed. `has_lock` says that it is in a transaction which holds the lock already.

        All goes to the server in one round trip, where no answer is rendered from the views and no view holds an
        event's position: then the lock is held for what the server does, and not for what we do.

        Raises psycopg's errors as they are: UniqueViolation with constraint `licensing_events_pkey` is a version
        conflict; LockNotAvailable means that a stuck session holds the lock; OperationalError leaves the outcome
        open. Raises AnswerTaken where an idempotency key has an answer already, and OrderOutdated where something is
        sealed under a key that was destroyed, or an answer shows whom it belonged to.
        """
        assert connection is not None
        # The connection is in autocommit mode: BEGIN and COMMIT are said here.
        try:
            with self.trip(connection) as trip:
                if not has_lock:
                    _begin(trip)
                inserted = _insert(trip, stored_events)
                positions: Sequence[int | None] = [None] * len(recorded)
                if self._views.need_positions(recorded):
                    trip.send()
                    positions = _positions(inserted)
                self._views.apply(trip, list(zip(positions, recorded, strict=True)))
                if sealed_for := _sealed_for(recorded):
                    # Last, so that it sees what this transaction itself has erased.
                    trip.execute(_REQUIRE_KEYS, (sealed_for,))
                if finish is not None:
                    trip.send()
                    _keep(trip, finish(connection))
                trip.execute("COMMIT")
            return _positions(inserted)
        except CheckViolation as error:
            self._roll_back(connection)
            raise outdated(error) or error from error
        except BaseException:
            self._roll_back(connection)
            raise

    @contextmanager
    def locked(self, connection: Connection[Any]) -> Iterator[None]:
        """Begin a transaction that holds the lock, and roll it back at the end unless it was committed.

        What it reads is after every commit that may still have been under way.
        """
        try:
            with self.trip(connection) as trip:
                _begin(trip)
            yield
        finally:
            self._roll_back(connection)

    def begin_with(self, connection: Connection[Any], work: Callable[[Connection[Any]], object]) -> None:
        """Begin a transaction, do `work` in it, and take the lock only then: nobody waits for the work.

        Raises whatever that raises; the transaction is undone then.
        """
        connection.execute("BEGIN")
        try:
            work(connection)
            connection.execute(_TAKE_LOCK)
        except BaseException:
            self._roll_back(connection)
            raise

    def tail(self, trip: Trip, after: int, limit: int) -> Answer:
        """Ask for up to `limit` events after a position, in order: each its position and the columns of StoredEvent."""
        return trip.execute(_TAIL, (after, limit))

    def of_aggregate(self, connection: Connection[Any], aggregate_id: UUID) -> list[StoredEvent]:
        """Read all events of an aggregate, in order."""
        with self.trip(connection) as trip:
            history = trip.execute(_OF_AGGREGATE, (aggregate_id,))
        return [StoredEvent(*columns) for columns in history.rows()]

    def _roll_back(self, connection: Connection[Any]) -> None:
        if not connection.broken and connection.info.transaction_status is not TransactionStatus.IDLE:
            # psycopg would have all prepared statements deallocated.
            with self.trip(connection) as trip:
                trip.execute("ROLLBACK")


def _sealed_for(recorded: Sequence[Recorded]) -> list[UUID]:
    """Return the data subjects under whose keys something in these events is sealed."""
    return list(
        {
            event.subject_id
            for event in recorded
            if event.subject_id is not None and (event.fact.sealed or event.cause.sealed_address is not None)
        }
    )


def _begin(trip: Trip) -> None:
    trip.execute("BEGIN")
    trip.execute(_TAKE_LOCK)


def _insert(trip: Trip, stored_events: Sequence[StoredEvent]) -> Answer | None:
    if not stored_events:
        return None
    columns = (
        [event.originator_id for event in stored_events],
        [event.originator_version for event in stored_events],
        [event.topic for event in stored_events],
        [event.state for event in stored_events],
    )
    return trip.execute(_INSERT, columns)


def _positions(inserted: Answer | None) -> list[int]:
    return [position for (position,) in inserted.rows()] if inserted else []


def _keep(trip: Trip, answers: Sequence[IdempotentAnswer]) -> None:
    if not answers:
        return
    columns = (
        [answer.scope_hash for answer in answers],
        [answer.body_hash for answer in answers],
        [answer.answer_sealed for answer in answers],
        [answer.created_at for answer in answers],
        [f"{{{','.join(map(str, answer.subject_ids))}}}" if answer.subject_ids else None for answer in answers],
    )
    if shown := list({subject_id for answer in answers for subject_id in answer.subject_ids}):
        trip.execute(_REQUIRE_KEYS, (shown,))
    kept = trip.execute(_KEEP_ANSWERS, columns)
    trip.send()
    if len(kept.rows()) < len(answers):
        raise AnswerTaken
