"""A licence's story over HTTP: who did what, what it changed, what was undone, and what is left of who was erased."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from api.schemas.common import rfc3339
from api.services import Services
from tests.support.client import Client, Reply
from tests.support.cluster import Cluster
from tests.support.patience import running_patiently
from tests.support.random_life import RandomLife
from tests.support.service import settings_for

pytestmark = pytest.mark.asyncio(loop_scope="module")
ERASED = {"erased": True}


def path_of(license: dict[str, Any]) -> str:
    return f"/licenses/{license['license_id']}"


async def story(client: Client, license: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all that happened to a licence, read in parts."""
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        part = await client.admin("GET", f"{path_of(license)}/history?after={after}&limit=7")
        assert part.status == 200, part
        found += part["events"]
        after = part["next"]
    return found


def changes(entry: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    return {
        f"{one['hardware_id']}.{one['field']}" if one["hardware_id"] else one["field"]: (one["before"], one["after"])
        for one in entry["changes"]
    }


async def correct(client: Client, license: dict[str, Any], event_id: str, **headers: str) -> Reply:
    body = {"event_id": event_id, "reason": "it was another customer"}
    return await client.admin("POST", f"{path_of(license)}/corrections", body, **headers)


async def test_the_whole_story(client: Client, services: Services) -> None:
    client.address = "198.51.100.77"
    license = await client.new_license(customer_id="acme", email="ann@example.com", max_devices=1)
    key = await client.new_api_key()
    client.api_key = key["api_key"]
    await client.activate(license, "pc", fields={"device_name": "Anns"}, x_request_id="the-activation")
    terms = {"max_devices": 3, "email": "bob@example.com"}
    await client.admin("PATCH", path_of(license), terms, x_request_id="the-change")
    issued, activated, updated = await story(client, license)
    assert [one["version"] for one in (issued, activated, updated)] == [1, 2, 3]
    assert issued["position"] < activated["position"] < updated["position"]
    assert (issued["actor"], issued["api_key"]) == ("admin:default", None)
    assert (activated["actor"], activated["api_key"]) == (f"api-key:{key['key_id']}", key["key_id"])
    assert [one["cause"]["command"] for one in (activated, updated)] == ["ActivateDevice", "UpdateLicense"]
    assert [one["cause"]["request_id"] for one in (activated, updated)] == ["the-activation", "the-change"]
    assert {one["address"] for one in (issued, activated, updated)} == {"198.51.100.77"}
    assert changes(issued)["email"] == (None, "ann@example.com")
    assert changes(activated) == {
        "current_devices": (0, 1),
        "pc.is_active": (None, True),
        "pc.activation_id": (None, activated["event_id"]),
        "pc.device_name": (None, "Anns"),
    }
    assert changes(updated) == {"max_devices": (1, 3), "email": ("ann@example.com", "bob@example.com")}


async def test_it_is_all_that_the_log_has(client: Client, services: Services) -> None:
    life = RandomLife(client, seed=23)
    await life.begin(1)
    for _ in range(60):
        await life.step()
    for license in life.licenses:
        told = await story(client, license)
        events = (await client.admin("GET", f"{path_of(license)}/events"))["events"]
        assert [one["event_id"] for one in told] == [one["event_id"] for one in reversed(events)]
        assert [one["version"] for one in told] == list(range(1, len(told) + 1))
        state: dict[str, Any] = {}
        for one in told:
            for name, (before, after) in changes(one).items():
                assert state.get(name) == before
                state[name] = after
        shown = (await client.admin("GET", path_of(license))).body
        fields = (
            "product",
            "edition",
            "max_devices",
            "floating",
            "is_active",
            "current_devices",
            "expires_at",
            "email",
        )
        assert {name: state.get(name) for name in fields} == {name: shown[name] for name in fields}


async def test_its_parts_meet_at_their_edges(client: Client) -> None:
    license = await client.new_license()
    for count in (2, 3, 4, 5):
        await client.admin("PATCH", path_of(license), {"max_devices": count})
    positions = [one["position"] for one in await story(client, license)]

    async def part(after: int, limit: int) -> tuple[list[int], int | None]:
        told = await client.admin("GET", f"{path_of(license)}/history?after={after}&limit={limit}")
        return [one["position"] for one in told["events"]], told["next"]

    first, *_, fourth, last = positions
    assert await part(0, 5) == (positions, None)
    assert await part(0, 4) == (positions[:4], fourth)
    assert await part(first - 1, 1) == ([first], first)
    assert await part(fourth, 1) == ([last], None)
    assert await part(last, 1) == await part(2**63 - 1, 1000) == ([], None)
    for wrong in ("after=-1", "after=x", "limit=0", "limit=1001", f"after={2**64}"):
        assert (await client.admin("GET", f"{path_of(license)}/history?{wrong}")).status == 400, wrong


async def test_what_is_sealed_anew_and_is_the_same_did_not_change(client: Client) -> None:
    license = await client.new_license(email="ann@example.com", metadata={"a": 1})
    await client.admin("PATCH", path_of(license), {"email": "ann@example.com", "metadata": {"a": 2}})
    await client.admin("PATCH", path_of(license), {"email": None})
    _, updated, emptied = await story(client, license)
    assert changes(updated) == {"metadata": ({"a": 1}, {"a": 2})}
    assert changes(emptied) == {"email": ("ann@example.com", None)}


async def test_a_revocation_that_was_a_mistake(client: Client) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    token = (await client.tokens(license, "pc"))["access_token"]
    await client.admin("DELETE", path_of(license))
    assert (await client.validate(license, "pc"))["error_code"] == "LICENSE_INACTIVE"
    revoked = (await story(client, license))[-1]["event_id"]
    done = await correct(client, license, revoked, idempotency_key="once")
    assert (done.status, done["undoes"], done["type"]) == (200, revoked, "license.reactivated")
    again = await correct(client, license, revoked, idempotency_key="once")
    assert (again.body, again.headers["Idempotency-Replayed"]) == (done.body, "true")
    assert (await client.validate(license, "pc")).status == 200
    assert (await client.bearer("/api/v1/auth/verify", token)).status == 401  # Tokens of before stay dead.
    last = (await story(client, license))[-1]
    assert (last["event_id"], last["undoes"]) == (done["event_id"], revoked)
    assert last["data"]["reason"] == "it was another customer"
    assert changes(last) == {"is_active": (False, True)}
    refused = await correct(client, license, revoked)
    assert (refused.status, refused["error_code"]) == (409, "CORRECTION_REFUSED")
    assert refused["details"] == {"event_id": revoked, "why": "the licence is good again already"}


async def test_a_transfer_that_was_a_mistake(client: Client) -> None:
    license = await client.new_license(max_devices=1)
    await client.activate(license, "a")
    await client.admin("POST", f"{path_of(license)}/transfer", {"from_hardware_id": "a", "to_hardware_id": "b"})
    moved = (await story(client, license))[-1]["event_id"]
    done = await correct(client, license, moved)
    assert (done.status, done["type"], done["limits"]) == (
        200,
        "license.transferred",
        {"max_devices": 1, "current_devices": 1},
    )
    assert [(await client.validate(license, device)).status for device in "ab"] == [200, 403]
    refused = await correct(client, license, moved)
    assert refused["details"]["why"] == "b does not hold the seat any more"


async def test_of_corrections_at_once_on_two_processes_one_is_made(cluster: Cluster, tmp_path: Path) -> None:
    database, settings = cluster.new_database(), settings_for(tmp_path)
    async with running_patiently(settings, database) as (_, here), running_patiently(settings, database) as (_, there):
        license = await here.new_license(max_devices=1)
        await here.activate(license, "a")
        for _ in range(5):
            await here.admin("DELETE", path_of(license))
            await here.admin("POST", f"{path_of(license)}/transfer", {"from_hardware_id": "a", "to_hardware_id": "b"})
            for mistake in [one["event_id"] for one in (await story(here, license))[-2:]]:
                done = await asyncio.gather(*(correct(client, license, mistake) for client in (here, there) * 5))
                assert sorted(one.status for one in done) == [200, *[409] * 9]
                assert {one["error_code"] for one in done if one.status == 409} == {"CORRECTION_REFUSED"}
        undone = [one["undoes"] for one in await story(here, license) if "undoes" in one]
        assert len(undone) == len(set(undone)) == 10
    cluster.drop(database)


@pytest.mark.parametrize("reason", ["", " \u2003", "a" * 1001, None])
async def test_a_correction_says_why(client: Client, reason: str | None) -> None:
    license = await client.new_license()
    await client.admin("DELETE", path_of(license))
    revoked = (await story(client, license))[-1]["event_id"]
    refused = await client.admin("POST", f"{path_of(license)}/corrections", {"event_id": revoked, "reason": reason})
    assert (refused.status, list(refused["details"])) == (400, ["reason"])


async def test_what_is_not_its_event_is_not_found(client: Client) -> None:
    license, other = await client.new_license(), await client.new_license()
    await client.admin("DELETE", path_of(other))
    revoked = (await story(client, other))[-1]["event_id"]
    for event_id in (revoked, str(uuid4())):
        missing = await correct(client, license, event_id)
        assert (missing.status, missing["error_code"]) == (404, "NOT_FOUND")
    assert len(await story(client, license)) == 1


async def test_of_who_was_erased_a_tombstone_is_left(client: Client, services: Services) -> None:
    """The key is still in this process' memory: what counts is that the database has none."""
    client.address = "198.51.100.78"
    license = await client.new_license(customer_id="Lovelace", email="ada@example.com", metadata={"name": "Ada"})
    await client.activate(license, "pc", fields={"device_name": "Adas PC", "os_info": {"name": "AdaOS"}})
    await client.admin("POST", f"{path_of(license)}/devices/deactivate", {"hardware_id": "pc", "reason": "Ada left"})
    position, now = (await story(client, license))[-1]["position"], rfc3339(services.clock.now())
    paths = ("/history", f"?as_of={position}", f"/devices?as_of={position}", f"/why?hardware_id=pc&at={now}")
    readable = {path: (await client.admin("GET", path_of(license) + path)).body for path in paths}
    assert all(shown["personal_data"] == "readable" for shown in readable.values())
    assert all("Ada" in json.dumps(shown) for shown in readable.values())

    async with services.pool.connection() as connection:
        await connection.execute(
            "UPDATE data_subjects SET wrapped_key = NULL, lookup_hash = NULL WHERE subject_id ="
            " (SELECT subject_id FROM licenses WHERE license_id = %s)",
            (license["license_id"],),
        )
    erased = {path: (await client.admin("GET", path_of(license) + path)).body for path in paths}
    for path, shown in erased.items():
        text = json.dumps(shown)
        assert shown["personal_data"] == "erased"
        assert [word for word in ("Ada", "ada@", "Lovelace", "198.51.100.78") if word in text] == [], path
        assert without_personal(shown) == without_personal(readable[path])
    issued, activated, given_up = erased["/history"]["events"]
    assert [one["address"] for one in (issued, activated, given_up)] == [ERASED] * 3
    assert changes(issued)["email"] == (None, ERASED)
    assert changes(activated)["pc.os_info"] == (None, ERASED)
    assert given_up["data"]["reason"] == ERASED


async def test_a_damaged_key_is_no_erasure(client: Client, services: Services) -> None:
    license = await client.new_license(customer_id="Turing", email="alan@example.com")
    await client.activate(license, "pc", fields={"device_name": "Alans"})
    async with services.pool.connection() as connection:
        await connection.execute(
            "UPDATE data_subjects SET wrapped_key = set_byte(wrapped_key, 40, get_byte(wrapped_key, 40) # 1)"
            " WHERE subject_id = (SELECT subject_id FROM licenses WHERE license_id = %s)",
            (license["license_id"],),
        )
    services.vault.clear()
    told = await client.admin("GET", f"{path_of(license)}/history")
    assert (told.status, told["personal_data"], told["erased_by"]) == (200, "damaged", None)
    assert changes(told["events"][1])["pc.device_name"] == (None, {"damaged": True})
    position = told["events"][-1]["position"]
    for path in (f"?as_of={position}", f"/devices?as_of={position}", "/why?hardware_id=pc"):
        shown = await client.admin("GET", path_of(license) + path)
        assert (shown.status, shown["personal_data"]) == (200, "damaged"), path


async def test_an_erasure_over_the_service(client: Client) -> None:
    """The story goes on after an erasure: it names it, a mistake can still be undone, and no reason is kept then."""
    license = await client.new_license(customer_id="Hopper", email="grace@example.com")
    await client.activate(license, "pc", fields={"device_name": "Graces"})
    await client.admin("DELETE", path_of(license))
    revoked = (await story(client, license))[-1]["event_id"]
    assert (await client.admin("GET", f"{path_of(license)}/history"))["erased_by"] is None
    erased = await client.admin("POST", "/customers/Hopper/erase", {"reason": "she asked"})
    assert erased.status == 200, erased
    done = await correct(client, license, revoked)
    assert (done.status, done["type"]) == (200, "license.reactivated")
    assert (await client.validate(license, "pc")).status == 200
    told = await client.admin("GET", f"{path_of(license)}/history")
    events = (await client.admin("GET", f"{path_of(license)}/events"))["events"]
    (erasure,) = [event for event in events if event["type"] == "customer.erased"]
    assert told["erased_by"] == {name: erasure[name] for name in ("event_id", "position", "occurred_at", "actor")}
    assert told["personal_data"] == "erased"
    last = told["events"][-1]
    assert (last["undoes"], "reason" in last["data"], last["address"]) == (revoked, False, None)
    assert [word for word in ("Hopper", "grace", "Graces") if word in json.dumps(told.body)] == []
    shown = await client.admin("GET", f"{path_of(license)}?as_of={last['position']}")
    assert (shown["email"], shown["customer_id"], shown["personal_data"]) == (None, None, "erased")


def without_personal(value: Any) -> Any:
    """Leave out what erasing may take."""
    if isinstance(value, list):
        return [without_personal(one) for one in value]
    if not isinstance(value, dict):
        return value
    gone = {"personal_data", "address", "customer_id", "email", "metadata", "device_name", "os_info", "reason"}
    if value.get("field") in gone:
        return value["field"]
    return {name: without_personal(one) for name, one in value.items() if name not in gone}
