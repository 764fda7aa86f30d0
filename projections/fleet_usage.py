"""The use of all licences over a period, or of those for one product, read from the usage log.

A device is a licence's: a machine with two licences counts twice, as it does in seats. Devices that were refused are
not counted.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from projections.as_of import AsOf, of_logs
from projections.periods import Period
from projections.usage_reports import DayOfUse

MOST_LICENSES = 20
MOST_VERSIONS = 50


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of the usage log by kind."""

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


BY_TYPE = """
    count(*) FILTER (WHERE type = 'license.validated') AS validations,
    count(*) FILTER (WHERE type = 'license.validation.failed') AS failed_validations,
    count(*) FILTER (WHERE type = 'device.heartbeat') AS heartbeats
"""

OF_PRODUCT = "AND license_id IN (SELECT license_id FROM licenses WHERE product = %(product)s)"
"""Narrows rows that name a licence to those of one product."""

_SUMS = """
    sum(validations)::bigint AS validations, sum(failed_validations)::bigint AS failed_validations,
    sum(heartbeats)::bigint AS heartbeats
"""
_USED = "count(*) FILTER (WHERE validations + heartbeats > 0)"

# The log is read twice: once by device and day, from which days, licences and products follow without counting
# distinct devices again; once by what does not belong to a device.
_REPORT = f"""
    WITH device_days AS MATERIALIZED (
        SELECT (occurred_at AT TIME ZONE 'UTC')::date AS day, license_id, hardware_id, {BY_TYPE}
        FROM usage WHERE occurred_at >= %(since)s AND occurred_at < %(until)s {{of_product}}
        GROUP BY day, license_id, hardware_id
    ), devices AS (
        SELECT license_id, hardware_id, {_SUMS} FROM device_days GROUP BY license_id, hardware_id
    ), by_license AS MATERIALIZED (
        SELECT license_id, {_SUMS}, {_USED} AS unique_devices FROM devices GROUP BY license_id
    ), circumstances AS MATERIALIZED (
        SELECT country, app_version, reason, {BY_TYPE}
        FROM usage WHERE occurred_at >= %(since)s AND occurred_at < %(until)s {{of_product}}
        GROUP BY country, app_version, reason
    )
    SELECT 'total' AS dimension, NULL AS name, NULL::uuid AS license_id, {_SUMS},
        sum(unique_devices)::bigint AS unique_devices, {_USED} AS used_licenses FROM by_license
    UNION ALL SELECT 'day', day::text, NULL, {_SUMS}, {_USED}, NULL FROM device_days GROUP BY day
    UNION ALL (
        SELECT 'license', product, license_id, validations, failed_validations, heartbeats, unique_devices, NULL
        FROM by_license JOIN licenses USING (license_id)
        ORDER BY validations + heartbeats DESC, failed_validations DESC, license_id LIMIT {MOST_LICENSES}
    )
    UNION ALL (
        SELECT 'product', product, NULL, {_SUMS}, sum(unique_devices)::bigint, NULL
        FROM by_license JOIN licenses USING (license_id) GROUP BY product
        ORDER BY sum(validations + heartbeats) DESC, product
    )
    UNION ALL (
        SELECT 'country', country, NULL, {_SUMS}, NULL, NULL FROM circumstances GROUP BY country
        ORDER BY sum(validations + heartbeats) DESC, country
    )
    UNION ALL (
        SELECT 'version', app_version, NULL, {_SUMS}, NULL, NULL FROM circumstances GROUP BY app_version
        ORDER BY sum(validations + heartbeats) DESC, app_version LIMIT {MOST_VERSIONS}
    )
    UNION ALL (
        SELECT 'reason', reason, NULL, {_SUMS}, NULL, NULL FROM circumstances WHERE reason IS NOT NULL GROUP BY reason
        ORDER BY sum(failed_validations) DESC, reason
    )
"""  # noqa: S608 - constants only


async def report(connection: Any, period: Period, now: datetime, product: str | None = None) -> FleetUsage:
    """Return the use of all licences, or of one product's; call it within a snapshot."""
    query = _REPORT.format(of_product="" if product is None else OF_PRODUCT)
    wanted = {"since": period.since, "until": period.until, "product": product}
    # Planned afresh each time, so that only the period's partitions are opened.
    cursor = await connection.execute(query, wanted, prepare=False)
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
        app_versions=[VersionUse(app_version=row["name"], **_counts(row)) for row in found["version"]],
        failure_reasons=[FailureReason(reason=row["name"], count=row["failed_validations"]) for row in found["reason"]],
        as_of=await of_logs(connection, now),
    )


def _daily(period: Period, rows: list[dict[str, Any]]) -> list[DayOfUse]:
    counted = {row["name"]: row for row in rows}
    unused = {"validations": 0, "failed_validations": 0, "heartbeats": 0, "unique_devices": 0}
    return [_day(date, counted.get(date, unused)) for date in period.dates]


def _day(date: str, row: dict[str, Any]) -> DayOfUse:
    return DayOfUse(date=date, unique_devices=row["unique_devices"], **_counts(row))


def _counts(row: dict[str, Any]) -> dict[str, int]:
    # A sum over no rows is NULL.
    return {name: row[name] or 0 for name in ("validations", "failed_validations", "heartbeats")}
