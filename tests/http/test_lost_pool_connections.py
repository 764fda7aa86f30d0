"""A database that was restarted costs no more than the requests under way: what else is broken is found at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from psycopg_pool import PoolTimeout, TooManyRequests

from api.services import Services
from infra.postgres import Database
from infra.pulse import DatabaseAway
from tests.support.client import Client, eventually
from tests.support.service import running, settings_for


@pytest.fixture
async def services(database: Database, tmp_path: Path) -> AsyncIterator[Services]:
    async with running(settings_for(tmp_path), database) as (running_services, _):
        yield running_services


async def test_one_refused_request_mends_the_whole_pool(database: Database, tmp_path: Path) -> None:
    async with running(settings_for(tmp_path), database) as (services, client):
        await mends(services, client, database)


async def test_only_a_lost_connection_says_something_of_the_others(services: Services) -> None:
    services._renewing = None
    for harmless in (PoolTimeout("none free"), TooManyRequests("too many wait"), DatabaseAway("away"), KeyError()):
        services.suspect_connections(harmless)
        assert not is_renewed(services), harmless
    services.suspect_connections(psycopg.errors.QueryCanceled("it took too long"))
    assert not is_renewed(services)
    services.suspect_connections(psycopg.OperationalError("the connection is lost"))
    assert is_renewed(services)


def is_renewed(services: Services) -> bool:
    return services._renewing is not None


async def mends(services: Services, client: Client, database: Database) -> None:
    async def get() -> int:
        reply = await client.admin("GET", f"/licenses/{uuid4()}")
        return int(reply.status)

    assert set(await asyncio.gather(*(get() for _ in range(40)))) == {404}
    assert services.pool.get_stats()["pool_size"] > 2
    end_all(database)

    refused = 0

    async def mended() -> bool:
        nonlocal refused
        status = await get()
        refused += status == 503
        return status == 404 and set(await asyncio.gather(*(get() for _ in range(20)))) == {404}

    await eventually(mended)
    assert refused <= 2, "not one for each connection that was lost"


async def test_validations_hear_nothing_of_it(database: Database, tmp_path: Path) -> None:
    async with running(settings_for(tmp_path), database) as (services, client):
        licenses = [await client.new_license() for _ in range(20)]
        for license in licenses:
            assert (await client.activate(license, "pc")).status == 201
        validated = [await client.validate(license, "pc") for license in licenses[:2]]
        await asyncio.gather(*(client.admin("GET", f"/licenses/{uuid4()}") for _ in range(40)))
        assert services.pool.get_stats()["pool_size"] > 2
        end_all(database)
        validated += await asyncio.gather(*(client.validate(license, "pc") for license in licenses[2:]))
        assert [one["license_id"] for one in validated] == [one["license_id"] for one in licenses]


def end_all(database: Database) -> None:
    with database.connect_owner() as owner:
        owner.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE application_name = 'lizenzserver' AND datname = current_database()"
        )
