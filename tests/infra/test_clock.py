"""The clock: the database's time, whatever the machine's says, and whoever sets it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra import clock as clocks
from infra.clock import Clock, ClockFault


class Machine:
    """Stands in for the module `datetime` of the clock: a machine whose calendar is `ahead`."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self.ahead = ahead

    def now(self, zone: Any) -> datetime:
        return datetime.now(zone) + self.ahead


class Database:
    """Stands in for a connection: it answers with the true time, after and before so much waiting."""

    def __init__(self, ahead: timedelta = timedelta(0), wait: timedelta = timedelta(0)) -> None:
        self.ahead = ahead
        self.wait = wait

    async def execute(self, query: str) -> Database:
        assert "clock_timestamp()" in query
        return self

    async def fetchone(self) -> dict[str, datetime]:
        return {"now": datetime.now(UTC) + self.ahead}


NEARLY_NOTHING = timedelta(milliseconds=40)
AT_ONCE_SECONDS = 0.01
"""What takes longer was held up by the machine, and says as little."""


def difference(clock: Clock) -> timedelta:
    while True:
        began = time.monotonic()
        found = clock.now() - datetime.now(UTC)
        if time.monotonic() - began < AT_ONCE_SECONDS:
            return found


def new_clock() -> Clock:
    while True:
        began = time.monotonic()
        made = Clock()
        if time.monotonic() - began < AT_ONCE_SECONDS:
            return made


async def adjust(clock: Clock, database: Database) -> None:
    """Adjust it, and once more where the machine was held up just then: the measure is off by half of that."""
    while True:
        began = time.monotonic()
        await clock.adjust(database)
        if time.monotonic() - began < AT_ONCE_SECONDS:
            return


@pytest.mark.parametrize("hours", [-47, -1, 1, 47])
async def test_an_adjusted_clock_tells_the_databases_time(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    monkeypatch.setattr(clocks, "datetime", Machine(timedelta(hours=hours)))
    clock = new_clock()
    assert abs(difference(clock) - timedelta(hours=hours)) < NEARLY_NOTHING
    await adjust(clock, Database())
    assert abs(difference(clock)) < NEARLY_NOTHING
    assert abs(clock.offset + timedelta(hours=hours)) < NEARLY_NOTHING


@pytest.mark.parametrize("hours", [-1, 1])
async def test_whoever_sets_the_machines_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    machine = Machine()
    monkeypatch.setattr(clocks, "datetime", machine)
    clock = new_clock()
    await adjust(clock, Database())
    machine.ahead = timedelta(hours=hours)
    assert abs(difference(clock)) < NEARLY_NOTHING
    await adjust(clock, Database())
    assert abs(difference(clock)) < NEARLY_NOTHING


async def test_a_clock_that_drifts_is_corrected_again_and_again() -> None:
    clock = new_clock()
    for seconds in (5, -3, 0):
        await adjust(clock, Database(timedelta(seconds=seconds)))
        assert abs(difference(clock) - timedelta(seconds=seconds)) < NEARLY_NOTHING


async def test_what_may_be_noise_is_not_corrected() -> None:
    clock = new_clock()
    await adjust(clock, Database(timedelta(milliseconds=30)))
    assert clock.offset == timedelta(0)
    await adjust(clock, Database(timedelta(milliseconds=70)))
    assert timedelta(milliseconds=50) < clock.offset < timedelta(milliseconds=90)
    await adjust(clock, Database(timedelta(milliseconds=30)))
    assert clock.offset == timedelta(0)


@pytest.mark.parametrize("sign", [-1, 1])
async def test_more_than_two_days_are_a_fault_and_change_nothing(sign: int) -> None:
    clock = new_clock()
    await adjust(clock, Database(sign * timedelta(hours=1)))
    before = clock.offset
    with pytest.raises(ClockFault, match="this machine's clock is"):
        await adjust(clock, Database(sign * (timedelta(days=2, seconds=1))))
    assert clock.offset == before
    await adjust(clock, Database(sign * (timedelta(days=2) - timedelta(seconds=1))))
    assert abs(clock.offset) > timedelta(days=1, hours=23)
