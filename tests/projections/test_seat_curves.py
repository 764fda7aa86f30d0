"""Seats in use over time, of one licence and of many, against what one counts by hand."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from infra.postgres import Database
from projections import seat_curves
from projections.periods import Period, last_days
from projections.seat_curves import DayOfSeats, SeatCurve, SeatPoint
from tests.support.seat_events import allows, begins, gives_up, happen, moves, takes
from tests.support.usage import issue, reading, utc

NOW = utc("2024-03-10", "12:30")
PERIOD: Period = last_days(NOW, 3)
LICENSE = uuid4()
HOUR = timedelta(hours=1)
MICROSECOND = timedelta(microseconds=1)


async def curve(database: Database) -> SeatCurve:
    async with reading(database) as connection:
        return await seat_curves.of_license(connection, LICENSE, PERIOD)


async def days(database: Database, product: str | None = None) -> list[tuple[int, int, int, int]]:
    async with reading(database) as connection:
        found = await seat_curves.daily(connection, PERIOD, product)
    assert [day.date for day in found] == ["2024-03-08", "2024-03-09", "2024-03-10"]
    return [shown(day) for day in found]


def shown(day: DayOfSeats) -> tuple[int, int, int, int]:
    return day.activations, day.deactivations, day.seats_peak, day.seats_at_end


def points(found: list[SeatPoint]) -> list[tuple[str, int, int]]:
    return [(f"{point.at:%d %H}", point.used, point.allowed) for point in found]


async def test_a_curve_has_what_held_before_and_each_step_since(database: Database) -> None:
    first = PERIOD.since
    happen(
        database,
        [
            begins(utc("2024-02-01"), LICENSE, 2),
            takes(utc("2024-02-01"), uuid4()),
            takes(first - MICROSECOND, LICENSE),
            takes(first, LICENSE),
            moves(first + HOUR, LICENSE),
            allows(first + 2 * HOUR, LICENSE, 5),
            takes(first + 3 * HOUR, LICENSE),
            gives_up(first + 4 * HOUR, LICENSE),
            takes(first + 5 * HOUR, LICENSE),
            allows(first + 6 * HOUR, LICENSE, 1),
        ],
    )
    found = await curve(database)
    assert points([found.opening]) == [("08 00", 1, 2)]
    assert points(found.changes) == [
        ("08 00", 2, 2),
        ("08 02", 2, 5),
        ("08 03", 3, 5),
        ("08 04", 2, 5),
        ("08 05", 3, 5),
        ("08 06", 3, 1),
    ]
    assert found.changes_in_all == 6
    assert points([found.peak]) == [("08 03", 3, 5)]


async def test_the_peak_may_be_what_the_period_began_with(database: Database) -> None:
    before = utc("2024-02-01")
    happen(database, [begins(before, LICENSE, 2), takes(before, LICENSE), takes(before, LICENSE)])
    happen(database, [gives_up(NOW, LICENSE), takes(NOW, LICENSE)])
    found = await curve(database)
    assert points([found.peak]) == points([found.opening]) == [("08 00", 2, 2)]


async def test_a_licence_that_began_within_the_period(database: Database) -> None:
    happen(database, [begins(NOW, LICENSE, 4)])
    found = await curve(database)
    assert points([found.opening, *found.changes]) == [("08 00", 0, 0), ("10 12", 0, 4)]


async def test_a_licence_without_events_has_a_flat_curve(database: Database) -> None:
    found = await curve(database)
    assert (points([found.opening]), found.changes, found.changes_in_all) == ([("08 00", 0, 0)], [], 0)


async def test_events_follow_each_other_by_position_though_clocks_differ(database: Database) -> None:
    happen(database, [begins(PERIOD.since, LICENSE, 4), takes(NOW, LICENSE), gives_up(NOW - MICROSECOND, LICENSE)])
    found = await curve(database)
    assert [(point.at, point.used) for point in found.changes] == [(PERIOD.since, 0), (NOW, 1), (NOW, 0)]


async def test_only_the_newest_thousand_changes_are_listed_but_the_peak_is_of_all(database: Database) -> None:
    first = PERIOD.since
    beginning = [begins(first, LICENSE, 9), *[takes(first, LICENSE)] * 2, *[gives_up(first + HOUR, LICENSE)] * 2]
    happen(database, [*beginning, *[takes(NOW, LICENSE), gives_up(NOW, LICENSE)] * 500])
    found = await curve(database)
    assert (len(found.changes), found.changes_in_all, found.peak.used) == (1000, 1005, 2)
    assert [point.used for point in found.changes] == [1, 0] * 500


async def test_each_day_has_its_peak_and_its_end(database: Database) -> None:
    one, other = issue(database), issue(database)
    happen(
        database,
        [
            takes(utc("2024-03-07", "23:59"), one),
            takes(utc("2024-03-08"), one),
            takes(utc("2024-03-08", "10:00"), other),
            gives_up(utc("2024-03-08", "11:00"), one),
            takes(utc("2024-03-10") - MICROSECOND, one),
            moves(utc("2024-03-10"), one),
            gives_up(utc("2024-03-10"), other),
        ],
    )
    assert await days(database) == [(2, 1, 3, 2), (1, 0, 3, 3), (1, 2, 3, 2)]


async def test_days_without_changes_keep_what_was_in_use(database: Database) -> None:
    happen(database, [takes(utc("2024-01-01"), LICENSE), takes(utc("2024-01-02"), LICENSE)])
    assert await days(database) == [(0, 0, 2, 2)] * 3
    assert await days(database, "editor") == [(0, 0, 0, 0)] * 3


async def test_one_products_days_have_nothing_of_the_others(database: Database) -> None:
    licenses: list[UUID] = [issue(database, "editor"), issue(database, "player"), issue(database)]
    for license_id in licenses:
        happen(database, [takes(utc("2024-03-01"), license_id), takes(utc("2024-03-09", "08:00"), license_id)])
        happen(database, [gives_up(utc("2024-03-09", "09:00"), license_id)])
    assert await days(database, "editor") == [(0, 0, 1, 1), (1, 1, 2, 1), (0, 0, 1, 1)]
    assert await days(database) == [(0, 0, 3, 3), (3, 3, 6, 3), (0, 0, 3, 3)]
