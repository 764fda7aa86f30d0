"""The use of all licences over a period, or of those for one product, read from what is counted by hour and day.

A device is a licence's: a machine with two licences counts twice, as it does in seats. Devices that were refused are
not counted.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from projections.as_of import AsOf, of_views
from projections.periods import Period
from projections.products import of_product
from projections.usage_reports import SUMS, DayOfUse

MOST_LICENSES = 20
MOST_VERSIONS = 50


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How much was validated, refused and heard of."""

    validations: int
    failed_validations: int
    heartbeats: int


class LicenseUse(Counts, frozen=True, kw_only=True):
    """A licence's use."""

    license_id: UUID
    product: str | None
    unique_devices: int


class ProductUse(Counts, frozen=True, kw_only=True):
    """The use of all licences for a product; None are those without one. Unknown keys belong to no product."""

    product: str | None
    unique_devices: int


class CountryUse(Counts, frozen=True, kw_only=True):
    """Use from a country (ISO 3166 alpha-2); None where the address belongs to none."""

    country: str | None


class VersionUse(Counts, frozen=True, kw_only=True):
    """Use by a version of the program; None where it did not say."""

    app_version: str | None


class FailureReason(msgspec.Struct, frozen=True, kw_only=True):
    """How often requests were refused with one error code."""

    reason: str
    count: int


class FleetUsage(Counts, frozen=True, kw_only=True):
    """Use over a period. `daily` has every day, oldest first; the other lists begin with the most."""

    days: int
    since: datetime
    until: datetime
    unique_devices: int
    used_licenses: int
    daily: list[DayOfUse]
    licenses: list[LicenseUse]
    products: list[ProductUse]
    countries: list[CountryUse]
    app_versions: list[VersionUse]
    failure_reasons: list[FailureReason]
    as_of: AsOf


_DAYS_OF_ALL = f"""
    WITH days AS MATERIALIZED (
        SELECT (hour AT TIME ZONE 'UTC')::date AS day, {SUMS} FROM fleet_hours
        WHERE hour >= %(since)s AND hour < %(until)s GROUP BY day
    ), devices AS (
        SELECT day, unique_devices FROM fleet_device_days WHERE day >= %(first_day)s AND day < %(end_day)s
    ), facets AS MATERIALIZED (
        SELECT dimension, nullif(value, '') AS value, {SUMS} FROM fleet_facets
        WHERE day >= %(first_day)s AND day < %(end_day)s GROUP BY dimension, value
    )
"""  # noqa: S608 - constants only

_DAYS_OF_PRODUCT = f"""
    WITH days AS MATERIALIZED (
        SELECT day, {SUMS} FROM usage_days
        WHERE day >= %(first_day)s AND day < %(end_day)s {{of_product}} GROUP BY day
    ), devices AS (
        SELECT day, count(*) AS unique_devices FROM device_days
        WHERE day >= %(first_day)s AND day < %(end_day)s {{of_product}} GROUP BY day
    ), facets AS MATERIALIZED (
        SELECT dimension, nullif(value, '') AS value, {SUMS} FROM usage_facets
        WHERE day >= %(first_day)s AND day < %(end_day)s {{of_product}} GROUP BY dimension, value
    )
"""  # noqa: S608

