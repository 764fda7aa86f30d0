"""Offline tokens: bound to licence and device, never past the licence's end, checked with or without the service."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from nacl.signing import VerifyKey

from tests.http.passing_time import Passing
from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

ISSUE = "/api/v1/license/offline-token"
CHECK = "/api/v1/license/validate-offline"


async def activated(client: Client, **fields: Any) -> tuple[dict[str, Any], str]:
    license = await client.new_license(**fields)
    assert (await client.activate(license, "pc-1")).status == 201
    return license, (await client.tokens(license, "pc-1"))["access_token"]


async def check(client: Client, token: str, **more: Any) -> Reply:
    return await client.request("POST", CHECK, {"token": token, **more})


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def left(reply: Reply) -> timedelta:
    return datetime.fromisoformat(reply["expires_at"]) - datetime.now(UTC)


async def test_a_token_is_issued_and_checked_without_an_api_key(client: Client) -> None:
    license, access = await activated(client, features=["x", "y"])
    issued = await client.bearer(ISSUE, access, {"duration_hours": 48})
    assert issued.status == 200
    assert set(issued.body) == {"token", "expires_at"}
    assert timedelta(hours=47, minutes=59) < left(issued) <= timedelta(hours=48)
    reply = await check(client, issued["token"])
    assert reply.status == 200
    assert reply.body == {
        "valid": True,
        "license_id": license["license_id"],
        "hardware_id": "pc-1",
        "features": ["x", "y"],
        "expires_at": reply["expires_at"],
        "revoked": False,
    }
    checked, said = (datetime.fromisoformat(one["expires_at"]) for one in (reply, issued))
    assert abs(checked - said) < timedelta(seconds=2)


@pytest.mark.parametrize("body", [None, {}])
async def test_a_day_is_the_default(client: Client, body: Any) -> None:
    _, access = await activated(client)
    issued = await client.bearer(ISSUE, access, body)
    assert timedelta(hours=23, minutes=59) < left(issued) <= timedelta(hours=24)


@pytest.mark.parametrize("hours", [1, 720])
async def test_the_bounds_are_allowed(client: Client, hours: int) -> None:
    _, access = await activated(client)
    issued = await client.bearer(ISSUE, access, {"duration_hours": hours})
    assert issued.status == 200
    assert (await check(client, issued["token"])).status == 200


@pytest.mark.parametrize("hours", [0, -1, 721, 10**20, 1.5, "24", None, True])
async def test_other_durations_are_refused(client: Client, hours: Any) -> None:
    _, access = await activated(client)
    reply = await client.bearer(ISSUE, access, {"duration_hours": hours})
    assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")


async def test_it_never_lasts_past_the_licence(client: Client) -> None:
    license, access = await activated(client, expires_in_days=2)
    issued = await client.bearer(ISSUE, access, {"duration_hours": 720})
    assert datetime.fromisoformat(issued["expires_at"]) <= datetime.fromisoformat(license["expires_at"])
    assert left(issued) > timedelta(days=1, hours=23)


async def test_an_expired_licence_gets_none(client: Client) -> None:
    license, access = await activated(client)
    await client.admin("PATCH", f"/licenses/{license['license_id']}", {"expires_at": "2020-01-01T00:00:00Z"})
    reply = await client.bearer(ISSUE, access, {})
    assert (reply.status, reply["error_code"]) == (403, "LICENSE_EXPIRED")


async def test_it_ends_when_it_says(client: Client, time_passes: Passing) -> None:
    _, access = await activated(client)
    issued = await client.bearer(ISSUE, access, {"duration_hours": 2})
    time_passes.by(hours=1, minutes=59)
    assert (await check(client, issued["token"])).status == 200
    time_passes.by(minutes=1, seconds=1)
    reply = await check(client, issued["token"])
    assert (reply.status, reply["error_code"]) == (401, "INVALID_TOKEN")


async def test_it_can_be_matched_with_a_device(client: Client) -> None:
    _, access = await activated(client)
    token = (await client.bearer(ISSUE, access, {}))["token"]
    assert (await check(client, token, hardware_id="pc-1"))["valid"] is True
    reply = await check(client, token, hardware_id="pc-2")
    assert (reply.status, reply["error_code"]) == (401, "INVALID_TOKEN")


@pytest.mark.parametrize("how", ["device", "licence", "transfer"])
async def test_it_says_that_it_was_revoked_since_for_good(client: Client, how: str) -> None:
    license, access = await activated(client)
    token = (await client.bearer(ISSUE, access, {}))["token"]
    path = f"/licenses/{license['license_id']}"
    if how == "device":
        await client.admin("POST", f"{path}/devices/deactivate", {"hardware_id": "pc-1"})
    elif how == "licence":
        await client.admin("DELETE", path)
    else:
        await client.admin("POST", f"{path}/transfer", {"from_hardware_id": "pc-1", "to_hardware_id": "pc-2"})
    reply = await check(client, token)
    assert (reply.status, reply["valid"], reply["revoked"]) == (200, False, True)
    if how == "device":
        await client.activate(license, "pc-1")
    elif how == "licence":
        await client.admin("PATCH", path, {"is_active": True})
    else:
        await client.admin("POST", f"{path}/transfer", {"from_hardware_id": "pc-2", "to_hardware_id": "pc-1"})
    assert (await client.validate(license, "pc-1")).status == 200
    assert (await check(client, token))["revoked"] is True


async def test_other_tokens_are_none(client: Client) -> None:
    license, access = await activated(client)
    token = (await client.bearer(ISSUE, access, {}))["token"]
    tokens = await client.tokens(license, "pc-1")
    altered = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    for other in (access, tokens["refresh_token"], altered, "a.b.c", "text"):
        reply = await check(client, other)
        assert (reply.status, reply["error_code"]) == (401, "INVALID_TOKEN")


@pytest.mark.parametrize("body", [{}, {"token": 5}, {"token": ""}, {"token": None}, []])
async def test_malformed_bodies(client: Client, body: Any) -> None:
    reply = await client.request("POST", CHECK, body)
    assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")


async def test_the_public_keys_alone_verify_it(client: Client) -> None:
    license, access = await activated(client, features=["x"])
    token = (await client.bearer(ISSUE, access, {}))["token"]
    header, payload, signature = token.split(".")
    kid = json.loads(from_base64url(header))["kid"]
    keys = {key["kid"]: key for key in (await client.request("GET", "/.well-known/jwks.json"))["keys"]}
    VerifyKey(from_base64url(keys[kid]["x"])).verify(f"{header}.{payload}".encode(), from_base64url(signature))
    claims = json.loads(from_base64url(payload))
    assert (claims["sub"], claims["hwid"], claims["features"]) == (license["license_id"], "pc-1", ["x"])


async def test_it_holds_as_many_features_as_a_licence_may_have(client: Client) -> None:
    features = [f"feature-{n:04}-{'x' * 20}" for n in range(200)]
    _, access = await activated(client, features=features)
    issued = await client.bearer(ISSUE, access, {})
    assert issued.status == 200
    assert (await check(client, issued["token"]))["features"] == features
