"""What happened and how much is used, for administrators."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from tests.http.passing_time import Passing
from tests.support.client import Client, Reply, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def report(client: Client, license: dict[str, Any], what: str) -> Reply:
    return await client.admin("GET", f"/licenses/{license['license_id']}/{what}")


async def events(client: Client, license: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    reply = await report(client, license, f"events{query}")
    assert reply.status == 200
    assert set(reply.body) == {"events"}
    found: list[dict[str, Any]] = reply["events"]
    return found


class TestEvents:
    async def test_a_life_newest_first(self, client: Client) -> None:
        license = await client.new_license()
        path = f"/licenses/{license['license_id']}"
        await client.activate(license, "a", fields={"device_name": "Zoës PC"})
        await client.admin("POST", f"{path}/transfer", {"from_hardware_id": "a", "to_hardware_id": "b"})
        await client.admin("POST", f"{path}/devices/deactivate", {"hardware_id": "b", "reason": "sold"})
        await client.admin("PATCH", path, {"max_devices": 9})
        await client.admin("DELETE", path)
        await client.admin("PATCH", path, {"is_active": True})
        found = await events(client, license)
        assert [event["type"] for event in found] == [
            "license.reactivated",
            "license.deactivated",
            "license.updated",
            "device.deactivated",
            "license.transferred",
            "license.activated",
            "license.issued",
        ]
        positions = [event["position"] for event in found]
        assert positions == sorted(set(positions), reverse=True)
        for event in found:
            assert {"event_id", "position", "type", "occurred_at", "hardware_id", "actor", "data"} <= set(event)
            assert str(UUID(event["event_id"])) == event["event_id"]
            assert abs(datetime.fromisoformat(event["occurred_at"]) - datetime.now(UTC)) < timedelta(minutes=1)
        by_type = {event["type"]: event for event in found}
        assert by_type["license.activated"]["hardware_id"] == "a"
        assert by_type["license.activated"]["data"]["device_name"] == "Zoës PC"
        assert by_type["device.deactivated"]["data"]["reason"] == "sold"
        assert by_type["license.transferred"]["data"]["from_hardware_id"] == "a"
        assert by_type["license.transferred"]["data"]["to_hardware_id"] == "b"
        assert by_type["license.updated"]["data"] == {"max_devices": 9}
        assert by_type["license.issued"]["hardware_id"] is None

    async def test_they_say_who_did_it_and_in_which_request(self, client: Client) -> None:
        license = await client.new_license()
        await client.activate(license, "a", x_request_id="from-the-program")
        activated, issued = await events(client, license)
        assert issued["actor"].startswith("admin:")
        assert activated["actor"].startswith("api-key:")
        assert "from-the-program" in str(activated)

    async def test_they_hold_no_key_and_no_ciphertext(self, client: Client) -> None:
        license = await client.new_license(email="zoe@example.org", metadata={"a": 1})
        await client.activate(license, "a", fields={"device_name": "x"})
        text = str(await events(client, license))
        assert license["license_key"] not in text
        for name in ("sealed", "digest", "name_tag"):
            assert name not in text

    async def test_the_perpetual_licences_end_is_shown_as_a_change(self, client: Client) -> None:
        license = await client.new_license(expires_in_days=3)
        await client.admin("PATCH", f"/licenses/{license['license_id']}", {"expires_at": None})
        updated, _ = await events(client, license)
        assert updated["data"] == {"expires_at": None}

    async def test_hours_look_back(self, client: Client, time_passes: Passing) -> None:
        license = await client.new_license()
        time_passes.by(hours=25)
        await client.activate(license, "a")
        assert [event["type"] for event in await events(client, license)] == ["license.activated"]
        assert len(await events(client, license, "?hours=26")) == 2
        assert len(await events(client, license, "?hours=8760")) == 2
        time_passes.by(hours=2)
        assert await events(client, license, "?hours=1") == []

    @pytest.mark.parametrize("query", ["hours=0", "hours=8761", "hours=x", "hours=1.5", "days=1", "hours=1&hours=2"])
    async def test_other_queries_are_refused(self, client: Client, query: str) -> None:
        reply = await report(client, await client.new_license(), f"events?{query}")
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")


class TestUsage:
    async def test_counts_by_day(self, client: Client, time_passes: Passing) -> None:
        time_passes.until_noon()
        license = await client.new_license()
        for device in ("a", "b"):
            await client.activate(license, device)
            await client.validate(license, device)
        await client.validate(license, "c")
        time_passes.by(days=1)
        await client.validate(license, "a")
        token = (await client.tokens(license, "a"))["access_token"]
        await client.bearer("/api/v1/license/heartbeat", token, {})

        async def counted() -> Reply | None:
            reply = await report(client, license, "usage")
            assert reply.status == 200
            return reply if reply["heartbeats"] and not reply["as_of"]["lag_seconds"] else None

        reply: Reply = await eventually(counted)
        assert (reply["license_id"], reply["days"]) == (license["license_id"], 30)
        assert (reply["validations"], reply["failed_validations"], reply["heartbeats"]) == (3, 1, 1)
        assert reply["unique_devices"] == 2
        today, yesterday = reply["daily"][-1], reply["daily"][-2]
        assert (yesterday["validations"], yesterday["failed_validations"], yesterday["heartbeats"]) == (2, 1, 0)
        assert (today["validations"], today["failed_validations"], today["heartbeats"]) == (1, 0, 1)
        assert datetime.fromisoformat(today["date"]) - datetime.fromisoformat(yesterday["date"]) == timedelta(days=1)
        reply = await report(client, license, "usage?days=1")
        assert (reply["days"], len(reply["daily"]), reply["unique_devices"]) == (1, 1, 1)

    async def test_it_says_as_of_when(self, client: Client) -> None:
        license = await client.new_license()

        async def caught_up() -> dict[str, Any] | None:
            as_of: dict[str, Any] = (await report(client, license, "usage"))["as_of"]
            return None if as_of["lag_seconds"] else as_of

        as_of = await eventually(caught_up)
        (issued,) = await events(client, license)
        assert as_of["position"] >= issued["position"]
        assert abs(datetime.fromisoformat(as_of["time"]) - datetime.now(UTC)) < timedelta(seconds=30)

    async def test_an_unused_licence(self, client: Client) -> None:
        reply = await report(client, await client.new_license(), "usage?days=365")
        assert reply.status == 200
        assert (reply["validations"], reply["unique_devices"]) == (0, 0)

    @pytest.mark.parametrize("query", ["days=0", "days=366", "days=x", "hours=1"])
    async def test_other_queries_are_refused(self, client: Client, query: str) -> None:
        reply = await report(client, await client.new_license(), f"usage?{query}")
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")


class TestStatistics:
    async def test_each_number_follows_what_happens(self, client: Client) -> None:
        async def numbers() -> dict[str, int]:
            reply = await client.admin("GET", "/statistics")
            assert reply.status == 200
            assert {"position", "time"} <= set(reply.body.pop("as_of"))
            found: dict[str, int] = reply.body
            return found

        async def difference(before: dict[str, int]) -> dict[str, int]:
            after = await numbers()
            return {name: after[name] - before[name] for name in after if after[name] != before[name]}

        start = await numbers()
        license = await client.new_license(max_devices=4)
        assert await difference(start) == {"total_licenses": 1, "active_licenses": 1, "seats": 4}
        start = await numbers()
        await client.activate(license, "a")
        assert await difference(start) == {"total_devices": 1, "active_devices": 1}
        start = await numbers()
        await client.validate(license, "a")
        await client.validate(license, "b")

        async def counted() -> bool:
            return await difference(start) == {"validations_24h": 1, "failed_validations_24h": 1}

        await eventually(counted)
        start = await numbers()
        await client.new_license(is_test=True, expires_in_days=10, max_devices=1)
        assert (await difference(start))["expiring_in_30_days"] == 1
        start = await numbers()
        await client.admin("PATCH", f"/licenses/{license['license_id']}", {"expires_at": "2020-01-01T00:00:00Z"})
        assert (await difference(start))["expired_licenses"] == 1
        await client.admin("DELETE", f"/licenses/{license['license_id']}")
        assert (await difference(start))["inactive_licenses"] == 1

    async def test_it_takes_no_parameters(self, client: Client) -> None:
        assert (await client.admin("GET", "/statistics?days=3")).status == 400
