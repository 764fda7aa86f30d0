"""The dashboard's numbers at a fixed moment, counted by hand."""

from __future__ import annotations

from datetime import datetime, timedelta

from infra.postgres import Database
from projections import dashboard
from projections.dashboard import Dashboard
from tests.support.projected import project
from tests.support.seat_events import gives_up, happen, takes
from tests.support.usage import Use, failed, issue, reading, store, utc

NOW = utc("2024-03-10", "12:30")
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)


async def read(database: Database, now: datetime = NOW, product: str | None = None) -> Dashboard:
    project(database)
    async with reading(database) as connection:
        return await dashboard.read(connection, now, product)


async def test_licences_by_state_and_seats(database: Database) -> None:
    issue(database, max_devices=5, current_devices=2)
    issue(database, is_active=False, expires_at=NOW - DAY, current_devices=1)
    issue(database, expires_at=NOW - MICROSECOND)
    issue(database, expires_at=NOW, is_test=True)
    issue(database, expires_at=NOW + 7 * DAY - MICROSECOND)
    issue(database, expires_at=NOW + 7 * DAY)
    issue(database, expires_at=NOW + 30 * DAY)
    issue(database, expires_at=NOW + DAY, is_active=False)
    found = await read(database)
    states = found.licenses
    assert (states.total, states.active, states.inactive, states.expired, states.test) == (8, 5, 2, 1, 1)
    assert (states.expiring_in_7_days, states.expiring_in_30_days) == (2, 3)
    assert (found.seats.used, found.seats.allowed) == (3, 26)


async def test_seats_by_day(database: Database) -> None:
    license_id = issue(database)
    first = utc("2024-02-10")
    happen(
        database,
        [
            takes(first - MICROSECOND, license_id),
            gives_up(first, license_id),
            takes(first, license_id),
            takes(utc("2024-03-10") - MICROSECOND, license_id),
            gives_up(utc("2024-03-10"), license_id),
            takes(NOW, license_id),
            gives_up(NOW, license_id),
        ],
    )
    found = await read(database)
    assert (found.days, found.since, found.until) == (30, first, utc("2024-03-11"))
    assert len(found.daily) == 30
    assert {
        day.date: (day.activations, day.deactivations, day.seats_peak, day.seats_at_end)
        for day in found.daily
        if day.activations
    } == {"2024-02-10": (1, 1, 1, 1), "2024-03-09": (1, 0, 2, 2), "2024-03-10": (1, 2, 2, 1)}
    assert found.daily[10].seats_at_end == 1


async def test_the_last_24_hours(database: Database) -> None:
    license_id = issue(database)
    store(
        database,
        [
            Use(utc("2024-03-09", "13:00") - MICROSECOND, license_id),
            Use(utc("2024-03-09", "13:00"), license_id, type="license.validated"),
            Use(utc("2024-03-10", "00:00"), license_id),
            Use(NOW, license_id),
            failed(NOW, license_id, "LICENSE_EXPIRED"),
            failed(NOW - HOUR, None, "LICENSE_NOT_FOUND"),
            failed(NOW - HOUR, None, "LICENSE_NOT_FOUND"),
            failed(utc("2024-03-09", "13:00"), None, "LICENSE_INACTIVE"),
            failed(utc("2024-03-09", "13:00") - MICROSECOND, None, "PRODUCT_MISMATCH"),
            failed(utc("2024-03-08", "23:00"), None, "PRODUCT_MISMATCH"),
        ],
    )
    found = (await read(database)).last_24_hours
    assert (found.validations, found.failed_validations, found.heartbeats) == (1, 4, 2)
    assert [hour.hour for hour in found.hours] == [utc("2024-03-09", "13:00") + n * HOUR for n in range(24)]
    used = {
        hour.hour.strftime("%d %H"): (hour.validations, hour.failed_validations, hour.heartbeats)
        for hour in found.hours
        if hour.validations or hour.failed_validations or hour.heartbeats
    }
    assert used == {
        "09 13": (1, 1, 0),
        "10 00": (0, 0, 1),
        "10 11": (0, 2, 0),
        "10 12": (0, 1, 1),
    }
    assert [(one.reason, one.count) for one in found.failure_reasons] == [
        ("LICENSE_NOT_FOUND", 2),
        ("LICENSE_EXPIRED", 1),
        ("LICENSE_INACTIVE", 1),
    ]


async def test_devices_are_counted_by_when_they_were_last_seen(database: Database) -> None:
    one, other = issue(database), issue(database)
    next_hour = utc("2024-03-10", "13:00")
    store(
        database,
        [
            Use(next_hour - DAY, one, "today"),
            Use(NOW - 20 * DAY, one, "today"),
            Use(NOW - 20 * DAY, other, "today"),
            Use(next_hour - DAY - MICROSECOND, one, "this week"),
            Use(next_hour - 7 * DAY, one, "a week ago"),
            Use(next_hour - 7 * DAY - MICROSECOND, one, "this month"),
            Use(next_hour - 30 * DAY, one, "a month ago"),
            Use(next_hour - 30 * DAY - MICROSECOND, one, "gone"),
            failed(NOW, one, "DEVICE_LIMIT_EXCEEDED", "refused"),
        ],
    )
    found = (await read(database)).devices_seen
    assert (found.last_24_hours, found.last_7_days, found.last_30_days) == (1, 3, 6)


async def test_an_empty_database(database: Database) -> None:
    found = await read(database)
    assert (found.licenses.total, found.seats.used, found.seats.allowed) == (0, 0, 0)
    assert (found.last_24_hours.heartbeats, found.last_24_hours.failure_reasons) == (0, [])
    assert found.devices_seen.last_30_days == 0
    assert (found.as_of.position, found.as_of.usage_position, found.as_of.time) == (0, 0, NOW)


async def test_one_products_dashboard_has_nothing_of_the_others(database: Database) -> None:
    for license_id in (issue(database, "editor", current_devices=1), issue(database, "player", current_devices=1)):
        happen(database, [takes(NOW, license_id), gives_up(NOW, license_id)])
        store(database, [Use(NOW, license_id), failed(NOW, license_id, "LICENSE_EXPIRED")])
    store(database, [failed(NOW, None, "LICENSE_NOT_FOUND")])
    found = await read(database, product="editor")
    assert (found.licenses.total, found.seats.used, found.seats.allowed) == (1, 1, 3)
    assert (found.daily[-1].activations, found.daily[-1].deactivations) == (1, 1)
    assert (found.daily[-1].seats_peak, found.daily[-1].seats_at_end) == (1, 0)
    assert (found.last_24_hours.heartbeats, found.last_24_hours.failed_validations) == (1, 1)
    assert [one.reason for one in found.last_24_hours.failure_reasons] == ["LICENSE_EXPIRED"]
    assert found.devices_seen.last_24_hours == 1
