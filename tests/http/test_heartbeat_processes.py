"""Heartbeats on one process while another changes what they rest on: no refusal is from yesterday."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra.postgres import Database
from tests.support.client import Client
from tests.support.patience import running_patiently
from tests.support.service import settings_for

HEARTBEAT = "/api/v1/license/heartbeat"


@pytest.fixture
async def two_processes(database: Database, tmp_path: Path) -> AsyncIterator[tuple[Client, Client]]:
    settings = settings_for(tmp_path)
    async with running_patiently(settings, database) as (_, here), running_patiently(settings, database) as (_, there):
        yield here, there


async def activated(client: Client) -> tuple[dict[str, Any], str]:
    license = await client.new_license()
    assert (await client.activate(license, "pc-1")).status == 201
    return license, (await client.tokens(license, "pc-1"))["access_token"]


async def test_a_token_of_a_new_activation_is_good_where_the_old_one_is_remembered(
    two_processes: tuple[Client, Client],
) -> None:
    here, there = two_processes
    license, old = await activated(there)
    assert (await here.bearer(HEARTBEAT, old, {})).status == 200
    path = f"/licenses/{license['license_id']}/devices/deactivate"
    assert (await there.admin("POST", path, {"hardware_id": "pc-1"})).status == 200
    assert (await there.activate(license, "pc-1")).status == 201
    new = (await there.tokens(license, "pc-1"))["access_token"]
    assert (await here.bearer(HEARTBEAT, new, {})).status == 200
    assert (await here.bearer(HEARTBEAT, old, {})).status == 401


async def test_an_extended_licence_is_good_where_its_end_is_remembered(two_processes: tuple[Client, Client]) -> None:
    here, there = two_processes
    license, token = await activated(there)
    path = f"/licenses/{license['license_id']}"
    assert (await there.admin("PATCH", path, {"expires_at": "2020-01-01T00:00:00Z"})).status == 200
    assert (await here.bearer(HEARTBEAT, token, {}))["error_code"] == "LICENSE_EXPIRED"
    assert (await there.admin("PATCH", path, {"expires_at": None})).status == 200
    assert (await here.bearer(HEARTBEAT, token, {})).status == 200
