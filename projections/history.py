"""The events of one licence, and its customer's erasure, read from the log itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.facts import Recorded

_OF_AGGREGATE = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = %s ORDER BY originator_version DESC
"""

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
