"""Heartbeats: noted while the activation lives, refused once it was ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.http.passing_time import Passing
from tests.support.client import Client, Reply, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEARTBEAT = "/api/v1/license/heartbeat"


async def activated(client: Client, hardware_id: str = "pc-1", **fields: Any) -> tuple[dict[str, Any], str]:
    license = await client.new_license(**fields)
    assert (await client.activate(license, hardware_id)).status == 201
    tokens = await client.tokens(license, hardware_id)
    return license, tokens["access_token"]


async def usage(client: Client, license: dict[str, Any]) -> Reply:
    return await client.admin("GET", f"/licenses/{license['license_id']}/usage")


async def test_a_heartbeat_says_the_time_the_next_one_and_the_licences_state(client: Client) -> None:
    license, token = await activated(client, features=["export"], expires_in_days=30)
    reply = await client.bearer(HEARTBEAT, token, {"session_data": {"custom": "data"}})
    assert reply.status == 200
    server_time = datetime.fromisoformat(reply["server_time"])
    assert reply["server_time"].endswith("Z")
    assert abs(server_time - datetime.now(UTC)) < timedelta(seconds=10)
    assert isinstance(reply["next_heartbeat_seconds"], int)
    assert reply["next_heartbeat_seconds"] > 0
    assert reply["license"] == {
        "license_id": license["license_id"],
        "is_active": True,
        "expires_at": license["expires_at"],
        "features": ["export"],
        "limits": {"max_devices": 3, "current_devices": 1},
    }


@pytest.mark.parametrize("body", [None, {}, {"session_data": {}}, {"session_data": {"a": [1, {"b": None}]}, "more": 1}])
async def test_session_data_is_optional_and_free(client: Client, body: Any) -> None:
    _, token = await activated(client)
    assert (await client.bearer(HEARTBEAT, token, body)).status == 200


async def test_it_is_counted_and_moves_the_device_last_seen(client: Client) -> None:
    license, token = await activated(client)
    before = await usage(client, license)
    for _ in range(3):
        await client.bearer(
            HEARTBEAT, token, {"session_data": {"app_version": "1.2", "client_time": "2026-01-01T00:00:00Z"}}
        )

    async def counted() -> Reply | None:
        reply = await usage(client, license)
        return reply if reply["heartbeats"] == 3 and not reply["as_of"]["lag_seconds"] else None

    after: Reply = await eventually(counted)
    # It may be midnight meanwhile.
    assert (before["heartbeats"], sum(day["heartbeats"] for day in after["daily"][-2:])) == (0, 3)
    devices = await client.admin("GET", f"/licenses/{license['license_id']}/devices")
    assert devices["devices"][0]["last_seen_at"] is not None


@pytest.mark.parametrize(
    "session_data, field",
    [
        ([], "session_data"),
        ("text", "session_data"),
        (None, "session_data"),
        ({"blob": "x" * 17_000}, "session_data"),
        ({"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": {}}}}}}}}}, "session_data"),
    ],
)
async def test_session_data_that_is_no_small_object_is_refused(client: Client, session_data: Any, field: str) -> None:
    _, token = await activated(client)
    reply = await client.bearer(HEARTBEAT, token, {"session_data": session_data})
    assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
    assert field in reply["details"]


@pytest.mark.parametrize("session_data", [{"app_version": 2}, {"client_time": "yesterday"}, {"client_time": 5}])
async def test_session_data_may_use_our_fields_for_something_else(client: Client, session_data: Any) -> None:
    _, token = await activated(client)
    assert (await client.bearer(HEARTBEAT, token, {"session_data": session_data})).status == 200


async def test_without_a_token_or_with_an_api_key_it_is_refused(client: Client) -> None:
    for headers in (
        {},
        {"authorization": "Bearer x.y.z"},
        {"authorization": "Basic abc"},
        {"x_api_key": client.api_key},
    ):
        reply = await client.request("POST", HEARTBEAT, {}, **headers)
        assert (reply.status, reply["error_code"]) == (401, "INVALID_TOKEN")


@pytest.mark.parametrize("end", ["device", "own", "licence", "transfer"])
async def test_after_the_end_it_is_refused_and_brings_nothing_back(client: Client, end: str) -> None:
    license, token = await activated(client)
    path = f"/licenses/{license['license_id']}"
    if end == "device":
        done = await client.admin("POST", f"{path}/devices/deactivate", {"hardware_id": "pc-1"})
    elif end == "own":
        key = {"license_key": license["license_key"], "hardware_id": "pc-1"}
        done = await client.program("/api/v1/license/deactivate", key)
    elif end == "licence":
        done = await client.admin("DELETE", path)
    else:
        moved = {"from_hardware_id": "pc-1", "to_hardware_id": "pc-2"}
        done = await client.admin("POST", f"{path}/transfer", moved)
    assert done.status == 200
    before = await client.admin("GET", f"{path}/devices")
    reply = await client.bearer(HEARTBEAT, token, {})
    assert (reply.status, reply["error_code"]) == (401, "INVALID_TOKEN")
    assert (await client.admin("GET", f"{path}/devices")).body == before.body
    assert (await usage(client, license))["heartbeats"] == 0


async def test_an_expired_licence_is_told_so(client: Client, time_passes: Passing) -> None:
    license, token = await activated(client)
    reply = await client.admin("PATCH", f"/licenses/{license['license_id']}", {"expires_at": "2020-01-01T00:00:00Z"})
    assert reply.status == 200
    reply = await client.bearer(HEARTBEAT, token, {})
    assert (reply.status, reply["error_code"]) == (403, "LICENSE_EXPIRED")


async def test_an_expired_token_is_refused(client: Client, time_passes: Passing) -> None:
    _, token = await activated(client)
    time_passes.by(minutes=59)
    assert (await client.bearer(HEARTBEAT, token, {})).status == 200
    time_passes.by(minutes=1)
    reply = await client.bearer(HEARTBEAT, token, {})
    assert (reply.status, reply["error_code"]) == (401, "INVALID_TOKEN")
