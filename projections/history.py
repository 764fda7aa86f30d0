"""The events of one licence, and its customer's erasure, read from the log itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.facts import LicenseIssued, Recorded
from domain.history.past import Entry, Moment

PAGE = 500
"""Events that are read and decoded at once, in 10 ms; others have their turn in between."""

_OF_AGGREGATE = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = %s ORDER BY originator_version DESC
"""
_AFTER_VERSION = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = %s AND originator_version > %s ORDER BY originator_version LIMIT %s
"""
# Ids are looked for as bytes: a row that is no JSON is none that is asked for, and no error.
_BY_ID = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = %s AND position(%s::bytea IN state) > 0 ORDER BY originator_version
"""
_ISSUED = """
    SELECT FROM licensing_events
    WHERE originator_id = %s AND originator_version = 1 AND topic = 'license.issued'
"""
_END = "SELECT coalesce(max(notification_id), 0) AS position FROM licensing_events"

Decode = Callable[[dict[str, Any]], Recorded]


async def of_license(
    connection: Any, license_id: UUID, subject_id: UUID, since: datetime, decode: Decode
) -> list[tuple[int, Recorded]]:
    """Return (position, event) of a licence's events that occurred at or after `since`, newest first.

    Its data subject has events only once it was erased; they are among them. `decode` turns a stored row into an event.
    """
    found = await _since(connection, license_id, since, decode)
    erasures = await _since(connection, subject_id, since, decode)
    return sorted(found + erasures, key=lambda one: one[0], reverse=True) if erasures else found


async def _since(connection: Any, aggregate_id: UUID, since: datetime, decode: Decode) -> list[tuple[int, Recorded]]:
    cursor = await connection.execute(_OF_AGGREGATE, (aggregate_id,))
    found: list[tuple[int, Recorded]] = []
    async for row in cursor:
        event = decode(row)
        if event.occurred_at < since:
            break
        found.append((row["notification_id"], event))
    return found


async def story(
    connection: Any, license_id: UUID, decode: Decode, moment: Moment | None = None
) -> AsyncIterator[Entry]:
    """Give a licence's events up to a moment, the oldest first; nothing where the id is no licence's."""
    version = 0
    while True:
        cursor = await connection.execute(_AFTER_VERSION, (license_id, version, PAGE))
        rows = await cursor.fetchall()
        for row in rows:
            entry = Entry(row["notification_id"], decode(row))
            if version == 0 and not isinstance(entry.event.fact, LicenseIssued):
                return  # An API key, say.
            if moment is not None and not moment.has(entry):
                return
            version = entry.event.originator_version
            yield entry
        if len(rows) < PAGE:
            return


async def erasure_of(connection: Any, subject_id: UUID, decode: Decode) -> Entry | None:
    """Return the event that erased a data subject last, or None."""
    rows = await (await connection.execute(_OF_AGGREGATE, (subject_id,))).fetchall()
    return next((Entry(row["notification_id"], decode(row)) for row in rows), None)


async def is_license(connection: Any, license_id: UUID) -> bool:
    """Tell whether a licence with this id was ever issued."""
    cursor = await connection.execute(_ISSUED, (license_id,))
    return await cursor.fetchone() is not None


async def event_of(connection: Any, license_id: UUID, event_id: UUID, decode: Decode) -> Entry | None:
    """Return one of a licence's events by its id, or None."""
    cursor = await connection.execute(_BY_ID, (license_id, str(event_id).encode()))
    for row in await cursor.fetchall():
        event = decode(row)
        if event.event_id == event_id:
            return Entry(row["notification_id"], event)
    return None


async def end(connection: Any) -> int:
    """Return the position of the log's last event, 0 where there is none."""
    row = await (await connection.execute(_END)).fetchone()
    position: int = row["position"]
    return position
