"""How far the data behind an answer has come."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from projections.lag import event_time

View = Literal["usage", "devices-seen", "seats"]
"""The name of an asynchronous projection, which is the name of its consumer."""


class AsOf(msgspec.Struct, frozen=True, kw_only=True):
    """Positions in the event log and the usage log that an answer reflects, and when that was all that there was.

    `lag_seconds` is the age of the oldest row beyond them, 0 where there is none.
    """

    position: int
    usage_position: int
    time: datetime
    lag_seconds: float = 0.0


# The sequence says how many usage rows there can be at most, without opening a partition.
_POSITIONS = """
    SELECT consumer, event_position, usage_position FROM consumers WHERE consumer = ANY(%s)
    UNION ALL SELECT '', coalesce((SELECT max(notification_id) FROM licensing_events), 0),
        (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM usage_id_seq)
"""

_OLDEST_USE = "SELECT occurred_at FROM usage WHERE id > %s ORDER BY id LIMIT 1"
_OLDEST_EVENT = "SELECT state FROM licensing_events WHERE notification_id > %s ORDER BY notification_id LIMIT 1"


async def of_views(connection: Any, now: datetime, *views: View) -> AsOf:
    """Return how far the least of some views has come; call it within a snapshot.

    A log that none of them follows counts as a whole: views that are written with the events have them all.
    """
    cursor = await connection.execute(_POSITIONS, (list(views),))
    found = {row["consumer"]: (row["event_position"], row["usage_position"]) for row in await cursor.fetchall()}
    last_event, last_use = found[""]
    position = found.get("seats", (0, 0))[0] if "seats" in views else last_event
    usage_position = min((found.get(view, (0, 0))[1] for view in views if view != "seats"), default=last_use)
    waiting = []
    if position < last_event:
        waiting.append(await _oldest(connection, _OLDEST_EVENT, position))
    if usage_position < last_use:
        waiting.append(await _oldest(connection, _OLDEST_USE, usage_position))
    lag = max((now - at for at in waiting if at is not None), default=timedelta())
    lag = max(lag, timedelta())
    return AsOf(position=position, usage_position=usage_position, time=now - lag, lag_seconds=lag.total_seconds())


async def _oldest(connection: Any, query: str, position: int) -> datetime | None:
    cursor = await connection.execute(query, (position,))
    row = await cursor.fetchone()
    if row is None:
        return None
    at: datetime | None = row["occurred_at"] if "occurred_at" in row else event_time(row["state"])
    return at
