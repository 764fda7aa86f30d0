"""`why` says what the service itself would have answered: now, and at each instant of the past."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from api.schemas.common import rfc3339
from api.services import Services
from domain.history.why import MOST_SEATS
from tests.support.client import Client, Reply
from tests.support.random_life import PRODUCTS, RandomLife

STEPS = 250
COMMON = ("error", "error_code", "details", "expires_at", "features", "limits", "product", "edition")
USES = """
    SELECT occurred_at, license_id, hardware_id, reason, api_key_id FROM usage
    WHERE operation = 'validate' AND license_id IS NOT NULL ORDER BY id
"""

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def life(service: tuple[Services, Client]) -> RandomLife:
    """Let much happen, and in between let each `why` of now be compared with a validation."""
    life = RandomLife(service[1], seed=11)
    await life.begin(6)
    random = Random(3)
    told: set[str | None] = set()
    for _ in range(STEPS):
        await life.step()
        bound, named = random.choice((None, None, *PRODUCTS)), None
        if bound is None:
            named = random.choice((None, None, *PRODUCTS))
        license, device = life.license(), life.device()
        explained = await why(life.client, license, device, product=bound or named)
        answered = await life.validate(license, device, bound, named)
        assert_same(explained, answered)
        told.add(explained["verdict"]["error_code"])
    codes = {"PRODUCT_MISMATCH", "LICENSE_INACTIVE", "LICENSE_EXPIRED", "DEVICE_NOT_ACTIVATED", "DEVICE_LIMIT_EXCEEDED"}
    assert told == {None, *codes}
    return life


async def why(client: Client, license: dict[str, Any], hardware_id: str, **query: str | None) -> Reply:
    given = "".join(f"&{name}={value}" for name, value in query.items() if value is not None)
    return await client.admin("GET", f"/licenses/{license['license_id']}/why?hardware_id={hardware_id}{given}")


def assert_same(explained: Reply, answered: Reply) -> None:
    """Compare an explanation with the answer that it explains, and its parts with each other."""
    assert explained.status == 200, explained
    verdict, rules = explained["verdict"], explained["rules"]
    assert (verdict["valid"], verdict["status"]) == (answered["valid"], answered.status), (explained, answered)
    for name in COMMON:
        assert verdict[name] == answered.body.get(name), name
    assert [rule["rule"] for rule in rules] == ["license_exists", "product", "active", "term", "seat"]
    refusing = [rule for rule in rules if not rule["holds"]]
    assert [rule for rule in rules if rule["decides"]] == refusing[:1]
    assert verdict["error_code"] == (refusing[0]["error_code"] if refusing else None)
    assert all((rule["error_code"] is None) is rule["holds"] and rule["events"] for rule in rules[:-1])


async def test_it_says_what_was_answered_then(client: Client, services: Services, life: RandomLife) -> None:
    """Each validation that the usage log holds is explained as it was answered, long after."""
    keys = {UUID(key["key_id"]): key["product"] for key in await api_keys(client)}
    async with services.pool.connection() as connection:
        uses = await (await connection.execute(USES)).fetchall()
    assert len(uses) >= STEPS
    differing = []
    for use in Random(4).sample(uses, 120):
        license = {"license_id": use["license_id"]}
        product = keys[use["api_key_id"]]
        explained = await why(client, license, use["hardware_id"], at=rfc3339(use["occurred_at"]), product=product)
        reason = explained["verdict"]["error_code"]
        # A product that the request itself named is not in the usage log.
        if reason != use["reason"] and use["reason"] != "PRODUCT_MISMATCH":
            differing.append((use, explained))
    assert differing == []


async def api_keys(client: Client) -> list[dict[str, Any]]:
    reply = await client.request("GET", "/api/v1/auth/api-keys", x_admin_secret=client.secrets.admin_secret)
    found: list[dict[str, Any]] = reply["api_keys"]
    return found


async def test_each_rule_names_the_events_behind_it(client: Client) -> None:
    license = await client.new_license(max_devices=1, product="Editor")
    one = f"/licenses/{license['license_id']}"
    await client.admin("PATCH", one, {"expires_at": "2020-01-01T00:00:00Z", "product": "Viewer"})
    await client.admin("PATCH", one, {"expires_at": None})
    await client.activate(license, "pc-1")
    await client.admin("POST", f"{one}/transfer", {"from_hardware_id": "pc-1", "to_hardware_id": "pc-2"})
    await client.admin("DELETE", one)
    events = [event["event_id"] for event in reversed((await client.admin("GET", f"{one}/events"))["events"])]
    issued, renamed, perpetual, activated, moved, revoked = events
    rules = {rule["rule"]: rule for rule in (await why(client, license, "pc-1", product="Editor"))["rules"]}
    ids = {name: [event["event_id"] for event in rule["events"]] for name, rule in rules.items()}
    assert ids == {
        "license_exists": [issued],
        "product": [renamed],
        "active": [revoked],
        "term": [perpetual],
        "seat": [activated, moved, issued, moved],
    }
    assert rules["product"]["because"] == "It was for 'Viewer', and 'Editor' was asked for."
    assert rules["active"]["because"].startswith("It was revoked on 2")
    assert rules["active"]["because"].endswith("Z by admin:default.")
    assert rules["term"]["because"] == "It had no end."
    assert rules["seat"]["because"].endswith("Z by admin:default; 1 of 1 seats were taken.")


async def test_before_it_was_issued(client: Client, services: Services) -> None:
    at = rfc3339(services.clock.now())
    license = await client.new_license()
    told = await why(client, license, "pc", at=at)
    assert (told["as_of"], told["rules"]) == (
        None,
        [
            {
                "rule": "license_exists",
                "holds": False,
                "decides": True,
                "error_code": "LICENSE_NOT_FOUND",
                "because": "It had not been issued yet.",
                "events": [],
            }
        ],
    )
    verdict = told["verdict"]
    assert (verdict["valid"], verdict["status"], verdict["error_code"]) == (False, 404, "LICENSE_NOT_FOUND")


async def test_of_many_seats_the_newest_are_named(client: Client) -> None:
    license = await client.new_license(max_devices=MOST_SEATS + 5)
    for number in range(MOST_SEATS + 5):
        await client.activate(license, f"pc-{number}")
    seat = (await why(client, license, "another"))["rules"][-1]
    assert seat["error_code"] == "DEVICE_LIMIT_EXCEEDED"
    assert [event["hardware_id"] for event in seat["events"]] == [
        None,
        *(f"pc-{number}" for number in range(5, MOST_SEATS + 5)),
    ]


@pytest.mark.parametrize("query", ["", "hardware_id=", "hardware_id=a&at=5", "hardware_id=a&at=2999-01-01T00:00:00Z"])
async def test_what_it_refuses(client: Client, query: str) -> None:
    license = await client.new_license()
    refused = await client.admin("GET", f"/licenses/{license['license_id']}/why?{query}")
    assert (refused.status, refused["error_code"]) == (400, "VALIDATION_ERROR")
