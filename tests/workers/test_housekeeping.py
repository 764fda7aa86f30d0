"""Housekeeping: the clock is corrected again and again, and a fault or an outage ends none of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

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


async def said(caplog: pytest.LogCaptureFixture, what: str) -> bool:
    return what in caplog.text
