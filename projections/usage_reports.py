"""A licence's use, read from the usage log."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from projections.as_of import AsOf, of_logs


class UsageTotals(msgspec.Struct, frozen=True, kw_only=True):
    """Counts over a number of days."""

    validations: int
    failed_validations: int
    heartbeats: int
    unique_devices: int
    last_seen_at: datetime | None
    as_of: AsOf


class DayOfUse(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one day; `date` is ISO 8601, in UTC."""

    date: str
    validations: int
    failed_validations: int
    heartbeats: int
    unique_devices: int


COUNTS = """
    count(*) FILTER (WHERE type = 'license.validated') AS validations,
    count(*) FILTER (WHERE type = 'license.validation.failed') AS failed_validations,
    count(*) FILTER (WHERE type = 'device.heartbeat') AS heartbeats,
    count(DISTINCT hardware_id) FILTER (WHERE type <> 'license.validation.failed') AS unique_devices
"""

_TOTALS = f"""
    SELECT {COUNTS}, max(occurred_at) FILTER (WHERE type <> 'license.validation.failed') AS last_seen_at
    FROM usage WHERE license_id = %s AND occurred_at >= %s
"""  # noqa: S608 - constants only

_DAILY = f"""
    SELECT (occurred_at AT TIME ZONE 'UTC')::date::text AS date, {COUNTS}
    FROM usage WHERE license_id = %s AND occurred_at >= %s GROUP BY 1 ORDER BY 1
"""  # noqa: S608


def first_day(now: datetime, days: int) -> datetime:
    """Return the start of the first of `days` days that end with today, in UTC."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight - timedelta(days=days - 1)


async def of_license(connection: Any, license_id: UUID, now: datetime, days: int) -> UsageTotals:
    """Return a licence's counts over the last `days` days, today included."""
    cursor = await connection.execute(_TOTALS, (license_id, first_day(now, days)))
    row = await cursor.fetchone()
    return UsageTotals(**row, as_of=await of_logs(connection, now))


async def daily(connection: Any, license_id: UUID, now: datetime, days: int) -> list[DayOfUse]:
    """Return a licence's counts for each of the last `days` days, days without use included."""
    first = first_day(now, days)
    cursor = await connection.execute(_DAILY, (license_id, first))
    counted = {row["date"]: DayOfUse(**row) for row in await cursor.fetchall()}
    dates = [(first + timedelta(days=offset)).date().isoformat() for offset in range(days)]
    return [counted.get(date) or _unused(date) for date in dates]


def _unused(date: str) -> DayOfUse:
    return DayOfUse(date=date, validations=0, failed_validations=0, heartbeats=0, unique_devices=0)
