"""The usage log on a real database: rows are kept, waits are bounded, changes are seen, ids are commit order."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from commands import usage_log
from commands.usage_connection import USAGE_LOCK, UsageConnection
from commands.usage_log import UsageLog
from commands.usage_row import usage_line
from infra.postgres import Database
from infra.pulse import Pulse
from projections.log_watch import LogWatch
from tests.support.client import eventually
from tests.support.lock_holder import frozen_lock_holder
from tests.support.orders import activate, carry_out, deactivate, issue, running_writer
from tests.support.within import within

LICENSE = UUID(int=1)


def line(hardware_id: str = "pc-1", *, occurred_at: datetime | None = None, **fields: Any) -> bytes:
    moment = occurred_at or datetime.now(UTC)
    return usage_line(
        occurred_at=moment, type="license.validated", operation="validate", hardware_id=hardware_id, **fields
    )


@asynccontextmanager
async def running_log(
    database: Database, *, connect: Callable[[], Awaitable[Any]] | None = None, wait_seconds: float = 0.25
) -> AsyncIterator[UsageLog]:
    log = UsageLog(connect or database.connect_async, database.connect_login, LogWatch(), wait_seconds)
    log.start()
    try:
        yield log
    finally:
        await log.stop()


def stored(database: Database) -> list[dict[str, Any]]:
    with database.connect() as connection:
        return connection.execute("SELECT * FROM usage ORDER BY id").fetchall()


async def _holds(condition: Callable[[], bool]) -> bool:
    return await asyncio.to_thread(condition)


async def test_rows_are_stored_before_their_round_is_answered(database: Database) -> None:
    async with running_log(database, wait_seconds=5) as log:
        rounds = [log.append((), line(f"pc-{n}"))[0] for n in range(100)]
        assert await asyncio.gather(*rounds) == [frozenset()] * 100
        assert [row["hardware_id"] for row in stored(database)] == [f"pc-{n}" for n in range(100)]
        assert (log.stats.rows, log.stats.rounds, log.queued()) == (100, 1, 0)


async def test_who_leaves_a_round_takes_nobody_along(database: Database) -> None:
    async with running_log(database, wait_seconds=5) as log:
        future, _ = log.append((), line())

        async def wait() -> frozenset[int] | None:
            return await future

        gone, other = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
        gone.cancel()
        assert await other == frozenset()
        with pytest.raises(asyncio.CancelledError):
            await gone


async def test_every_column_comes_back_as_it_was_sent(database: Database) -> None:
    now = datetime.now(UTC)
    hostile = "tab\t newline\n return\r backslash\\ \\N \\. caf\u00e9 \U0001f5a5"
    async with running_log(database, wait_seconds=5) as log:
        future, _ = log.append(
            (),
            line(
                hostile,
                occurred_at=now,
                license_id=LICENSE,
                key_digest=b"\x00\\\n\t\xff",
                subject_id=UUID(int=2),
                api_key_id=UUID(int=3),
                reason="LICENSE_EXPIRED",
                app_version=hostile,
                client_time=now,
                country="FR",
                network=b"n",
                details_sealed=b"",
                session_sealed=b"\\",
            ),
        )
        await future
    (row,) = stored(database)
    assert {name: value for name, value in row.items() if name != "id"} == {
        "occurred_at": now,
        "type": "license.validated",
        "operation": "validate",
        "license_id": LICENSE,
        "key_digest": b"\x00\\\n\t\xff",
        "subject_id": UUID(int=2),
        "hardware_id": hostile,
        "api_key_id": UUID(int=3),
        "reason": "LICENSE_EXPIRED",
        "app_version": hostile,
        "client_time": now,
        "country": "FR",
        "network": b"n",
        "details_sealed": b"",
        "session_sealed": b"\\",
    }


async def test_a_row_on_a_changed_standing_is_handed_back_and_not_stored(database: Database) -> None:
    async with running_writer(database) as writer, running_log(database, wait_seconds=5) as log:
        changed, untouched = uuid4(), uuid4()
        await carry_out(writer, issue(changed), issue(untouched), activate(changed, "pc-1"))
        # The first round only learns where the log ends.
        await log.append((), b"")[0]
        assert await log.is_current(changed, 3) is True
        await carry_out(writer, deactivate(changed, "pc-1"))
        future, index = log.append(((untouched, 3),), line("good"))
        _, stale = log.append(((untouched, 3), (changed, 3)), line("stale"))
        _, fresh = log.append(((changed, 4),), line("fresh"))
        assert (index, stale, fresh) == (0, 1, 2)
        assert await future == frozenset({stale})
        assert await log.is_current(changed, 3) is False
        assert [row["hardware_id"] for row in stored(database)] == ["good", "fresh"]


async def test_a_request_waits_only_so_long_and_its_row_is_stored_later(database: Database) -> None:
    async with running_log(database, wait_seconds=0.1) as log:
        with database.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (USAGE_LOCK,))
            async with within(1):
                await log.append((), line("late"))[0]
            assert log.stats.timeouts == 1
            other.execute("COMMIT")
        await eventually(lambda: _holds(lambda: [row["hardware_id"] for row in stored(database)] == ["late"]))


@pytest.mark.parametrize("is_changed", [True, False])
async def test_after_a_late_round_its_requests_say_which_rows_are_kept(database: Database, *, is_changed: bool) -> None:
    """What they have found out by themselves is what they answer by, whatever the round finds in the end."""
    async with running_writer(database) as writer, running_log(database, wait_seconds=0.1) as log:
        license_id = uuid4()
        await carry_out(writer, issue(license_id), activate(license_id, "pc-1"))
        await log.append((), b"")[0]
        if is_changed:
            await carry_out(writer, deactivate(license_id, "pc-1"))
        checks = ((license_id, 2),)
        with database.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (USAGE_LOCK,))
            future, kept = log.append(checks, line("kept at once"))
            _, later = log.append(checks, line("kept later"))
            log.append(checks, line("decided again"))
            log.append((), line("rests on nothing"))
            assert await future is None
            log.settle(future, kept)
            other.execute("COMMIT")

        async def said() -> list[bool]:
            found = await log.is_current(license_id, 2)
            return [] if found is None else [found]

        # Once it says so, what came before it is dealt with.
        assert await eventually(said) == [not is_changed]
        log.settle(future, later)
    names = ["kept at once", "rests on nothing", "kept later"]
    assert [row["hardware_id"] for row in stored(database)] == names


async def test_a_row_is_stored_once_though_the_round_fails_before_it_knows(database: Database) -> None:
    async with running_log(database, wait_seconds=5) as log:
        await log.append((), b"")[0]
        with database.connect_owner() as owner:
            owner.execute("ALTER TABLE lizenzserver.licensing_events RENAME TO hidden")
        future, kept = log.append(((LICENSE, 2**40),), line("kept"))
        log.append(((LICENSE, 2**40),), line("decided again"))
        assert await future is None
        log.settle(future, kept)
        with database.connect_owner() as owner:
            owner.execute("ALTER TABLE lizenzserver.hidden RENAME TO licensing_events")
        await eventually(lambda: _holds(lambda: bool(stored(database))))
    assert [row["hardware_id"] for row in stored(database)] == ["kept"]


async def test_nobody_waits_once_it_is_said_that_the_database_is_away(database: Database) -> None:
    async with running_log(database, wait_seconds=30) as log:
        with database.connect() as other:
            other.execute("BEGIN")
            other.execute("SELECT pg_advisory_xact_lock(%s)", (USAGE_LOCK,))
            under_way, _ = log.append((), line("one"))
            await eventually(lambda: _holds(lambda: is_waited_for(database)))
            gathering, _ = log.append((), line("two"))
            log.give_up_waiting()
            assert [under_way.done(), gathering.done()] == [True, True]
            assert [under_way.result(), gathering.result()] == [None, None]
            other.execute("COMMIT")
        await eventually(lambda: _holds(lambda: len(stored(database)) == 2))


async def test_a_lost_session_that_may_still_commit_is_waited_for(database: Database) -> None:
    writer_id = uuid4()
    connection = UsageConnection(await database.connect_async())
    try:
        with database.connect() as lost:
            lost.execute("BEGIN")
            lost.execute("SELECT pg_advisory_xact_lock(%s)", (USAGE_LOCK,))
            lost.execute("INSERT INTO usage_writers VALUES (%s, 7)", (writer_id,))
            asking = asyncio.create_task(connection.has_stored(writer_id, 7))
            await eventually(lambda: _holds(lambda: asking.done() or is_waited_for(database)))
            assert not asking.done()
            lost.execute("COMMIT")
        assert await asking is True
        assert await connection.has_stored(writer_id, 8) is False
    finally:
        await connection.close()


def is_waited_for(database: Database) -> bool:
    """Tell whether somebody waits for an advisory lock."""
    with database.connect() as connection:
        query = "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        return bool(connection.execute(query).fetchall())


async def test_a_frozen_session_that_holds_the_lock_is_ended(database: Database) -> None:
    async with running_log(database) as log:
        with frozen_lock_holder(database, USAGE_LOCK):
            await log.append((), line("waits"))[0]
            await eventually(lambda: _holds(lambda: len(stored(database)) == 1))


async def test_a_stuck_lock_while_no_session_can_be_opened_is_survived(database: Database) -> None:
    refused = 0

    def refuse() -> Any:
        nonlocal refused
        refused += 1
        raise psycopg.OperationalError("no more connections")

    log = UsageLog(database.connect_async, refuse, LogWatch())
    log.start()
    with database.connect() as other:
        other.execute("BEGIN")
        other.execute("SELECT pg_advisory_xact_lock(%s)", (USAGE_LOCK,))
        await log.append((), line("one"))[0]
        await eventually(lambda: _holds(lambda: refused > 0))
        other.execute("COMMIT")
    await log.append((), line("two"))[0]
    await eventually(lambda: _holds(lambda: len(stored(database)) == 2))
    await log.stop()


async def test_while_the_database_is_away_rows_wait_up_to_a_bound_and_the_oldest_go_first(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(usage_log, "MAX_QUEUED_ROWS", 10)
    is_away = True

    async def connect() -> Any:
        if is_away:
            raise psycopg.OperationalError("away")
        return await database.connect_async()

    # Each is answered by the attempt that fails, and not because it has waited for long.
    async with running_log(database, connect=connect, wait_seconds=30) as log:
        for n in range(25):
            assert await log.append((), line(f"pc-{n}"))[0] is None
        assert (log.is_down, log.stats.dropped, log.queued()) == (True, 15, 10)
        is_away = False
        await eventually(lambda: _holds(lambda: len(stored(database)) == 10))
        assert [row["hardware_id"] for row in stored(database)] == [f"pc-{n}" for n in range(15, 25)]
        await eventually(lambda: _holds(lambda: not log.is_down))


async def test_what_has_waited_is_stored_a_bounded_part_at_a_time(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction that holds the lock for seconds is taken for stuck by other processes, and ended."""
    monkeypatch.setattr(usage_log, "MAX_ROUND_ROWS", 10)
    async with running_log(database, wait_seconds=5) as log:
        await log.append((), line("pc-0"))[0]
        for n in range(1, 35):
            log.append((), line(f"pc-{n}"))
        # What the database has, this side hears of a moment later.
        await eventually(lambda: _holds(lambda: log.stats.rows == 35))
        assert [row["hardware_id"] for row in stored(database)] == [f"pc-{n}" for n in range(35)]
        assert (log.stats.rows, log.queued()) == (35, 0)
        assert log.stats.rounds == 1 + 4


