"""Leases: one holder a worker, renewed in time, and nobody's to give up but the holder's."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from psycopg import Connection
from psycopg.rows import DictRow

from infra.postgres import Database
from workers.broker import CONFIRM_SECONDS
from workers.lease import LEASE_SECONDS, RENEW_SECONDS, Lease


@pytest.fixture
def connection(database: Database) -> Iterator[Connection[DictRow]]:
    with database.connect() as opened:
        yield opened


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give the time that passes for the holder: one number, to be changed."""
    now = [1000.0]
    monkeypatch.setattr("workers.lease.time.monotonic", lambda: now[0])
    return now


def held(connection: Connection[DictRow]) -> DictRow:
    row = connection.execute("SELECT *, expires_at - clock_timestamp() AS left FROM leases").fetchone()
    assert row is not None
    return row


def clock_of(connection: Connection[DictRow]) -> datetime:
    (row,) = connection.execute("SELECT clock_timestamp() AS now").fetchall()
    now: datetime = row["now"]
    return now


def test_one_at_a_time_and_the_next_once_it_has_run_out(connection: Connection[DictRow]) -> None:
    one, other = Lease("relay"), Lease("relay")
    assert one.hold_now(connection)
    assert not other.hold_now(connection)
    assert Lease("projector").hold_now(connection)
    connection.execute("UPDATE leases SET expires_at = clock_timestamp() - interval '1 ms'")
    assert other.hold_now(connection)
    one._renew_at = 0.0
    assert not one.hold_now(connection)


def test_nobody_gives_up_anothers(connection: Connection[DictRow]) -> None:
    one, other = Lease("relay"), Lease("relay")
    assert one.hold_now(connection)
    other.give_up_now(connection)
    assert held(connection)["holder"] == one.holder
    one.give_up_now(connection)
    assert connection.execute("SELECT FROM leases").fetchall() == []
    assert other.hold_now(connection)


def test_it_is_renewed_every_two_seconds_and_holds_for_six(connection: Connection[DictRow], clock: list[float]) -> None:
    lease = Lease("relay")
    began = clock_of(connection)
    assert lease.hold_now(connection)
    six = timedelta(seconds=6)
    assert began + six <= held(connection)["expires_at"] <= clock_of(connection) + six
    for passed, is_renewed in ((1.9, False), (2.0, True), (3.9, False), (4.0, True)):
        connection.execute("UPDATE leases SET expires_at = clock_timestamp() + interval '1 minute'")
        clock[0] = 1000.0 + passed
        assert lease.hold_now(connection)
        assert (held(connection)["left"] < timedelta(seconds=7)) is is_renewed, passed


async def test_what_is_wrong_is_told_at_once(database: Database, connection: Connection[DictRow]) -> None:
    lease = Lease("relay")
    async with await database.connect_async() as asynchronous:
        assert await lease.hold(asynchronous)
        assert await lease.hold(asynchronous, "the broker is away")
        assert held(connection)["trouble"] == "the broker is away"
        assert await lease.hold(asynchronous)
        assert held(connection)["trouble"] == ""
        await lease.give_up(asynchronous)
    assert connection.execute("SELECT FROM leases").fetchall() == []


def test_whoever_waits_for_confirms_does_not_lose_it_meanwhile() -> None:
    assert CONFIRM_SECONDS + RENEW_SECONDS <= LEASE_SECONDS
