"""A small world of licences, devices and tokens, and one valid request to every endpoint about them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tests.support.client import Client, Reply, eventually
from tests.support.suspicions import guess

A_KEY = "api-key"
B_HASH = "c0ffee"


@dataclass(frozen=True, slots=True)
class Seat:
    """A licence with one active device, and that device's tokens."""

    license: dict[str, Any]
    hardware_id: str
    access: str
    refresh: str
    offline: str


@dataclass(frozen=True, slots=True)
class World:
    """What requests can be about. `b_license` is a licence of the second dialect with an active device.

    `anomaly_id` is nobody's, unless an anomaly was brought about; `event_id` likewise, unless one was signed; nor is
    `customer_id` any customer's.
    """

    client: Client
    seats: Sequence[Seat]
    b_license: dict[str, Any]
    key_id: str
    anomaly_id: str = "00000000-0000-4000-8000-000000000000"
    customer_id: str = "00000000-0000-4000-8000-00000000c0de"
    event_id: str = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as a program makes it."""

    method: str
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None

    def raw(self, *, host: str = "127.0.0.1") -> bytes:
        """Write it as HTTP/1.1."""
        body = b"" if self.body is None else json.dumps(self.body).encode()
        headers = {"Host": host, **self.headers}
        if self.body is not None:
            headers |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        lines = [f"{self.method} {self.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def make_world(client: Client, seats: int = 1) -> World:
    """Fill the service."""
    made = [await _seat(client, number) for number in range(seats)]
    created = await client.b_admin("POST", "/licenses", _B_LICENSE)
    _check(created, 201)
    body = {
        "email": _B_LICENSE["email"],
        "license_key": created["license_key"],
        "device_hash": B_HASH,
        "device_name": "Mon PC",
    }
    _check(await client.b_client("POST", "/activate", body), 200)
    key = await client.new_api_key()
    return World(client, made, created.body, key["key_id"])


_B_LICENSE: dict[str, Any] = {
    "email": "pilote@example.com",
    "product": "Avion",
    "edition": "Pro",
    "max_activations": 3,
    "features": ["a", "b"],
}


async def with_anomaly(world: World) -> World:
    """Bring an anomaly about, which takes a second or two."""
    guesser = Client(world.client.session, world.client.base, world.client.secrets, "198.51.100.77")
    guesser.api_key = world.client.api_key
    return replace(world, anomaly_id=(await guess(guesser))["anomaly_id"])


async def with_receipt(world: World) -> World:
    """Wait until an event of the first licence is under a checkpoint, which takes ten seconds at most."""
    license_id = world.seats[0].license["license_id"]
    event_id = (await world.client.admin("GET", f"/licenses/{license_id}/events"))["events"][0]["event_id"]
    key = world.client.secrets.admin_api_key

    async def is_signed() -> bool:
        path = f"/api/v1/audit/receipts/{event_id}"
        return (await world.client.request("GET", path, x_admin_api_key=key)).status == 200

    await eventually(is_signed, 60)
    return replace(world, event_id=event_id)


async def _seat(client: Client, number: int) -> Seat:
    license = await client.new_license(customer_id=f"customer-{number}", email=f"c{number}@example.com", max_devices=9)
    hardware_id = f"pc-{number}"
    _check(await client.activate(license, hardware_id, fields={"device_name": "PC", "os_info": {"name": "L"}}), 201)
    tokens = await client.tokens(license, hardware_id)
    offline = await client.bearer("/api/v1/license/offline-token", tokens["access_token"], {"duration_hours": 24})
    return Seat(license, hardware_id, tokens["access_token"], tokens["refresh_token"], offline["token"])


def _check(reply: Reply, status: int) -> None:
    assert reply.status == status, reply


def valid_requests(world: World, seat: Seat, mark: str) -> list[Request]:
    """Return a valid request to every endpoint. `mark` tells what one call makes apart from what others make."""
    return [*_programs(world, seat, mark), *_admins(world, seat, mark), *_second_dialect(world, mark), *_open(seat)]


def _programs(world: World, seat: Seat, mark: str) -> list[Request]:
    key = {"X-API-Key": world.client.api_key}
    bearer = {"Authorization": f"Bearer {seat.access}"}
    secret = {"X-Admin-Secret": world.client.secrets.admin_secret}
    device = {"license_key": seat.license["license_key"], "hardware_id": seat.hardware_id}
    other = {**device, "hardware_id": f"other-{mark}"}
    token = {"license_id": seat.license["license_id"], "hardware_id": seat.hardware_id}
    validate = {**device, "app_version": "1.2", "nonce": "n", "client_time": "2030-01-01T00:00:00Z"}
    activate = {**other, "device_name": "PC", "os_info": {"name": "Windows", "version": "10"}}
    heartbeat = {"session_data": {"custom": "data", "app_version": "1"}}
    analytics = "/api/v1/analytics"
    of_license = f"{analytics}/licenses/{seat.license['license_id']}"
    api_key = {"client_name": "a", "allowed_endpoints": ["/api/v1/license/*"]}
    return [
        Request("POST", "/api/v1/license/validate", key, validate),
        Request("POST", "/api/v1/license/activate", {**key, "Idempotency-Key": f"i-{mark}"}, activate),
        Request("POST", "/api/v1/license/deactivate", key, other),
        Request("POST", "/api/v1/license/heartbeat", bearer, heartbeat),
        Request("POST", "/api/v1/license/offline-token", bearer, {"duration_hours": 24}),
        Request("POST", "/api/v1/license/validate-offline", {}, {"token": seat.offline}),
        Request("POST", "/api/v1/auth/token", key, token),
        Request("POST", "/api/v1/auth/refresh", {}, {"refresh_token": seat.refresh}),
        Request("POST", "/api/v1/auth/verify", bearer),
        Request("GET", f"{analytics}/reports/usage?days=7", key),
        Request("GET", f"{analytics}/dashboard", key),
        Request("GET", f"{of_license}/patterns?days=7", key),
        Request("POST", f"{of_license}/anomalies/detect", key, {}),
        Request("GET", f"{of_license}/risk-score", key),
        Request("GET", f"{of_license}/anomalies?status=open&min_severity=high", key),
        Request("GET", f"{analytics}/anomalies?kind=leaked_key&since=2020-01-01T00:00:00Z&per_page=2", key),
        Request("POST", "/api/v1/auth/api-key", secret, api_key),
        Request("GET", "/api/v1/auth/api-keys", secret),
        Request("DELETE", f"/api/v1/auth/api-keys/{world.key_id}", secret),
    ]


def _admins(world: World, seat: Seat, mark: str) -> list[Request]:
    key = {"X-Admin-API-Key": world.client.secrets.admin_api_key}
    all_licenses = "/api/v1/admin/licenses"
    one = f"{all_licenses}/{seat.license['license_id']}"
    create = {"customer_id": f"c-{mark}", "max_devices": 5, "expires_in_days": 365, "metadata": {"custom": "data"}}
    change = {"max_devices": 10, "is_active": True, "expires_at": "2935-12-31T23:59:59Z", "metadata": {}}
    listing = "customer_id=customer-1&is_active=true&created_after=2020-01-01T00:00:00Z&page=1&per_page=2"
    anomalies = "/api/v1/admin/anomalies"
    move = {"from_hardware_id": f"other-{mark}", "to_hardware_id": f"new-{mark}"}
    return [
        Request("POST", all_licenses, {**key, "Idempotency-Key": f"c-{mark}"}, create),
        Request("GET", f"{all_licenses}?{listing}", key),
        Request("POST", f"{all_licenses}/bulk-create", key, {"licenses": [create]}),
        Request("GET", one, key),
        Request("PATCH", one, key, change),
        Request("DELETE", f"{all_licenses}/{world.b_license['license_id'][:-1]}0", key),
        Request("GET", f"{one}?as_of=1", key),
        Request("GET", f"{one}/history?after=0&limit=2", key),
        Request("GET", f"{one}/why?hardware_id={seat.hardware_id}&at=2026-01-01T00:00:00Z&product=a", key),
        Request("POST", f"{one}/corrections", key, {"event_id": world.anomaly_id, "reason": "a mistake"}),
        Request("GET", f"{one}/devices", key),
        Request("POST", f"{one}/devices/deactivate", key, {"hardware_id": f"other-{mark}", "reason": "lost"}),
        Request("POST", f"{one}/transfer", key, move),
        Request("GET", f"{one}/events?hours=24", key),
        Request("GET", f"{one}/usage?days=30", key),
        Request("GET", "/api/v1/admin/statistics", key),
        Request("GET", f"/api/v1/admin/customers/{world.customer_id}/export?by=customer_id&usage_after=0", key),
        Request("POST", f"/api/v1/admin/customers/{world.customer_id}/erase?by=email", key, {"reason": "asked for it"}),
        Request("GET", f"{anomalies}?kind=key_guessing&per_page=2", key),
        Request("GET", f"{anomalies}/{world.anomaly_id}", key),
        Request("POST", f"{anomalies}/{world.anomaly_id}/acknowledge", key, {"reason": "asked them"}),
        Request("POST", f"{anomalies}/{world.anomaly_id}/dismiss", key, {"reason": "a school"}),
        Request("GET", "/api/v1/audit/checkpoint"),
        Request("GET", "/api/v1/audit/key"),
        Request("GET", f"/api/v1/audit/proof/inclusion?event_id={world.event_id}"),
        Request("GET", "/api/v1/audit/proof/consistency?from_size=1&to_size=1"),
        Request("GET", f"/api/v1/audit/receipts/{world.event_id}", key),
    ]


def _second_dialect(world: World, mark: str) -> list[Request]:
    client = {"X-Client-Token": world.client.secrets.client_token}
    admin = {"X-Admin-Token": world.client.secrets.admin_token}
    base = "/licenses-api/v1"
    known = {"license_key": world.b_license["license_key"], "email": world.b_license["email"]}
    by_hash = {"license_key_hash": world.b_license["license_key_hash"], "device_hash": f"d-{mark}"}
    return [
        Request("POST", f"{base}/activate", client, {**known, "device_hash": B_HASH, "device_name": "Mon PC"}),
        Request("POST", f"{base}/deactivate", client, by_hash),
        Request("GET", f"{base}/public-key", client),
        Request("POST", f"{base}/admin/licenses", admin, {**_B_LICENSE, "email": f"{mark}@example.com"}),
        Request("GET", f"{base}/admin/licenses?email=pilote@example.com&enabled=true&per_page=2", admin),
        Request("POST", f"{base}/admin/licenses/enable", admin, {**known, "enabled": True}),
        Request("POST", f"{base}/admin/deactivate-device", admin, {**known, "device_hash": f"d-{mark}"}),
    ]


def _open(seat: Seat) -> list[Request]:
    del seat
    paths = ["/.well-known/jwks.json", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/docs"]
    return [Request("GET", path) for path in paths]
