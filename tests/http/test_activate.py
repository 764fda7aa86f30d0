"""Activate and deactivate: seats are taken and given back, and never more than there are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def deactivate(client: Client, license: dict[str, Any], hardware_id: str) -> Reply:
    body = {"license_key": license["license_key"], "hardware_id": hardware_id}
    return await client.program("/api/v1/license/deactivate", body)


async def devices(client: Client, license: dict[str, Any]) -> list[dict[str, Any]]:
    reply = await client.admin("GET", f"/licenses/{license['license_id']}/devices")
    found: list[dict[str, Any]] = reply["devices"]
    return found


async def test_an_activation_is_answered_whole_and_stored(client: Client) -> None:
    license = await client.new_license(features=["x"])
    fields = {"device_name": "Büro-PC", "os_info": {"name": "Windows", "version": "10"}}
    reply = await client.activate(license, " pc-1 ", fields=fields)
    assert reply.status == 201
    assert reply.body == {
        "license_id": license["license_id"],
        "hardware_id": "pc-1",
        "activated_at": reply["activated_at"],
        "features": ["x"],
        "limits": {"max_devices": 3, "current_devices": 1},
    }
    assert abs(datetime.fromisoformat(reply["activated_at"]) - datetime.now(UTC)) < timedelta(seconds=10)
    (device,) = await devices(client, license)
    assert (device["device_name"], device["os_info"]) == ("Büro-PC", {"name": "Windows", "version": "10"})
    assert device["activated_at"] == reply["activated_at"]


@pytest.mark.parametrize(
    "os_info", [None, {}, {"name": "Linux"}, {"name": "Linux", "version": "6.1", "arch": "arm64", "more": {"a": [1]}}]
)
async def test_name_and_os_are_optional_and_free(client: Client, os_info: Any) -> None:
    license = await client.new_license()
    assert (await client.activate(license, "pc", fields={"os_info": os_info})).status == 201


async def test_the_same_device_again_is_told_of_its_activation_and_takes_no_seat(client: Client) -> None:
    license = await client.new_license(max_devices=2)
    first = await client.activate(license, "pc")
    reply = await client.activate(license, "pc")
    assert (reply.status, reply["error_code"]) == (409, "ALREADY_ACTIVATED")
    assert reply["details"]["hardware_id"] == "pc"
    assert reply["details"]["activated_at"] == first["activated_at"]
    assert (await client.activate(license, "pc-2"))["limits"] == {"max_devices": 2, "current_devices": 2}


async def test_already_activated_goes_before_a_full_licence(client: Client) -> None:
    license = await client.new_license(max_devices=1)
    await client.activate(license, "pc")
    assert (await client.activate(license, "pc"))["error_code"] == "ALREADY_ACTIVATED"
    reply = await client.activate(license, "other")
    assert (reply.status, reply["error_code"]) == (409, "DEVICE_LIMIT_EXCEEDED")
    assert reply["details"] == {"max_devices": 1, "current_devices": 1}


async def test_a_freed_seat_can_be_taken_again(client: Client) -> None:
    license = await client.new_license(max_devices=1)
    first = await client.activate(license, "pc-1")
    assert (await deactivate(client, license, "pc-1"))["limits"] == {"max_devices": 1, "current_devices": 0}
    assert (await client.activate(license, "pc-2")).status == 201
    assert (await client.activate(license, "pc-1")).status == 409
    await deactivate(client, license, "pc-2")
    again = await client.activate(license, "pc-1")
    assert again.status == 201
    assert again["activated_at"] > first["activated_at"]
    by_id = {device["hardware_id"]: device for device in await devices(client, license)}
    assert {name: device["is_active"] for name, device in by_id.items()} == {"pc-1": True, "pc-2": False}


async def test_a_refused_activation_leaves_no_device_and_no_event(client: Client) -> None:
    license = await client.new_license(max_devices=1)
    await client.activate(license, "pc-1")
    await client.activate(license, "pc-2")
    assert [device["hardware_id"] for device in await devices(client, license)] == ["pc-1"]
    events = await client.admin("GET", f"/licenses/{license['license_id']}/events")
    assert [event["type"] for event in events["events"]] == ["license.activated", "license.issued"]


async def test_the_last_seats_go_to_exactly_as_many_as_there_are(client: Client) -> None:
    license = await client.new_license(max_devices=3)
    replies = await asyncio.gather(*(client.activate(license, f"pc-{n}") for n in range(40)))
    assert sorted(reply.status for reply in replies) == [201] * 3 + [409] * 37
    seats = sorted(reply["limits"]["current_devices"] for reply in replies if reply.status == 201)
    assert seats == [1, 2, 3]
    for reply in replies:
        if reply.status == 409:
            assert reply["details"] == {"max_devices": 3, "current_devices": 3}


async def test_one_device_raced_by_many_gets_one_seat(client: Client) -> None:
    license = await client.new_license(max_devices=3)
    replies = await asyncio.gather(*(client.activate(license, "pc") for _ in range(20)))
    assert sorted(reply.status for reply in replies) == [201] + [409] * 19
    assert {reply["error_code"] for reply in replies if reply.status == 409} == {"ALREADY_ACTIVATED"}


async def test_what_the_licence_does_not_allow(client: Client) -> None:
    license = await client.new_license(product="Editor")
    path = f"/licenses/{license['license_id']}"
    reply = await client.activate({"license_key": "LIC-AAAAAAAAAAAA"}, "pc")
    assert (reply.status, reply["error_code"]) == (404, "LICENSE_NOT_FOUND")
    assert "valid" not in reply.body
    reply = await client.activate(license, "pc", fields={"product": "Other"})
    assert (reply.status, reply["error_code"]) == (403, "PRODUCT_MISMATCH")
    await client.admin("PATCH", path, {"expires_at": "2020-01-01T00:00:00Z"})
    reply = await client.activate(license, "pc")
    assert (reply.status, reply["error_code"]) == (403, "LICENSE_EXPIRED")
    await client.admin("DELETE", path)
    reply = await client.activate(license, "pc")
    assert (reply.status, reply["error_code"]) == (403, "LICENSE_INACTIVE")


async def test_deactivation_answers_with_the_limits_and_works_once(client: Client) -> None:
    license = await client.new_license()
    await client.activate(license, "pc-1")
    await client.activate(license, "pc-2")
    reply = await deactivate(client, license, "pc-1")
    assert reply.status == 200
    assert reply["limits"] == {"max_devices": 3, "current_devices": 1}
    assert reply["hardware_id"] == "pc-1"
    for device in ("pc-1", "never"):
        reply = await deactivate(client, license, device)
        assert (reply.status, reply["error_code"]) == (404, "DEVICE_NOT_FOUND")
    reply = await deactivate(client, {"license_key": "LIC-AAAAAAAAAAAA"}, "pc-1")
    assert (reply.status, reply["error_code"]) == (404, "LICENSE_NOT_FOUND")


async def test_a_seat_can_be_given_up_when_the_licence_has_ended(client: Client) -> None:
    license = await client.new_license()
    await client.activate(license, "pc-1")
    await client.activate(license, "pc-2")
    path = f"/licenses/{license['license_id']}"
    await client.admin("PATCH", path, {"expires_at": "2020-01-01T00:00:00Z"})
    assert (await deactivate(client, license, "pc-1")).status == 200
    await client.admin("DELETE", path)
    assert (await deactivate(client, license, "pc-2")).status == 200


@pytest.mark.parametrize(
    "change, field",
    [
        ({"hardware_id": None}, "hardware_id"),
        ({"device_name": 5}, "device_name"),
        ({"device_name": "x" * 257}, "device_name"),
        ({"os_info": "Windows"}, "os_info"),
        ({"os_info": []}, "os_info"),
        ({"os_info": {"blob": "x" * 17_000}}, "os_info"),
        ({"client_time": "noon"}, "client_time"),
    ],
)
async def test_a_malformed_field_is_named(client: Client, change: dict[str, Any], field: str) -> None:
    license = await client.new_license()
    body = {"license_key": license["license_key"], "hardware_id": "pc", **change}
    reply = await client.program("/api/v1/license/activate", body)
    assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
    assert any(name.startswith(field) for name in reply["details"])
    assert await devices(client, license) == []