async def test_a_round_that_fails_in_an_unforeseen_way_is_stored_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = UsageConnection.store
    failures = 0

    async def fail_once(*arguments: Any) -> None:
        nonlocal failures
        await store(*arguments)
        failures += 1
        if failures == 1:
            raise RuntimeError("after the commit")

    monkeypatch.setattr(UsageConnection, "store", fail_once)
    async with running_log(database, wait_seconds=5) as log:
        await log.append((), line("one"))[0]
        await log.append((), line("two"))[0]
        await eventually(lambda: _holds(lambda: len(stored(database)) == 2))
    assert [row["hardware_id"] for row in stored(database)] == ["one", "two"]
    assert log.stats.rows == 2


async def test_a_database_that_is_away_is_not_stormed(database: Database) -> None:
    """Each request begins a round, but not each round an attempt to connect."""
    pulse = Pulse(database.connect_async)
    pulse.is_away = True
    attempts = 0

    async def connect() -> Any:
        nonlocal attempts
        attempts += 1
        if pulse.is_away:
            raise psycopg.OperationalError("the database system is starting up")
        return await database.connect_async()

    log = UsageLog(connect, database.connect_login, LogWatch(), 0.25, pulse)
    log.start()
    began = time.monotonic()
    for n in range(60):
        assert await log.append((), line(f"pc-{n}"))[0] is None
        await asyncio.sleep(0.01)
    assert 1 <= attempts <= 7 + (time.monotonic() - began) / usage_log.RECONNECT_SECONDS
    pulse.is_away = False
    await eventually(lambda: _holds(lambda: len(stored(database)) == 60))
    await log.stop()


