"""Turns, whatever is done in them: who may take one, how long it waits after a failure, and that none is broken off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from infra.postgres import Database
from workers.lease import Lease
from workers.turns import Turn, Turns


class Feed:
    """Says at once that something may be new."""

    def __init__(self) -> None:
        self.settled: list[tuple[int, int, bool]] = []

    async def wait(self, _: float) -> None:
        pass

    async def settle(self, event_position: int, usage_position: int, *, caught_up: bool) -> None:
        self.settled.append((event_position, usage_position, caught_up))

    async def close(self) -> None:
        pass


class Probe(Turns):
    """Does in each turn what it is told to. `forgot` counts."""

    TITLE = "probe"

    def __init__(self, connect: Callable[[], Connection[Any]], work: Callable[[], Turn] = Turn) -> None:
        self.feed = Feed()
        super().__init__("probe", connect, lambda: self.feed)
        self.work = work
        self.forgot = 0

    def _work(self, _: Connection[Any]) -> Turn:
        return self.work()

    def _forget(self) -> None:
        self.forgot += 1


def fail() -> Any:
    raise psycopg.OperationalError("away")


async def test_who_stands_by_forgets_what_it_knew(database: Database) -> None:
    """Another one works meanwhile: what it knew is of a position that it has left behind."""
    probe, other = Probe(lambda: database.connect_worker("probe")), Lease("probe")
    assert await asyncio.to_thread(probe._turn) == Turn()
    assert probe.forgot == 0
    with database.connect() as connection:
        connection.execute("UPDATE leases SET expires_at = clock_timestamp() - interval '1 second'")
        assert other.hold_now(connection)
        probe._lease._renew_at = 0.0
        assert await asyncio.to_thread(probe._turn) is None
        assert probe.forgot == 1
        other.give_up_now(connection)
    assert await asyncio.to_thread(probe._turn) == Turn()
    await asyncio.to_thread(probe._disconnect)


async def test_it_waits_longer_after_each_failure_but_never_long_and_begins_anew(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    probe = Probe(fail)
    for _ in range(8):
        await probe._once()
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    probe._connect = lambda: database.connect_worker("probe")
    probe.work = lambda: Turn(more=True, caught_up=True, event_position=7, usage_position=9)
    await probe._once()
    assert probe.feed.settled == [(7, 9, True)]
    probe.work = fail
    await probe._once()
    assert pauses[8:] == [0.1]


async def test_a_turn_that_is_under_way_is_finished_before_it_ends(database: Database) -> None:
    begun, finish = threading.Event(), threading.Event()

    def work() -> Turn:
        begun.set()
        assert finish.wait(10)
        return Turn()

    probe = Probe(lambda: database.connect_worker("probe"), work)
    running = asyncio.create_task(probe.run())
    await asyncio.to_thread(begun.wait, 10)
    running.cancel()
    done, _ = await asyncio.wait([running], timeout=0.1)
    assert not done
    finish.set()
    with pytest.raises(asyncio.CancelledError):
        await running
    with database.connect() as connection:
        assert connection.execute("SELECT FROM leases WHERE worker = 'probe'").fetchall() == []
