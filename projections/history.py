"""The events of one licence, and its customer's erasure, read from the log itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from domain.facts import Recorded

# A data subject has events only once it was erased.
_OF_LICENSE = """
    SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events
    WHERE originator_id = ANY(%s) ORDER BY notification_id DESC
"""

Decode = Callable[[dict[str, Any]], Recorded]


async def of_license(
    connection: Any, license_id: UUID, subject_id: UUID, since: datetime, decode: Decode
) -> list[tuple[int, Recorded]]:
    """Return (position, event) of a licence's and its data subject's events at or after `since`, newest first.

    `decode` turns a stored row into an event.
    """
    cursor = await connection.execute(_OF_LICENSE, ([license_id, subject_id],))
    found: list[tuple[int, Recorded]] = []
    async for row in cursor:
        event = decode(row)
        if event.occurred_at < since:
            break
        found.append((row["notification_id"], event))
    return found
