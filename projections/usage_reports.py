"""A licence's use, read from its sums by day. A use is a validation that succeeded or a heartbeat."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from projections.as_of import AsOf, of_views
from projections.periods import last_days


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


SUMS = """
    coalesce(sum(validations), 0)::bigint AS validations,
    coalesce(sum(failed_validations), 0)::bigint AS failed_validations,
    coalesce(sum(heartbeats), 0)::bigint AS heartbeats
"""

_TOTALS = f"""
    WITH seen AS (
        SELECT last_seen_at FROM device_sightings
        WHERE license_id = %(license_id)s AND last_seen_at >= %(since)s AND first_seen_at < %(until)s
    )
    SELECT {SUMS}, (SELECT count(*) FROM seen) AS unique_devices, (SELECT max(last_seen_at) FROM seen) AS last_seen_at
    FROM usage_days
    WHERE license_id = %(license_id)s AND day >= %(first_day)s AND day < %(end_day)s
"""  # noqa: S608 - constants only

_DAILY = """
    SELECT day::text AS date, validations, failed_validations, heartbeats, coalesce(unique_devices, 0) AS unique_devices
    FROM usage_days LEFT JOIN (
        SELECT day, count(*) AS unique_devices FROM device_days
        WHERE license_id = %(license_id)s AND day >= %(first_day)s AND day < %(end_day)s GROUP BY day
    ) AS devices USING (day)
    WHERE license_id = %(license_id)s AND day >= %(first_day)s AND day < %(end_day)s
"""


async def of_license(connection: Any, license_id: UUID, now: datetime, days: int) -> UsageTotals:
    """Return a licence's counts over the last `days` days, today included; call it within a snapshot."""
    wanted = {"license_id": license_id, **last_days(now, days).bounds}
    cursor = await connection.execute(_TOTALS, wanted)
    row = await cursor.fetchone()
    return UsageTotals(**row, as_of=await of_views(connection, now, "usage", "devices-seen"))


async def daily(connection: Any, license_id: UUID, now: datetime, days: int) -> list[DayOfUse]:
    """Return a licence's counts for each of the last `days` days, days without use included."""
    period = last_days(now, days)
    cursor = await connection.execute(_DAILY, {"license_id": license_id, **period.bounds})
    counted = {row["date"]: DayOfUse(**row) for row in await cursor.fetchall()}
    return [counted.get(date) or _unused(date) for date in period.dates]


def _unused(date: str) -> DayOfUse:
    return DayOfUse(date=date, validations=0, failed_validations=0, heartbeats=0, unique_devices=0)
