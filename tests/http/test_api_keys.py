"""API keys: made by the admin secret, good for what they were made for and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = "/api/v1/auth/api-key"
NEVER = {"license_key": "LIC-AAAAAAAAAAAA", "hardware_id": "pc"}


async def keys(client: Client) -> dict[str, dict[str, Any]]:
    reply = await client.request("GET", f"{PATH}s", x_admin_secret=client.secrets.admin_secret)
    assert reply.status == 200
    return {key["key_id"]: key for key in reply["api_keys"]}


async def revoke(client: Client, key_id: str) -> Reply:
    return await client.request("DELETE", f"{PATH}s/{key_id}", x_admin_secret=client.secrets.admin_secret)


async def code(client: Client, key: str, path: str, body: Any = NEVER) -> str:
    """Return the error code, or 'allowed' where the request came through to the handler."""
    reply = await client.request("POST" if body is not None else "GET", path, body, x_api_key=key)
    known = reply.status < 300 or reply["error_code"] in {"LICENSE_NOT_FOUND", "DEVICE_NOT_ACTIVATED"}
    return "allowed" if known else str(reply["error_code"])


async def test_a_new_key_is_shown_once(client: Client) -> None:
    body = {"client_name": "Desktop App", "allowed_endpoints": ["/api/v1/license/validate"]}
    reply = await client.request("POST", PATH, body, x_admin_secret=client.secrets.admin_secret)
    assert reply.status == 201
    assert {"api_key", "key_id", "client_name", "allowed_endpoints", "created_at"} <= set(reply.body)
    assert reply["api_key"].startswith("sk_")
    assert (reply["client_name"], reply["allowed_endpoints"]) == ("Desktop App", ["/api/v1/license/validate"])
    assert (reply["requests_per_minute"], reply["requests_per_hour"]) == (60, 1000)
    listed = (await keys(client))[reply["key_id"]]
    assert "api_key" not in listed
    assert reply["api_key"] not in str(await keys(client))
    assert listed["revoked_at"] is None


async def test_left_out_endpoints_are_the_licence_routes_and_token(client: Client) -> None:
    new = await client.new_api_key()
    assert new["allowed_endpoints"] == ["/api/v1/license/*", "/api/v1/auth/token"]
    key = new["api_key"]
    for path in ("validate", "activate", "deactivate"):
        assert await code(client, key, f"/api/v1/license/{path}") == "allowed"
    token = {"license_id": str(uuid4()), "hardware_id": "pc"}
    assert await code(client, key, "/api/v1/auth/token", token) == "allowed"


@pytest.mark.parametrize(
    "patterns, validate, activate, token",
    [
        ([], False, False, False),
        (["/api/v1/license/validate"], True, False, False),
        (["/api/v1/license/*"], True, True, False),
        (["/api/v1/license/*ate"], True, True, False),
        (["/api/v1/license/v*"], True, False, False),
        (["/api/v1/*"], True, True, True),
        (["/*"], True, True, True),
        (["/api/v1/auth/token", "/api/v1/license/activate"], False, True, True),
        (["/api/v1/license"], False, False, False),
        (["/api/v1/license/"], False, False, False),
        (["/API/V1/LICENSE/*"], False, False, False),
    ],
)
async def test_endpoints_are_paths_or_globs(
    client: Client, patterns: list[str], *, validate: bool, activate: bool, token: bool
) -> None:
    key = (await client.new_api_key(allowed_endpoints=patterns))["api_key"]
    seen = [
        await code(client, key, "/api/v1/license/validate"),
        await code(client, key, "/api/v1/license/activate"),
        await code(client, key, "/api/v1/auth/token", {"license_id": str(uuid4()), "hardware_id": "pc"}),
    ]
    assert seen == ["allowed" if wanted else "ENDPOINT_NOT_ALLOWED" for wanted in (validate, activate, token)]


async def test_a_route_is_named_with_its_parameters(client: Client) -> None:
    """Permission is by the route that a path leads to, never by the path as it was sent."""
    license = await client.new_license()
    path = f"/api/v1/analytics/licenses/{license['license_id']}/patterns"
    for pattern, status in (
        ("/api/v1/analytics/licenses/{license_id}/patterns", 200),
        (path, 403),
        ("*/patterns", 200),
    ):
        key = (await client.new_api_key(allowed_endpoints=[pattern]))["api_key"]
        assert (await client.request("GET", path, x_api_key=key)).status == status, pattern


async def test_a_key_that_may_not_is_refused_before_its_body_is_read(client: Client) -> None:
    key = (await client.new_api_key(allowed_endpoints=[]))["api_key"]
    reply = await client.request("POST", "/api/v1/license/validate", b"no json", x_api_key=key)
    assert (reply.status, reply["error_code"]) == (403, "ENDPOINT_NOT_ALLOWED")


async def test_a_revoked_key_is_refused_at_once_on_every_route(client: Client) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    new = await client.new_api_key()
    key = new["api_key"]
    assert (await client.validate(license, "pc", x_api_key=key)).status == 200
    first = await revoke(client, new["key_id"])
    assert first.status == 200
    reply = await client.validate(license, "pc", x_api_key=key)
    assert (reply.status, reply["error_code"]) == (401, "UNAUTHORIZED")
    assert await code(client, key, "/api/v1/license/activate") == "UNAUTHORIZED"
    assert (await keys(client))[new["key_id"]]["revoked_at"] is not None
    again = await revoke(client, new["key_id"])
    assert (again.status, again.body) == (200, first.body)


async def test_revoking_what_is_not_there(client: Client) -> None:
    for key_id in (str(uuid4()), "x", "%2e%2e"):
        reply = await revoke(client, key_id)
        assert (reply.status, reply["error_code"]) == (404, "NOT_FOUND")


async def test_a_key_may_end_by_itself(client: Client) -> None:
    soon = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    good = await client.new_api_key(expires_at=soon)
    assert good["expires_at"].endswith("Z")
    assert await code(client, good["api_key"], "/api/v1/license/validate") == "allowed"
    ended = await client.new_api_key(expires_at="2020-01-01T00:00:00Z")
    if ended.status == 201:
        assert await code(client, ended["api_key"], "/api/v1/license/validate") == "UNAUTHORIZED"
    else:
        assert ended["error_code"] == "VALIDATION_ERROR"


async def test_a_key_bound_to_a_product_serves_that_product_only(client: Client) -> None:
    key = (await client.new_api_key(product="Editor"))["api_key"]
    editor, other = await client.new_license(product="Editor"), await client.new_license(product="Player")
    plain = await client.new_license()
    assert (await client.activate(editor, "pc", x_api_key=key)).status == 201
    assert (await client.validate(editor, "pc", x_api_key=key)).status == 200
    for license in (other, plain):
        await client.activate(license, "pc")
        body = {"license_id": license["license_id"], "hardware_id": "pc"}
        for reply in (
            await client.validate(license, "pc", x_api_key=key),
            await client.activate(license, "pc-2", x_api_key=key),
            await client.program("/api/v1/auth/token", body, x_api_key=key),
            await client.program(
                "/api/v1/license/deactivate",
                {"license_key": license["license_key"], "hardware_id": "pc"},
                x_api_key=key,
            ),
        ):
            assert (reply.status, reply["error_code"]) == (403, "PRODUCT_MISMATCH")


async def test_a_product_bound_key_is_not_widened_by_the_request(client: Client) -> None:
    key = (await client.new_api_key(product="Editor"))["api_key"]
    license = await client.new_license(product="Player")
    await client.activate(license, "pc")
    reply = await client.validate(license, "pc", x_api_key=key, fields={"product": "Player"})
    assert reply["error_code"] == "PRODUCT_MISMATCH"


@pytest.mark.parametrize(
    "given",
    ["", "x", "sk_", "sk_0000000000000000000000000000000000000000", "sk_" + "é" * 20, "sk_" + "x" * 5000],
)
async def test_what_is_no_key_is_unauthorized(client: Client, given: str) -> None:
    for path in ("/api/v1/license/validate", "/api/v1/license/activate", "/api/v1/auth/token"):
        reply = await client.request("POST", path, NEVER, x_api_key=given)
        assert (reply.status, reply["error_code"]) == (401, "UNAUTHORIZED")


async def test_without_a_key_too(client: Client) -> None:
    reply = await client.request("POST", "/api/v1/license/validate", NEVER)
    assert (reply.status, reply["error_code"]) == (401, "UNAUTHORIZED")
    assert "X-API-Key" in reply["error"]


async def test_other_credentials_do_not_stand_in(client: Client) -> None:
    secrets = client.secrets
    for headers in (
        {"x_admin_api_key": secrets.admin_api_key},
        {"x_api_key": secrets.admin_api_key},
        {"x_api_key": secrets.client_token},
        {"authorization": f"Bearer {client.api_key}"},
    ):
        reply = await client.request("POST", "/api/v1/license/validate", NEVER, **headers)
        assert reply.status == 401


@pytest.mark.parametrize("given", [None, "", "wrong", "adm_0123456789abcdefghijklmnopqrstuv"])
async def test_all_three_routes_need_the_admin_secret(client: Client, given: str | None) -> None:
    for method, path, body in (
        ("POST", PATH, {"client_name": "x"}),
        ("GET", f"{PATH}s", None),
        ("DELETE", f"{PATH}s/{uuid4()}", None),
    ):
        reply = await client.request(method, path, body, x_admin_secret=given)
        assert (reply.status, reply["error_code"]) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(
    "change, field",
    [
        ({"client_name": None}, "client_name"),
        ({"client_name": ""}, "client_name"),
        ({"client_name": 5}, "client_name"),
        ({"allowed_endpoints": "/api/v1/*"}, "allowed_endpoints"),
        ({"allowed_endpoints": [5]}, "allowed_endpoints"),
        ({"allowed_endpoints": None}, "allowed_endpoints"),
        ({"requests_per_minute": 0}, "requests_per_minute"),
        ({"requests_per_minute": -5}, "requests_per_minute"),
        ({"requests_per_hour": "many"}, "requests_per_hour"),
        ({"expires_at": "soon"}, "expires_at"),
        ({"expires_at": "2030-01-01T00:00:00"}, "expires_at"),
    ],
)
async def test_a_malformed_field_is_named(client: Client, change: dict[str, Any], field: str) -> None:
    reply = await client.new_api_key(**change)
    assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
    assert any(name.startswith(field) for name in reply["details"])
