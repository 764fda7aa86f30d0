"""The analytics service over HTTP: who may ask, what is refused, and that real use shows in the answers."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio

from api.services import Services
from tests.support.client import Client, Reply, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

ANALYTICS = "/api/v1/analytics"
NOBODYS = "00000000-0000-4000-8000-000000000000"
PATHS = [f"{ANALYTICS}/licenses/{NOBODYS}/patterns", f"{ANALYTICS}/reports/usage", f"{ANALYTICS}/dashboard"]


class Analyst:
    """Asks with an API key that was granted analytics, until the answer reflects all that was done before."""

    def __init__(self, client: Client, api_key: str) -> None:
        self.client = client
        self.api_key = api_key

    async def get(self, path: str) -> Reply:
        async def caught_up() -> Reply | None:
            reply = await self.client.request("GET", ANALYTICS + path, x_api_key=self.api_key)
            return None if reply.status == 200 and reply["as_of"]["lag_seconds"] else reply

        reply: Reply = await eventually(caught_up)
        return reply

    async def patterns(self, license: dict[str, Any], query: str = "") -> Reply:
        return await self.get(f"/licenses/{license['license_id']}/patterns{query}")


async def granted(client: Client, **fields: Any) -> Analyst:
    reply = await client.new_api_key(allowed_endpoints=[f"{ANALYTICS}/*"], **fields)
    return Analyst(client, reply["api_key"])


@pytest_asyncio.fixture(loop_scope="module")
async def analyst(client: Client) -> Analyst:
    return await granted(client)


@pytest.fixture
def product() -> str:
    """A product of this test alone, since all tests of the file share one service."""
    return f"product {uuid4()}"


async def use(client: Client, license: dict[str, Any]) -> None:
    """One device activates, validates twice and sends a heartbeat; another is refused: four rows in the usage log."""
    await client.activate(license, "pc-1")
    for version in ("1.0", "2.0"):
        assert (await client.validate(license, "pc-1", fields={"app_version": version})).status == 200
    assert (await client.validate(license, "stranger")).status == 403
    token = (await client.tokens(license, "pc-1"))["access_token"]
    assert (await client.bearer("/api/v1/license/heartbeat", token)).status == 200

    async def stored() -> bool:
        # A slow database gets the rows after the answers, and views follow in their own time.
        counted = (await client.admin("GET", f"/licenses/{license['license_id']}/usage")).body
        return bool(counted["validations"] + counted["failed_validations"] + counted["heartbeats"] == 4)

    await eventually(stored)


@pytest.mark.parametrize("path", PATHS)
async def test_an_api_key_is_needed(client: Client, path: str) -> None:
    for key in (None, "sk_wrong"):
        reply = await client.request("GET", path, x_api_key=key)
        assert (reply.status, reply["error_code"]) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize("path", PATHS)
async def test_a_key_that_ships_in_programs_may_not_read_analytics(client: Client, path: str) -> None:
    reply = await client.request("GET", path, x_api_key=client.api_key)
    assert (reply.status, reply["error_code"]) == (403, "ENDPOINT_NOT_ALLOWED")


async def test_a_grant_may_name_one_path(client: Client) -> None:
    reply = await client.new_api_key(allowed_endpoints=[f"{ANALYTICS}/dashboard"])
    analyst = Analyst(client, reply["api_key"])
    assert (await analyst.get("/dashboard")).status == 200
    assert (await analyst.get("/reports/usage"))["error_code"] == "ENDPOINT_NOT_ALLOWED"


@pytest.mark.parametrize("license_id", [NOBODYS, "LIC-ABCDEFGH2345", "1"])
async def test_patterns_of_an_unknown_licence(analyst: Analyst, license_id: str) -> None:
    reply = await analyst.get(f"/licenses/{license_id}/patterns")
    assert (reply.status, reply["error_code"]) == (404, "LICENSE_NOT_FOUND")


@pytest.mark.parametrize("query", ["days=0", "days=366", "days=-1", "days=many", "days=", "days=1&days=2", "day=3"])
async def test_malformed_periods(client: Client, analyst: Analyst, query: str) -> None:
    license = await client.new_license()
    for reply in (await analyst.patterns(license, f"?{query}"), await analyst.get(f"/reports/usage?{query}")):
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
        assert list(reply["details"]) == [query.partition("=")[0]]


@pytest.mark.parametrize("days", [1, 365])
async def test_the_longest_and_the_shortest_period(client: Client, analyst: Analyst, days: int) -> None:
    license = await client.new_license()
    for reply in (await analyst.patterns(license, f"?days={days}"), await analyst.get(f"/reports/usage?days={days}")):
        assert (reply.status, reply["days"]) == (200, days)


async def test_thirty_days_are_the_default(client: Client, analyst: Analyst) -> None:
    assert (await analyst.patterns(await client.new_license()))["days"] == 30
    report = await analyst.get("/reports/usage")
    assert (report["days"], len(report["daily"])) == (30, 30)


async def test_the_dashboard_takes_no_parameters(analyst: Analyst) -> None:
    reply = await analyst.get("/dashboard?days=3")
    assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")


async def test_use_shows_in_patterns(client: Client, analyst: Analyst) -> None:
    license = await client.new_license()
    await use(client, license)
    found = (await analyst.patterns(license)).body
    assert found["license_id"] == license["license_id"]
    assert (found["validations"], found["failed_validations"], found["heartbeats"]) == (2, 1, 1)
    assert (found["unique_devices"], [device["hardware_id"] for device in found["devices"]]) == (1, ["pc-1"])
    assert found["devices"][0]["uses"] == 3
    assert found["devices"][0]["first_seen_at"] < found["devices"][0]["last_seen_at"]
    assert sum(hour["uses"] for hour in found["hours"]) == sum(day["uses"] for day in found["weekdays"]) == 3
    assert {one["app_version"]: one["uses"] for one in found["app_versions"]} == {"1.0": 1, "2.0": 1, None: 1}
    assert [one["uses"] for one in found["countries"]] == [3]
    assert found["sessions"]["count"] == 1
    assert 0 < found["sessions"]["max_seconds"] < 60
    assert found["trend"]["direction"] == "up"
    seats = found["seats"]
    assert [(point["used"], point["allowed"]) for point in seats["changes"]] == [(0, 3), (1, 3)]
    assert (seats["opening"]["used"], seats["opening"]["at"]) == (0, found["since"])
    assert (seats["peak"], seats["changes_in_all"]) == (seats["changes"][-1], 2)


async def test_use_shows_in_the_report(client: Client, product: str) -> None:
    license = await client.new_license(product=product)
    await use(client, license)
    found = (await (await granted(client, product=product)).get("/reports/usage")).body
    counted = {"validations": 2, "failed_validations": 1, "heartbeats": 1}
    assert {name: found[name] for name in counted} == counted
    assert (found["unique_devices"], found["used_licenses"]) == (1, 1)
    assert found["licenses"] == [
        {**counted, "license_id": license["license_id"], "product": product, "unique_devices": 1}
    ]
    assert found["products"] == [{**counted, "product": product, "unique_devices": 1}]
    assert {name: sum(day[name] for day in found["daily"]) for name in counted} == counted
    assert found["failure_reasons"] == [{"reason": "DEVICE_NOT_ACTIVATED", "count": 1}]


async def test_use_shows_on_the_dashboard(client: Client, product: str) -> None:
    license = await client.new_license(product=product, max_devices=2, expires_in_days=5)
    await use(client, license)
    await client.admin("POST", f"/licenses/{license['license_id']}/devices/deactivate", {"hardware_id": "pc-1"})
    await client.activate(license, "pc-2")
    found = (await (await granted(client, product=product)).get("/dashboard")).body
    assert found["licenses"] == {
        "total": 1,
        "active": 1,
        "inactive": 0,
        "expired": 0,
        "test": 0,
        "expiring_in_7_days": 1,
        "expiring_in_30_days": 1,
    }
    assert found["seats"] == {"used": 1, "allowed": 2}
    assert sum(day["activations"] for day in found["daily"]) == 2
    assert sum(day["deactivations"] for day in found["daily"]) == 1
    assert (found["daily"][-1]["seats_peak"], found["daily"][-1]["seats_at_end"]) == (1, 1)
    last_day = found["last_24_hours"]
    assert len(last_day["hours"]) == 24
    assert (last_day["validations"], last_day["failed_validations"], last_day["heartbeats"]) == (2, 1, 1)
    assert last_day["failure_reasons"] == [{"reason": "DEVICE_NOT_ACTIVATED", "count": 1}]
    assert found["devices_seen"] == {"last_24_hours": 1, "last_7_days": 1, "last_30_days": 1}


async def test_a_key_bound_to_a_product_sees_that_product_only(client: Client, product: str) -> None:
    own, other, plain = [await client.new_license(product=name) for name in (product, f"not {product}", None)]
    for license in (own, other, plain):
        await use(client, license)
    bound = await granted(client, product=product)
    assert (await bound.patterns(own))["heartbeats"] == 1
    for foreign in (other, plain):
        reply = await bound.patterns(foreign)
        assert (reply.status, reply["error_code"]) == (404, "LICENSE_NOT_FOUND")
    report = await bound.get("/reports/usage")
    assert [one["license_id"] for one in report["licenses"]] == [own["license_id"]]
    assert report["heartbeats"] == 1
    board = await bound.get("/dashboard")
    assert (board["licenses"]["total"], board["devices_seen"]["last_24_hours"]) == (1, 1)


async def test_a_key_without_a_product_sees_all_of_them_and_unknown_keys(
    client: Client, analyst: Analyst, product: str
) -> None:
    async def seen() -> list[int]:
        report, board = await analyst.get("/reports/usage"), await analyst.get("/dashboard")
        unknown = [one["count"] for one in report["failure_reasons"] if one["reason"] == "LICENSE_NOT_FOUND"]
        return [report["used_licenses"], report["heartbeats"], sum(unknown), board["licenses"]["total"]]

    before = await seen()
    for name in (product, None):
        await use(client, await client.new_license(product=name))
    assert (await client.validate({"license_key": "LIC-AAAAAAAAAAAA"}, "pc-1")).status == 404
    assert [after - then for after, then in zip(await seen(), before, strict=True)] == [2, 2, 1, 2]


async def test_answers_say_how_far_they_have_come(client: Client, analyst: Analyst) -> None:
    license = await client.new_license()

    async def positions() -> list[tuple[int, int]]:
        answers = [
            await analyst.patterns(license),
            await analyst.get("/reports/usage"),
            await analyst.get("/dashboard"),
        ]
        assert all(reply["as_of"]["lag_seconds"] == 0 for reply in answers)
        assert all(reply["since"] < reply["as_of"]["time"] < reply["until"] for reply in answers)
        return [(reply["as_of"]["position"], reply["as_of"]["usage_position"]) for reply in answers]

    before = (await positions())[-1]
    await use(client, license)
    after = await positions()
    assert len(set(after)) == 1
    assert (after[0][0] - before[0], after[0][1] - before[1]) == (1, 4)


async def test_many_who_ask_at_once_wait_for_each_other_and_leave_the_database_to_the_rest(
    client: Client, services: Services, analyst: Analyst
) -> None:
    async with services.pool.connection() as holding, holding.transaction():
        await holding.execute("LOCK TABLE seat_days")
        asking = [asyncio.create_task(analyst.get("/dashboard")) for _ in range(12)]

        async def under_way() -> bool:
            row = await (await holding.execute("SELECT count(*) AS waiting FROM pg_locks WHERE NOT granted")).fetchone()
            return row is not None and row["waiting"] >= 2

        await eventually(under_way)
        keys = await client.request("GET", "/api/v1/auth/api-keys", x_admin_secret=client.secrets.admin_secret)
        assert keys.status == 200
        assert not any(one.done() for one in asking)
    assert [reply.status for reply in await asyncio.gather(*asking)] == [200] * 12
