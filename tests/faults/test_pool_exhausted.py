"""All connections for queries are taken: who can have none is told at once, and nobody else notices."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psycopg
import pytest

from infra.postgres import Database
from tests.support.client import Client, eventually
from tests.support.cluster import Cluster
from tests.support.postgres_faults import postmaster
from tests.support.processes import ServerProcess, client_of
from tests.support.stalls import stalls

AT_ONCE_SECONDS = 1.0
BACK_SECONDS = 5.0
POOL = 8


class Plant(NamedTuple):
    cluster: Cluster
    database: Database
    process: ServerProcess


@pytest.fixture(scope="module")
def plant() -> Iterator[Plant]:
    with Cluster() as cluster, TemporaryDirectory(prefix="lizenzserver-pool-") as folder:
        database = cluster.new_database()
        process = ServerProcess(database, Path(folder)).wait_ready()
        try:
            yield Plant(cluster, database, process)
        finally:
            process.stop()


async def ready_client(client: Client) -> dict[str, Any]:
    """Give the client an API key, and a licence with a device that this process remembers."""
    client.api_key = (await client.new_api_key())["api_key"]
    license = await client.new_license()
    assert (await client.activate(license, "pc")).status == 201
    assert (await client.validate(license, "pc")).status == 200
    return license


async def test_who_finds_no_connection_is_told_at_once_and_validations_go_on(plant: Plant) -> None:
    async with client_of(plant.process) as client:
        license = await ready_client(client)
        path = f"/licenses/{license['license_id']}"

        async def read() -> tuple[int, float, str | None]:
            began = time.monotonic()
            reply = await client.admin("GET", path)
            return reply.status, time.monotonic() - began, reply.headers.get("Retry-After")

        with plant.database.connect_owner() as owner:
            owner.execute("BEGIN")
            owner.execute("LOCK TABLE lizenzserver.licenses IN ACCESS EXCLUSIVE MODE")
            reading = {asyncio.create_task(read()) for _ in range(POOL + 30)}
            async with stalls(plant.process.pid, postmaster(plant.cluster)) as machine:
                done, waiting = await asyncio.wait(reading, timeout=2 * AT_ONCE_SECONDS)
                # Who asked before all connections were made, on a machine that stood still, may have heard too.
                deadline = time.monotonic() + 15
                while len(waiting) != POOL and time.monotonic() < deadline:
                    reading |= {asyncio.create_task(read()) for _ in range(POOL)}
                    done, waiting = await asyncio.wait(reading, timeout=2 * AT_ONCE_SECONDS)
                # As many as there are connections wait for the lock; the others have heard.
                assert len(waiting) == POOL
                for status, seconds, retry_after in (task.result() for task in done):
                    assert (status, retry_after) == (503, "1")
                    assert seconds <= AT_ONCE_SECONDS + machine.seconds
                for _ in range(20):
                    began = time.monotonic()
                    assert (await client.validate(license, "pc")).status == 200
                    assert time.monotonic() - began <= AT_ONCE_SECONDS + machine.seconds
            owner.execute("COMMIT")
        async with stalls(plant.process.pid, postmaster(plant.cluster)) as machine:
            began = time.monotonic()
            assert Counter(status for status, _, _ in await asyncio.gather(*waiting)) == {200: POOL}
            assert (await read())[0] == 200
            assert time.monotonic() - began <= BACK_SECONDS + machine.seconds


async def test_a_server_that_takes_no_more_connections_is_waited_for(plant: Plant) -> None:
    async with client_of(plant.process) as client, client_of(plant.process) as other:
        license = await ready_client(client)
        other.api_key = client.api_key
        with ExitStack() as held:
            # Ours are ended, and somebody else is faster.
            await asyncio.to_thread(take_all, plant, held)
            replies = await asyncio.gather(*(client.admin("GET", "/licenses") for _ in range(20)))
            replies.append(await client.activate(license, "later", idempotency_key="later"))
            # One of ours may have found a place that another one was just turned away from.
            statuses = {reply.status for reply in replies}
            assert 503 in statuses
            assert statuses <= {200, 201, 503}
            assert all("Retry-After" in reply.headers for reply in replies if reply.status == 503)
            assert (await client.validate(license, "pc")).status == 200
        async with stalls(plant.process.pid, postmaster(plant.cluster)) as machine:
            began = time.monotonic()
            await eventually(lambda: all_is_well(client, license), 30)
            assert time.monotonic() - began <= BACK_SECONDS + machine.seconds


# Those too that have only begun, and no name as yet.
_OURS = "backend_type = 'client backend' AND application_name <> 'stranger' AND pid <> pg_backend_pid()"


def take_all(plant: Plant, held: ExitStack) -> None:
    with plant.database.connect_owner() as owner:
        deadline = time.monotonic() + 20
        while True:
            # Those of ours that are ended come back for their place, unless it is taken.
            owner.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_OURS}")
            try:
                while True:
                    held.enter_context(psycopg.connect(plant.database.url, application_name="stranger"))
            except psycopg.OperationalError:
                pass
            row = owner.execute(f"SELECT count(*) AS ours FROM pg_stat_activity WHERE {_OURS}").fetchone()
            assert row is not None
            if row["ours"] == 0:
                return
            assert time.monotonic() < deadline


async def all_is_well(client: Client, license: dict[str, Any]) -> bool:
    replies = await asyncio.gather(
        client.request("GET", "/health/ready"),
        client.activate(license, "later", idempotency_key="later"),
        *(client.admin("GET", "/licenses") for _ in range(POOL)),
    )
    return all(reply.status in {200, 201} for reply in replies)
