"""A relay in the test's own event loop, and what it has brought to a queue."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from itertools import count
from uuid import UUID

from commands.event_mapper import decoder
from infra.postgres import Database
from tests.support.event_log import append, lives_of_licenses
from tests.support.rabbit import Taken, VirtualHost
from tests.support.usage import Use, store
from workers.relay import Relay

INSTANCE = "0123456789abcdef"
QUEUE = "analyst"

_seeds = count(1)


@asynccontextmanager
async def relaying(database: Database, amqp_url: str) -> AsyncIterator[Relay]:
    """Run a relay. One that ends by itself fails the test."""
    relay = Relay(database.connect_async, amqp_url, decoder(), INSTANCE)
    task = asyncio.create_task(relay.run())
    try:
        yield relay
        assert not task.done()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def fill(database: Database, events: int = 0, usage: int = 0) -> None:
    """Append rows to both logs."""
    if events:
        append(database, lives_of_licenses(events, seed=next(_seeds)))
    if usage:
        store(database, [Use(datetime.now(UTC), UUID(int=1), f"pc-{number % 10}") for number in range(usage)])


def positions(database: Database) -> tuple[int, int]:
    """Return how far the relay has come in both logs, as it saved it."""
    with database.connect() as connection:
        row = connection.execute("SELECT * FROM consumers WHERE consumer = 'relay'").fetchone()
        return (row["event_position"], row["usage_position"]) if row else (0, 0)


def ends(database: Database) -> tuple[int, int]:
    """Return the last positions of both logs."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT coalesce((SELECT max(notification_id) FROM licensing_events), 0) AS events,"
            " coalesce((SELECT max(id) FROM usage), 0) AS usage"
        ).fetchone()
        assert row is not None
        return row["events"], row["usage"]


async def drained(database: Database) -> bool:
    """Tell whether all rows are relayed and the position is saved."""
    return await asyncio.to_thread(lambda: positions(database) == ends(database))


async def arrived(host: VirtualHost, queue: str = QUEUE) -> tuple[list[Taken], list[Taken]]:
    """Take what has come, each id once: events and usage, in the order in which they first came."""
    once = {taken.event["id"]: taken for taken in reversed(await asyncio.to_thread(host.take, queue))}
    taken = list(reversed(once.values()))
    return (
        [one for one in taken if one.event["source"].endswith("/events")],
        [one for one in taken if one.event["source"].endswith("/usage")],
    )


def sequences(taken: list[Taken]) -> list[int]:
    """Return the positions that messages name."""
    return [int(one.event["sequence"]) for one in taken]


def log_positions(database: Database) -> tuple[list[int], list[int]]:
    """Return the positions of all rows of both logs."""
    with database.connect() as connection:
        events = connection.execute("SELECT notification_id AS at FROM licensing_events ORDER BY 1").fetchall()
        usage = connection.execute("SELECT id AS at FROM usage ORDER BY 1").fetchall()
        return [row["at"] for row in events], [row["at"] for row in usage]
