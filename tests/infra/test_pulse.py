"""What the pulse notices, and what it must not take for a fault."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial

import psycopg
import pytest
from psycopg.rows import DictRow, dict_row
from psycopg_pool import TooManyRequests

from infra.postgres import Database, watched
from infra.pulse import BEAT_SECONDS, DatabaseAway, Pulse, SessionLost
from tests.support.client import eventually
from tests.support.postgres_proxy import PostgresProxy
from tests.support.stalls import stalls
from tests.support.within import within

NOBODY = 999_999_999
"""A process id that no session has."""
NOTICED = 0.2
"""Where the machine stands still for so many seconds, the database may well seem to be away for a moment."""


@pytest.fixture
def proxy(database: Database) -> Iterator[PostgresProxy]:
    with PostgresProxy(database) as running:
        yield running


@pytest.fixture
async def felt(proxy: PostgresProxy) -> AsyncIterator[Database]:
    """One that is watched already: what happens to its connections then happens to the pulse's too."""
    async with watched(proxy.database) as found:
        await eventually(lambda: listens(pulse_of(found)))
        yield found


def pulse_of(database: Database) -> Pulse:
    assert database.pulse is not None
    return database.pulse


async def is_(database: Database, *, away: bool) -> bool:
    return pulse_of(database).is_away == away


async def test_a_session_that_is_lost_is_given_up_and_ended(
    felt: Database, database: Database, proxy: PostgresProxy
) -> None:
    connection = await asyncio.to_thread(felt.connect_worker, "test")
    connection.execute("BEGIN")
    connection.execute("SELECT pg_advisory_xact_lock(4711)")
    proxy.swallow("lizenzserver-test")
    async with within(2):
        with pytest.raises(SessionLost):
            await asyncio.to_thread(connection.execute, "SELECT 1")
    assert connection.broken
    assert pulse_of(felt).lost_sessions == 1
    with database.connect() as other:
        # Nobody waits for what it held.
        other.execute("SET statement_timeout = '2s'")
        other.execute("SELECT pg_advisory_lock(4711)")
    assert not pulse_of(felt).is_away


async def test_the_same_without_threads(felt: Database, proxy: PostgresProxy) -> None:
    connection = await felt.connect_async_worker("test")
    proxy.swallow("lizenzserver-test")
    async with within(2):
        with pytest.raises(SessionLost):
            await connection.execute("SELECT 1")
    assert connection.broken


async def test_whoever_waits_for_a_slow_query_or_a_lock_gets_an_answer(felt: Database, database: Database) -> None:
    slow = await felt.connect_async_worker("test")
    blocked = await asyncio.to_thread(felt.connect_worker, "test")
    with database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("SELECT pg_advisory_xact_lock(4711)")
        waiting = asyncio.create_task(asyncio.to_thread(blocked.execute, "SELECT pg_advisory_lock(4711)"))
        assert await (await slow.execute("SELECT pg_sleep(1.5)")).fetchone() is not None
        assert not waiting.done()
    await waiting
    assert pulse_of(felt).lost_sessions == 0
    await slow.close()
    blocked.close()


async def test_a_statement_waits_for_its_client_no_longer_than_the_client_takes(felt: Database) -> None:
    """In a COPY the server waits for its client, as it would where the connection is lost."""
    connection = await felt.connect_async_worker("test")
    await connection.execute("CREATE TEMP TABLE scratch (line text)")
    async with connection.cursor().copy("COPY scratch FROM STDIN") as copy:
        for _ in range(4):
            await copy.write("x\n")
            await asyncio.sleep(0.3)
    assert pulse_of(felt).lost_sessions == 0
    await connection.close()


