"""The event log's lock: who appends what detection found holds it too, and only who has held it for long is ended."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest
from psycopg import Connection, OperationalError
from psycopg.rows import DictRow

from commands.application import LicensingApplication
from commands.recorder import EVENTS_LOCK, LicensingRecorder, terminate_stale_holders
from infra.postgres import Database
from projections.inline_views import InlineViews
from tests.support.anomalies import detected
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.invariants import read_log
from tests.support.orders import PlainEmails


def is_free(connection: Connection[DictRow]) -> bool:
    row = connection.execute(
        "SELECT pg_try_advisory_lock(%(key)s) AND pg_advisory_unlock(%(key)s) AS free", {"key": EVENTS_LOCK}
    ).fetchone()
    assert row is not None
    return bool(row["free"])


def test_who_does_something_first_holds_the_lock_only_then_but_until_the_commit(database: Database) -> None:
    application = LicensingApplication(database.conninfo("lizenzserver-log"), InlineViews(PlainEmails()))
    recorder = application.recorder
    assert isinstance(recorder, LicensingRecorder)
    with database.connect() as connection, database.connect() as other:
        free: list[bool] = []
        recorder.begin_with(connection, lambda _: free.append(is_free(other)))
        free.append(is_free(other))
        events = [detected(uuid4())]
        application.events.put(events, recorded=events, connection=connection, has_lock=True)
        free.append(is_free(other))
    application.close()
    assert free == [True, False, True]
    assert [event.fact for _, event in read_log(database)] == [event.fact for event in events]


async def test_who_waits_for_the_lock_or_holds_that_of_another_database_is_left_alone(
    database: Database, cluster: Cluster
) -> None:
    elsewhere = cluster.new_database(migrated=False)
    query = f"SELECT pg_advisory_lock({EVENTS_LOCK})"
    with (
        database.connect() as holder,
        database.connect() as waiter,
        database.connect_login() as login,
        elsewhere.connect_owner() as foreign,
    ):
        for connection in (foreign, holder):
            connection.execute("BEGIN")
            connection.execute(query)
        waiting = asyncio.create_task(asyncio.to_thread(waiter.execute, query))
        await eventually(lambda: asyncio.to_thread(is_waited_for, login))
        assert terminate_stale_holders(login, EVENTS_LOCK, 0) == 1
        await waiting
        with pytest.raises(OperationalError):
            holder.execute("SELECT 1")
        foreign.execute("SELECT 1")
    cluster.drop(elsewhere)


def is_waited_for(connection: Connection[DictRow]) -> bool:
    return bool(connection.execute("SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted").fetchall())
