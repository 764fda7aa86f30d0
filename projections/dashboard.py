"""What a vendor wants on one screen, of all licences or of one product's, read from the views."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from projections import seat_curves
from projections.as_of import AsOf, of_views
from projections.fleet_usage import Counts, FailureReason
from projections.periods import Hours, last_days, last_hours
from projections.products import of_product
from projections.seat_curves import DayOfSeats
from projections.usage_reports import SUMS

DAYS = 30
"""How many days the series of seats covers, today included."""
MOST_REASONS = 20


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


class HourOfUse(Counts, frozen=True, kw_only=True):
    """Use in the hour that begins at `hour`."""

    hour: datetime


class LastDay(Counts, frozen=True, kw_only=True):
    """The 24 hours of the clock up to and including this one: in all, each of them, and why requests were refused."""

    hours: list[HourOfUse]
    failure_reasons: list[FailureReason]


class DevicesSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Devices that were validated or sent a heartbeat in 24, 168 and 720 hours of the clock, this one included."""

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

_ALL_HOURS = "SELECT * FROM fleet_hours WHERE hour >= %(yesterday)s AND hour < %(next_hour)s"
_PRODUCTS_HOURS = f"""
    SELECT hour, {SUMS} FROM usage_hours
    WHERE hour >= %(yesterday)s AND hour < %(next_hour)s {{of_product}} GROUP BY hour
"""  # noqa: S608 - constants only

# The facet's value is the hour of its day and the reason.
_REASONS = f"""
    SELECT substr(value, 4) AS reason, sum(failed_validations)::bigint AS count
    FROM {{facets}}
    WHERE dimension = 'reason_hour' AND day >= %(yesterday_date)s AND day <= %(today)s
        AND (day + left(value, 2)::int * interval '1 hour') AT TIME ZONE 'UTC' >= %(yesterday)s {{of_product}}
    GROUP BY reason ORDER BY count DESC, reason LIMIT {MOST_REASONS}
"""  # noqa: S608

_SEEN = """
    SELECT count(*) FILTER (WHERE last_seen_at >= %(yesterday)s) AS last_24_hours,
        count(*) FILTER (WHERE last_seen_at >= %(week_ago)s) AS last_7_days,
        count(*) AS last_30_days
    FROM device_sightings WHERE last_seen_at >= %(month_ago)s AND first_seen_at < %(next_hour)s {of_product}
"""


async def read(connection: Any, now: datetime, product: str | None = None) -> Dashboard:
    """Return the dashboard; call it within a snapshot."""
    period, last_day = last_days(now, DAYS), last_hours(now, 24)
    wanted = {
        "now": now,
        "yesterday": last_day.since,
        "yesterday_date": last_day.since.date(),
        "today": now.date(),
        "week_ago": last_hours(now, 7 * 24).since,
        "month_ago": last_hours(now, 30 * 24).since,
        "next_hour": last_day.until,
        "product": product,
    }

    async def rows(query: str) -> list[dict[str, Any]]:
        narrowed = query.format(of_product=of_product(product), facets=_facets(product))
        cursor = await connection.execute(narrowed, wanted)
        found: list[dict[str, Any]] = await cursor.fetchall()
        return found

    (licenses,) = await rows(_LICENSES)
    seats = Seats(used=licenses.pop("used"), allowed=licenses.pop("allowed"))
    (seen,) = await rows(_SEEN)
    hours = await rows(_ALL_HOURS if product is None else _PRODUCTS_HOURS)
    return Dashboard(
        days=period.days,
        since=period.since,
        until=period.until,
        licenses=LicenseStates(**licenses),
        seats=seats,
        daily=await seat_curves.daily(connection, period, product),
        last_24_hours=_last_day(last_day, hours, await rows(_REASONS)),
        devices_seen=DevicesSeen(**seen),
        as_of=await of_views(connection, now, "usage", "devices-seen", "seats"),
    )


def _facets(product: str | None) -> str:
    return "fleet_facets" if product is None else "usage_facets"


def _last_day(last_day: Hours, hours: list[dict[str, Any]], reasons: list[dict[str, Any]]) -> LastDay:
    counted = {row["hour"]: HourOfUse(**row) for row in hours}
    shown = [counted.get(hour) or _unused(hour) for hour in last_day.all]
    return LastDay(
        validations=sum(hour.validations for hour in shown),
        failed_validations=sum(hour.failed_validations for hour in shown),
        heartbeats=sum(hour.heartbeats for hour in shown),
        hours=shown,
        failure_reasons=[FailureReason(**row) for row in reasons],
    )


def _unused(hour: datetime) -> HourOfUse:
    return HourOfUse(hour=hour, validations=0, failed_validations=0, heartbeats=0)
