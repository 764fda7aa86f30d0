"""Both logs grow while the broker is killed three times and frozen once: nothing is missing anywhere.

STORM_ROWS sets how many rows there are in all; the long run takes 100000.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from infra.postgres import Database
from tests.support.client import eventually
from tests.support.event_log import START, append, lives_of_licenses
from tests.support.given import recorded
from tests.support.rabbit import Rabbit
from tests.support.relaying import log_positions
from tests.support.usage import Use, store
from tests.support.workers import WorkerProcess, are_at_the_end, differing_rows, identify
from workers.broker import Broker

ROWS = int(os.environ.get("STORM_ROWS", "12000"))
BATCHES = 60
PACE_SECONDS = max(20.0, ROWS / 2000)
"""How long the logs grow: long enough for what happens to the broker to happen meanwhile."""

QUEUES = ("analyst.one", "analyst.two")


def one_batch(database: Database, number: int) -> None:
    half = ROWS // BATCHES // 2
    append(database, (recorded(x.originator_id, x.originator_version, x.fact) for x in lives_of_licenses(half, number)))
    store(database, [Use(START, UUID(int=n % 9 + 1), f"pc-{n % 40}", "license.validated") for n in range(half)])


@asynccontextmanager
async def growing(database: Database) -> AsyncIterator[None]:
    async def grow() -> None:
        for number in range(BATCHES):
            began = time.monotonic()
            await asyncio.to_thread(one_batch, database, number)
            await asyncio.sleep(max(0.0, PACE_SECONDS / BATCHES - (time.monotonic() - began)))

    task = asyncio.create_task(grow())
    yield
    await task


async def broker_suffers(rabbit: Rabbit) -> None:
    for _ in range(3):
        await asyncio.sleep(1.5)
        rabbit.kill()
        await asyncio.to_thread(rabbit.start)
    rabbit.freeze()
    await asyncio.sleep(5)
    rabbit.thaw()


async def test_nothing_is_missing_after_a_storm(database: Database, tmp_path: Path) -> None:
    identify(database)
    with Rabbit() as rabbit:
        host = rabbit.new_host()
        await (await Broker.connect(host.url, "test")).close()
        for queue in QUEUES:
            host.new_queue(queue)
        with (
            WorkerProcess(database, "relay", tmp_path, host.url) as relay,
            WorkerProcess(database, "projector", tmp_path, host.url) as projector,
        ):
            async with growing(database):
                await broker_suffers(rabbit)

            async def done() -> bool:
                return await asyncio.to_thread(are_at_the_end, database, "relay", "usage", "devices-seen", "seats")

            await eventually(done, 120)
            for queue in QUEUES:
                taken = await asyncio.to_thread(host.take, queue)
                events = {int(m.event["sequence"]) for m in taken if m.event["source"].endswith("/events")}
                usage = {int(m.event["sequence"]) for m in taken if m.event["source"].endswith("/usage")}
                assert (sorted(events), sorted(usage)) == log_positions(database)
            assert relay.stop() == projector.stop() == 0
    assert differing_rows(database) == {}
