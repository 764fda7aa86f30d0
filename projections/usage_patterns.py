"""When, where and how regularly one licence is used, read from what is counted by hour, by day and by device.

A use is a validation that succeeded or a heartbeat. What was refused is counted, but is no use: a leaked key must not
make a licence look busy.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import msgspec

from projections import seat_curves
from projections.as_of import AsOf, of_views
from projections.periods import HOUR, Period
from projections.seat_curves import SeatCurve

MOST_DEVICES = 100
MOST_VERSIONS = 50
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
FLAT_PERCENT = 5.0
"""A change by no more than this is no trend."""

DAY = timedelta(days=1)


class HourOfDay(msgspec.Struct, frozen=True, kw_only=True):
    """Uses in one hour of the day, 0 to 23 in UTC, over all days."""

    hour: int
    uses: int


class Weekday(msgspec.Struct, frozen=True, kw_only=True):
    """Uses on one day of the week, by its English name, over all weeks."""

    weekday: str
    uses: int


class DeviceUse(msgspec.Struct, frozen=True, kw_only=True):
    """A device's uses, and the first and last of them within the period."""

    hardware_id: str
    uses: int
    first_seen_at: datetime
    last_seen_at: datetime


class CountryUse(msgspec.Struct, frozen=True, kw_only=True):
    """Uses from a country (ISO 3166 alpha-2); None where the address belongs to none."""

    country: str | None
    uses: int


class VersionUse(msgspec.Struct, frozen=True, kw_only=True):
    """Uses by a version of the program; None where it did not say."""

    app_version: str | None
    uses: int


