"""Rate limits as a caller sees them: headers on every answer, 429 with Retry-After, buckets that can't be dodged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.http.passing_time import Passing
from tests.support.client import Client, Reply
from tests.support.cluster import Cluster
from tests.support.patience import running_patiently
from tests.support.service import settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")

NEVER = {"license_key": "LIC-AAAAAAAAAAAA", "hardware_id": "pc"}
VALIDATE = "/api/v1/license/validate"


def left(reply: Reply) -> tuple[int, int]:
    return int(reply.headers["X-RateLimit-Limit"]), int(reply.headers["X-RateLimit-Remaining"])


def is_limited(reply: Reply, within: int = 60) -> bool:
    """Whether it is a 429 that says when to come again, in header and body alike."""
    return (
        (reply.status, reply["error_code"]) == (429, "RATE_LIMIT_EXCEEDED")
        and reply.headers["Retry-After"] == str(reply["details"]["retry_after"])
        and 1 <= int(reply.headers["Retry-After"]) <= within
        and left(reply)[1] == 0
    )


async def activated(client: Client) -> tuple[dict[str, Any], dict[str, Any]]:
    license = await client.new_license()
    await client.activate(license, "pc")
    return license, (await client.tokens(license, "pc")).body


class TestByApiKey:
    async def test_sixty_a_minute_by_default(self, client: Client) -> None:
        license, _ = await activated(client)
        key = (await client.new_api_key(requests_per_minute=60, requests_per_hour=1000))["api_key"]
        seen = [left(await client.validate(license, "pc", x_api_key=key)) for _ in range(60)]
        assert seen == [(60, n) for n in range(59, -1, -1)]
        assert is_limited(await client.validate(license, "pc", x_api_key=key))
        reply = await client.activate(license, "pc-2", x_api_key=key)
        assert is_limited(reply)
        assert (await client.validate(license, "pc")).status == 200

    async def test_the_minute_begins_anew(self, client: Client, time_passes: Passing) -> None:
        license, _ = await activated(client)
        key = (await client.new_api_key(requests_per_minute=2))["api_key"]
        for _ in range(2):
            assert (await client.validate(license, "pc", x_api_key=key)).status == 200
        limited = await client.validate(license, "pc", x_api_key=key)
        time_passes.by(seconds=int(limited.headers["Retry-After"]))
        assert left(await client.validate(license, "pc", x_api_key=key)) == (2, 1)

    async def test_the_hour_counts_too(self, client: Client, time_passes: Passing) -> None:
        license, _ = await activated(client)
        key = (await client.new_api_key(requests_per_minute=3, requests_per_hour=4))["api_key"]
        for _ in range(3):
            assert (await client.validate(license, "pc", x_api_key=key)).status == 200
        time_passes.by(seconds=61)
        assert left(await client.validate(license, "pc", x_api_key=key)) == (3, 0)
        limited = await client.validate(license, "pc", x_api_key=key)
        assert is_limited(limited, within=3600)
        assert int(limited.headers["Retry-After"]) > 3000

    async def test_null_is_no_limit(self, client: Client) -> None:
        license, _ = await activated(client)
        new = await client.new_api_key(requests_per_minute=None, requests_per_hour=None)
        assert (new["requests_per_minute"], new["requests_per_hour"]) == (None, None)
        for _ in range(80):
            reply = await client.validate(license, "pc", x_api_key=new["api_key"])
            assert reply.status == 200
        assert left(reply)[1] > 1000

    async def test_refusals_count_and_carry_the_headers(self, client: Client) -> None:
        key = (await client.new_api_key(requests_per_minute=10))["api_key"]
        license = await client.new_license()
        replies = [
            await client.validate(license, "pc", x_api_key=key),
            await client.request("POST", VALIDATE, b"{", x_api_key=key),
            await client.request("POST", VALIDATE, {}, x_api_key=key),
            await client.validate(NEVER, "pc", x_api_key=key),
        ]
        assert [reply.status for reply in replies] == [403, 400, 400, 404]
        assert [left(reply) for reply in replies] == [(10, 9), (10, 8), (10, 7), (10, 6)]


async def test_the_headers_are_on_every_answer(client: Client) -> None:
    license, tokens = await activated(client)
    admin = {"x_admin_api_key": client.secrets.admin_api_key}
    requests: list[tuple[str, str, Any, dict[str, str]]] = [
        ("POST", VALIDATE, NEVER, {}),
        ("POST", VALIDATE, NEVER, {"x_api_key": "sk_wrong"}),
        ("POST", "/api/v1/auth/refresh", {"refresh_token": "x"}, {}),
        ("POST", "/api/v1/auth/verify", None, {"authorization": f"Bearer {tokens['access_token']}"}),
        ("POST", "/api/v1/license/validate-offline", {"token": "x"}, {}),
        ("GET", f"/api/v1/admin/licenses/{license['license_id']}", None, admin),
        ("POST", "/api/v1/auth/api-key", {}, {}),
        ("GET", "/licenses-api/v1/public-key", None, {}),
        ("GET", "/licenses-api/v1/public-key", None, {"x_client_token": client.secrets.client_token}),
        ("GET", "/.well-known/jwks.json", None, {}),
        ("GET", "/nothing", None, {}),
        ("PUT", VALIDATE, None, {}),
    ]
    for method, path, body, headers in requests:
        limit, remaining = left(await client.request(method, path, body, **headers))
        assert 0 <= remaining <= limit


class TestByLicence:
    async def test_the_token_routes_of_a_licence_share_its_count(self, client: Client) -> None:
        _, tokens = await activated(client)
        bearer = {"authorization": f"Bearer {tokens['access_token']}"}
        offline = (await client.request("POST", "/api/v1/license/offline-token", {}, **bearer))["token"]
        replies = [
            await client.request("POST", "/api/v1/auth/verify", None, **bearer),
            await client.request("POST", "/api/v1/license/heartbeat", {}, **bearer),
            await client.request("POST", "/api/v1/license/validate-offline", {"token": offline}),
            await client.request("POST", "/api/v1/auth/refresh", {"refresh_token": tokens["refresh_token"]}),
        ]
        assert [left(reply) for reply in replies] == [(60, 58), (60, 57), (60, 56), (60, 55)]
        for _ in range(55):
            assert (await client.request("POST", "/api/v1/license/heartbeat", {}, **bearer)).status == 200
        assert is_limited(await client.request("POST", "/api/v1/license/heartbeat", {}, **bearer))
        assert is_limited(await client.request("POST", "/api/v1/auth/verify", None, **bearer))
        other = client.address
        client.address = "198.51.100.200"
        assert is_limited(await client.request("POST", "/api/v1/auth/verify", None, **bearer))
        client.address = other
        _, others = await activated(client)
        assert (await client.bearer("/api/v1/license/heartbeat", others["access_token"], {})).status == 200


class TestByAddress:
    @pytest.mark.parametrize(
        "path, body",
        [
            ("/api/v1/auth/refresh", {"refresh_token": "a.b.c"}),
            ("/api/v1/license/validate-offline", {"token": "a.b.c"}),
        ],
    )
    async def test_bad_tokens_count_by_address(self, client: Client, path: str, body: Any) -> None:
        replies = [await client.request("POST", path, body) for _ in range(61)]
        assert [reply.status for reply in replies] == [401] * 60 + [429]
        assert is_limited(replies[-1])
        client.address = "198.51.100.7"
        assert (await client.request("POST", path, body)).status == 401

    async def test_the_second_dialect_counts_programs_by_address_and_not_administrators(self, client: Client) -> None:
        for _ in range(60):
            reply = await client.b_client("GET", "/public-key")
            assert reply.status == 200
        assert left(reply) == (60, 0)
        limited = await client.b_client("GET", "/public-key")
        assert limited.status == 429
        assert set(limited.body) == {"detail"}
        assert 1 <= int(limited.headers["Retry-After"]) <= 60
        for _ in range(70):
            assert (await client.b_admin("GET", "/licenses?per_page=1")).status == 200

    async def test_the_admin_api_has_no_limit(self, client: Client) -> None:
        for _ in range(70):
            assert (await client.admin("GET", "/licenses?per_page=1")).status == 200

    async def test_one_network_is_one_ipv6_caller(self, client: Client) -> None:
        statuses = []
        for number in range(61):
            client.address = f"2001:db8:77:1::{number:x}"
            statuses.append((await client.request("POST", "/api/v1/auth/refresh", {"refresh_token": "a.b.c"})).status)
        assert statuses == [401] * 60 + [429]


class TestMisses:
    async def test_after_twenty_unknown_keys_an_address_gets_429_for_misses_only(
        self, client: Client, time_passes: Passing
    ) -> None:
        license, _ = await activated(client)
        replies = [await client.validate({"license_key": f"LIC-{n:012}"}, "pc") for n in range(22)]
        assert [reply.status for reply in replies] == [404] * 20 + [429] * 2
        assert replies[-1]["error_code"] == "RATE_LIMIT_EXCEEDED"
        assert 500 < int(replies[-1].headers["Retry-After"]) <= 600
        assert (await client.validate(license, "pc")).status == 200
        assert (await client.activate({"license_key": "LIC-AAAAAAAAAAAA"}, "pc")).status == 429
        time_passes.by(minutes=10, seconds=1)
        assert (await client.validate(NEVER, "pc")).status == 404

    async def test_a_new_api_key_does_not_help_and_a_new_address_does(self, client: Client) -> None:
        for _ in range(20):
            await client.validate(NEVER, "pc")
        client.api_key = (await client.new_api_key())["api_key"]
        assert (await client.validate(NEVER, "pc")).status == 429
        client.address = "198.51.100.9"
        assert (await client.validate(NEVER, "pc")).status == 404

    async def test_activate_and_deactivate_count_alike(self, client: Client) -> None:
        statuses = []
        for number in range(21):
            path = "/api/v1/license/activate" if number % 2 else "/api/v1/license/deactivate"
            statuses.append((await client.program(path, NEVER)).status)
        assert statuses == [404] * 20 + [429]

    async def test_wrong_e_mails_are_misses_in_the_second_dialect(self, client: Client) -> None:
        license = await client.new_license(email="zoe@example.org")
        body = {"license_key": license["license_key"], "device_hash": "d", "device_name": "n"}
        statuses = []
        for number in range(21):
            reply = await client.b_client("POST", "/activate", {**body, "email": f"guess{number}@example.org"})
            statuses.append(reply.status)
        assert statuses == [404] * 20 + [429]
        assert (await client.b_client("POST", "/activate", {**body, "email": "zoe@example.org"})).status == 200


async def test_from_an_untrusted_peer_a_forged_forwarded_for_opens_no_fresh_bucket(
    cluster: Cluster, tmp_path: Path
) -> None:
    database = cluster.new_database()
    async with running_patiently(settings_for(tmp_path, TRUSTED_PROXIES="192.0.2.0/24"), database) as (_, client):
        statuses = []
        for number in range(61):
            client.address = f"203.0.113.{number}"
            statuses.append((await client.request("POST", "/api/v1/auth/refresh", {"refresh_token": "a.b.c"})).status)
        assert statuses == [401] * 60 + [429]
        misses = []
        for number in range(21):
            client.address = f"203.0.113.{number}, 198.51.100.{number}"
            misses.append((await client.validate(NEVER, "pc")).status)
        assert misses == [404] * 20 + [429]
    cluster.drop(database)


async def test_behind_a_trusted_proxy_only_the_last_untrusted_address_counts(client: Client) -> None:
    mine = client.address
    statuses = []
    for number in range(61):
        client.address = f"203.0.113.{number}, {mine}"
        statuses.append((await client.request("POST", "/api/v1/auth/refresh", {"refresh_token": "a.b.c"})).status)
    assert statuses == [401] * 60 + [429]
