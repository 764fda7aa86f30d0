"""A licence's patterns against what one counts by hand, or in plain Python from the same rows."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import datetime, timedelta
from random import Random
from statistics import fmean, median
from uuid import UUID, uuid4

import psycopg
import pytest

from commands.usage_row import UsageType
from infra.postgres import Database
from projections import usage_patterns
from projections.periods import last_days
from projections.usage_patterns import WEEKDAYS, UsagePatterns
from tests.support.projected import project
from tests.support.usage import Use, failed, reading, store, utc

SUNDAY = utc("2024-03-10", "12:30")
SINCE = utc("2024-02-10")
LICENSE = uuid4()
MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)


async def patterns(
    database: Database, days: int = 30, now: datetime = SUNDAY, license_id: UUID = LICENSE
) -> UsagePatterns:
    project(database)
    async with reading(database) as connection:
        return await usage_patterns.of_license(connection, license_id, last_days(now, days), now)


def sessions_of(uses: list[Use], since: datetime) -> list[float]:
    by_device: defaultdict[str, list[datetime]] = defaultdict(list)
    for use in sorted(uses):
        by_device[use.hardware_id].append(use.at)
    runs = []
    for moments in by_device.values():
        begun = before = moments[0]
        for at in moments[1:]:
            if at - before > 30 * MINUTE:
                runs.append((begun, before))
                begun = at
            before = at
        runs.append((begun, before))
    return [(ended - max(begun, since)).total_seconds() for begun, ended in runs if ended >= since]


def made_up(random: Random, license_id: UUID) -> Use:
    types: list[UsageType] = ["device.heartbeat", "license.validated", "license.validation.failed"]
    type = random.choices(types, (6, 3, 1))[0]
    return Use(
        at=SUNDAY - timedelta(microseconds=random.randrange(40 * 86_400_000_000)),
        license_id=license_id,
        hardware_id=f"pc-{random.randrange(4)}",
        type=type,
        country=random.choice(["DE", "FR", None]),
        app_version=random.choice(["1.0", "2.0", None]),
        reason="LICENSE_EXPIRED" if type == "license.validation.failed" else None,
    )


@pytest.fixture
def forty_days(database: Database) -> list[Use]:
    """Some thousand rows of one licence, a quarter of them before the last 30 days of UTC; others' lie beside."""
    random = Random(20240310)
    rows = [made_up(random, LICENSE) for _ in range(3000)]
    store(database, rows + [made_up(random, uuid4()) for _ in range(50)])
    return rows


@pytest.fixture
def month_of_use(forty_days: list[Use]) -> list[Use]:
    return [row for row in forty_days if row.at >= SINCE]


async def test_dimensions_count_uses_and_not_refusals(database: Database, month_of_use: list[Use]) -> None:
    found = await patterns(database)
    uses = [row for row in month_of_use if row.reason is None]
    types = Counter(row.type for row in month_of_use)
    assert len(uses) > 1500
    assert found.validations == types["license.validated"]
    assert found.failed_validations == types["license.validation.failed"]
    assert found.heartbeats == types["device.heartbeat"]
    assert [(one.hour, one.uses) for one in found.hours] == [
        (hour, sum(use.at.hour == hour for use in uses)) for hour in range(24)
    ]
    assert [(one.weekday, one.uses) for one in found.weekdays] == [
        (name, sum(use.at.strftime("%A") == name for use in uses)) for name in WEEKDAYS
    ]
    assert {one.country: one.uses for one in found.countries} == Counter(use.country for use in uses)
    assert {one.app_version: one.uses for one in found.app_versions} == Counter(use.app_version for use in uses)


async def test_devices_come_with_their_first_and_last_use_the_busiest_first(
    database: Database, month_of_use: list[Use]
) -> None:
    found = await patterns(database)
    by_device: defaultdict[str, list[datetime]] = defaultdict(list)
    for use in month_of_use:
        if use.reason is None:
            by_device[use.hardware_id].append(use.at)
    expected = sorted(
        ((len(at), hardware_id, min(at), max(at)) for hardware_id, at in by_device.items()),
        key=lambda row: (-row[0], row[1]),
    )
    assert found.unique_devices == 4
    assert [(one.uses, one.hardware_id, one.first_seen_at, one.last_seen_at) for one in found.devices] == expected