async def test_that_the_database_is_back_is_noticed_though_nobody_asks(database: Database) -> None:
    """A process that is not ready gets no requests: it must become ready without any."""
    is_away = True

    async def connect() -> Any:
        if is_away:
            raise psycopg.OperationalError("away")
        return await database.connect_async()

    async with running_log(database, connect=connect, wait_seconds=30) as log:
        assert await log.is_current(LICENSE, 0) is None
        assert (log.is_down, log.queued()) == (True, 0)
        is_away = False
        await eventually(lambda: _holds(lambda: not log.is_down))


async def test_a_connection_that_is_cut_is_opened_again(database: Database) -> None:
    async with running_log(database, wait_seconds=5) as log:
        await log.append((), line("before"))[0]
        with database.connect_owner() as owner:
            owner.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        await log.append((), line("after"))[0]
        await eventually(
            lambda: _holds(lambda: [row["hardware_id"] for row in stored(database)] == ["before", "after"])
        )


@pytest.mark.parametrize("days_ago", [0, 1, 5, 40])
async def test_a_days_partition_is_made_when_its_first_row_comes(database: Database, days_ago: int) -> None:
    """Rows of five days ago come when the database was away that long."""
    with database.connect_owner() as owner:
        for row in owner.execute(
            "SELECT inhrelid::regclass::text AS part FROM pg_inherits WHERE inhparent = 'lizenzserver.usage'::regclass"
        ).fetchall():
            owner.execute(f"DROP TABLE {row['part']}")
    async with running_log(database) as log:
        moment = datetime.now(UTC) - timedelta(days=days_ago)
        # Two days at once: whichever is first, the other one's must be made as well.
        log.append((), line("first", occurred_at=moment - timedelta(days=2)))
        log.append((), line("first", occurred_at=moment))
        await eventually(lambda: _holds(lambda: len(stored(database)) == 2))
        await log.append((), line("second"))[0]
        await eventually(lambda: _holds(lambda: len(stored(database)) == 3))


