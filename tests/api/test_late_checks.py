"""Asking the log itself: what it says counts. Where it can't say in time, what was read does, and that is counted."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from uuid import uuid4

from api.late_checks import still_holds
from api.services import Services
from infra.postgres import Database
from tests.support.client import Client
from tests.support.patience import SECONDS, patience
from tests.support.within import within

NOTHING_KNOWN = [(uuid4(), 0)]


def from_memory(services: Services) -> int:
    lines = services.metrics.render().decode().splitlines()
    name = "lizenzserver_answers_from_memory_total "
    return next((int(float(line.removeprefix(name))) for line in lines if line.startswith(name)), 0)


async def test_what_the_log_says_counts(services: Services, client: Client) -> None:
    key = await services.api_keys.read(client.api_key, services.clock.monotonic())
    assert key is not None
    with patience():
        assert await still_holds(services, [*NOTHING_KNOWN, (key.key_id, key.position)])
        assert not await still_holds(services, [*NOTHING_KNOWN, (key.key_id, 0)])
    assert from_memory(services) == 0


async def test_without_a_connection_what_was_read_counts(services: Services) -> None:
    async with AsyncExitStack() as held:
        for _ in range(services.pool.max_size):
            await held.enter_async_context(services.pool.connection(SECONDS))
        assert await still_holds(services, NOTHING_KNOWN)
    assert from_memory(services) == 1
    with patience():
        assert await still_holds(services, NOTHING_KNOWN)
    assert from_memory(services) == 1


async def test_who_waits_for_the_log_does_so_for_a_second(services: Services, database: Database) -> None:
    with database.connect_owner() as owner:
        owner.execute("BEGIN")
        owner.execute("LOCK TABLE lizenzserver.licensing_events IN ACCESS EXCLUSIVE MODE")
        async with within(3, at_least=0.9):
            assert await still_holds(services, NOTHING_KNOWN)
        assert from_memory(services) == 1
        owner.execute("ROLLBACK")
    # Nobody waits on for what nobody wants any more.
    async with asyncio.timeout(SECONDS):
        while services.pool.get_stats()["pool_available"] < services.pool.get_stats()["pool_size"]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
