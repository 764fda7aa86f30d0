"""A rebuild makes what the live consumer would have made, and nobody sees it happen."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from commands.event_mapper import decoder
from commands.recorder import EVENTS_LOCK
from infra.postgres import Database
from projections import dead_letters
from projections.following import Follower
from projections.inline_views import InlineViews
from projections.projection import Projection
from projections.rebuild import NotComplete, Progress, Rebuild, RebuildUnderWay
from projections.registry import ASYNCHRONOUS
from projections.seats import SEATS
from projections.usage_counts import USAGE_COUNTS
from tests.support.anomalies import detected, recording, resolve
from tests.support.client import eventually
from tests.support.event_log import START, append, lives_of_licenses
from tests.support.given import activated, issued, recorded
from tests.support.orders import PlainEmails, activate, carry_out, issue, running_writer
from tests.support.usage import Use, failed, reading, store
from tests.support.within import within

INLINE = Projection(name="licenses", tables=InlineViews.TABLES, apply_events=InlineViews(PlainEmails()).apply)

CATALOGUE = """
    SELECT c.relname, c.reloptions, i.relname AS index, has_table_privilege('lizenzserver_service', c.oid,
        'SELECT, INSERT, UPDATE, DELETE') AS granted, has_table_privilege('pg_monitor', c.oid, 'SELECT') AS public,
        pg_get_userbyid(c.relowner) AS owner
    FROM pg_class c LEFT JOIN pg_index x ON x.indrelid = c.oid LEFT JOIN pg_class i ON i.oid = x.indexrelid
    WHERE c.relname = ANY(%s) AND c.relnamespace = 'lizenzserver'::regnamespace ORDER BY 1, 3
