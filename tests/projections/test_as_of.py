"""What answers say of how far they have come."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import uuid4

from infra.postgres import Database
from projections.as_of import AsOf, View, of_views
from tests.support.orders import activate, carry_out, issue, running_writer
from tests.support.projected import project
from tests.support.usage import Use, reading, store, utc

NOW = utc("2024-03-10", "12:00")
MINUTE = timedelta(minutes=1)


async def as_of(database: Database, *views: View, now: datetime = NOW) -> AsOf:
    async with reading(database) as connection:
        return await of_views(connection, now, *views)


def used(database: Database, *minutes_ago: int) -> None:
    store(database, [Use(NOW - minutes * MINUTE, uuid4()) for minutes in minutes_ago])


def moved(database: Database, consumer: str, **positions: int) -> None:
    with database.connect() as connection:
        columns = ", ".join(f"{name} = {position}" for name, position in positions.items())
        connection.execute("INSERT INTO consumers (consumer) VALUES (%s) ON CONFLICT DO NOTHING", (consumer,))
        connection.execute(f"UPDATE consumers SET {columns} WHERE consumer = %s", (consumer,))


async def test_an_empty_database_is_up_to_date(database: Database) -> None:
    assert await as_of(database, "usage", "seats") == AsOf(position=0, usage_position=0, time=NOW, lag_seconds=0)


async def test_nothing_lags_once_all_is_applied(database: Database) -> None:
    used(database, 5, 4, 3)
    project(database)
    assert await as_of(database, "usage", "devices-seen") == AsOf(position=0, usage_position=3, time=NOW, lag_seconds=0)


async def test_a_view_that_has_never_run_lags_since_the_first_use(database: Database) -> None:
    used(database, 5, 4)
    found = await as_of(database, "usage")
    assert (found.usage_position, found.lag_seconds, found.time) == (0, 300, NOW - 5 * MINUTE)


async def test_the_least_of_the_views_counts_and_the_others_do_not(database: Database) -> None:
    used(database, 5, 4, 3)
    moved(database, "usage", usage_position=3)
    moved(database, "devices-seen", usage_position=1)
    both = await as_of(database, "usage", "devices-seen")
    assert (both.usage_position, both.lag_seconds) == (1, 240)
    assert (await as_of(database, "usage")).lag_seconds == 0


async def test_a_number_that_no_row_got_is_no_lag(database: Database) -> None:
    used(database, 5)
    project(database)
    with database.connect_owner() as connection:
        connection.execute("SELECT nextval('lizenzserver.usage_id_seq')")
    assert (await as_of(database, "usage", "devices-seen")).lag_seconds == 0


async def test_a_row_from_a_clock_that_is_ahead_is_no_negative_lag(database: Database) -> None:
    used(database, -1)
    assert (await as_of(database, "usage")).lag_seconds == 0


async def test_events_count_for_the_views_that_follow_them(database: Database) -> None:
    license_id = uuid4()
    async with running_writer(database) as writer:
        await carry_out(writer, issue(license_id), activate(license_id, "pc"))
    with database.connect() as connection:
        row = connection.execute("SELECT max(notification_id) AS last FROM licensing_events").fetchone()
    assert row is not None
    last = row["last"]
    inline = await as_of(database, "usage")
    assert (inline.position, inline.lag_seconds) == (last, 0)
    behind = await as_of(database, "usage", "seats", now=datetime.now(NOW.tzinfo) + timedelta(hours=1))
    assert behind.position == 0
    assert behind.lag_seconds >= 3600
    project(database)
    assert (await as_of(database, "usage", "seats")).position == last