async def test_partitions_made_by_several_at_once_do_not_collide(database: Database) -> None:
    def make() -> None:
        with database.connect() as connection:
            connection.execute("SELECT ensure_usage_partitions('2030-01-01', '2030-01-09')")

    await asyncio.gather(*(asyncio.to_thread(make) for _ in range(6)))
    with database.connect() as connection:
        row = connection.execute("SELECT count(*) AS n FROM pg_class WHERE relname LIKE 'usage_2030010_'").fetchone()
    assert row == {"n": 9}


async def test_a_reader_that_pages_by_id_misses_nothing_of_concurrent_writers(database: Database) -> None:
    """Without the lock, a batch with smaller ids may be committed after one with larger ids."""
    logs = [UsageLog(database.connect_async, database.connect_login, LogWatch(), 5) for _ in range(4)]
    for log in logs:
        log.start()
    seen: list[str] = []
    done = False

    def page() -> None:
        last = 0
        with database.connect() as connection:
            while True:
                finished = done
                rows = connection.execute(
                    "SELECT id, hardware_id FROM usage WHERE id > %s ORDER BY id", (last,)
                ).fetchall()
                seen.extend(row["hardware_id"] for row in rows)
                last = rows[-1]["id"] if rows else last
                if finished and not rows:
                    return

    async def write(number: int, log: UsageLog) -> None:
        for n in range(60):
            # Batches of very different sizes take very different times between their first id and their commit.
            for one in range(400 if n % 7 == number else 3):
                future, _ = log.append((), line(f"{number}-{n}-{one}"))
            await future

    reader = asyncio.create_task(asyncio.to_thread(page))
    await asyncio.gather(*(write(number, log) for number, log in enumerate(logs)))
    await asyncio.gather(*(log.stop() for log in logs))
    done = True
    await reader
    assert len(seen) == len(set(seen)) == len(stored(database))