_REPORT = f"""
    {{days}}, seen AS (
        SELECT license_id, count(*) AS unique_devices FROM device_sightings
        WHERE last_seen_at >= %(since)s AND first_seen_at < %(until)s {{of_product}} GROUP BY license_id
    ), by_license AS MATERIALIZED (
        SELECT license_id, validations, failed_validations, heartbeats, coalesce(unique_devices, 0) AS unique_devices
        FROM (
            SELECT license_id, {SUMS} FROM usage_days
            WHERE day >= %(first_day)s AND day < %(end_day)s {{of_product}} GROUP BY license_id
        ) AS sums LEFT JOIN seen USING (license_id)
    )
    SELECT 'total' AS dimension, NULL AS name, NULL::uuid AS license_id, {SUMS},
        (SELECT sum(unique_devices)::bigint FROM by_license) AS unique_devices,
        (SELECT count(*) FROM by_license WHERE validations + heartbeats > 0) AS used_licenses FROM days
    UNION ALL SELECT 'day', day::text, NULL, validations, failed_validations, heartbeats,
        coalesce(unique_devices, 0), NULL FROM days LEFT JOIN devices USING (day)
    UNION ALL (
        SELECT 'license', product, license_id, validations, failed_validations, heartbeats, unique_devices, NULL
        FROM by_license JOIN licenses USING (license_id)
        ORDER BY validations + heartbeats DESC, failed_validations DESC, license_id LIMIT {MOST_LICENSES}
    )
    UNION ALL (
        SELECT 'product', product, NULL, {SUMS}, sum(unique_devices)::bigint, NULL
        FROM by_license JOIN licenses USING (license_id) GROUP BY product
        ORDER BY sum(validations + heartbeats) DESC, product
    )
    UNION ALL (
        SELECT dimension, value, NULL, validations, failed_validations, heartbeats, NULL, NULL FROM facets
        WHERE dimension = 'country' ORDER BY validations + heartbeats DESC, value
    )
    UNION ALL (
        SELECT dimension, value, NULL, validations, failed_validations, heartbeats, NULL, NULL FROM facets
        WHERE dimension = 'app_version' ORDER BY validations + heartbeats DESC, value LIMIT {MOST_VERSIONS}
    )
    UNION ALL (
        SELECT dimension, value, NULL, validations, failed_validations, heartbeats, NULL, NULL FROM facets
        WHERE dimension = 'reason' ORDER BY failed_validations DESC, value
    )
"""  # noqa: S608


async def report(connection: Any, period: Period, now: datetime, product: str | None = None) -> FleetUsage:
    """Return the use of all licences, or of one product's; call it within a snapshot."""
    condition = of_product(product)
    days = _DAYS_OF_ALL if product is None else _DAYS_OF_PRODUCT.format(of_product=condition)
    query = _REPORT.format(days=days, of_product=condition)
    cursor = await connection.execute(query, {"product": product, **period.bounds}, prepare=False)
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in await cursor.fetchall():
        found[row["dimension"]].append(row)
    total = found["total"][0]
    return FleetUsage(
        days=period.days,
        since=period.since,
        until=period.until,
        **_counts(total),
        unique_devices=total["unique_devices"] or 0,
        used_licenses=total["used_licenses"],
        daily=_daily(period, found["day"]),
        licenses=[
            LicenseUse(
                license_id=row["license_id"],
                product=row["name"],
                unique_devices=row["unique_devices"],
                **_counts(row),
            )
            for row in found["license"]
        ],
        products=[
            ProductUse(product=row["name"], unique_devices=row["unique_devices"], **_counts(row))
            for row in found["product"]
        ],
        countries=[CountryUse(country=row["name"], **_counts(row)) for row in found["country"]],
        app_versions=[VersionUse(app_version=row["name"], **_counts(row)) for row in found["app_version"]],
        failure_reasons=[FailureReason(reason=row["name"], count=row["failed_validations"]) for row in found["reason"]],
        as_of=await of_views(connection, now, "usage", "devices-seen"),
    )


def _daily(period: Period, rows: list[dict[str, Any]]) -> list[DayOfUse]:
    counted = {row["name"]: row for row in rows}
    unused = {"validations": 0, "failed_validations": 0, "heartbeats": 0, "unique_devices": 0}
    return [_day(date, counted.get(date, unused)) for date in period.dates]


def _day(date: str, row: dict[str, Any]) -> DayOfUse:
    return DayOfUse(date=date, unique_devices=row["unique_devices"], **_counts(row))


def _counts(row: dict[str, Any]) -> dict[str, int]:
    return {name: row[name] for name in ("validations", "failed_validations", "heartbeats")}
