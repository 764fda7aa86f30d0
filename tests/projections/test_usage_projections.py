"""The tables over the usage log are the fold of its rows, in whatever order and batches these were applied."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import pairwise
from random import Random
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection
from psycopg.sql import SQL, Identifier

from infra.postgres import Database
from projections.device_usage import DEVICE_USAGE
from projections.second_tables import make_like
from projections.usage_counts import USAGE_COUNTS
from tests.support.cluster import Cluster
from tests.support.naive_usage import fold, tables_of
from tests.support.projected import project
from tests.support.usage import Use, failed, store, utc

PROJECTIONS = (USAGE_COUNTS, DEVICE_USAGE)
TABLES = [table for projection in PROJECTIONS for table in projection.tables]
LICENSE = UUID(int=1)
MINUTE = timedelta(minutes=1)
MICROSECOND = timedelta(microseconds=1)
NOON = utc("2024-03-10", "12:00")

# Quarters of an hour around midnight, some a microsecond off: uses that just belong together, and just do not.
MOMENTS = st.builds(
    lambda quarters, off: utc("2024-03-10") + quarters * 15 * MINUTE + off * MICROSECOND,
    st.integers(-12, 12),
    st.sampled_from([0, 0, 1, -1]),
)
USES = st.builds(
    Use,
    at=MOMENTS,
    license_id=st.sampled_from([LICENSE, LICENSE, UUID(int=2)]),
    hardware_id=st.sampled_from(["pc-1", "pc-1", "pc-2", None]),
    type=st.sampled_from(["license.validated", "device.heartbeat", "device.heartbeat"]),
    country=st.sampled_from(["DE", "FR", None]),
    app_version=st.sampled_from(["1.0", "2.0", "", None]),
    reason=st.none(),
)
REFUSALS = st.builds(
    failed,
    MOMENTS,
    st.sampled_from([LICENSE, UUID(int=2), None]),
    st.sampled_from(["LICENSE_EXPIRED", "LICENSE_NOT_FOUND"]),
    st.sampled_from(["pc-1", "pc-3"]),
)


def apply(connection: Connection[Any], ranges: Iterable[tuple[int, int]]) -> None:
    for after, upto in ranges:
        for projection in PROJECTIONS:
            assert projection.apply_usage is not None
            with connection.transaction():
                projection.apply_usage(connection, after, upto)


def started_over(database: Database) -> None:
    with database.connect_owner() as connection:
        connection.execute("SET search_path TO lizenzserver")
        connection.execute(f"TRUNCATE usage, {', '.join(TABLES)} RESTART IDENTITY")


def assert_folded(database: Database, rows: Iterable[Use]) -> None:
    expected, found = fold(rows), tables_of(database)
    for table in TABLES:
        assert found[table] == expected[table], table


@pytest.fixture(scope="module")
def shared(cluster: Cluster) -> Any:
    database = cluster.new_database()
    yield database
    cluster.drop(database)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(USES | REFUSALS, min_size=1, max_size=40), data=st.data())
def test_any_order_of_any_batches_gives_the_fold(shared: Database, rows: list[Use], data: st.DataObject) -> None:
    started_over(shared)
    store(shared, rows)
    cuts = sorted({0, len(rows), *data.draw(st.lists(st.integers(0, len(rows)), max_size=8), label="cuts")})
    ranges = data.draw(st.permutations(list(pairwise(cuts))), label="ranges")
    with shared.connect() as connection:
        apply(connection, ranges)
    assert_folded(shared, rows)


def many_rows(days: int, count: int) -> list[Use]:
    random = Random(20240310)
    licenses = [uuid4() for _ in range(5)]
    made = []
    for _ in range(count):
        at = NOON - timedelta(microseconds=random.randrange(days * 86_400_000_000))
        if random.random() < 0.1:
            made.append(failed(at, random.choice([*licenses, None]), "LICENSE_EXPIRED"))
        else:
            made.append(Use(at, random.choice(licenses), f"pc-{random.randrange(4)}", country="DE", app_version="1"))
    return made


def test_thousands_of_rows_in_shuffled_batches(database: Database) -> None:
    rows = many_rows(4, 4000)
    store(database, rows)
    ranges = [(start, start + 250) for start in range(0, 4000, 250)]
    Random(1).shuffle(ranges)
    with database.connect() as connection:
        apply(connection, ranges)
    assert_folded(database, rows)


def test_a_late_use_joins_the_sessions_on_both_sides(database: Database) -> None:
    moments = [NOON, NOON + 60 * MINUTE, NOON + 120 * MINUTE]
    store(database, [Use(at, LICENSE) for at in moments])
    project(database)
    assert len(tables_of(database)["device_sessions"]) == 3
    store(database, [Use(NOON + 30 * MINUTE, LICENSE), Use(NOON + 90 * MINUTE, LICENSE)])
    project(database)
    assert tables_of(database)["device_sessions"] == {(LICENSE, "pc-1", NOON, NOON + 120 * MINUTE)}


def test_a_use_inside_a_long_session_changes_nothing_of_it(database: Database) -> None:
    store(database, [Use(NOON + step * 20 * MINUTE, LICENSE) for step in range(10)])
    project(database)
    before = tables_of(database)["device_sessions"]
    store(database, [Use(NOON + 95 * MINUTE, LICENSE)])
    project(database)
    assert tables_of(database)["device_sessions"] == before


def test_a_device_day_counts_once_however_often_it_comes(database: Database) -> None:
    for _ in range(3):
        store(database, [Use(NOON, LICENSE), Use(NOON, UUID(int=2)), failed(NOON, LICENSE, "LICENSE_EXPIRED", "pc-9")])
        project(database)
    assert tables_of(database)["fleet_device_days"] == {(NOON.date(), 2)}


@pytest.mark.parametrize("before", [date(2024, 3, 8), date(2024, 3, 10), date(2024, 3, 12), date(2024, 3, 1)])
def test_what_is_carried_over_and_the_rest_of_the_log_make_the_live_tables(database: Database, before: date) -> None:
    around_midnight = [Use(utc("2024-03-08") + step * 25 * MINUTE, LICENSE, "night") for step in range(-50, 60)]
    rows = [*many_rows(6, 2000), *around_midnight]
    older, newer = [row for row in rows if row.at.date() < before], [row for row in rows if row.at.date() >= before]
    for part in (older, newer):
        if part:
            store(database, part)
    project(database)
    live = tables_of(database)
    with database.connect_owner() as connection:
        connection.execute("CREATE SCHEMA second")
        for table in TABLES:
            make_like(connection, "second", table)
        connection.execute(SQL("SET search_path TO second, {}").format(Identifier("lizenzserver")))
        for projection in PROJECTIONS:
            assert projection.carry_over is not None
            projection.carry_over(connection, before)
        apply(connection, [(len(older), len(rows))])
        connection.execute("GRANT USAGE ON SCHEMA second TO lizenzserver_service")
        connection.execute("GRANT SELECT ON ALL TABLES IN SCHEMA second TO lizenzserver_service")
    assert tables_of(database, "second") == live
    assert_folded(database, rows)
