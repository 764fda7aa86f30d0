"""A process that runs all services, and a small world in it; each test gets a client with an address of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest

from api.services import Services
from infra.postgres import Database
from tests.support.client import Client, Secrets
from tests.support.cluster import Cluster
from tests.support.patience import running_patiently
from tests.support.ports import Ports
from tests.support.service import settings_for
from tests.support.world import Seat, World, make_world, with_anomaly, with_receipt

SEATS = 20

_addresses = count(1)


@pytest.fixture(scope="package")
def ports(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    folder: Path = tmp_path_factory.mktemp("ports")
    database = cluster.new_database()
    with Ports.make(database, folder) as running:
        yield running
    cluster.drop(database)


@pytest.fixture(scope="package")
def world(ports: Ports) -> World:
    return asyncio.run(_world(ports))


async def _world(ports: Ports) -> World:
    async with aiohttp.ClientSession() as session:
        client = Client(session, ports.base(), Secrets())
        client.api_key = (await client.new_api_key(allowed_endpoints=["/api/v1/*"]))["api_key"]
        return await with_receipt(await with_anomaly(await make_world(client, SEATS)))


@pytest.fixture
async def service(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Services, Client]]:
    async with running_patiently(settings_for(tmp_path), database) as parts:
        yield parts


@pytest.fixture
async def attacker(world: World) -> AsyncIterator[Client]:
    """Give a client that knows the world's API key."""
    number = next(_addresses)
    async with aiohttp.ClientSession() as session:
        client = Client(session, world.client.base, Secrets(), f"10.9.{number // 256}.{number % 256}")
        client.api_key = world.client.api_key
        yield client


@pytest.fixture
async def seat(attacker: Client) -> Seat:
    """Give a licence with an active device that no other test touches."""
    return (await make_world(attacker)).seats[0]


_STORED = {
    "licensing_events": "NOT starts_with(topic, 'anomaly.')",  # What detection finds has its own time.
    **dict.fromkeys(("licenses", "devices", "api_keys", "idempotency", "data_subjects", "refresh_families"), "true"),
    "usage": "occurred_at >= %(begin)s",
}


@pytest.fixture
def nothing_is_stored(ports: Ports, world: World) -> Iterator[None]:
    """Check that a test makes no event, no row of a view, of the usage log or of an answer, and no secret."""
    begin = datetime.now(UTC)

    def counts() -> dict[str, Any]:
        with psycopg.connect(ports.database.conninfo()) as connection:
            queries = {name: f"SELECT count(*) FROM {name} WHERE {which}" for name, which in _STORED.items()}
            return {name: connection.execute(query, {"begin": begin}).fetchone() for name, query in queries.items()}

    before = counts()
    yield
    assert counts() == before