async def test_sessions_of_many_rows(database: Database, forty_days: list[Use]) -> None:
    found = (await patterns(database)).sessions
    lengths = sessions_of([row for row in forty_days if row.reason is None], SINCE)
    assert found.count == len(lengths)
    assert found.median_seconds == pytest.approx(median(lengths))
    assert found.mean_seconds == pytest.approx(fmean(lengths))
    assert found.max_seconds == pytest.approx(max(lengths))


async def test_a_session_outlasts_a_gap_of_exactly_thirty_minutes(database: Database) -> None:
    begin = utc("2024-03-10", "08:00")
    store(database, [Use(begin, LICENSE), Use(begin + 30 * MINUTE, LICENSE), Use(begin + 60 * MINUTE, LICENSE)])
    found = (await patterns(database)).sessions
    assert (found.count, found.median_seconds, found.mean_seconds, found.max_seconds) == (1, 3600, 3600, 3600)


async def test_of_a_session_that_began_before_the_period_only_what_lies_in_it_counts(database: Database) -> None:
    midnight = utc("2024-03-10")
    moments = [midnight - 20 * MINUTE, midnight + 10 * MINUTE, midnight + 15 * MINUTE]
    store(database, [*[Use(at, LICENSE) for at in moments], Use(midnight - MICROSECOND, LICENSE, "pc-2")])
    found = (await patterns(database, days=1)).sessions
    assert (found.count, found.max_seconds) == (1, 900)
    assert (await patterns(database, days=2)).sessions.count == 2


async def test_a_session_ends_with_a_longer_gap(database: Database) -> None:
    begin = utc("2024-03-10", "08:00")
    later = begin + 40 * MINUTE + MICROSECOND
    store(database, [Use(begin, LICENSE), Use(begin + 10 * MINUTE, LICENSE), Use(later, LICENSE)])
    found = (await patterns(database)).sessions
    assert (found.count, found.median_seconds, found.mean_seconds, found.max_seconds) == (2, 300, 300, 600)


async def test_sessions_are_a_devices_own_and_refusals_do_not_prolong_them(database: Database) -> None:
    begin = utc("2024-03-10", "08:00")
    store(
        database,
        [
            Use(begin, LICENSE, "pc-1"),
            Use(begin + 20 * MINUTE, LICENSE, "pc-2"),
            failed(begin + 25 * MINUTE, LICENSE, "LICENSE_EXPIRED", "pc-1"),
            Use(begin + 40 * MINUTE, LICENSE, "pc-1"),
        ],
    )
    found = (await patterns(database)).sessions
    assert (found.count, found.max_seconds) == (3, 0)


async def test_days_and_hours_are_those_of_utc(database: Database) -> None:
    midnight = utc("2024-03-10")
    store(database, [Use(midnight - MICROSECOND, LICENSE), Use(midnight, LICENSE)])
    found = await patterns(database, days=2)
    assert {one.hour: one.uses for one in found.hours if one.uses} == {0: 1, 23: 1}
    assert {one.weekday: one.uses for one in found.weekdays if one.uses} == {"Saturday": 1, "Sunday": 1}


@pytest.mark.parametrize("days, first", [(1, "2024-03-10"), (2, "2024-03-09"), (11, "2024-02-29")])
async def test_a_period_begins_with_the_first_instant_of_its_first_day(
    database: Database, days: int, first: str
) -> None:
    store(database, [Use(utc(first) - MICROSECOND, LICENSE), Use(utc(first), LICENSE), Use(SUNDAY, LICENSE)])
    found = await patterns(database, days)
    assert (found.since, found.until) == (utc(first), utc("2024-03-11"))
    assert found.heartbeats == 2


