"""A process that runs all services, shared by the tests of a file; and a small world in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio

from tests.support.client import Client, Secrets
from tests.support.cluster import Cluster
from tests.support.ports import Ports
from tests.support.world import World, make_world

SEATS = 20


@pytest.fixture(scope="module")
def ports(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    folder: Path = tmp_path_factory.mktemp("ports")
    database = cluster.new_database()
    with Ports.make(database, folder) as running:
        yield running
    cluster.drop(database)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(ports: Ports) -> AsyncIterator[World]:
    async with aiohttp.ClientSession() as session:
        client = Client(session, ports.base(), Secrets())
        client.api_key = (await client.new_api_key(allowed_endpoints=["/api/v1/*"]))["api_key"]
        yield await make_world(client, SEATS)
