"""The report over all licences against what one counts in plain Python from the same rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest

from commands.usage_row import UsageType
from infra.postgres import Database
from projections import fleet_usage
from projections.fleet_usage import Counts, FleetUsage
from projections.periods import last_days
from tests.support.projected import project
from tests.support.usage import Use, failed, issue, reading, store, utc

NOW = utc("2024-03-10", "12:30")
MICROSECOND = timedelta(microseconds=1)
PRODUCTS = ("editor", "player", None)


async def report(database: Database, days: int = 30, product: str | None = None) -> FleetUsage:
    project(database)
    async with reading(database) as connection:
        return await fleet_usage.report(connection, last_days(NOW, days), NOW, product)


def counts(rows: Iterable[Use]) -> tuple[int, int, int]:
    types = [row.type for row in rows]
    return (
        types.count("license.validated"),
        types.count("license.validation.failed"),
        types.count("device.heartbeat"),
    )


def shown(found: Counts) -> tuple[int, int, int]:
    return (found.validations, found.failed_validations, found.heartbeats)


def devices(rows: Iterable[Use]) -> int:
    return len({(row.license_id, row.hardware_id) for row in rows if row.reason is None})


def grouped(rows: list[Use], name: Callable[[Use], Any]) -> dict[Any, list[Use]]:
    return {key: [row for row in rows if name(row) == key] for key in {name(row) for row in rows}}


def made_up(random: Random, license_id: UUID | None) -> Use:
    types: list[UsageType] = ["device.heartbeat", "license.validated", "license.validation.failed"]
    type = random.choices(types, (5, 3, 2))[0] if license_id else types[2]
    reasons = ["LICENSE_EXPIRED", "DEVICE_LIMIT_EXCEEDED"] if license_id else ["LICENSE_NOT_FOUND"]
    return Use(
        at=NOW - timedelta(microseconds=random.randrange(12 * 86_400_000_000)),
        license_id=license_id,
        hardware_id=f"pc-{random.randrange(5)}",
        type=type,
        country=random.choice(["DE", "FR", None]),
        app_version=random.choice(["1.0", "2.0", None]),
        reason=random.choice(reasons) if type == types[2] else None,
    )


@pytest.fixture
def licenses(database: Database) -> dict[UUID | None, str | None]:
    """Six licences of three products, and the unknown key."""
    return {issue(database, product): product for product in PRODUCTS * 2}


@pytest.fixture
def ten_days(database: Database, licenses: dict[UUID | None, str | None]) -> list[Use]:
    """Rows of the last ten days of UTC; older ones lie beside them."""
    random = Random(20240310)
    rows = [made_up(random, random.choice([*licenses, None])) for _ in range(1500)]
    store(database, rows)
    return [row for row in rows if row.at >= utc("2024-03-01")]


async def test_totals_and_every_breakdown(
    database: Database, licenses: dict[UUID | None, str | None], ten_days: list[Use]
) -> None:
    found = await report(database, 10)
    known = [row for row in ten_days if row.license_id]
    assert shown(found) == counts(ten_days)
    assert (found.unique_devices, found.used_licenses) == (devices(ten_days), 6)
    assert {one.license_id: (one.product, *shown(one), one.unique_devices) for one in found.licenses} == {
        key: (licenses[key], *counts(rows), devices(rows))
        for key, rows in grouped(known, lambda row: row.license_id).items()
    }
    assert {one.product: (*shown(one), one.unique_devices) for one in found.products} == {
        key: (*counts(rows), devices(rows))
        for key, rows in grouped(known, lambda row: licenses[row.license_id]).items()
    }
    assert {one.country: shown(one) for one in found.countries} == {
        key: counts(rows) for key, rows in grouped(ten_days, lambda row: row.country).items()
    }
    assert {one.app_version: shown(one) for one in found.app_versions} == {
        key: counts(rows) for key, rows in grouped(ten_days, lambda row: row.app_version).items()
    }
    assert {one.reason: one.count for one in found.failure_reasons} == {
        key: len(rows) for key, rows in grouped(ten_days, lambda row: row.reason).items() if key
    }


async def test_each_day_counts_its_own_devices(database: Database, ten_days: list[Use]) -> None:
    by_day = grouped(ten_days, lambda row: row.at.date().isoformat())
    assert [
        (day.date, day.validations, day.failed_validations, day.heartbeats, day.unique_devices)
        for day in (await report(database, 10)).daily
    ] == [(date, *counts(rows), devices(rows)) for date, rows in sorted(by_day.items())]


async def test_lists_begin_with_the_most_used(database: Database, ten_days: list[Use]) -> None:
    found = await report(database, 10)
    for breakdown in (found.licenses, found.products, found.countries, found.app_versions):
        uses = [one.validations + one.heartbeats for one in breakdown]
        assert uses == sorted(uses, reverse=True)
    refusals = [one.count for one in found.failure_reasons]
    assert refusals == sorted(refusals, reverse=True)


async def test_days_end_at_midnight_in_utc_and_days_without_use_are_shown(database: Database) -> None:
    license_id = issue(database)
    moments = [utc("2024-03-06") - MICROSECOND, utc("2024-03-06"), utc("2024-03-09") - MICROSECOND, NOW]
    store(database, [Use(at, license_id) for at in moments])
    found = await report(database, 5)
    assert [(day.date, day.heartbeats, day.unique_devices) for day in found.daily] == [
        ("2024-03-06", 1, 1),
        ("2024-03-07", 0, 0),
        ("2024-03-08", 1, 1),
        ("2024-03-09", 0, 0),
        ("2024-03-10", 1, 1),
    ]
    assert (found.heartbeats, found.unique_devices) == (3, 1)
    assert (found.since, found.until) == (utc("2024-03-06"), utc("2024-03-11"))


async def test_nothing_was_used(database: Database) -> None:
    issue(database)
    found = await report(database, 365)
    assert (*shown(found), found.unique_devices, found.used_licenses) == (0, 0, 0, 0, 0)
    assert len(found.daily) == 365
    lists = (found.licenses, found.products, found.countries, found.app_versions, found.failure_reasons)
    assert lists == ([], [], [], [], [])


async def test_a_machine_with_two_licences_is_two_devices(database: Database) -> None:
    store(database, [Use(NOW, issue(database, "editor")), Use(NOW, issue(database, "player"))])
    found = await report(database)
    assert (found.unique_devices, found.used_licenses) == (2, 2)


async def test_a_licence_that_was_only_refused_is_listed_but_not_in_use(database: Database) -> None:
    license_id = issue(database)
    store(database, [failed(NOW, license_id, "LICENSE_EXPIRED")])
    found = await report(database)
    assert (found.used_licenses, found.unique_devices) == (0, 0)
    assert [(one.license_id, one.failed_validations) for one in found.licenses] == [(license_id, 1)]


async def test_one_products_report_has_nothing_of_the_others_or_of_unknown_keys(
    database: Database, licenses: dict[UUID | None, str | None], ten_days: list[Use]
) -> None:
    found = await report(database, 10, "editor")
    rows = [row for row in ten_days if licenses.get(row.license_id) == "editor"]
    assert shown(found) == counts(rows)
    assert found.unique_devices == devices(rows)
    assert [one.product for one in found.products] == ["editor"]
    assert {one.license_id for one in found.licenses} == {row.license_id for row in rows}
    assert sum(one.count for one in found.failure_reasons) == counts(rows)[1]
    assert sum(one.heartbeats for one in found.countries) == counts(rows)[2]


async def test_only_the_busiest_twenty_licences_are_listed(database: Database) -> None:
    licenses = [issue(database) for _ in range(22)]
    store(database, [Use(NOW, license_id) for n, license_id in enumerate(licenses) for _ in range(n + 1)])
    found = await report(database)
    assert [one.license_id for one in found.licenses] == licenses[:1:-1]
    assert found.used_licenses == 22