async def test_a_licence_that_nobody_used(database: Database) -> None:
    store(database, [Use(SUNDAY, uuid4()), Use(utc("2024-01-01"), LICENSE)])
    found = await patterns(database)
    assert (found.validations, found.failed_validations, found.heartbeats, found.unique_devices) == (0, 0, 0, 0)
    assert [one.uses for one in found.hours] == [0] * 24
    assert [(one.weekday, one.uses) for one in found.weekdays] == [(name, 0) for name in WEEKDAYS]
    assert (found.devices, found.countries, found.app_versions) == ([], [], [])
    assert (found.sessions.count, found.sessions.median_seconds) == (0, None)
    assert (found.trend.direction, found.trend.percent, found.trend.uses_per_day) == ("flat", None, 0)


async def test_a_licence_that_was_only_refused_is_not_in_use(database: Database) -> None:
    store(database, [failed(SUNDAY, LICENSE, "LICENSE_EXPIRED")])
    found = await patterns(database)
    assert (found.failed_validations, found.unique_devices, found.devices, found.countries) == (1, 0, [], [])


async def test_only_the_busiest_hundred_devices_are_listed(database: Database) -> None:
    devices = [f"pc-{number:03}" for number in range(120)]
    rows = [Use(SUNDAY, LICENSE, device) for device in devices] + [Use(SUNDAY, LICENSE, "pc-110")]
    store(database, rows)
    found = await patterns(database)
    assert found.unique_devices == 120
    assert [one.hardware_id for one in found.devices] == ["pc-110", *devices[:99]]


async def test_the_trend_compares_the_halves_of_what_has_passed(database: Database) -> None:
    # Two days to noon are 36 hours: the halves meet on Saturday at 18:00.
    now = utc("2024-03-10", "12:00")
    meeting = utc("2024-03-09", "18:00")
    store(database, [*[Use(meeting - MICROSECOND, LICENSE)] * 6, *[Use(meeting, LICENSE)] * 9])
    found = (await patterns(database, days=2, now=now)).trend
    assert (found.direction, found.percent) == ("up", 50)
    assert (found.uses_per_day_before, found.uses_per_day) == (8, 12)


async def test_the_longest_period_looks_back_a_year(database: Database) -> None:
    first = utc("2023-03-12")
    store(database, [Use(first, LICENSE), Use(first - MICROSECOND, LICENSE), Use(SUNDAY, LICENSE)])
    found = await patterns(database, days=365)
    assert (found.since, found.heartbeats, found.sessions.count) == (first, 2, 2)
    assert found.trend.direction == "flat"


@pytest.mark.parametrize(
    "before, current, direction, percent",
    [
        (100, 106, "up", 6),
        (100, 105, "flat", 5),
        (100, 95, "flat", -5),
        (100, 94, "down", -6),
        (0, 1, "up", None),
        (0, 0, "flat", None),
        (10, 0, "down", -100),
    ],
)
def test_small_changes_are_no_trend(before: int, current: int, direction: str, percent: float | None) -> None:
    day = timedelta(days=1)
    found = usage_patterns.trend(uses_before=before, uses=current, length_before=day, length=day)
    assert (found.direction, found.percent) == (direction, percent)


def test_a_trend_just_after_midnight_does_not_extrapolate_from_seconds() -> None:
    found = usage_patterns.trend(uses_before=0, uses=2, length_before=timedelta(), length=timedelta(seconds=1))
    assert found.uses_per_day == 48


async def test_an_answer_sees_one_moment_and_writes_nothing(database: Database) -> None:
    store(database, [Use(SUNDAY, LICENSE)])
    async with reading(database) as connection:
        before = await (await connection.execute("SELECT count(*) FROM usage")).fetchone()
        store(database, [Use(SUNDAY, LICENSE)])
        assert await (await connection.execute("SELECT count(*) FROM usage")).fetchone() == before
    assert (await patterns(database)).heartbeats == 2
    with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        async with reading(database) as connection:
            await connection.execute("DELETE FROM licenses")
