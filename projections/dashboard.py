"""What a vendor wants on one screen, read from the views and the usage log; of all licences, or of one product's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from projections.as_of import AsOf, of_logs
from projections.fleet_usage import BY_TYPE, OF_PRODUCT, Counts, FailureReason
from projections.periods import Period, last_days

DAYS = 30
"""How many days the series of activations covers, today included."""
MOST_REASONS = 20
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


class LicenseStates(msgspec.Struct, frozen=True, kw_only=True):
    """Licences by state: `total` = active + inactive (deactivated) + expired; the rest are parts of them."""

    total: int
    active: int
    inactive: int
    expired: int
    test: int
    expiring_in_7_days: int
    expiring_in_30_days: int


class Seats(msgspec.Struct, frozen=True, kw_only=True):
    """Seats of all licences, whatever their state."""

    used: int
    allowed: int


class DayOfSeats(msgspec.Struct, frozen=True, kw_only=True):
    """Seats taken and given up on one day; a transfer is both. `date` is ISO 8601, in UTC."""

    date: str
    activations: int
    deactivations: int


class HourOfUse(Counts, frozen=True, kw_only=True):
    """Use in the hour that begins at `hour`."""

    hour: datetime


class LastDay(Counts, frozen=True, kw_only=True):
    """The last 24 hours: in all, by each hour of the clock that they touch (the first one in part), and why refused."""

    hours: list[HourOfUse]
    failure_reasons: list[FailureReason]


class DevicesSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Devices that were validated or sent a heartbeat in the last so many hours or days."""

    last_24_hours: int
    last_7_days: int
    last_30_days: int


class Dashboard(msgspec.Struct, frozen=True, kw_only=True):
    """The screen. `days`, `since` and `until` are those of the series `daily`."""

    days: int
    since: datetime
    until: datetime
    licenses: LicenseStates
    seats: Seats
    daily: list[DayOfSeats]
    last_24_hours: LastDay
    devices_seen: DevicesSeen
    as_of: AsOf


_LICENSES = """
    SELECT count(*) AS total,
        count(*) FILTER (WHERE is_active AND (expires_at IS NULL OR expires_at >= %(now)s)) AS active,
        count(*) FILTER (WHERE NOT is_active) AS inactive,
        count(*) FILTER (WHERE is_active AND expires_at < %(now)s) AS expired,
        count(*) FILTER (WHERE is_test) AS test,
        count(*) FILTER (WHERE is_active AND expires_at >= %(now)s AND expires_at < %(now)s + interval '7 days')
            AS expiring_in_7_days,
        count(*) FILTER (WHERE is_active AND expires_at >= %(now)s AND expires_at < %(now)s + interval '30 days')
            AS expiring_in_30_days,
        coalesce(sum(current_devices), 0)::bigint AS used, coalesce(sum(max_devices), 0)::bigint AS allowed
    FROM licenses WHERE true {of_product}
"""

# The view knows a device's last activation and its end; a seat that was given up and taken again shows only as taken.
_SEATS = """
    SELECT day::text AS date, sum(activations)::bigint AS activations, sum(deactivations)::bigint AS deactivations
    FROM (
        SELECT (activated_at AT TIME ZONE 'UTC')::date AS day, 1 AS activations, 0 AS deactivations
        FROM devices WHERE activated_at >= %(since)s AND activated_at < %(until)s {of_product}
        UNION ALL
        SELECT (deactivated_at AT TIME ZONE 'UTC')::date, 0, 1
        FROM devices WHERE deactivated_at >= %(since)s AND deactivated_at < %(until)s {of_product}
    ) AS changes
    GROUP BY day
"""

_LAST_DAY = "occurred_at >= %(yesterday)s AND occurred_at < %(next_hour)s {of_product}"

_HOURS = f"""
    SELECT date_trunc('hour', occurred_at, 'UTC') AS hour, {BY_TYPE}
    FROM usage WHERE {_LAST_DAY} GROUP BY 1
"""  # noqa: S608 - constants only

_REASONS = f"""
    SELECT reason, count(*) AS count
    FROM usage WHERE {_LAST_DAY} AND reason IS NOT NULL
    GROUP BY reason ORDER BY count DESC, reason LIMIT {MOST_REASONS}
"""  # noqa: S608

_SEEN = """
    SELECT count(*) FILTER (WHERE last_seen_at >= %(yesterday)s) AS last_24_hours,
        count(*) FILTER (WHERE last_seen_at >= %(week_ago)s) AS last_7_days,
        count(*) AS last_30_days
    FROM (
        SELECT max(occurred_at) AS last_seen_at
        FROM usage
        WHERE occurred_at >= %(month_ago)s AND occurred_at < %(next_hour)s AND type <> 'license.validation.failed'
            {of_product}
        GROUP BY license_id, hardware_id
    ) AS devices
"""


async def read(connection: Any, now: datetime, product: str | None = None) -> Dashboard:
    """Return the dashboard; call it within a snapshot."""
    period = last_days(now, DAYS)
    this_hour = now.replace(minute=0, second=0, microsecond=0)
    wanted = {
        "now": now,
        "since": period.since,
        "until": period.until,
        "yesterday": now - DAY,
        "week_ago": now - 7 * DAY,
        "month_ago": now - 30 * DAY,
        "next_hour": this_hour + HOUR,
        "product": product,
    }
    of_product = "" if product is None else OF_PRODUCT

    async def rows(query: str) -> list[dict[str, Any]]:
        # Planned afresh each time, so that only the period's partitions are opened.
        cursor = await connection.execute(query.format(of_product=of_product), wanted, prepare=False)
        found: list[dict[str, Any]] = await cursor.fetchall()
        return found

    (licenses,) = await rows(_LICENSES)
    seats = Seats(used=licenses.pop("used"), allowed=licenses.pop("allowed"))
    (seen,) = await rows(_SEEN)
    return Dashboard(
        days=period.days,
        since=period.since,
        until=period.until,
        licenses=LicenseStates(**licenses),
        seats=seats,
        daily=_daily(period, await rows(_SEATS)),
        last_24_hours=_last_day(now, await rows(_HOURS), await rows(_REASONS)),
        devices_seen=DevicesSeen(**seen),
        as_of=await of_logs(connection, now),
    )


def _daily(period: Period, rows: list[dict[str, Any]]) -> list[DayOfSeats]:
    counted = {row["date"]: DayOfSeats(**row) for row in rows}
    return [counted.get(date) or DayOfSeats(date=date, activations=0, deactivations=0) for date in period.dates]


def _last_day(now: datetime, hours: list[dict[str, Any]], reasons: list[dict[str, Any]]) -> LastDay:
    counted = {row["hour"]: HourOfUse(**row) for row in hours}
    first = (now - DAY).replace(minute=0, second=0, microsecond=0)
    touched = [first + offset * HOUR for offset in range(25)]
    shown = [counted.get(hour) or _unused(hour) for hour in touched]
    return LastDay(
        validations=sum(hour.validations for hour in shown),
        failed_validations=sum(hour.failed_validations for hour in shown),
        heartbeats=sum(hour.heartbeats for hour in shown),
        hours=shown,
        failure_reasons=[FailureReason(**row) for row in reasons],
    )


def _unused(hour: datetime) -> HourOfUse:
    return HourOfUse(hour=hour, validations=0, failed_validations=0, heartbeats=0)
