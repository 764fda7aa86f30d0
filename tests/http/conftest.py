"""One running service a test file; each test gets a client with an address of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from api.services import Services
from tests.http.passing_time import Passing
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.patience import running_patiently
from tests.support.service import settings_for

_numbers = count()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Services, Client]]:
    """Give a service that allows two origins, shared by the tests of a file: each makes its own licences."""
    folder: Path = tmp_path_factory.mktemp("data")
    database = cluster.new_database()
    async with running_patiently(
        settings_for(folder, CORS_ORIGINS="https://app.example, tauri://localhost"), database
    ) as parts:
        yield parts
    cluster.drop(database)


@pytest.fixture
def services(service: tuple[Services, Client]) -> Services:
    return service[0]


@pytest.fixture
def client(service: tuple[Services, Client]) -> Client:
    """Give a client whose address no other test has, so that limits by address are its own."""
    number = next(_numbers)
    fresh = Client(service[1].session, service[1].base, service[1].secrets, f"10.{number // 256}.{number % 256}.7")
    fresh.api_key = service[1].api_key
    return fresh


@pytest.fixture
def time_passes(services: Services) -> Iterator[Passing]:
    """Give a way to let time pass; afterwards it is now again."""
    offset, clock = services.clock.offset, services.clock
    yield Passing(services)
    clock.offset = offset
    for name in ("monotonic", "now"):
        clock.__dict__.pop(name, None)
