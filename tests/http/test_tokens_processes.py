"""Tokens with two processes on one database: no token rests on what the other has ended, no family has two winners."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from api.services import Services
from infra.clock import Clock
from infra.postgres import Database
from infra.tokens import Claims, TokenKind
from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.patience import running_patiently
from tests.support.service import running, settings_for
from workers.housekeeping import Housekeeping

ACCESS, REFRESH, _ = TokenKind
Process = tuple[Services, Client]


@pytest.fixture
async def two_processes(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Process, Process]]:
    settings = settings_for(tmp_path)
    async with running_patiently(settings, database) as here, running_patiently(settings, database) as there:
        yield here, there


async def refresh(client: Client, token: str) -> Reply:
    return await client.request("POST", "/api/v1/auth/refresh", {"refresh_token": token})


async def activated(client: Client) -> dict[str, Any]:
    license = await client.new_license()
    assert (await client.activate(license, "pc-1")).status == 201
    return license


async def test_a_first_refresh_token_has_one_winner_over_both(two_processes: tuple[Process, Process]) -> None:
    (_, here), (_, there) = two_processes
    license = await activated(here)
    for _ in range(10):
        first = (await here.tokens(license, "pc-1"))["refresh_token"]
        replies = await asyncio.gather(refresh(here, first), refresh(there, first))
        assert sorted(reply.status for reply in replies) == [200, 401]
        (winner,) = (reply for reply in replies if reply.status == 200)
        assert (await refresh(there, winner["refresh_token"])).status == 401
        assert (await refresh(here, first)).status == 401


async def test_a_revoked_api_key_gets_no_tokens_where_it_is_remembered(two_processes: tuple[Process, Process]) -> None:
    (_, here), (_, there) = two_processes
    license = await activated(here)
    made = await here.new_api_key()
    for hardware_id in ("pc-1", "pc-2"):
        here.api_key = made["api_key"]
        assert (await here.tokens(license, "pc-1")).status == 200
        path = f"/api/v1/auth/api-keys/{made['key_id']}"
        assert (await there.request("DELETE", path, x_admin_secret=there.secrets.admin_secret)).status == 200
        assert (await here.tokens(license, hardware_id)).status == 401
        here.api_key = there.api_key
        made = await here.new_api_key()


async def test_an_extended_licence_gets_tokens_where_its_end_is_remembered(
    two_processes: tuple[Process, Process],
) -> None:
    (_, here), (_, there) = two_processes
    license = await activated(here)
    path = f"/licenses/{license['license_id']}"
    assert (await there.admin("PATCH", path, {"expires_at": "2020-01-01T00:00:00Z"})).status == 200
    assert (await here.tokens(license, "pc-1"))["error_code"] == "LICENSE_EXPIRED"
    assert (await there.admin("PATCH", path, {"expires_at": None})).status == 200
    assert (await here.tokens(license, "pc-1")).status == 200


async def test_a_used_first_token_is_not_good_again_where_a_clock_is_behind(
    two_processes: tuple[Process, Process],
) -> None:
    """Without its row it would be taken for one that was never used: not before it has ended by all clocks."""
    (services, here), (_, there) = two_processes
    license = await activated(here)
    first = (await there.tokens(license, "pc-1"))["refresh_token"]
    services.clock.offset = timedelta(seconds=-4)
    assert (await refresh(here, first)).status == 200
    services.clock.offset = timedelta(days=30, seconds=-2)
    await cleaned(services, timedelta(days=30, hours=23))
    assert (await refresh(here, first)).status == 401


async def cleaned(services: Services, later: timedelta) -> None:
    """Clean up as of a later time."""
    clock, done = _FixedClock(services.clock.now() - services.clock.offset + later), asyncio.Event()
    task = asyncio.create_task(Housekeeping(services.pool, clock, services.keyring, 400, done.set).run())
    await asyncio.wait_for(done.wait(), 30)
    task.cancel()


class _FixedClock(Clock):
    def __init__(self, now: datetime) -> None:
        super().__init__()
        self.now = lambda: now  # type: ignore[method-assign]


async def test_a_family_whose_row_was_written_when_it_began_goes_on(tmp_path: Path, database: Database) -> None:
    """As families did whose first token does not name them. Without its row, nobody knows what became of it."""
    async with running_patiently(settings_for(tmp_path), database) as (services, client):
        license = await activated(client)
        access = (await client.tokens(license, "pc-1"))["access_token"]
        claims = services.tokens.verify(access, ACCESS, services.clock.now())

        def first_token() -> tuple[str, Claims]:
            return services.tokens.issue(
                REFRESH,
                license_id=claims.license_id,
                hardware_id="pc-1",
                activation_id=claims.activation_id,
                now=services.clock.now(),
                lifetime=timedelta(days=30),
                family=uuid4(),
            )

        assert (await refresh(client, first_token()[0])).status == 401
        token, first = first_token()
        with database.connect() as connection:
            row = (first.family, first.license_id, first.jti, first.expires_at)
            connection.execute("INSERT INTO refresh_families VALUES (%s, %s, %s, %s)", row)
        second = await refresh(client, token)
        assert second.status == 200
        assert (await refresh(client, second["refresh_token"])).status == 200
        assert (await refresh(client, token)).status == 401


async def test_without_the_database_there_are_no_tokens(tmp_path: Path) -> None:
    with Cluster() as cluster:
        async with running(settings_for(tmp_path), cluster.new_database()) as (_, client):
            license = await activated(client)
            assert (await client.tokens(license, "pc-1")).status == 200
            assert (await client.validate(license, "pc-1")).status == 200
            cluster.server.stop()
            assert (await client.tokens(license, "pc-1")).status == 503
            assert (await client.validate(license, "pc-1")).status == 200
            cluster.server.start()

            async def is_back() -> bool:
                return (await client.tokens(license, "pc-1")).status == 200

            await eventually(is_back)
