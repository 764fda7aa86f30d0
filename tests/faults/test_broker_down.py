"""RabbitMQ is dead, or takes nothing for want of disk space: the services go on, say so, and publish it all later.

OUTAGE_SECONDS sets for how long it is dead, besides its own start; the long run takes 120.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from infra.postgres import Database
from projections import dead_letters
from tests.support.both_logs import BothLogs
from tests.support.client import Client, eventually
from tests.support.cluster import Cluster
from tests.support.keyed_commands import KeyedCommands
from tests.support.marked_validations import MarkedValidations
from tests.support.nursery import Nursery, Server
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.relaying import arrived, log_positions, sequences
from tests.support.stalls import stalls
from tests.support.workers import are_at_the_end, differing_rows
from workers.broker import Broker

OUTAGE_SECONDS = float(os.environ.get("OUTAGE_SECONDS", "6"))
ALARM_SECONDS = 15.0
"""Four for confirms that do not come, the rest for the lease by which it is told, and for a busy machine."""
RECOVERY_SECONDS = 10.0
ATTEMPTS = 3
PAUSE_SECONDS = 0.1
"""Of each caller between two requests: what heaps up is small, what counts is that all of it is there."""

CONSUMERS = ("relay", "usage", "devices-seen", "seats")
"""Detection, which waits for rows that may come late, follows the logs alone."""


@dataclass(frozen=True)
class Plant:
    """All services and workers in one process, and the broker that they publish to."""

    database: Database
    rabbit: Rabbit
    host: VirtualHost
    server: Server

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        """Give a client whose API key has no limits."""
        async with self.server.client() as client:
            client.api_key = (await client.new_api_key())["api_key"]
            yield client

    async def all_is_well(self, seconds: float) -> None:
        """Wait until health says so."""
        async with self.server.client() as client:

            async def so() -> bool:
                return bool((await readiness(client))["status"] == "ok")

            await eventually(so, seconds)


@pytest.fixture(scope="module")
def plant(cluster: Cluster, rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    database, host = cluster.new_database(), rabbit.new_host()
    data_dir = tmp_path_factory.mktemp("data")
    with (
        Nursery(tmp_path_factory.mktemp("logs")) as nursery,
        nursery.serve(database, data_dir, AMQP_URL=host.url) as server,
    ):
        yield Plant(database, rabbit, host, server)
        assert server.stop() == 0, server.log()
    cluster.drop(database)


async def readiness(client: Client) -> dict[str, Any]:
    """Return what health says; the process must be ready for requests all the time."""
    reply = await client.request("GET", "/health/ready")
    assert reply.status == 200, reply
    said: dict[str, Any] = reply.body
    return said


async def relay_says(client: Client, words: str, seconds: float) -> None:
    """Wait until health tells of the relay that it can't work, in these words."""

    async def so() -> bool:
        said = await readiness(client)
        return said["status"] == "degraded" and words in said["checks"]["relay"].get("detail", "")

    await eventually(so, seconds)


async def queue_of(host: VirtualHost, name: str) -> str:
    """Make an analyst's queue, empty as yet."""
    await (await Broker.connect(host.url, "test")).close()
    await asyncio.to_thread(host.new_queue, name)
    return name


async def test_our_queues_outlive_a_broker(plant: Plant) -> None:
    queues = [f"lizenzserver.{consumer}{kind}" for consumer in ("projector", "anomaly") for kind in ("", ".dead")]

    async def are_there() -> bool:
        return all([await asyncio.to_thread(plant.host.has, name) for name in ("licenses.unrouted", *queues)])

    await eventually(are_there, 20)
    quorum: dict[str, Any] = {"x-queue-type": "quorum"}
    with plant.host.channel() as channel:
        # A declaration is refused where a queue of this name is another one.
        channel.queue_declare(
            "licenses.unrouted", durable=True, arguments={**quorum, "x-max-length": 100_000, "x-overflow": "drop-head"}
        )
        for consumer in ("projector", "anomaly"):
            dead = f"lizenzserver.{consumer}.dead"
            letters = {"x-dead-letter-exchange": "licenses.dead", "x-dead-letter-routing-key": dead}
            channel.queue_declare(dead, durable=True, arguments=quorum)
            channel.queue_declare(
                f"lizenzserver.{consumer}", durable=True, arguments={**quorum, **letters, "x-delivery-limit": 100}
            )