async def test_a_database_that_is_away_is_known_and_requests_do_not_wait(felt: Database, proxy: PostgresProxy) -> None:
    told: list[str] = []
    pulse_of(felt).when_away(lambda: told.append("away"))
    pulse_of(felt).when_back(lambda: told.append("back"))
    async with felt.pool() as pool:
        async with pool.connection() as connection:
            await connection.execute("SELECT 1")
        proxy.swallow(new=True)
        async with within(1):
            with pytest.raises(DatabaseAway):
                async with pool.connection() as connection:
                    await connection.execute("SELECT 1")
        # Who has given up waits for nothing: its session's number may be another one's by the time that it is back.
        assert not pulse_of(felt)._waiting
        async with within(0.1):
            with pytest.raises(DatabaseAway):
                await pool.getconn()
        proxy.let_through()
        async with within(5):
            await eventually(lambda: is_(felt, away=False))
            await eventually(lambda: answers(pool))
    # Where the machine stands still just then, it may seem to be away once more.
    assert told == ["away", "back"] * max(1, len(told) // 2)


async def answers(pool: object) -> bool:
    try:
        async with pool.connection() as connection:  # type: ignore[attr-defined]
            await connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


async def test_who_asks_whether_it_is_still_away_is_told_as_of_then(felt: Database, proxy: PostgresProxy) -> None:
    """Others may be heard again while this process still waits for an answer that never comes."""
    pulse = pulse_of(felt)
    assert not await pulse.is_still_away()
    proxy.swallow(new=True)
    await eventually(lambda: is_(felt, away=True))
    attempts = 0
    connect = pulse._connect

    async def counted() -> psycopg.AsyncConnection[object]:
        nonlocal attempts
        attempts += 1
        return await connect()

    pulse._connect = counted
    async with stalls() as held_up, within(0.8):
        assert await asyncio.gather(*(pulse.is_still_away() for _ in range(100))) == [True] * 100
    assert attempts <= 3 + held_up.seconds / BEAT_SECONDS
    await asyncio.sleep(0.3)
    proxy.let_through()
    async with stalls() as held_up:
        async with within(1):
            seems_away = await pulse.is_still_away()
        await asyncio.sleep(0.5)
        seems_away |= pulse.is_away
    assert not seems_away or held_up.seconds > NOTICED


async def test_one_that_answers_others_is_only_slow(felt: Database, proxy: PostgresProxy) -> None:
    pulse = pulse_of(felt)
    await eventually(lambda: listens(pulse))
    proxy.swallow("lizenzserver-pulse", new=True)
    until = time.monotonic() + 1.5
    while time.monotonic() < until:
        assert not pulse.is_away
        pulse.heard(NOBODY)
        await asyncio.sleep(0.05)
    await eventually(lambda: is_(felt, away=True))


async def test_a_server_that_came_back_without_room_is_not_away(felt: Database, proxy: PostgresProxy) -> None:
    async def full() -> psycopg.AsyncConnection[object]:
        raise psycopg.OperationalError("connection failed: FATAL:  sorry, too many clients already")

    proxy.swallow(new=True)
    await eventually(lambda: is_(felt, away=True))
    pulse_of(felt)._connect = full
    await eventually(lambda: is_(felt, away=False))


async def test_who_waits_for_a_connection_when_it_goes_is_refused(
    felt: Database, proxy: PostgresProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with felt.pool(max_size=2) as pool:
        held = [await pool.getconn(), await pool.getconn()]
        waiting = asyncio.create_task(pool.getconn(timeout=30))
        await asyncio.sleep(0)
        proxy.swallow(new=True)
        async with within(1):
            with pytest.raises(DatabaseAway):
                await waiting
        # Nor is anything told to those who had theirs long before.
        assert "the database's pulse was not felt" not in caplog.text
        proxy.let_through()
        for connection in held:
            await pool.putconn(connection)


async def test_no_more_wait_for_a_connection_than_can_be_served(database: Database) -> None:
    async with database.pool(2) as pool, pool.connection(), pool.connection():
        waiting = [asyncio.create_task(pool.getconn(timeout=10)) for _ in range(2 * 64)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests):
            await pool.getconn()
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_worker_waits_while_the_database_is_away(felt: Database, proxy: PostgresProxy) -> None:
    """What it has begun may well be carried out: only what is lost is given up."""
    connection = await asyncio.to_thread(felt.connect_worker, "test")
    waiting = asyncio.create_task(asyncio.to_thread(connection.execute, "SELECT pg_sleep(1.2)"))
    await asyncio.sleep(0.1)
    proxy.swallow("lizenzserver-pulse", new=True)
    await eventually(lambda: is_(felt, away=True))
    assert (await waiting).fetchone() is not None
    proxy.let_through()
    await eventually(lambda: is_(felt, away=False))
    connection.close()


async def test_a_server_without_room_for_more_connections_is_not_away(felt: Database, proxy: PostgresProxy) -> None:
    async def full() -> psycopg.AsyncConnection[object]:
        raise psycopg.OperationalError("connection failed: FATAL:  sorry, too many clients already")

    pulse = pulse_of(felt)
    await eventually(lambda: listens(pulse))
    pulse._connect = full
    assert proxy.swallow("lizenzserver-pulse") > 0
    await asyncio.sleep(1)
    assert not pulse.is_away


async def test_a_session_that_the_server_does_not_know_is_lost(felt: Database) -> None:
    pulse_of(felt).waits(NOBODY)
    await eventually(lambda: lost(pulse_of(felt)))


async def listens(pulse: Pulse) -> bool:
    return pulse._connection is not None


async def test_behind_a_pooler_no_session_is_taken_for_lost(felt: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its process ids are made up, so that the server knows none of them."""
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", property(lambda _: NOBODY))
    pulse_of(felt).waits(NOBODY)
    async with stalls() as held_up:
        await asyncio.sleep(1)
    assert not await lost(pulse_of(felt))
    assert not pulse_of(felt).is_away or held_up.seconds > NOTICED


async def test_only_what_is_said_twice_in_a_row_is_believed(database: Database) -> None:
    """A session that has just answered looks like one that is lost, until its answer is read."""
    pulse = Pulse(partial(listening, database))
    pulse.waits(NOBODY, for_seconds=1)
    async with await listening(database) as connection:
        await pulse._look(connection)
        assert not pulse.has_lost(NOBODY)
        # What was said before a connection was lost says nothing any more.
        pulse._drop()
        await pulse._look(connection)
        assert not pulse.has_lost(NOBODY)
        # It was heard of meanwhile, and is waited for anew.
        pulse.waits(NOBODY)
        await pulse._look(connection)
        pulse.waits(NOBODY, for_seconds=1)
        await pulse._look(connection)
        assert not pulse.has_lost(NOBODY)
        await pulse._look(connection)
        assert pulse.has_lost(NOBODY)


async def listening(database: Database) -> psycopg.AsyncConnection[DictRow]:
    return await psycopg.AsyncConnection.connect(database.url, autocommit=True, row_factory=dict_row)


async def test_nobody_elses_session_is_ended(database: Database) -> None:
    """Process ids are given out again: what is lost may have the number of another program's session by now."""
    pulse = Pulse(partial(listening, database))
    with psycopg.connect(database.url, application_name="psql") as other:
        pid = other.info.backend_pid
        pulse.waits(pid, for_seconds=1)
        async with await listening(database) as connection:
            await pulse._look(connection)
            await pulse._look(connection)
        assert pulse.has_lost(pid)
        assert other.execute("SELECT 1").fetchone() == (1,)


async def lost(pulse: Pulse) -> bool:
    return pulse.has_lost(NOBODY)


async def test_a_watched_database_is_not_watched_twice(felt: Database) -> None:
    async with watched(felt) as same:
        assert same is felt