"""


class Ended(Exception):
    pass


def fill(database: Database) -> None:
    append(database, lives_of_licenses(400))
    uses = [
        Use(START, UUID(int=n % 20 + 1), f"pc-{n % 60}", country="DE", app_version=f"1.{n % 3}") for n in range(600)
    ]
    store(database, [*uses, failed(START, None, "LICENSE_NOT_FOUND"), failed(START, UUID(int=1), "LICENSE_EXPIRED")])


def follow(database: Database, *projections: Projection) -> None:
    with database.connect_worker("test") as connection:
        for projection in projections or ASYNCHRONOUS:
            Follower(projection, decoder()).catch_up(connection)


def check(database: Database, projection: Projection) -> dict[str, int]:
    with database.connect_owner() as owner:
        making = _of(owner, projection)
        making.begin(afresh=True)
        try:
            return making.compare(lambda _: None)
        finally:
            making.drop()


def rebuild(database: Database, projection: Projection) -> None:
    with database.connect_owner() as owner:
        making = _of(owner, projection)
        making.begin()
        making.fold(lambda _: None)
        making.swap()


def _of(owner: Any, projection: Projection) -> Rebuild:
    return Rebuild(owner, projection, decoder(), EVENTS_LOCK if projection is INLINE else None)


def rows(database: Database, query: str, *args: Any) -> list[dict[str, Any]]:
    with database.connect() as connection:
        return connection.execute(query, args or None).fetchall()


@pytest.mark.parametrize("projection", ASYNCHRONOUS, ids=lambda x: x.name)
def test_what_was_falsified_is_found_and_made_good(database: Database, projection: Projection) -> None:
    fill(database)
    follow(database)
    assert set(check(database, projection).values()) == {0}
    with database.connect_owner() as owner:
        owner.execute(f"GRANT SELECT ON lizenzserver.{projection.tables[0]} TO PUBLIC")
    catalogue = rows(database, CATALOGUE, list(projection.tables))
    before = {table: rows(database, f"SELECT * FROM {table} ORDER BY {table}") for table in projection.tables}
    with database.connect() as connection:
        for table in projection.tables:
            connection.execute(f"DELETE FROM {table} WHERE ctid = (SELECT min(ctid) FROM {table})")
    assert all(check(database, projection).values())

    rebuild(database, projection)

    assert set(check(database, projection).values()) == {0}
    after = {table: rows(database, f"SELECT * FROM {table} ORDER BY {table}") for table in projection.tables}
    assert after == before
    assert rows(database, CATALOGUE, list(projection.tables)) == catalogue
    append(database, [recorded(UUID(int=77), 1, activated("later"))])
    store(database, [Use(START, UUID(int=5), "later")])
    follow(database)
    assert set(check(database, projection).values()) == {0}


async def test_the_views_that_are_written_inline(database: Database) -> None:
    one, two, three = UUID(int=1), UUID(int=2), UUID(int=3)
    async with running_writer(database) as writer:
        with recording(database) as record:
            record(detected(three), detected(UUID(int=4), license_id=one))
        await carry_out(writer, issue(one), activate(one, "a"), activate(one, "b"), resolve(three, "dismissed", b"no"))
        assert set(check(database, INLINE).values()) == {0}
        with database.connect() as connection:
            connection.execute("UPDATE licenses SET current_devices = 1")
            connection.execute("UPDATE anomalies SET status = 'open', resolved_by = NULL")
        assert check(database, INLINE) == {"licenses": 2, "devices": 0, "api_keys": 0, "anomalies": 2}
        catalogue = rows(database, CATALOGUE, list(INLINE.tables))

        rebuild(database, INLINE)

        assert set(check(database, INLINE).values()) == {0}
        assert rows(database, CATALOGUE, list(INLINE.tables)) == catalogue
        assert [row["status"] for row in rows(database, "SELECT * FROM anomalies ORDER BY position")] == [
            "dismissed",
            "open",
        ]
        await carry_out(writer, activate(one, "c"), issue(two), activate(two, "a"))
        assert [row["current_devices"] for row in rows(database, "SELECT * FROM licenses ORDER BY position")] == [3, 1]
        assert set(check(database, INLINE).values()) == {0}


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_rebuild_that_was_ended_goes_on(database: Database, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("projections.rebuild._EVENTS_AT_ONCE", 20)
    fill(database)
    follow(database)
    with database.connect() as connection:
        connection.execute("UPDATE seat_days SET activations = 0")
    wrong = rows(database, "SELECT * FROM seat_days ORDER BY day")

    def end(progress: Progress) -> None:
        if progress.done >= share * progress.total:
            raise Ended

    with database.connect_owner() as owner:
        making = Rebuild(owner, SEATS, decoder())
        assert not making.begin()
        with pytest.raises(Ended):
            making.fold(end)
    assert rows(database, "SELECT * FROM seat_days ORDER BY day") == wrong, "the old view is served until the swap"

    seen: list[int] = []
    with database.connect_owner() as owner:
        making = Rebuild(owner, SEATS, decoder())
        assert making.begin(), "it goes on where it was"
        making.fold(lambda progress: seen.append(progress.done))
        assert seen[0] > share * 400
        assert rows(database, "SELECT * FROM seat_days ORDER BY day") == wrong
        making.swap()
    assert set(check(database, SEATS).values()) == {0}


async def test_a_reader_never_sees_half_of_it(database: Database) -> None:
    fill(database)
    follow(database)
    async with reading(database) as connection:
        swapping = asyncio.create_task(asyncio.to_thread(rebuild, database, SEATS))

        async def waits() -> bool:
            waiting = await asyncio.to_thread(rows, database, "SELECT FROM pg_locks WHERE NOT granted")
            return bool(waiting)

        await eventually(waits)
        cursor = await connection.execute("SELECT count(*) AS there FROM seat_days")
        assert (await cursor.fetchone())["there"] > 0
    await swapping
    assert set(check(database, SEATS).values()) == {0}


def test_days_the_log_has_dropped_are_kept(database: Database) -> None:
    fill(database)
    follow(database)
    old = rows(database, "SELECT * FROM fleet_hours ORDER BY hour")
    with database.connect() as connection:
        connection.execute("SELECT drop_usage_partitions(%s)", (START.date().replace(day=20),))
    assert rows(database, "SELECT count(*) AS left FROM usage")[0]["left"] == 0
    store(database, [Use(START.replace(month=2), UUID(int=3))])
    follow(database)
    for projection in ASYNCHRONOUS:
        rebuild(database, projection)
        assert set(check(database, projection).values()) == {0}
    assert rows(database, "SELECT * FROM fleet_hours ORDER BY hour")[: len(old)] == old


async def test_retention_waits_for_who_still_needs_a_day(database: Database) -> None:
    fill(database)
    day = START.date().replace(day=20)
    follow(database, USAGE_COUNTS)
    with database.connect() as connection:
        connection.execute("INSERT INTO consumers (consumer) VALUES ('relay')")
        assert connection.execute("SELECT drop_usage_partitions(%s) AS n", (day,)).fetchone() == {"n": 0}
        # Who stands still is waited for, for a week.
        connection.execute("UPDATE consumers SET moved_at = clock_timestamp() - interval '6 days 23:59'")
        assert connection.execute("SELECT drop_usage_partitions(%s) AS n", (day,)).fetchone() == {"n": 0}
        connection.execute("UPDATE consumers SET moved_at = clock_timestamp() - interval '7 days 1 minute'")
        with database.connect_owner() as owner:
            making = Rebuild(owner, USAGE_COUNTS, decoder())
            making.begin()
            assert connection.execute("SELECT drop_usage_partitions(%s) AS n", (day,)).fetchone() == {"n": 0}

        async def dropped() -> bool:
            return connection.execute("SELECT drop_usage_partitions(%s) AS n", (day,)).fetchone() != {"n": 0}

        await eventually(dropped)


def test_one_at_a_time(database: Database) -> None:
    with database.connect_owner() as owner, database.connect_owner() as other:
        Rebuild(owner, SEATS, decoder()).begin()
        with pytest.raises(RebuildUnderWay, match="seats"):
            Rebuild(other, SEATS, decoder()).begin()


def test_what_stands_aside_outlives_a_check_that_was_killed(database: Database) -> None:
    one = UUID(int=1)
    append(database, [recorded(one, 1, issued(99)), *(recorded(one, n, activated(f"d{n}")) for n in range(2, 12))])
    with database.connect_owner() as owner:
        owner.execute("UPDATE lizenzserver.licensing_events SET topic = 'unknown' WHERE notification_id = 5")
    follow(database, SEATS)

    def end(progress: Progress) -> None:
        if progress.done > 5:
            raise Ended

    with database.connect_owner() as owner:
        making = Rebuild(owner, SEATS, decoder())
        making.begin(afresh=True)
        with pytest.raises(Ended):
            making.compare(end)
    rebuild(database, SEATS)
    with database.connect() as connection:
        assert dead_letters.positions(connection, "seats", "events") == [5]


def test_what_a_rebuild_has_applied_stands_aside_no_longer(database: Database) -> None:
    one = UUID(int=1)
    append(database, [recorded(one, 1, issued(99)), *(recorded(one, n, activated(f"d{n}")) for n in range(2, 12))])
    with database.connect_owner() as owner:
        (kept,) = owner.execute("SELECT topic FROM lizenzserver.licensing_events WHERE notification_id = 5").fetchall()
        owner.execute("UPDATE lizenzserver.licensing_events SET topic = 'unknown' WHERE notification_id = 5")
        follow(database, SEATS)
        assert rows(database, "SELECT position FROM dead_letters") == [{"position": 5}]
        owner.execute("UPDATE lizenzserver.licensing_events SET topic = %s WHERE notification_id = 5", (kept["topic"],))
    rebuild(database, SEATS)
    assert rows(database, "SELECT position FROM dead_letters") == []
    assert rows(database, "SELECT sum(activations)::int AS taken FROM seat_days") == [{"taken": 10}]


@pytest.mark.parametrize("what", ["schema", "code"])
def test_a_rebuild_of_another_version_begins_anew(
    database: Database, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(database)
    follow(database)
    with database.connect_owner() as owner:
        Rebuild(owner, SEATS, decoder()).begin()
    if what == "schema":
        with database.connect_owner() as owner:
            owner.execute("INSERT INTO lizenzserver.schema_migrations VALUES (9999, 'later', 'other')")
            owner.execute("ALTER TABLE lizenzserver.seat_days ADD COLUMN later text")
    else:
        monkeypatch.setattr("inspect.getsource", lambda _: "other code")
    with database.connect_owner() as owner:
        making = Rebuild(owner, SEATS, decoder())
        assert not making.begin()
        making.fold(lambda _: None)
        making.swap()
    columns = {name for row in rows(database, "SELECT * FROM seat_days") for name in row}
    assert ("later" in columns) == (what == "schema")
    assert set(check(database, SEATS).values()) == {0}


def test_licences_are_not_swapped_for_fewer(database: Database) -> None:
    events = [event for event in lives_of_licenses(50) if event.originator_version == 1]
    append(database, events)
    rebuild(database, INLINE)
    with database.connect_owner() as owner:
        owner.execute("UPDATE lizenzserver.licensing_events SET topic = 'unknown' WHERE notification_id = 1")
    with pytest.raises(NotComplete, match="position 1"):
        rebuild(database, INLINE)
    assert len(rows(database, "SELECT FROM licenses")) == len(events)


async def test_orders_go_on_while_a_backup_keeps_a_rebuild_waiting(database: Database) -> None:
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND relation = 'licenses'::regclass"
    async with running_writer(database) as writer:
        await carry_out(writer, issue(UUID(int=1)))
        with database.connect() as backup:
            backup.execute("BEGIN; LOCK TABLE licenses IN ACCESS SHARE MODE")
            swapping = asyncio.create_task(asyncio.to_thread(rebuild, database, INLINE))
            await eventually(_async(lambda: rows(database, waiting)))
            for number in range(2, 10):
                async with within(1):
                    await carry_out(writer, issue(UUID(int=number)))
            await eventually(_async(lambda: rows(database, waiting)))
        await swapping
    assert set(check(database, INLINE).values()) == {0}


def _async(condition: Callable[[], object]) -> Callable[[], Awaitable[object]]:
    async def asked() -> object:
        return await asyncio.to_thread(condition)

    return asked
