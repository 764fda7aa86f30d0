"""Each limit that docs/dialects.md states: what is just within it is taken, and one more is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from tests.support.client import Client, Reply
from tests.support.world import Request, Seat, World, make_world

ADMIN = "/api/v1/admin"
OF_LICENSE = "/api/v1/analytics/licenses/LICENSE"
REFUSED = {400, 413, 422}


@dataclass(frozen=True, slots=True)
class Limit:
    """A field of a valid request with a value that is just within its limit, and one that is just beyond."""

    to: str
    field: str
    within: Any
    beyond: Any


def nested(levels: int) -> dict[str, Any]:
    """Return an object of so many levels."""
    return {"a": 1} if levels == 1 else {"a": nested(levels - 1)}


def features_of(size: int) -> list[str]:
    """Return features that are so many bytes long as compact JSON."""
    full = ["x" * 250] * 32
    return [*full, "y" * (size - len(json.dumps(full, separators=(",", ":"))) - 3)]


def object_of(size: int) -> dict[str, str]:
    """Return an object that is so many bytes long as compact JSON."""
    return {"a": "x" * (size - len('{"a":""}'))}


def text(size: int) -> str:
    return "x" * size


def e_mail(size: int) -> str:
    return f"{'x' * (size - 12)}@example.com" if size > 12 else f"{'x' * (size - 2)}@y"


KEY = [Limit("validate", "license_key", text(256), text(257)), Limit("b-activate", "license_key", text(256), text(257))]
LIMITS = [
    *KEY,
    *(Limit(to, "hardware_id", text(256), text(257)) for to in ("validate", "activate", "deactivate", "token")),
    Limit("validate", "hardware_id", "x", ""),
    Limit("validate", "app_version", text(256), text(257)),
    Limit("validate", "nonce", text(128), text(129)),
    Limit("activate", "device_name", text(256), text(257)),
    Limit("activate", "os_info", object_of(16_384), object_of(16_385)),
    Limit("activate", "os_info", nested(8), nested(9)),
    Limit("token", "license_id", text(64), text(65)),
    Limit("refresh", "refresh_token", text(16_384), text(16_385)),
    Limit("heartbeat", "session_data", object_of(16_384), object_of(16_385)),
    Limit("heartbeat", "session_data", nested(8), nested(9)),
    Limit("offline-token", "duration_hours", 720, 721),
    Limit("offline-token", "duration_hours", 1, 0),
    Limit("create", "customer_id", f" {text(256)} ", text(257)),
    Limit("create", "max_devices", 100_000, 100_001),
    Limit("create", "max_devices", 1, 0),
    Limit("create", "expires_in_days", 36_500, 36_501),
    Limit("create", "expires_in_days", 1, 0),
    Limit("create", "features", [str(number) for number in range(200)], [str(number) for number in range(201)]),
    Limit("create", "features", features_of(8192), features_of(8193)),
    Limit("create", "features", [text(256)], [text(257)]),
    Limit("create", "metadata", object_of(16_384), object_of(16_385)),
    Limit("create", "metadata", nested(8), nested(9)),
    Limit("create", "product", text(256), text(257)),
    Limit("create", "email", e_mail(320), e_mail(321)),
    Limit("create", "email", e_mail(3), e_mail(2)),
    Limit("create", "ignored", 2**63 - 1, 2**63),
    Limit("create", "ignored", -(2**63), -(2**63) - 1),
    Limit("create", "ignored", nested(31), nested(32)),  # The body itself is a level.
    Limit("change", "max_devices", 100_000, 100_001),
    Limit("change", "metadata", object_of(16_384), object_of(16_385)),
    Limit("transfer", "reason", text(1000), text(1001)),
    Limit("api-key", "client_name", text(256), text(257)),
    Limit("api-key", "client_name", "x", ""),
    Limit("api-key", "allowed_endpoints", ["/x"] * 100, ["/x"] * 101),
    Limit("api-key", "allowed_endpoints", [f"/{text(255)}"], [f"/{text(256)}"]),
    Limit("api-key", "requests_per_minute", 1_000_000_000, 1_000_000_001),
    Limit("api-key", "requests_per_hour", 1, 0),
    Limit("erase", "reason", text(1000), text(1001)),
    Limit("correct", "reason", text(1000), text(1001)),
    Limit("b-create", "max_activations", 100_000, 100_001),
    Limit("b-create", "edition", text(256), text(257)),
    Limit("b-create", "product", "x", ""),
    Limit("b-activate", "device_hash", text(256), text(257)),
    Limit("b-deactivate", "license_key_hash", "a" * 64, "a" * 65),
]


def requests_of(world: World, seat: Seat) -> dict[str, Request]:
    """Return valid requests by the names above."""
    key, bearer = {"X-API-Key": world.client.api_key}, {"Authorization": f"Bearer {seat.access}"}
    secrets = world.client.secrets
    admin, client = {"X-Admin-API-Key": secrets.admin_api_key}, {"X-Client-Token": secrets.client_token}
    secret, b_admin = {"X-Admin-Secret": secrets.admin_secret}, {"X-Admin-Token": secrets.admin_token}
    device = {"license_key": seat.license["license_key"], "hardware_id": seat.hardware_id}
    one, b = f"{ADMIN}/licenses/{seat.license['license_id']}", "/licenses-api/v1"
    known = {"license_key": world.b_license["license_key"], "email": world.b_license["email"]}
    created = {"email": "a@example.com", "product": "p", "edition": "e", "max_activations": 2}
    by_hash = {"license_key_hash": world.b_license["license_key_hash"], "device_hash": "none"}
    return {
        "validate": Request("POST", "/api/v1/license/validate", key, device),
        "activate": Request("POST", "/api/v1/license/activate", key, {**device, "hardware_id": f"new-{uuid4()}"}),
        "deactivate": Request("POST", "/api/v1/license/deactivate", key, device),
        "token": Request("POST", "/api/v1/auth/token", key, {**device, "license_id": seat.license["license_id"]}),
        "refresh": Request("POST", "/api/v1/auth/refresh", {}, {"refresh_token": "x"}),
        "heartbeat": Request("POST", "/api/v1/license/heartbeat", bearer, {}),
        "offline-token": Request("POST", "/api/v1/license/offline-token", bearer, {}),
        "create": Request("POST", f"{ADMIN}/licenses", admin, {"customer_id": "c"}),
        "change": Request("PATCH", one, admin, {}),
        "transfer": Request("POST", f"{one}/transfer", admin, {"from_hardware_id": "a", "to_hardware_id": "b"}),
        "correct": Request("POST", f"{one}/corrections", admin, {"event_id": str(uuid4()), "reason": "r"}),
        "erase": Request("POST", f"{ADMIN}/customers/{world.customer_id}/erase", admin, {"reason": "r"}),
        "api-key": Request("POST", "/api/v1/auth/api-key", secret, {"client_name": "c"}),
        "b-create": Request("POST", f"{b}/admin/licenses", b_admin, created),
        "b-activate": Request("POST", f"{b}/activate", client, {**known, "device_hash": "d", "device_name": "n"}),
        "b-deactivate": Request("POST", f"{b}/deactivate", client, by_hash),
    }  # fmt: skip


async def send(client: Client, request: Request, **headers: str) -> Reply:
    return await client.request(request.method, request.path, request.body, **{**request.headers, **headers})


@pytest.mark.parametrize("limit", LIMITS, ids=lambda one: f"{one.to}-{one.field}-{str(one.beyond)[:12]}")
async def test_one_more_is_too_many(attacker: Client, world: World, limit: Limit) -> None:
    made = await make_world(attacker)
    request = requests_of(made, made.seats[0])[limit.to]
    within, beyond = [
        await send(attacker, replace(request, body={**request.body, limit.field: value}))
        for value in (limit.within, limit.beyond)
    ]

    assert within.status not in REFUSED, within
    assert within.status < 500
    assert beyond.status in REFUSED, beyond


QUERIES = [
    (f"{ADMIN}/licenses?per_page=", 100, 101), (f"{ADMIN}/licenses?per_page=", 1, 0),
    (f"{ADMIN}/licenses?page=", 1_000_000, 1_000_001), (f"{ADMIN}/licenses?page=", 1, 0),
    (f"{ADMIN}/licenses/LICENSE/events?hours=", 8760, 8761), (f"{ADMIN}/licenses/LICENSE/usage?days=", 365, 366),
    (f"{OF_LICENSE}/patterns?days=", 365, 366), ("/api/v1/analytics/reports/usage?days=", 365, 366),
    (f"{ADMIN}/anomalies?per_page=", 100, 101), ("/licenses-api/v1/admin/licenses?per_page=", 100, 101),
]  # fmt: skip


@pytest.mark.parametrize("path,within,beyond", QUERIES)
async def test_one_more_is_too_many_in_a_query(
    attacker: Client, world: World, path: str, within: int, beyond: int
) -> None:
    secrets = attacker.secrets
    headers = (
        {"X-Admin-Token": secrets.admin_token}
        if path.startswith("/licenses-api")
        else {"X-API-Key": attacker.api_key, "X-Admin-API-Key": secrets.admin_api_key}
    )
    base = path.replace("LICENSE", world.seats[0].license["license_id"])

    assert (await send(attacker, Request("GET", f"{base}{within}", headers))).status == 200
    assert (await send(attacker, Request("GET", f"{base}{beyond}", headers))).status in REFUSED


async def test_an_idempotency_key_has_255_characters_at_most(attacker: Client) -> None:
    create = {"customer_id": "c"}

    assert (await attacker.admin("POST", "/licenses", create, idempotency_key=text(255))).status == 201
    assert (await attacker.admin("POST", "/licenses", create, idempotency_key=text(256))).status == 400


async def test_a_request_id_has_128_characters_at_most(attacker: Client) -> None:
    kept = await attacker.admin("GET", "/statistics", x_request_id=text(128))
    replaced = await attacker.admin("GET", "/statistics", x_request_id=text(129))

    assert kept.headers["X-Request-ID"] == text(128)
    assert len(replaced.headers["X-Request-ID"]) == 32


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("path,limit", [("/licenses", 65_536), ("/licenses/bulk-create", 4_194_304)])
async def test_a_body_has_so_many_bytes_at_most(attacker: Client, path: str, limit: int) -> None:
    body = json.dumps({"customer_id": "c", "licenses": [{"customer_id": "c"}]}).encode()
    padded = body + b" " * (limit - len(body))

    assert (await attacker.admin("POST", path, padded)).status == 201
    assert (await attacker.admin("POST", path, padded + b" ")).status == 413


async def test_a_thousand_licences_are_made_at_once(attacker: Client) -> None:
    many = [{"customer_id": "c"}] * 1001

    assert (await attacker.admin("POST", "/licenses/bulk-create", {"licenses": many})).status == 400
    made = await attacker.admin("POST", "/licenses/bulk-create", {"licenses": many[:1000]})
    assert (made.status, len(made["licenses"])) == (201, 1000)
