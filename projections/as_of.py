"""How far the data behind an answer has come."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec


class AsOf(msgspec.Struct, frozen=True, kw_only=True):
    """Positions in the event log and the usage log, the time they were reached, and how old that is in seconds."""

    position: int
    usage_position: int
    time: datetime
    lag_seconds: float = 0.0


async def of_logs(connection: Any, now: datetime) -> AsOf:
    """Return where both logs end: what an answer that reads them directly rests on."""
    cursor = await connection.execute(
        "SELECT coalesce((SELECT max(notification_id) FROM licensing_events), 0) AS position,"
        " coalesce((SELECT id FROM usage ORDER BY id DESC LIMIT 1), 0) AS usage_position"
    )
    row = await cursor.fetchone()
    return AsOf(position=row["position"], usage_position=row["usage_position"], time=now)
