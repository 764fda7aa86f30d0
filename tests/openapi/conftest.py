"""A process that runs all services, and a small world in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest

from tests.support.client import Client, Secrets
from tests.support.cluster import Cluster
from tests.support.ports import Ports
from tests.support.world import World, make_world, with_anomaly, with_receipt

SEATS = 40


@pytest.fixture(scope="package")
def ports(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    folder: Path = tmp_path_factory.mktemp("ports")
    database = cluster.new_database()
    with Ports.make(database, folder) as running:
        yield running
    cluster.drop(database)


@pytest.fixture(scope="package")
def world(ports: Ports) -> World:
    async def made() -> World:
        async with aiohttp.ClientSession() as session:
            client = Client(session, ports.base(), Secrets())
            client.api_key = (await client.new_api_key(allowed_endpoints=["/api/v1/*"]))["api_key"]
            return await with_receipt(await with_anomaly(await make_world(client, SEATS)))

    return asyncio.run(made())
