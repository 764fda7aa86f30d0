"""Snapshots of licences: a long history is read from the last one on. A cache beside the log, never needed.

Only what is committed is in one: the writer makes them between batches, of the states that it has in memory.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec
from eventsourcing.persistence import StoredEvent
from psycopg import Connection

from commands.handlers import Aggregate
from commands.one_trip import Answer, Trip
from domain.license import License

log = logging.getLogger(__name__)

FORM = 2
"""Raise it whenever `License` gets other fields, or `evolve` makes something else of the same events."""

EVERY = 64
"""Events between two snapshots of a licence. To read so many takes 1 ms."""

# One statement, so that both parts are of the same moment. Rows without a topic are snapshots. OFFSET 0 keeps the
# subquery by itself: taken apart, it reads the whole history by the index and throws most of it away.
_READ = """
    WITH known AS (
        SELECT license_id, version, state FROM license_snapshots WHERE license_id = ANY(%s::uuid[]) AND form = %b
    )
    SELECT license_id AS originator_id, version AS originator_version, NULL AS topic, state FROM known
    UNION ALL
    SELECT wanted.id, event.originator_version, event.topic, event.state
    FROM unnest(%b::uuid[]) AS wanted (id)
    LEFT JOIN known ON known.license_id = wanted.id
    CROSS JOIN LATERAL (
        SELECT originator_version, topic, state FROM licensing_events
        WHERE originator_id = wanted.id AND originator_version > coalesce(known.version, 0) OFFSET 0
    ) AS event
    ORDER BY originator_id, originator_version
"""

_WRITE = """
    INSERT INTO license_snapshots (license_id, version, form, state)
    SELECT * FROM unnest(%b::uuid[], %b::bigint[], %b::integer[], %b::bytea[])
    ON CONFLICT (license_id) DO UPDATE SET version = excluded.version, form = excluded.form, state = excluded.state
    WHERE license_snapshots.version <= excluded.version
"""

encode = msgspec.msgpack.Encoder(uuid_format="bytes").encode
decode = msgspec.msgpack.Decoder(License).decode


class Snapshots:
    """Reads licences from their snapshots, and knows which need a new one. One thread owns it: the writer's."""

    def __init__(self) -> None:
        self._due: set[UUID] = set()
        self._unreadable: set[UUID] = set()

    def ask(self, trip: Trip, ids: Sequence[UUID]) -> Answer:
        """Ask for the snapshots of some aggregates and the events after them."""
        readable = [aggregate_id for aggregate_id in ids if aggregate_id not in self._unreadable]
        return trip.execute(_READ, (readable, FORM, list(ids)))

    def take(self, answer: Answer) -> tuple[list[License], list[StoredEvent], bool]:
        """Return the snapshots, the events after them by aggregate and version, and whether all could be decoded.

        Those that could not are not asked for again, so that the next answer has all of their events.
        """
        licenses: list[License] = []
        events: list[StoredEvent] = []
        complete = True
        for originator_id, version, topic, state in answer.rows():
            if topic is not None:
                events.append(StoredEvent(originator_id, version, topic, state))
                continue
            try:
                licenses.append(decode(state))
            except msgspec.MsgspecError:
                log.warning("the snapshot of licence %s can't be decoded and is not used", originator_id)
                self._unreadable.add(originator_id)
                complete = False
        return licenses, events, complete

    def loaded(self, state: Aggregate | None, events: int) -> None:
        """Note that so many events had to be read for this state."""
        if isinstance(state, License) and events >= _interval(state):
            self._due.add(state.id)

    def advanced(self, state: Aggregate) -> None:
        """Note that an event was applied to this state which is about to be saved."""
        if isinstance(state, License) and state.version % _interval(state) == 0:
            self._due.add(state.id)

    def write(self, connection: Connection[Any], states: Mapping[UUID, Aggregate]) -> None:
        """Write the snapshots that are due of these states, which the log must have as they are.

        Where that fails, they come due again with later events, or when the licence is read next.
        """
        # In one order on all processes, so that none waits for another one's rows crosswise.
        due = [state for state in map(states.get, sorted(self._due)) if isinstance(state, License)]
        self._due.clear()
        if not due:
            return
        self._unreadable.difference_update(state.id for state in due)
        try:
            columns = (
                [state.id for state in due],
                [state.version for state in due],
                [FORM] * len(due),
                [encode(state) for state in due],
            )
            connection.execute(_WRITE, columns)
        except Exception as error:  # noqa: BLE001 - it is a cache: the writer's thread goes on
            log.warning("%d snapshots were not written: %s", len(due), error)


def _interval(license: License) -> int:
    """Return after how many events a licence needs a new snapshot: more for many devices, all of which are in it.

    A power of two, so that its multiples stay where they are while it grows.
    """
    return max(EVERY, 1 << (len(license.devices) // 8).bit_length())
