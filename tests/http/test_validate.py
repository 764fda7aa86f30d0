"""Validate: every rule in its order, and what a program gets to know."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.http.passing_time import Passing
from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")


def refused(reply: Reply, status: int, code: str) -> bool:
    """Whether a refusal has the whole shape: `valid` beside the error's three fields."""
    return (
        reply.status == status
        and set(reply.body) == {"valid", "error", "error_code", "details"}
        and reply["valid"] is False
        and reply["error_code"] == code
        and isinstance(reply["details"], dict)
        and bool(reply["error"])
    )


async def update(client: Client, license: dict[str, Any], **fields: Any) -> None:
    assert (await client.admin("PATCH", f"/licenses/{license['license_id']}", fields)).status == 200


async def test_a_good_device_hears_all_about_its_licence(client: Client) -> None:
    license = await client.new_license(
        features=["a", "b"], expires_in_days=2, product="Editor", edition="Pro", max_devices=5
    )
    await client.activate(license, "device-123")
    reply = await client.validate(license, "device-123", fields={"app_version": "1.0"})
    assert reply.status == 200
    validated_at = reply.body.pop("validated_at")
    assert reply.body == {
        "valid": True,
        "license_id": license["license_id"],
        "expires_at": license["expires_at"],
        "features": ["a", "b"],
        "limits": {"max_devices": 5, "current_devices": 1},
        "product": "Editor",
        "edition": "Pro",
    }
    assert abs(datetime.fromisoformat(validated_at) - datetime.now(UTC)) < timedelta(seconds=10)
    assert reply.headers["Cache-Control"] == "private, max-age=300"
    assert reply.headers["Content-Type"].startswith("application/json")


async def test_a_perpetual_licence_without_product_says_null(client: Client) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    reply = await client.validate(license, "pc")
    assert (reply["expires_at"], reply["product"], reply["edition"], reply["features"]) == (None, None, None, [])


async def test_near_the_end_the_answer_may_not_be_cached_beyond_it(client: Client, time_passes: Passing) -> None:
    license = await client.new_license(expires_in_days=1)
    await client.activate(license, "pc")
    time_passes.by(hours=23, minutes=58)
    reply = await client.validate(license, "pc")
    assert reply.status == 200
    seconds = int(reply.headers["Cache-Control"].removeprefix("private, max-age="))
    assert 100 < seconds <= 120


async def test_the_rules_come_in_their_order(client: Client) -> None:
    license = await client.new_license(max_devices=1)
    unknown = {"license_key": "LIC-AAAAAAAAAAAA"}
    assert refused(await client.validate(unknown, "pc-1"), 404, "LICENSE_NOT_FOUND")
    assert refused(await client.validate(license, "pc-1"), 403, "DEVICE_NOT_ACTIVATED")
    await client.activate(license, "pc-1")
    reply = await client.validate(license, "pc-2")
    assert refused(reply, 403, "DEVICE_LIMIT_EXCEEDED")
    assert reply["details"] == {"max_devices": 1, "current_devices": 1}
    await update(client, license, expires_at="2020-01-01T00:00:00Z")
    for device in ("pc-1", "pc-2"):
        assert refused(await client.validate(license, device), 403, "LICENSE_EXPIRED")
    await update(client, license, is_active=False)
    for device in ("pc-1", "pc-2"):
        assert refused(await client.validate(license, device), 403, "LICENSE_INACTIVE")
    await update(client, license, is_active=True, expires_at=None)
    assert (await client.validate(license, "pc-1"))["valid"] is True


async def test_no_refusal_may_be_cached(client: Client) -> None:
    license = await client.new_license()
    reply = await client.validate(license, "pc")
    assert "no-store" in reply.headers["Cache-Control"]


async def test_a_licence_is_good_at_the_instant_it_expires_and_not_after(client: Client, time_passes: Passing) -> None:
    license = await client.new_license(expires_in_days=1)
    await client.activate(license, "pc")
    end = datetime.fromisoformat(license["expires_at"])
    time_passes.stop_at(end)
    reply = await client.validate(license, "pc")
    assert (reply.status, reply.headers["Cache-Control"]) == (200, "private, max-age=0")
    assert (await client.activate(license, "pc-2")).status == 201
    time_passes.stop_at(end + timedelta(microseconds=1))
    assert refused(await client.validate(license, "pc"), 403, "LICENSE_EXPIRED")
    assert (await client.activate(license, "pc-3"))["error_code"] == "LICENSE_EXPIRED"


