"""The whole fleet in numbers, read from the licence view and the hours of use."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from projections.as_of import AsOf, of_views
from projections.periods import last_hours


class FleetStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of licences, devices and seats now, and of use in the 24 hours of the clock that end with this one."""

    total_licenses: int
    active_licenses: int
    inactive_licenses: int
    expired_licenses: int
    expiring_in_30_days: int
    test_licenses: int
    total_devices: int
    active_devices: int
    seats: int
    validations_24h: int
    failed_validations_24h: int
    heartbeats_24h: int
    as_of: AsOf


_LICENSES = """
    SELECT count(*) AS total_licenses,
        count(*) FILTER (WHERE is_active AND (expires_at IS NULL OR expires_at >= %(now)s)) AS active_licenses,
        count(*) FILTER (WHERE NOT is_active) AS inactive_licenses,
        count(*) FILTER (WHERE is_active AND expires_at < %(now)s) AS expired_licenses,
        count(*) FILTER (WHERE is_active AND expires_at >= %(now)s AND expires_at < %(soon)s) AS expiring_in_30_days,
        count(*) FILTER (WHERE is_test) AS test_licenses,
        coalesce(sum(current_devices), 0)::bigint AS active_devices,
        coalesce(sum(max_devices), 0)::bigint AS seats
    FROM licenses
"""

_USAGE = """
    SELECT coalesce(sum(validations), 0)::bigint AS validations_24h,
        coalesce(sum(failed_validations), 0)::bigint AS failed_validations_24h,
        coalesce(sum(heartbeats), 0)::bigint AS heartbeats_24h
    FROM fleet_hours WHERE hour >= %(since)s AND hour < %(until)s
"""


async def statistics(connection: Any, now: datetime) -> FleetStatistics:
    """Count everything once; call it within a snapshot."""
    cursor = await connection.execute(_LICENSES, {"now": now, "soon": now + timedelta(days=30)})
    licenses = await cursor.fetchone()
    cursor = await connection.execute("SELECT count(*) AS total_devices FROM devices")
    devices = await cursor.fetchone()
    last_day = last_hours(now, 24)
    cursor = await connection.execute(_USAGE, {"since": last_day.since, "until": last_day.until})
    usage = await cursor.fetchone()
    return FleetStatistics(**licenses, **devices, **usage, as_of=await of_views(connection, now, "usage"))