async def test_while_the_broker_is_dead_all_is_served_and_all_is_published_later(plant: Plant) -> None:
    for number in range(ATTEMPTS):
        if await survives_an_outage(plant, f"outage-{number}"):
            return
    pytest.fail(f"RabbitMQ came back {ATTEMPTS} times without leading to the queue that was bound")


async def survives_an_outage(plant: Plant, name: str) -> bool:
    """Take the broker away under load; tell whether it came back as it was.

    RabbitMQ 3 now and then comes back from a kill with a topic exchange that no longer leads to one of its queues,
    though the binding is listed. Nothing that we publish can come there then, nor does what anybody else publishes.
    """
    queue = await queue_of(plant.host, name)
    before = log_positions(plant.database)
    async with plant.client() as client:
        commands, validations = await KeyedCommands.prepare(client), await MarkedValidations.prepare(client)
        load = asyncio.gather(commands.run(client, name, PAUSE_SECONDS), validations.run(client, PAUSE_SECONDS))
        await asyncio.to_thread(plant.rabbit.kill)
        try:
            answered = len(commands.answered), len(validations.answered)
            await relay_says(client, "broker away", 20)
            await asyncio.sleep(OUTAGE_SECONDS)
            assert not are_at_the_end(plant.database, "relay")
            assert len(commands.answered) > answered[0] + 50
            assert len(validations.answered) > answered[1] + 50
        finally:
            await asyncio.to_thread(plant.rabbit.start)
        commands.enough = validations.enough = True
        await load
    assert validations.refused == []
    assert commands.unanswered == []
    await eventually(lambda: are_stored(plant.database, validations))
    await BothLogs(plant.database).followed(*CONSUMERS, seconds=30)
    await plant.all_is_well(RECOVERY_SECONDS)

    commands.check(plant.database)
    stored = validations.stored(plant.database)
    assert stored.keys() == validations.answered
    assert set(stored.values()) == {1}
    assert differing_rows(plant.database) == {}
    with plant.database.connect() as connection:
        assert dead_letters.listed(connection) == []
    events, usage = await arrived(plant.host, queue)
    now = log_positions(plant.database)
    if len(events) < len(now[0]) - len(before[0]) and not await asyncio.to_thread(plant.host.leads_to, queue):
        return False
    # What was published between the queue's making and the first look at the log may come before.
    assert sequences(events)[-len(now[0]) + len(before[0]) :] == now[0][len(before[0]) :]
    assert sequences(usage)[-len(now[1]) + len(before[1]) :] == now[1][len(before[1]) :]
    return True


async def are_stored(database: Database, validations: MarkedValidations) -> bool:
    """Tell whether all rows are in the log: the last may come a moment after its answer."""
    return validations.stored(database).keys() >= validations.answered


async def uses_are_stored(database: Database, license: dict[str, Any], number: int) -> bool:
    with database.connect() as connection:
        rows = connection.execute("SELECT FROM usage WHERE license_id = %s", (license["license_id"],)).fetchall()
    return len(rows) == number


async def test_a_full_disk_of_the_broker_is_told_within_seconds_and_waited_out(plant: Plant) -> None:
    queue = await queue_of(plant.host, "alarm")
    async with plant.client() as client:
        await plant.all_is_well(20)
        license = await client.new_license(max_devices=1000)
        await asyncio.to_thread(plant.rabbit.control, "set_disk_free_limit", "1000000GB")
        try:
            async with stalls(plant.server.pid) as machine:
                began = time.monotonic()
                activations = [await client.activate(license, f"pc-{number}") for number in range(20)]
                validations = [await client.validate(license, f"pc-{number}") for number in range(20)]
                await relay_says(client, "disk", 2 * ALARM_SECONDS)
                assert time.monotonic() - began < ALARM_SECONDS + machine.seconds
            activations += [await client.activate(license, f"later-{number}") for number in range(20)]
            validations += [await client.validate(license, f"later-{number}") for number in range(20)]
            assert not are_at_the_end(plant.database, "relay")
        finally:
            await asyncio.to_thread(plant.rabbit.control, "set_disk_free_limit", "50MB")
        assert {reply.status for reply in activations} == {201}
        assert {reply.status for reply in validations} == {200}
    await eventually(lambda: uses_are_stored(plant.database, license, 40))
    await BothLogs(plant.database).followed("relay", seconds=RECOVERY_SECONDS)
    await plant.all_is_well(RECOVERY_SECONDS)
    events, usage = await arrived(plant.host, queue)
    assert sum(one.event["type"] == "license.activated" for one in events) == 40
    assert sum(one.event["type"] == "license.validated" for one in usage) == 40