async def test_a_change_is_seen_by_the_very_next_validation(client: Client) -> None:
    license = await client.new_license(max_devices=2)
    await client.activate(license, "pc")
    for devices in range(3, 9):
        assert (await client.validate(license, "pc")).status == 200
        await update(client, license, max_devices=devices, features=[f"f{devices}"], edition=f"E{devices}")
        reply = await client.validate(license, "pc")
        assert reply["limits"]["max_devices"] == devices
        assert (reply["features"], reply["edition"]) == ([f"f{devices}"], f"E{devices}")
    await client.admin("POST", f"/licenses/{license['license_id']}/devices/deactivate", {"hardware_id": "pc"})
    assert refused(await client.validate(license, "pc"), 403, "DEVICE_NOT_ACTIVATED")
    await client.activate(license, "pc")
    assert (await client.validate(license, "pc")).status == 200
    await client.admin("DELETE", f"/licenses/{license['license_id']}")
    assert refused(await client.validate(license, "pc"), 403, "LICENSE_INACTIVE")


async def test_a_lowered_limit_keeps_active_devices_valid(client: Client) -> None:
    license = await client.new_license(max_devices=3)
    for device in ("a", "b", "c"):
        await client.activate(license, device)
    await update(client, license, max_devices=1)
    for device in ("a", "b", "c"):
        reply = await client.validate(license, device)
        assert reply["limits"] == {"max_devices": 1, "current_devices": 3}
    assert refused(await client.validate(license, "d"), 403, "DEVICE_LIMIT_EXCEEDED")


@pytest.mark.parametrize("typed", [str.lower, lambda key: f"  {key}\n", lambda key: key.replace("-", " - ")])
async def test_a_key_may_be_typed_in_lower_case_and_with_blanks(client: Client, typed: Any) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    assert (await client.validate({"license_key": typed(license["license_key"])}, "pc")).status == 200


async def test_hardware_ids_are_trimmed_and_then_compared_byte_for_byte(client: Client) -> None:
    license = await client.new_license()
    await client.activate(license, "Gerät-é")
    assert (await client.validate(license, "  Gerät-é\t")).status == 200
    for other in ("gerät-é", "Gerät-e\u0301", "Gerät-é\u200b"):
        assert refused(await client.validate(license, other), 403, "DEVICE_NOT_ACTIVATED")


async def test_another_product_is_refused_before_the_device_is_looked_at(client: Client) -> None:
    license = await client.new_license(product="Editor")
    await client.activate(license, "pc")
    assert (await client.validate(license, "pc", fields={"product": "Editor"})).status == 200
    for device in ("pc", "unknown"):
        reply = await client.validate(license, device, fields={"product": "editor"})
        assert refused(reply, 403, "PRODUCT_MISMATCH")


@pytest.mark.parametrize(
    "change, field",
    [
        ({"license_key": None}, "license_key"),
        ({"license_key": 7}, "license_key"),
        ({"license_key": ""}, "license_key"),
        ({"license_key": "x" * 5000}, "license_key"),
        ({"hardware_id": ""}, "hardware_id"),
        ({"hardware_id": "   "}, "hardware_id"),
        ({"hardware_id": "a\nb"}, "hardware_id"),
        ({"hardware_id": "a\x00b"}, ""),
        ({"hardware_id": "x" * 257}, "hardware_id"),
        ({"hardware_id": ["pc"]}, "hardware_id"),
        ({"hardware_id": True}, "hardware_id"),
        ({"app_version": 1.0}, "app_version"),
        ({"app_version": "x" * 257}, "app_version"),
        ({"product": 5}, "product"),
        ({"nonce": {}}, "nonce"),
    ],
)
async def test_a_malformed_field_is_named(client: Client, change: dict[str, Any], field: str) -> None:
    body = {"license_key": "LIC-AAAAAAAAAAAA", "hardware_id": "pc", **change}
    reply = await client.program("/api/v1/license/validate", body)
    assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
    assert field in " ".join(reply["details"])


async def test_all_wrong_fields_are_named_at_once(client: Client) -> None:
    reply = await client.program("/api/v1/license/validate", {"hardware_id": 1})
    assert set(reply["details"]) == {"license_key", "hardware_id"}


async def test_unknown_fields_are_ignored(client: Client) -> None:
    license = await client.new_license()
    await client.activate(license, "pc")
    assert (await client.validate(license, "pc", fields={"more": {"a": [1]}, "app_version": None})).status == 200


async def test_the_longest_ids_work(client: Client) -> None:
    license = await client.new_license()
    longest = "\U0001f600" * 256
    assert (await client.activate(license, longest)).status == 201
    assert (await client.validate(license, longest)).status == 200


async def test_a_nonce_comes_back_signed_in_success_and_refusal(client: Client) -> None:
    license = await client.new_license()
    reply = await client.validate(license, "pc", fields={"nonce": "n-1"})
    assert reply.status == 403
    assert set(reply.body) == {"valid", "error", "error_code", "details", "nonce", "kid", "signature"}
    await client.activate(license, "pc")
    reply = await client.validate(license, "pc", fields={"nonce": "n-2"})
    assert reply.status == 200
    assert reply["nonce"] == "n-2"
    assert {"kid", "signature"} < set(reply.body)
