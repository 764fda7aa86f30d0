"""Idempotency keys: a repeat gets the first success again, whoever races, and nothing happens twice."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.http.passing_time import Passing
from tests.support.client import Client, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

REPLAYED = "Idempotency-Replayed"


async def events(client: Client, license: dict[str, Any]) -> list[str]:
    reply = await client.admin("GET", f"/licenses/{license['license_id']}/events")
    return [event["type"] for event in reply["events"]]


def is_replay(first: Reply, again: Reply) -> bool:
    return (
        (again.status, again.body) == (first.status, first.body)
        and REPLAYED not in first.headers
        and again.headers.get(REPLAYED) == "true"
    )


async def commands(client: Client) -> dict[str, tuple[str, str, Any, dict[str, str]]]:
    """Return every state-changing command that takes a key: method, path, body, credential."""
    license = await client.new_license(email=f"{uuid4()}@example.org", max_devices=9)
    for device in ("a", "b", "c", "d", "e"):
        await client.activate(license, device)
    admin = {"x_admin_api_key": client.secrets.admin_api_key}
    program = {"x_api_key": client.api_key}
    b_admin = {"x_admin_token": client.secrets.admin_token}
    b_client = {"x_client_token": client.secrets.client_token}
    path = f"/api/v1/admin/licenses/{license['license_id']}"
    known = {"license_key": license["license_key"], "email": license["email"]}
    b_license = {"email": "x@example.org", "product": "p", "edition": "e", "max_activations": 1}
    key = {"license_key": license["license_key"]}
    return {
        "create": ("POST", "/api/v1/admin/licenses", {"customer_id": "c"}, admin),
        "bulk": ("POST", "/api/v1/admin/licenses/bulk-create", {"licenses": [{"customer_id": "c"}]}, admin),
        "patch": ("PATCH", path, {"max_devices": 8}, admin),
        "deactivate by admin": ("POST", f"{path}/devices/deactivate", {"hardware_id": "a"}, admin),
        "transfer": ("POST", f"{path}/transfer", {"from_hardware_id": "b", "to_hardware_id": "z"}, admin),
        "activate": ("POST", "/api/v1/license/activate", {**key, "hardware_id": "new"}, program),
        "deactivate": ("POST", "/api/v1/license/deactivate", {**key, "hardware_id": "c"}, program),
        "api-key": (
            "POST",
            "/api/v1/auth/api-key",
            {"client_name": "x"},
            {"x_admin_secret": client.secrets.admin_secret},
        ),
        "B create": ("POST", "/licenses-api/v1/admin/licenses", b_license, b_admin),
        "B activate": (
            "POST",
            "/licenses-api/v1/activate",
            {**known, "device_hash": "new2", "device_name": "n"},
            b_client,
        ),
        "B deactivate device": (
            "POST",
            "/licenses-api/v1/admin/deactivate-device",
            {**known, "device_hash": "d"},
            b_admin,
        ),
        "B enable": ("POST", "/licenses-api/v1/admin/licenses/enable", {**known, "enabled": False}, b_admin),
    }


async def test_every_state_changing_command_is_repeated_safely(client: Client) -> None:
    for name, (method, path, body, credential) in (await commands(client)).items():
        key = str(uuid4())
        first = await client.request(method, path, body, idempotency_key=key, **credential)
        assert first.status in {200, 201}, (name, first)
        again = await client.request(method, path, body, idempotency_key=key, **credential)
        assert is_replay(first, again), name
        other = await client.request(method, path, {**body, "more": 1}, idempotency_key=key, **credential)
        assert other.status == 422, name
        if path.startswith("/licenses-api"):
            assert set(other.body) == {"detail"}
        else:
            assert other["error_code"] == "IDEMPOTENCY_KEY_REUSED"


async def test_the_same_body_may_be_written_in_another_way(client: Client) -> None:
    license = await client.new_license()
    first = await client.activate(license, "pc", fields={"device_name": "x"}, idempotency_key="same")
    text = f'{{ "device_name":"\\u0078",\n"hardware_id":"pc", "license_key":"{license["license_key"]}"}}'.encode()
    again = await client.program("/api/v1/license/activate", text, idempotency_key="same")
    assert is_replay(first, again)


async def test_fifty_parallel_repeats_make_one_event_and_one_answer(client: Client) -> None:
    license = await client.new_license(max_devices=5)
    replies = await asyncio.gather(*(client.activate(license, "pc", idempotency_key="race") for _ in range(50)))
    good = [reply for reply in replies if reply.status == 201]
    assert {reply["error_code"] for reply in replies if reply.status != 201} <= {"IDEMPOTENCY_IN_PROGRESS"}
    assert len({str(reply.body) for reply in good}) == 1
    assert sum(REPLAYED not in reply.headers for reply in good) == 1
    assert await events(client, license) == ["license.activated", "license.issued"]


async def test_of_fifty_parallel_creations_there_is_one(client: Client) -> None:
    customer = str(uuid4())
    made = await asyncio.gather(
        *(client.admin("POST", "/licenses", {"customer_id": customer}, idempotency_key="race") for _ in range(50))
    )
    assert len({reply["license_id"] for reply in made if reply.status == 201}) == 1
    assert (await client.admin("GET", f"/licenses?customer_id={customer}"))["pagination"]["total"] == 1


async def test_different_bodies_that_race_are_not_mixed_up(client: Client) -> None:
    license = await client.new_license(max_devices=50)
    replies = await asyncio.gather(*(client.activate(license, f"pc-{n}", idempotency_key="mixed") for n in range(20)))
    assert sorted(reply.status for reply in replies) == [201] + [422] * 19
    assert await events(client, license) == ["license.activated", "license.issued"]


async def test_a_key_is_the_credentials_own(client: Client) -> None:
    license = await client.new_license()
    other = (await client.new_api_key())["api_key"]
    assert (await client.activate(license, "pc", idempotency_key="k-one")).status == 201
    reply = await client.activate(license, "pc", idempotency_key="k-one", x_api_key=other)
    assert (reply.status, reply["error_code"]) == (409, "ALREADY_ACTIVATED")


async def test_a_key_is_the_routes_and_the_licences_own(client: Client) -> None:
    first, second = await client.new_license(), await client.new_license()
    body = {"max_devices": 7}
    for license in (first, second):
        reply = await client.admin("PATCH", f"/licenses/{license['license_id']}", body, idempotency_key="k-two")
        assert reply["license_id"] == license["license_id"]
        assert REPLAYED not in reply.headers
    # The same path, but another method.
    ended = await client.admin("DELETE", f"/licenses/{second['license_id']}", idempotency_key="k-two")
    assert (ended.status, REPLAYED in ended.headers) == (200, False)
    await client.activate(first, "pc", idempotency_key="k2-two")
    key = {"license_key": first["license_key"], "hardware_id": "pc"}
    reply = await client.program("/api/v1/license/deactivate", key, idempotency_key="k2-two")
    assert (reply.status, REPLAYED in reply.headers) == (200, False)


async def test_a_replay_answers_as_it_was_though_the_world_has_moved_on(client: Client) -> None:
    license = await client.new_license()
    first = await client.activate(license, "pc", idempotency_key="k-three")
    path = f"/licenses/{license['license_id']}"
    await client.admin("POST", f"{path}/devices/deactivate", {"hardware_id": "pc"})
    assert is_replay(first, await client.activate(license, "pc", idempotency_key="k-three"))
    assert (await client.validate(license, "pc"))["error_code"] == "DEVICE_NOT_ACTIVATED"


async def test_only_successes_are_kept(client: Client) -> None:
    license = await client.new_license(max_devices=1)
    await client.activate(license, "first")
    assert (await client.activate(license, "pc", idempotency_key="k-four")).status == 409
    path = f"/licenses/{license['license_id']}"
    await client.admin("POST", f"{path}/devices/deactivate", {"hardware_id": "first"})
    reply = await client.activate(license, "pc", idempotency_key="k-four")
    assert (reply.status, REPLAYED in reply.headers) == (201, False)


async def test_a_malformed_body_uses_no_key_up(client: Client) -> None:
    license = await client.new_license()
    body = {"license_key": license["license_key"]}
    assert (await client.program("/api/v1/license/activate", body, idempotency_key="k-five")).status == 400
    assert (await client.activate(license, "pc", idempotency_key="k-five")).status == 201


async def test_validate_token_refresh_verify_and_heartbeat_never_replay(client: Client) -> None:
    license = await client.new_license()
    assert (await client.validate(license, "pc", idempotency_key="v")).status == 403
    await client.activate(license, "pc")
    for _ in range(2):
        reply = await client.validate(license, "pc", idempotency_key="v")
        assert (reply.status, REPLAYED in reply.headers) == (200, False)
    body = {"license_id": license["license_id"], "hardware_id": "pc"}
    tokens = [await client.program("/api/v1/auth/token", body, idempotency_key="t") for _ in range(2)]
    assert tokens[0]["access_token"] != tokens[1]["access_token"]
    bearer = {"authorization": f"Bearer {tokens[0]['access_token']}"}
    old = {"refresh_token": tokens[0]["refresh_token"]}
    assert (await client.request("POST", "/api/v1/auth/refresh", old, idempotency_key="r")).status == 200
    assert (await client.request("POST", "/api/v1/auth/refresh", old, idempotency_key="r")).status == 401
    for path in ("/api/v1/auth/verify", "/api/v1/license/heartbeat"):
        for sent in ({}, {"session_data": {"a": 1}}):
            reply = await client.request("POST", path, sent, idempotency_key="h", **bearer)
            assert (reply.status, REPLAYED in reply.headers) == (200, False)


async def test_after_a_day_the_key_is_forgotten(client: Client, time_passes: Passing) -> None:
    body = {"customer_id": "c"}
    first = await client.admin("POST", "/licenses", body, idempotency_key="day")
    time_passes.by(hours=23)
    assert is_replay(first, await client.admin("POST", "/licenses", body, idempotency_key="day"))
    time_passes.by(hours=1, seconds=1)
    reply = await client.admin("POST", "/licenses", body, idempotency_key="day")
    assert (reply.status, REPLAYED in reply.headers) == (201, False)
    assert reply["license_id"] != first["license_id"]


@pytest.mark.parametrize("key", ["x" * 256, "ü", "a\tb", ""])
async def test_what_is_no_key_is_refused(client: Client, key: str) -> None:
    reply = await client.admin("POST", "/licenses", {"customer_id": "c"}, idempotency_key=key)
    assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR")
    assert "Idempotency-Key" in reply["details"]
    # Nothing was done before: it is no guess at a licence key either.
    body = {"license_key": "LIC-NOBODYSKEY22", "hardware_id": "pc-1"}
    assert (await client.program("/api/v1/license/activate", body, idempotency_key=key)).status == 400


async def test_the_longest_key_works(client: Client) -> None:
    key = "k" * 255
    first = await client.admin("POST", "/licenses", {"customer_id": "c"}, idempotency_key=key)
    assert is_replay(first, await client.admin("POST", "/licenses", {"customer_id": "c"}, idempotency_key=key))


async def test_the_answer_can_not_be_had_with_a_key_alone(client: Client) -> None:
    """A stranger who guesses an idempotency key, but not the credential, gets nothing."""
    await client.new_api_key()
    body = {"client_name": "x"}
    secret = client.secrets.admin_secret
    first = await client.request("POST", "/api/v1/auth/api-key", body, x_admin_secret=secret, idempotency_key="guess")
    reply = await client.request("POST", "/api/v1/auth/api-key", body, x_admin_secret="x", idempotency_key="guess")
    assert (reply.status, first["api_key"] in str(reply.body)) == (401, False)
