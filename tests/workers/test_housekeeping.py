"""Housekeeping: the clock is corrected again and again, and a fault or an outage ends none of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from infra.clock import Clock
from infra.keyring import Keyring
from infra.postgres import Database
from tests.support.client import eventually
from workers import housekeeping
from workers.housekeeping import Housekeeping


@asynccontextmanager
async def keeping(pool: Any, clock: Clock, data_dir: Path) -> AsyncIterator[list[int]]:
    """Run it; give a list that grows by one a round."""
    rounds: list[int] = []
    keyring = Keyring.open(data_dir / "keys", None, None)
    task = asyncio.create_task(Housekeeping(pool, clock, keyring, 400, lambda: rounds.append(1)).run())
    try:
        yield rounds
    finally:
        task.cancel()


async def test_the_clock_is_corrected_each_round(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(housekeeping, "CLOCK_SECONDS", 0.05)
    clock = Clock()
    async with database.pool() as pool, keeping(pool, clock, tmp_path) as rounds:
        for hours in (1, -1):
            clock.offset = timedelta(hours=hours)
            so_far = len(rounds)
            await eventually(lambda so_far=so_far: passed(rounds, so_far + 2))
            assert abs(clock.now() - datetime.now(UTC)) < timedelta(seconds=1)


async def passed(rounds: list[int], number: int) -> bool:
    return len(rounds) >= number


async def test_a_clock_fault_is_told_and_corrected_once_it_is_over(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping, "CLOCK_SECONDS", 0.05)
    clock = Clock()
    real = clock._uncorrected
    monkeypatch.setattr(clock, "_uncorrected", lambda: real() + timedelta(days=3))
    async with database.pool() as pool, keeping(pool, clock, tmp_path) as rounds:
        with caplog.at_level(logging.ERROR):
            await eventually(lambda: said(caplog, "this machine's clock is"))
        assert not rounds
        monkeypatch.setattr(clock, "_uncorrected", real)
        await eventually(lambda: passed(rounds, 1))


async def test_what_is_over_is_cleaned_up_and_nothing_else(database: Database, tmp_path: Path) -> None:
    clock, minute = Clock(), timedelta(minutes=1)
    now = clock.now()
    ids: dict[str, UUID] = {}
    with database.connect_owner() as owner:
        owner.execute("SET search_path TO lizenzserver")
        for name in partitions(database):
            owner.execute(f"DROP TABLE {name}")
        owner.execute("SELECT ensure_usage_partitions(%(day)s - 401, %(day)s - 400)", {"day": now.date()})
        for name, left in {"kept": minute, "gone": -minute}.items():
            id = ids[name] = uuid4()
            day_ago, week_ago = now - timedelta(hours=24) + left, now - timedelta(days=7) + left
            owner.execute("INSERT INTO idempotency VALUES (%s, '', '', %s)", (name.encode(), day_ago))
            owner.execute("INSERT INTO usage_writers VALUES (%s, 1, %s)", (id, week_ago))
            # A family outlives its last token by a day.
            owner.execute("INSERT INTO refresh_families VALUES (%s, %s, NULL, %s)", (id, id, day_ago))
    async with database.pool() as pool, keeping(pool, clock, tmp_path) as rounds:
        await eventually(lambda: passed(rounds, 1))
    with database.connect() as connection:
        answers = connection.execute("SELECT scope_hash FROM idempotency").fetchall()
        writers = connection.execute("SELECT writer_id FROM usage_writers").fetchall()
        families = connection.execute("SELECT family_id FROM refresh_families").fetchall()
    assert [row["scope_hash"] for row in answers] == [b"kept"]
    assert [row["writer_id"] for row in writers] == [ids["kept"]]
    assert [row["family_id"] for row in families] == [ids["kept"]]
    assert partitions(database) == [f"usage_{now.date() + timedelta(days=day):%Y%m%d}" for day in (-400, 0, 1, 2)]


def partitions(database: Database) -> list[str]:
    with database.connect() as connection:
        query = "SELECT inhrelid::regclass::text AS name FROM pg_inherits WHERE inhparent = 'usage'::regclass"
        return sorted(row["name"] for row in connection.execute(query).fetchall())


async def test_without_a_connection_it_waits_and_goes_on(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping, "CLOCK_SECONDS", 0.05)
    async with database.pool(2) as pool, pool.connection(), AsyncExitStack() as held:
        await held.enter_async_context(pool.connection())
        async with keeping(pool, Clock(), tmp_path) as rounds:
            await eventually(lambda: said(caplog, "housekeeping waits for the database"))
            assert not rounds
            await held.aclose()
            await eventually(lambda: passed(rounds, 1))


async def test_keys_that_can_not_be_read_any_more_are_told(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(housekeeping, "CLOCK_SECONDS", 0.05)
    async with database.pool() as pool, keeping(pool, Clock(), tmp_path) as rounds:
        await eventually(lambda: passed(rounds, 1))
        (tmp_path / "keys" / "signing" / "damaged.json").write_text("{", encoding="ascii")
        await eventually(lambda: said(caplog, "damaged.json is malformed"))


async def said(caplog: pytest.LogCaptureFixture, what: str) -> bool:
    return what in caplog.text
