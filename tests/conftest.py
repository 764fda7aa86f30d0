"""Fixtures for all tests: a PostgreSQL cluster, a database each, a RabbitMQ, the running service and its client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from api.services import Services
from infra.postgres import Database
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.rabbit import Rabbit, VirtualHost
from tests.support.service import running, settings_for

# How long an example takes says nothing here: the machine is shared, and now and then stands still for a second.
settings.register_profile(
    "unhurried",
    parent=settings(),
    deadline=None,
    suppress_health_check=(*settings().suppress_health_check, HealthCheck.too_slow),
)
settings.load_profile("unhurried")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with Cluster(fsync=False) as running_cluster:
        yield running_cluster


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    fresh = cluster.new_database()
    yield fresh
    cluster.drop(fresh)


@pytest.fixture(scope="session")
def rabbit() -> Iterator[Rabbit]:
    with Rabbit() as running_server:
        yield running_server


@pytest.fixture
def virtual_host(rabbit: Rabbit) -> VirtualHost:
    return rabbit.new_host()


@pytest.fixture
async def service(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Services, Client]]:
    async with running(settings_for(tmp_path), database) as parts:
        yield parts


@pytest.fixture
def services(service: tuple[Services, Client]) -> Services:
    return service[0]


@pytest.fixture
def client(service: tuple[Services, Client]) -> Client:
    return service[1]
