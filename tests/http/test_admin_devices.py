"""A licence's devices for administrators: list, deactivate, transfer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.client import Client, Reply, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def devices(client: Client, license: dict[str, Any]) -> dict[str, dict[str, Any]]:
    reply = await client.admin("GET", f"/licenses/{license['license_id']}/devices")
    assert reply.status == 200
    assert set(reply.body) == {"devices"}
    return {device["hardware_id"]: device for device in reply["devices"]}


async def deactivate(client: Client, license: dict[str, Any], hardware_id: str, **more: Any) -> Reply:
    path = f"/licenses/{license['license_id']}/devices/deactivate"
    return await client.admin("POST", path, {"hardware_id": hardware_id, **more})


async def transfer(client: Client, license: dict[str, Any], source: Any, target: Any, **more: Any) -> Reply:
    body = {"from_hardware_id": source, "to_hardware_id": target, **more}
    return await client.admin("POST", f"/licenses/{license['license_id']}/transfer", body)


async def seats(client: Client, license: dict[str, Any]) -> int:
    count: int = (await client.admin("GET", f"/licenses/{license['license_id']}"))["current_devices"]
    return count


class TestList:
    async def test_none_yet(self, client: Client) -> None:
        assert await devices(client, await client.new_license()) == {}

    async def test_every_field(self, client: Client) -> None:
        license = await client.new_license()
        os_info = {"name": "macOS", "version": "15", "build": 7}
        activated = await client.activate(license, "mac", fields={"device_name": "Zoës Mac", "os_info": os_info})
        await client.activate(license, "plain")
        shown = await devices(client, license)
        assert shown["mac"] == {
            "hardware_id": "mac",
            "device_name": "Zoës Mac",
            "os_info": os_info,
            "is_active": True,
            "activated_at": activated["activated_at"],
            "deactivated_at": None,
            "last_seen_at": shown["mac"]["last_seen_at"],
        }
        assert (shown["plain"]["device_name"], shown["plain"]["os_info"]) == (None, None)

    async def test_a_validation_moves_last_seen(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "pc")
        assert (await devices(client, license))["pc"]["last_seen_at"] is None

        async def seen_after(before: str) -> str | None:
            seen: str | None = (await devices(client, license))["pc"]["last_seen_at"]
            return seen if seen is not None and seen > before else None

        await client.validate(license, "pc")
        first: str = await eventually(lambda: seen_after(""))
        await client.validate(license, "pc")
        await eventually(lambda: seen_after(first))


class TestDeactivate:
    async def test_it_frees_the_seat_and_keeps_the_device_in_the_list(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "a")
        await client.activate(license, "b")
        reply = await deactivate(client, license, "a", reason="stolen")
        assert reply.status == 200
        assert (reply["hardware_id"], reply["license_id"]) == ("a", license["license_id"])
        assert reply["limits"] == {"max_devices": 3, "current_devices": 1}
        shown = await devices(client, license)
        assert (shown["a"]["is_active"], shown["b"]["is_active"]) == (False, True)
        assert shown["a"]["deactivated_at"] is not None
        assert (await client.validate(license, "a"))["error_code"] == "DEVICE_NOT_ACTIVATED"

    async def test_twice_or_never_active_is_not_found(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "a")
        await deactivate(client, license, "a")
        for device in ("a", "never"):
            reply = await deactivate(client, license, device)
            assert (reply.status, reply["error_code"]) == (404, "DEVICE_NOT_FOUND")
        assert await seats(client, license) == 0

    async def test_parallel_calls_free_one_seat(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "a")
        await client.activate(license, "b")
        replies = await asyncio.gather(*(deactivate(client, license, "a") for _ in range(10)))
        assert sorted(reply.status for reply in replies) == [200] + [404] * 9
        assert await seats(client, license) == 1

    @pytest.mark.parametrize("body", [{}, {"hardware_id": 1}, {"hardware_id": ""}, {"hardware_id": "a", "reason": 5}])
    async def test_malformed_bodies(self, client: Client, body: Any) -> None:
        license = await client.new_license()
        reply = await client.admin("POST", f"/licenses/{license['license_id']}/devices/deactivate", body)
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")


class TestTransfer:
    async def test_the_seat_moves(self, client: Client) -> None:
        license = await client.new_license(max_devices=1)
        await client.activate(license, "a", fields={"device_name": "old"})
        reply = await transfer(client, license, "a", "b")
        assert reply.status == 200
        assert (reply["from_hardware_id"], reply["to_hardware_id"]) == ("a", "b")
        assert reply["limits"] == {"max_devices": 1, "current_devices": 1}
        assert (await client.validate(license, "b")).status == 200
        assert (await client.validate(license, "a"))["error_code"] == "DEVICE_LIMIT_EXCEEDED"
        shown = await devices(client, license)
        assert (shown["a"]["is_active"], shown["b"]["is_active"]) == (False, True)
        assert shown["a"]["deactivated_at"] == shown["b"]["activated_at"]

    async def test_there_and_back(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "a")
        assert (await transfer(client, license, "a", "b")).status == 200
        assert (await transfer(client, license, "b", "a")).status == 200
        assert (await client.validate(license, "a")).status == 200
        assert await seats(client, license) == 1

    @pytest.mark.parametrize("target", ["a", " a "])
    async def test_to_itself_is_refused(self, client: Client, target: str) -> None:
        license = await client.new_license()
        await client.activate(license, "a")
        reply = await transfer(client, license, "a", target)
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")

    async def test_from_a_device_without_a_seat(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "a")
        await deactivate(client, license, "a")
        for source in ("a", "never"):
            reply = await transfer(client, license, source, "b")
            assert (reply.status, reply["error_code"]) == (404, "DEVICE_NOT_FOUND")
        assert await seats(client, license) == 0

    async def test_onto_an_active_device(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "a")
        second = await client.activate(license, "b")
        reply = await transfer(client, license, "a", "b")
        assert (reply.status, reply["error_code"]) == (409, "ALREADY_ACTIVATED")
        assert reply["details"]["hardware_id"] == "b"
        assert reply["details"]["activated_at"] == second["activated_at"]
        assert await seats(client, license) == 2

    async def test_it_works_while_more_seats_are_in_use_than_allowed(self, client: Client) -> None:
        license = await client.new_license(max_devices=2)
        await client.activate(license, "a")
        await client.activate(license, "b")
        await client.admin("PATCH", f"/licenses/{license['license_id']}", {"max_devices": 1})
        reply = await transfer(client, license, "a", "c")
        assert (reply.status, reply["limits"]) == (200, {"max_devices": 1, "current_devices": 2})

    async def test_one_seat_is_not_moved_twice(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "a")
        replies = await asyncio.gather(*(transfer(client, license, "a", f"b{n}") for n in range(10)))
        assert sorted(reply.status for reply in replies) == [200] + [404] * 9
        assert await seats(client, license) == 1

    @pytest.mark.parametrize("source, target", [(None, "b"), ("a", None), (1, "b"), ("a", "")])
    async def test_malformed_bodies(self, client: Client, source: Any, target: Any) -> None:
        reply = await transfer(client, await client.new_license(), source, target)
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
