"""Tokens: issued to active devices, rotated at each refresh, dead for good once their ground is gone."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.http.passing_time import Passing
from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def verify(client: Client, token: str) -> Reply:
    return await client.request("POST", "/api/v1/auth/verify", authorization=f"Bearer {token}")


async def refresh(client: Client, token: str) -> Reply:
    return await client.request("POST", "/api/v1/auth/refresh", {"refresh_token": token})


async def activated(client: Client, hardware_id: str = "pc-1", **fields: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a licence with an active device, and the device's tokens."""
    license = await client.new_license(**fields)
    assert (await client.activate(license, hardware_id)).status == 201
    tokens = await client.tokens(license, hardware_id)
    assert tokens.status == 200
    return license, tokens.body


def is_invalid(reply: Reply) -> bool:
    challenge = reply.headers.get("WWW-Authenticate")
    return (reply.status, reply["error_code"], challenge) == (401, "INVALID_TOKEN", 'Bearer error="invalid_token"')


def claims_of(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


class TestToken:
    async def test_the_answer_is_the_documents(self, client: Client) -> None:
        _, tokens = await activated(client)
        assert set(tokens) == {"access_token", "refresh_token", "token_type", "expires_in"}
        assert (tokens["token_type"], tokens["expires_in"]) == ("Bearer", 3600)

    async def test_an_access_token_is_refused_for_every_device_without_a_seat(self, client: Client) -> None:
        license = await client.new_license(max_devices=1)
        reply = await client.tokens(license, "pc-1")
        assert (reply.status, reply["error_code"]) == (403, "DEVICE_NOT_ACTIVATED")
        await client.activate(license, "pc-1")
        reply = await client.tokens(license, "pc-2")
        assert (reply.status, reply["error_code"]) == (403, "DEVICE_LIMIT_EXCEEDED")

    async def test_it_follows_the_licences_state(self, client: Client) -> None:
        license, _ = await activated(client)
        path = f"/licenses/{license['license_id']}"
        await client.admin("PATCH", path, {"expires_at": "2020-01-01T00:00:00Z"})
        reply = await client.tokens(license, "pc-1")
        assert (reply.status, reply["error_code"]) == (403, "LICENSE_EXPIRED")
        await client.admin("PATCH", path, {"is_active": False})
        reply = await client.tokens(license, "pc-1")
        assert (reply.status, reply["error_code"]) == (403, "LICENSE_INACTIVE")
        for nobody in (str(uuid4()), "x", "LIC-ABCDEFGHJKLM"):
            reply = await client.tokens({"license_id": nobody}, "pc-1")
            assert (reply.status, reply["error_code"]) == (404, "LICENSE_NOT_FOUND")

    @pytest.mark.parametrize("body", [{}, {"license_id": 5, "hardware_id": "pc"}, []])
    async def test_malformed_bodies(self, client: Client, body: Any) -> None:
        reply = await client.program("/api/v1/auth/token", body)
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")

    async def test_tokens_hold_no_secret_and_no_personal_data(self, client: Client) -> None:
        license, tokens = await activated(client, email="zoe@example.org", customer_id="zoe-inc")
        for name in ("access_token", "refresh_token"):
            text = json.dumps(claims_of(tokens[name]))
            for private in ("zoe", license["license_key"], license["license_key"][4:]):
                assert private not in text


class TestVerify:
    async def test_a_good_token(self, client: Client) -> None:
        license, tokens = await activated(client)
        reply = await verify(client, tokens["access_token"])
        assert reply.status == 200
        assert reply.body == {
            "valid": True,
            "license_id": license["license_id"],
            "hardware_id": "pc-1",
            "expires_at": reply["expires_at"],
        }
        left = datetime.fromisoformat(reply["expires_at"]) - datetime.now(UTC)
        assert timedelta(minutes=59) < left <= timedelta(hours=1)

    async def test_other_things_than_an_access_token(self, client: Client) -> None:
        _, tokens = await activated(client)
        offline = await client.bearer("/api/v1/license/offline-token", tokens["access_token"], {})
        header, _, signature = tokens["access_token"].split(".")
        forged_claims = {**claims_of(tokens["access_token"]), "hwid": "pc-9"}
        payload = base64.urlsafe_b64encode(json.dumps(forged_claims).encode()).decode().rstrip("=")
        unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').decode().rstrip("=")
        for token in (
            tokens["refresh_token"],
            offline["token"],
            f"{header}.{payload}.{signature}",
            f"{unsigned}.{payload}.",
            "abc",
            "a.b.c",
            "x" * 5000,
        ):
            assert is_invalid(await verify(client, token)), token[:40]

    async def test_no_token_at_all(self, client: Client) -> None:
        assert is_invalid(await client.request("POST", "/api/v1/auth/verify"))
        assert is_invalid(await client.request("POST", "/api/v1/auth/verify", authorization="Bearer "))

    async def test_the_scheme_is_read_without_case(self, client: Client) -> None:
        _, tokens = await activated(client)
        reply = await client.request(
            "POST", "/api/v1/auth/verify", {}, authorization=f"bearer {tokens['access_token']}"
        )
        assert reply.status == 200

    async def test_a_token_ends_after_an_hour(self, client: Client, time_passes: Passing) -> None:
        _, tokens = await activated(client)
        time_passes.by(seconds=3590)
        assert (await verify(client, tokens["access_token"])).status == 200
        time_passes.by(seconds=10)
        assert is_invalid(await verify(client, tokens["access_token"]))


class TestRefresh:
    async def test_it_answers_like_token_and_both_new_tokens_work(self, client: Client) -> None:
        _, tokens = await activated(client)
        reply = await refresh(client, tokens["refresh_token"])
        assert reply.status == 200
        assert set(reply.body) == set(tokens)
        assert reply["refresh_token"] != tokens["refresh_token"]
        assert (await verify(client, reply["access_token"])).status == 200
        assert (await refresh(client, reply["refresh_token"])).status == 200

    async def test_one_used_twice_revokes_its_whole_family_and_no_other(self, client: Client) -> None:
        license, tokens = await activated(client)
        other = await client.tokens(license, "pc-1")
        second = await refresh(client, tokens["refresh_token"])
        third = await refresh(client, second["refresh_token"])
        assert third.status == 200
        assert is_invalid(await refresh(client, tokens["refresh_token"]))
        assert is_invalid(await refresh(client, third["refresh_token"]))
        assert (await refresh(client, other["refresh_token"])).status == 200

    async def test_of_parallel_uses_one_at_most_succeeds_and_the_family_is_dead(self, client: Client) -> None:
        _, tokens = await activated(client)
        replies = await asyncio.gather(*(refresh(client, tokens["refresh_token"]) for _ in range(10)))
        good = [reply for reply in replies if reply.status == 200]
        assert len(good) == 1
        assert all(is_invalid(reply) for reply in replies if reply is not good[0])
        assert is_invalid(await refresh(client, good[0]["refresh_token"]))

    async def test_other_things_than_a_refresh_token(self, client: Client) -> None:
        _, tokens = await activated(client)
        for token in (tokens["access_token"], "abc", "a.b.c"):
            assert is_invalid(await refresh(client, token))

    @pytest.mark.parametrize("body", [{}, {"refresh_token": ""}, {"refresh_token": 5}, {"refresh_token": "x" * 20_000}])
    async def test_malformed_bodies(self, client: Client, body: Any) -> None:
        reply = await client.request("POST", "/api/v1/auth/refresh", body)
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")

    async def test_it_lasts_thirty_days_from_each_use(self, client: Client, time_passes: Passing) -> None:
        _, tokens = await activated(client)
        time_passes.by(days=29)
        second = await refresh(client, tokens["refresh_token"])
        assert second.status == 200
        time_passes.by(days=29)
        third = await refresh(client, second["refresh_token"])
        assert third.status == 200
        time_passes.by(days=30, seconds=1)
        assert is_invalid(await refresh(client, third["refresh_token"]))

    async def test_an_expired_licence_is_told_so(self, client: Client) -> None:
        license, tokens = await activated(client)
        path = f"/licenses/{license['license_id']}"
        await client.admin("PATCH", path, {"expires_at": "2020-01-01T00:00:00Z"})
        reply = await refresh(client, tokens["refresh_token"])
        assert (reply.status, reply["error_code"]) == (403, "LICENSE_EXPIRED")
        await client.admin("PATCH", path, {"expires_at": None})
        assert (await refresh(client, tokens["refresh_token"])).status == 200


async def end(client: Client, license: dict[str, Any], how: str) -> None:
    """End the activation of pc-1."""
    path = f"/licenses/{license['license_id']}"
    if how == "admin":
        done = await client.admin("POST", f"{path}/devices/deactivate", {"hardware_id": "pc-1"})
    elif how == "program":
        body = {"license_key": license["license_key"], "hardware_id": "pc-1"}
        done = await client.program("/api/v1/license/deactivate", body)
    elif how == "transfer":
        body = {"from_hardware_id": "pc-1", "to_hardware_id": "pc-2"}
        done = await client.admin("POST", f"{path}/transfer", body)
    elif how == "delete":
        done = await client.admin("DELETE", path)
    else:
        done = await client.admin("PATCH", path, {"is_active": False})
    assert done.status == 200


async def revive(client: Client, license: dict[str, Any], how: str) -> None:
    """Make the device and its licence good again."""
    path = f"/licenses/{license['license_id']}"
    if how in {"delete", "patch"}:
        done = await client.admin("PATCH", path, {"is_active": True})
        assert done.status == 200
    elif how == "transfer":
        body = {"from_hardware_id": "pc-2", "to_hardware_id": "pc-1"}
        assert (await client.admin("POST", f"{path}/transfer", body)).status == 200
    else:
        assert (await client.activate(license, "pc-1")).status == 201


class TestEnd:
    @pytest.mark.parametrize("how", ["admin", "program", "transfer", "delete", "patch"])
    async def test_what_was_ended_stays_dead_when_the_device_is_good_again(self, client: Client, how: str) -> None:
        license, tokens = await activated(client)
        assert (await verify(client, tokens["access_token"])).status == 200
        await end(client, license, how)
        assert is_invalid(await verify(client, tokens["access_token"]))
        assert is_invalid(await refresh(client, tokens["refresh_token"]))
        await revive(client, license, how)
        assert (await client.validate(license, "pc-1")).status == 200
        assert is_invalid(await verify(client, tokens["access_token"]))
        assert is_invalid(await refresh(client, tokens["refresh_token"]))
        new = await client.tokens(license, "pc-1")
        assert (await verify(client, new["access_token"])).status == 200
        assert (await refresh(client, new["refresh_token"])).status == 200

    async def test_another_devices_tokens_live_on(self, client: Client) -> None:
        license, _ = await activated(client)
        await client.activate(license, "pc-3")
        other = await client.tokens(license, "pc-3")
        await end(client, license, "admin")
        assert (await verify(client, other["access_token"])).status == 200


async def test_the_key_set_is_public_on_every_service_and_holds_no_private_part(client: Client) -> None:
    reply = await client.request("GET", "/.well-known/jwks.json")
    assert reply.status == 200
    for key in reply["keys"]:
        assert (key["kty"], key["crv"], key["alg"]) == ("OKP", "Ed25519", "EdDSA")
        assert {"kid", "x"} <= set(key)
        assert "d" not in key
