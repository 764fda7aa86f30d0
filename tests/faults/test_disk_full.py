"""The database's disk is full: 503 and no 500, validations go on, and nothing is lost once there is room again."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psycopg
import pytest

from infra.postgres import Database
from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants, check_outcomes
from tests.support.postgres_faults import postmaster
from tests.support.processes import ServerProcess, client_of
from tests.support.small_disk import SmallDisk, small_disk
from tests.support.stalls import stalls

DISK_MEGABYTES = 256
LEFT_BYTES = 256 * 1024
BACK_SECONDS = 5.0


class Plant(NamedTuple):
    disk: SmallDisk
    cluster: Cluster
    database: Database
    process: ServerProcess


@pytest.fixture(scope="module")
def plant() -> Iterator[Plant]:
    with (
        small_disk(DISK_MEGABYTES) as disk,
        Cluster(disk.folder) as cluster,
        TemporaryDirectory(prefix="lizenzserver-full-") as folder,
    ):
        database = cluster.new_database()
        process = ServerProcess(database, Path(folder)).wait_ready()
        try:
            yield Plant(disk, cluster, database, process)
        finally:
            process.stop()


class Use:
    """What was asked of the service, and answered."""

    def __init__(self, client: Client, license: dict[str, Any], name: str) -> None:
        self.client = client
        self.license = license
        self.name = name
        self.orders: dict[str, Reply] = {}
        self.validated: list[str] = []

    @classmethod
    async def begin(cls, client: Client, name: str) -> Use:
        client.api_key = (await client.new_api_key())["api_key"]
        use = cls(client, await client.new_license(max_devices=100_000), name)
        assert (await client.activate(use.license, "pc")).status == 201
        assert await use.validate() == 200
        return use

    async def order(self) -> int:
        """Take a seat; return the status."""
        key = f"{self.name}-{len(self.orders)}"
        self.orders[key] = reply = await self.ask(key)
        assert reply.status == 201 or (reply.status == 503 and "Retry-After" in reply.headers), reply
        return reply.status

    async def ask(self, key: str) -> Reply:
        return await self.client.activate(
            self.license, key, fields={"device_name": "x" * 200}, idempotency_key=key, x_request_id=key
        )

    async def validate(self) -> int:
        """Validate under a mark of its own."""
        mark = f"{self.name}-use-{len(self.validated)}"
        self.validated.append(mark)
        return (await self.client.validate(self.license, "pc", fields={"app_version": mark})).status

    async def is_refused(self) -> bool:
        """Take seats until one is refused."""
        return await self.order() == 503

    async def is_well(self) -> bool:
        ready = await self.client.request("GET", "/health/ready")
        return ready.status == 200 and await self.order() == 201

    async def settle(self) -> None:
        """Ask again under the key of each order that was refused."""
        for key, reply in self.orders.items():
            if reply.status == 503:
                assert (await self.ask(key)).status == 201

    async def all_uses_are_stored(self, database: Database) -> bool:
        """Tell whether each validation has its row; never two."""
        with database.connect() as connection:
            rows = connection.execute(
                "SELECT app_version FROM usage WHERE app_version LIKE %s", (f"{self.name}-use-%",)
            ).fetchall()
        found = Counter(row["app_version"] for row in rows)
        assert set(found.values()) <= {1}
        return found.keys() == set(self.validated)


async def test_tables_that_can_not_grow(plant: Plant) -> None:
    async with client_of(plant.process) as client:
        use = await Use.begin(client, "tables")
        # A new file of the write-ahead log is there, so that it is the tables that can't grow.
        plant.cluster.execute("SELECT pg_switch_wal()")
        assert await use.order() == 201
        plant.disk.fill(LEFT_BYTES)
        await eventually(use.is_refused, 30)
        refused = 0
        for _ in range(30):
            assert await use.validate() == 200
            refused += await use.is_refused()
            assert (await client.admin("GET", f"/licenses/{use.license['license_id']}")).status == 200
        assert refused > 0
        plant.disk.make_room()
        await is_well_soon(plant, use)
    check_outcomes(check_invariants(plant.database), dict.fromkeys(use.orders, 201))


async def test_a_write_ahead_log_that_can_not_grow(plant: Plant) -> None:
    """PostgreSQL gives up then, and can't start again before there is room."""
    async with client_of(plant.process) as client:
        use = await Use.begin(client, "log")
        for _ in range(50):
            assert await use.order() == 201
        # An order changes the licence: what was remembered of it before is of no use.
        assert await use.validate() == 200
        plant.disk.fill()
        await asyncio.to_thread(use_up_log, plant)
        await eventually(use.is_refused)
        for _ in range(20):
            assert await use.validate() == 200
            assert await use.is_refused()
        plant.disk.make_room()
        await asyncio.to_thread(plant.cluster.server.start)
        await is_well_soon(plant, use)
    check_outcomes(check_invariants(plant.database), dict.fromkeys(use.orders, 201))


async def is_well_soon(plant: Plant, use: Use) -> None:
    """Wait until all goes on; look that it does in five seconds, and that nothing is lost."""
    async with stalls(plant.process.pid, postmaster(plant.cluster)) as machine:
        began = time.monotonic()
        await eventually(use.is_well, 30)
        assert time.monotonic() - began <= BACK_SECONDS + machine.seconds
    await use.settle()
    await eventually(lambda: use.all_uses_are_stored(plant.database))


def use_up_log(plant: Plant) -> None:
    """Have the server begin one file of its log after the other until it can't."""
    for _ in range(100):
        with suppress(psycopg.OperationalError), plant.database.connect_owner() as owner:
            for _ in range(100):
                owner.execute("SELECT pg_logical_emit_message(true, 'test', repeat('x', 100000)), pg_switch_wal()")
        if not plant.cluster.server.running():
            return
    raise AssertionError("the server goes on")