class Sessions(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of a device's uses with no gap over 30 minutes, as far as they lie in the period.

    Lengths are seconds from first to last use; of a run that began before the period, from the period's start.
    """

    count: int
    median_seconds: float | None
    mean_seconds: float | None
    max_seconds: float | None


class Trend(msgspec.Struct, frozen=True, kw_only=True):
    """Uses per day in the second half of the period so far, against the first half.

    `percent` is the change; None where there was nothing before.
    """

    direction: Literal["up", "down", "flat"]
    percent: float | None
    uses_per_day: float
    uses_per_day_before: float


class UsagePatterns(msgspec.Struct, frozen=True, kw_only=True):
    """A licence's use over a period. Lists are in natural order, or the most used first."""

    license_id: UUID
    days: int
    since: datetime
    until: datetime
    validations: int
    failed_validations: int
    heartbeats: int
    unique_devices: int
    hours: list[HourOfDay]
    weekdays: list[Weekday]
    devices: list[DeviceUse]
    countries: list[CountryUse]
    app_versions: list[VersionUse]
    sessions: Sessions
    trend: Trend
    seats: SeatCurve
    as_of: AsOf


# A session that touches the period is one of a device that was used in it; before the period only the last reaches it.
_PATTERNS = f"""
    WITH hours AS MATERIALIZED (
        SELECT hour, validations, failed_validations, heartbeats, validations + heartbeats AS uses
        FROM usage_hours WHERE license_id = %(license_id)s AND hour >= %(since)s AND hour < %(until)s
    ), facets AS MATERIALIZED (
        SELECT dimension, nullif(value, '') AS value, sum(validations + heartbeats)::bigint AS uses
        FROM usage_facets WHERE license_id = %(license_id)s AND day >= %(first_day)s AND day < %(end_day)s
            AND dimension IN ('country', 'app_version')
        GROUP BY dimension, value HAVING sum(validations + heartbeats) > 0
    ), devices AS MATERIALIZED (
        SELECT hardware_id, sum(validations + heartbeats)::bigint AS uses, min(first_seen_at) AS first_seen_at,
            max(last_seen_at) AS last_seen_at
        FROM device_days WHERE license_id = %(license_id)s AND day >= %(first_day)s AND day < %(end_day)s
        GROUP BY hardware_id
    ), sessions AS (
        SELECT extract(epoch FROM ended_at - greatest(started_at, %(since)s))::float AS seconds
        FROM devices CROSS JOIN LATERAL (
            SELECT started_at, ended_at FROM device_sessions AS begun
            WHERE begun.license_id = %(license_id)s AND begun.hardware_id = devices.hardware_id
                AND begun.started_at >= %(since)s AND begun.started_at < %(until)s
            UNION ALL
            (SELECT started_at, ended_at FROM device_sessions AS earlier
            WHERE earlier.license_id = %(license_id)s AND earlier.hardware_id = devices.hardware_id
                AND earlier.started_at < %(since)s ORDER BY earlier.started_at DESC LIMIT 1)
        ) AS sessions WHERE ended_at >= %(since)s
    )
    SELECT 'type' AS dimension, type AS value, sum(count)::bigint AS uses,
        NULL::timestamptz AS first_seen_at, NULL::timestamptz AS last_seen_at, NULL::float[] AS lengths
        FROM hours CROSS JOIN LATERAL (VALUES
            ('license.validated', validations),
            ('license.validation.failed', failed_validations),
            ('device.heartbeat', heartbeats)
        ) AS of_type (type, count)
        GROUP BY type
    UNION ALL SELECT 'half', CASE WHEN hour < %(middle)s THEN 'first' ELSE 'second' END, sum(uses)::bigint, NULL, NULL,
        NULL FROM hours GROUP BY 2
    UNION ALL SELECT 'hour', extract(hour FROM hour AT TIME ZONE 'UTC')::text, sum(uses)::bigint, NULL, NULL, NULL
        FROM hours GROUP BY 2
    UNION ALL SELECT 'weekday', extract(isodow FROM hour AT TIME ZONE 'UTC')::text, sum(uses)::bigint, NULL, NULL, NULL
        FROM hours GROUP BY 2
    UNION ALL (SELECT dimension, value, uses, NULL, NULL, NULL FROM facets WHERE dimension = 'country'
        ORDER BY 3 DESC, 2)
    UNION ALL (SELECT dimension, value, uses, NULL, NULL, NULL FROM facets WHERE dimension = 'app_version'
        ORDER BY 3 DESC, 2 LIMIT {MOST_VERSIONS})
    UNION ALL SELECT 'devices', NULL, count(*), NULL, NULL, NULL FROM devices
    UNION ALL (SELECT 'device', hardware_id, uses, first_seen_at, last_seen_at, NULL FROM devices
        ORDER BY uses DESC, hardware_id LIMIT {MOST_DEVICES})
    UNION ALL SELECT 'sessions', NULL, count(*), NULL, NULL,
        ARRAY[percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds), avg(seconds), max(seconds)] FROM sessions
"""  # noqa: S608 - constants only


async def of_license(connection: Any, license_id: UUID, period: Period, now: datetime) -> UsagePatterns:
    """Return how a licence is used; call it within a snapshot. A licence that nobody uses gives zeros."""
    middle = _full_hour_between(period.since, now)
    cursor = await connection.execute(_PATTERNS, {"license_id": license_id, "middle": middle, **period.bounds})
    found = _by_dimension(await cursor.fetchall())
    types, halves = _counts(found["type"]), _counts(found["half"])
    hours, weekdays = _counts(found["hour"]), _counts(found["weekday"])
    return UsagePatterns(
        license_id=license_id,
        days=period.days,
        since=period.since,
        until=period.until,
        validations=types.get("license.validated", 0),
        failed_validations=types.get("license.validation.failed", 0),
        heartbeats=types.get("device.heartbeat", 0),
        unique_devices=found["devices"][0]["uses"],
        hours=[HourOfDay(hour=hour, uses=hours.get(str(hour), 0)) for hour in range(24)],
        weekdays=[Weekday(weekday=name, uses=weekdays.get(str(day), 0)) for day, name in enumerate(WEEKDAYS, start=1)],
        devices=[_device(row) for row in found["device"]],
        countries=[CountryUse(country=row["value"], uses=row["uses"]) for row in found["country"]],
        app_versions=[VersionUse(app_version=row["value"], uses=row["uses"]) for row in found["app_version"]],
        sessions=_sessions(found["sessions"][0]),
        trend=trend(
            uses_before=halves.get("first", 0),
            uses=halves.get("second", 0),
            length_before=middle - period.since,
            length=now - middle,
        ),
        seats=await seat_curves.of_license(connection, license_id, period),
        as_of=await of_views(connection, now, "usage", "devices-seen", "seats"),
    )


def trend(*, uses_before: int, uses: int, length_before: timedelta, length: timedelta) -> Trend:
    """Compare two stretches of time by their uses per day. A stretch under an hour counts as an hour."""
    before = uses_before / (max(length_before, HOUR) / DAY)
    current = uses / (max(length, HOUR) / DAY)
    percent = round((current / before - 1) * 100, 1) if before else None
    direction: Literal["up", "down", "flat"] = "flat"
    if (percent is None and uses) or (percent is not None and percent > FLAT_PERCENT):
        direction = "up"
    elif percent is not None and percent < -FLAT_PERCENT:
        direction = "down"
    return Trend(
        direction=direction,
        percent=percent,
        uses_per_day=round(current, 2),
        uses_per_day_before=round(before, 2),
    )


def _full_hour_between(since: datetime, now: datetime) -> datetime:
    """Return the middle of a stretch of time, less what is over a full hour since its start."""
    return since + (now - since) / 2 // HOUR * HOUR


def _by_dimension(rows: list[dict[str, Any]]) -> defaultdict[str, list[dict[str, Any]]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["dimension"]].append(row)
    return found


def _counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    return {row["value"]: row["uses"] for row in rows}


def _device(row: dict[str, Any]) -> DeviceUse:
    return DeviceUse(
        hardware_id=row["value"],
        uses=row["uses"],
        first_seen_at=row["first_seen_at"],
        last_seen_at=row["last_seen_at"],
    )


def _sessions(row: dict[str, Any]) -> Sessions:
    median, mean, longest = row["lengths"]
    return Sessions(count=row["uses"], median_seconds=median, mean_seconds=mean, max_seconds=longest)