async def test_stopping_stores_what_is_queued(database: Database) -> None:
    async with running_log(database) as log:
        log.append((), line("last"))
    assert [row["hardware_id"] for row in stored(database)] == ["last"]


async def test_changes_are_seen_even_while_rows_can_not_be_stored(database: Database) -> None:
    async with running_writer(database) as writer, running_log(database, wait_seconds=5) as log:
        license_id = uuid4()
        await carry_out(writer, issue(license_id), activate(license_id, "pc-1"))
        await log.append((), line("before"))[0]
        with database.connect_owner() as owner:
            owner.execute("REVOKE INSERT ON lizenzserver.usage FROM lizenzserver_service")
        future, index = log.append(((license_id, 2),), line("good"))
        assert index not in (await future or ())
        await carry_out(writer, deactivate(license_id, "pc-1"))
        future, index = log.append(((license_id, 2),), line("stale"))
        assert await future == frozenset({index})
        with database.connect_owner() as owner:
            owner.execute("GRANT INSERT ON lizenzserver.usage TO lizenzserver_service")
        await eventually(lambda: _holds(lambda: [row["hardware_id"] for row in stored(database)] == ["before", "good"]))


async def test_a_row_that_the_server_refuses_is_lost_alone(database: Database) -> None:
    async with running_log(database) as log:
        for n in range(10):
            log.append((), line(f"before-{n}"))
        log.append((), b"this is no row\n")
        for n in range(10):
            log.append((), line(f"after-{n}"))
        # The queue is empty already while the first round is under way.
        await eventually(lambda: _holds(lambda: log.stats.rows + log.stats.dropped == 21))
        assert (log.stats.rows, log.stats.dropped, log.queued(), log.is_down) == (20, 1, 0, False)
    names = [f"before-{n}" for n in range(10)] + [f"after-{n}" for n in range(10)]
    assert [row["hardware_id"] for row in stored(database)] == names


async def test_rows_are_not_gathered_without_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_log, "MAX_QUEUED_ROWS", 5)
    async with running_log(database, wait_seconds=5) as log:
        indexes = [log.append((), line(f"pc-{n}"))[1] for n in range(8)]
        assert indexes == [0, 1, 2, 3, 4, -1, -1, -1]
        assert log.stats.dropped == 3
