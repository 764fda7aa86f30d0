"""Fields that no request has, on every route that takes a body: the answer, the events and the views are as without."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, get_args, get_type_hints
from uuid import uuid4

import msgspec
import psycopg
import pytest

from api.endpoint import Endpoint
from api.schemas.admin import CreateRequest
from api.server import all_in_one
from commands import orders
from domain import facts
from tests.support.client import Client, Reply
from tests.support.invariants import read_log
from tests.support.ports import Ports
from tests.support.suspicions import record
from tests.support.world import B_HASH, Request, Seat, World, make_world

WITH_BODY = {(one.method, one.path): one for one in all_in_one().endpoints if one.body is not None}
CHANGING = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT[0-9:.]+Z|LIC-[0-9A-Z]{12}|\b[0-9A-Z]{4}(?:-[0-9A-Z]{4}){2}\b|sk_\w{38}"
    r"|[\w-]+\.[\w-]+\.[\w-]{86}|[0-9a-f]{64}|[A-Za-z0-9+/]{86}=="
)
"""Ids, times, keys, tokens, digests and signatures: these differ between any two answers."""


@dataclass(frozen=True, slots=True)
class Ground:
    """One of two equal grounds that the same commands are given on."""

    world: World
    seat: Seat
    anomalies: tuple[str, str]
    mistake: tuple[str, str]
    """A licence, and the event by which it was revoked."""

    def requests(self) -> list[Request]:
        """Give a request to every route that takes a body, each of which succeeds, in an order that lets it."""
        return [*self._programs(), *self._admins(), *self._second_dialect()]

    def _programs(self) -> list[Request]:
        seat, key = self.seat, {"X-API-Key": self.world.client.api_key}
        bearer = {"Authorization": f"Bearer {seat.access}"}
        secret = {"X-Admin-Secret": self.world.client.secrets.admin_secret}
        device = {"license_key": seat.license["license_key"], "hardware_id": seat.hardware_id}
        token = {"license_id": seat.license["license_id"], "hardware_id": seat.hardware_id}
        detect = f"/api/v1/analytics/licenses/{seat.license['license_id']}/anomalies/detect"
        return [
            Request("POST", "/api/v1/auth/api-key", secret, {"client_name": "a"}),
            Request("POST", "/api/v1/auth/token", key, token),
            Request("POST", "/api/v1/auth/refresh", {}, {"refresh_token": seat.refresh}),
            Request("POST", "/api/v1/auth/verify", bearer, {}),
            Request("POST", "/api/v1/license/validate", key, device),
            Request("POST", "/api/v1/license/activate", key, {**device, "hardware_id": "second"}),
            Request("POST", "/api/v1/license/activate", key, {**device, "hardware_id": "third"}),
            Request("POST", "/api/v1/license/deactivate", key, {**device, "hardware_id": "second"}),
            Request("POST", "/api/v1/license/heartbeat", bearer, {}),
            Request("POST", "/api/v1/license/offline-token", bearer, {}),
            Request("POST", "/api/v1/license/validate-offline", {}, {"token": seat.offline}),
            Request("POST", detect, key, {}),
        ]

    def _admins(self) -> list[Request]:
        key = {"X-Admin-API-Key": self.world.client.secrets.admin_api_key}
        base = "/api/v1/admin"
        one = f"{base}/licenses/{self.seat.license['license_id']}"
        first, second = self.anomalies
        revoked, event_id = self.mistake
        gone = str(uuid4())
        return [
            Request("POST", f"{base}/licenses", key, {"customer_id": "c"}),
            Request("POST", f"{base}/licenses", key, {"customer_id": gone}),
            Request("POST", f"{base}/customers/{gone}/erase", key, {"reason": "r"}),
            Request("POST", f"{base}/licenses/bulk-create", key, {"licenses": [{"customer_id": "c"}]}),
            Request("POST", f"{one}/transfer", key, {"from_hardware_id": "third", "to_hardware_id": "fourth"}),
            Request("POST", f"{one}/devices/deactivate", key, {"hardware_id": "fourth"}),
            Request("PATCH", one, key, {"max_devices": 4}),
            Request("POST", f"{base}/licenses/{revoked}/corrections", key, {"event_id": event_id, "reason": "r"}),
            Request("POST", f"{base}/anomalies/{first}/acknowledge", key, {}),
            Request("POST", f"{base}/anomalies/{second}/dismiss", key, {"reason": "r"}),
        ]

    def _second_dialect(self) -> list[Request]:
        client = {"X-Client-Token": self.world.client.secrets.client_token}
        admin = {"X-Admin-Token": self.world.client.secrets.admin_token}
        license, base = self.world.b_license, "/licenses-api/v1"
        known = {"license_key": license["license_key"], "email": license["email"]}
        create = {"email": "a@example.com", "product": "p", "edition": "e", "max_activations": 2}
        by_hash = {"license_key_hash": license["license_key_hash"], "device_hash": "d-1"}
        return [
            Request("POST", f"{base}/activate", client, {**known, "device_hash": "d-1", "device_name": "n"}),
            Request("POST", f"{base}/deactivate", client, by_hash),
            Request("POST", f"{base}/admin/licenses", admin, create),
            Request("POST", f"{base}/admin/deactivate-device", admin, {**known, "device_hash": B_HASH}),
            Request("POST", f"{base}/admin/licenses/enable", admin, {**known, "enabled": False}),
        ]


@pytest.fixture
async def grounds(attacker: Client, ports: Ports) -> list[Ground]:
    made = []
    for _ in range(2):
        world = await make_world(attacker)
        seat = world.seats[0]
        anomalies = tuple(record(ports.database, seat.license, explanation="so many") for _ in range(2))
        made.append(Ground(world, seat, (anomalies[0], anomalies[1]), await revoked_by_mistake(attacker)))
    return made


async def revoked_by_mistake(client: Client) -> tuple[str, str]:
    license_id = (await client.new_license())["license_id"]
    await client.admin("DELETE", f"/licenses/{license_id}")
    return license_id, (await client.admin("GET", f"/licenses/{license_id}/history"))["events"][-1]["event_id"]


def endpoint_of(request: Request) -> Endpoint:
    """Return the endpoint that a request is meant for: the one whose path it has but for ids."""
    path = CHANGING.sub("{}", request.path)
    (found,) = (
        one for key, one in WITH_BODY.items() if (key[0], re.sub(r"\{\w+\}", "{}", key[1])) == (request.method, path)
    )
    return found


@pytest.fixture(scope="module")
def names(ports: Ports) -> list[str]:
    """Give every name that the program has for anything: of facts, orders, columns, and fields of all schemas."""
    found = {"__proto__", "__class__", "constructor", "_type_", "_data_", "actor", "is_admin", "role", "command_id"}
    for kind in vars(facts).values():
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            found |= set(kind.__struct_fields__)
    for kind in vars(orders).values():
        found |= set(getattr(kind, "__dataclass_fields__", {}))
    for endpoint in all_in_one().endpoints:
        for kind in (endpoint.body, endpoint.query, *endpoint.answers.values()):
            found |= set(fields_in(kind))
    with psycopg.connect(ports.database.conninfo()) as connection:
        columns = "SELECT DISTINCT column_name FROM information_schema.columns WHERE table_schema = 'lizenzserver'"
        found |= {name for (name,) in connection.execute(columns)}
    return sorted(found)


def fields_in(kind: Any) -> Iterator[str]:
    """Yield the field names of a schema and of those within it."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield from kind.__struct_fields__
        for hint in get_type_hints(kind).values():
            yield from fields_in(hint)
    for part in get_args(kind):
        yield from fields_in(part)


POISONED = "poisoned"


def value_of(name: str) -> Any:
    """Return what the field would take, if it were one, and what no answer has by itself."""
    if name.endswith(("_id", "jti", "family", "subject")):
        return "00000000-dead-4bad-8bad-00000000dead"
    if name.endswith(("_at", "_time", "now", "since", "until")):
        return "2001-02-03T04:05:06Z"
    if name.startswith("is_") or name in {"floating", "enabled", "valid", "revoked"}:
        return name not in {"is_active", "enabled"}
    if re.match(r"(max|current|requests|expires_in|duration|per|page|activations|position|epoch|limit)", name):
        return 77
    if name in {"features", "allowed_endpoints", "evidence"}:
        return [POISONED]
    return {POISONED: POISONED} if name in {"metadata", "sealed", "os_info", "session_data", "limits"} else POISONED


def poisoned(request: Request, names: list[str]) -> Request:
    """Add every field that is none of the request's own, at the top and in what it holds a list of."""
    own = endpoint_of(request).body
    body = with_others(request.body, own, names)
    if "licenses" in request.body:
        body["licenses"] = [with_others(one, CreateRequest, names) for one in request.body["licenses"]]
    return replace(request, body=body)


def with_others(body: dict[str, Any], kind: Any, names: list[str]) -> dict[str, Any]:
    return {name: value_of(name) for name in names if name not in kind.__struct_fields__} | body


async def send(client: Client, request: Request, request_id: str) -> Reply:
    headers = {**request.headers, "X-Request-ID": request_id}
    return await client.request(request.method, request.path, request.body, **headers)


def same(value: Any) -> Any:
    """Return a value without what differs between any two of its kind."""
    if isinstance(value, dict):
        return {name: same(one) for name, one in value.items() if name not in {"kid", "validated_at"}}
    if isinstance(value, list | tuple):
        return [same(one) for one in value]
    return CHANGING.sub("…", value) if isinstance(value, str) else value


def test_every_route_with_a_body_is_tried(world: World) -> None:
    nothing = str(uuid4()), str(uuid4())
    requests = Ground(world, world.seats[0], nothing, nothing).requests()

    assert {(one.method, one.path) for one in map(endpoint_of, requests)} == set(WITH_BODY)


async def test_fields_that_a_request_does_not_have_change_nothing(
    attacker: Client, ports: Ports, grounds: list[Ground], names: list[str]
) -> None:
    assert len(names) > 150
    plain, other = (ground.requests() for ground in grounds)
    for number, (asked, asked_with_more) in enumerate(zip(plain, map(poisoned, other, [names] * 99), strict=False)):
        expected = await send(attacker, asked, f"plain-{grounds[0].seat.license['license_id']}-{number}")
        found = await send(attacker, asked_with_more, f"other-{grounds[0].seat.license['license_id']}-{number}")
        assert expected.status < 300, (asked, expected)
        assert (found.status, same(found.body)) == (expected.status, same(expected.body)), asked.path
        assert is_clean(found.body)

    first, second = [await shown(attacker, ground) for ground in grounds]
    assert same(first) == same(second)
    assert is_clean(second)
    events = [events_of(ports, f"{kind}-{grounds[0].seat.license['license_id']}-") for kind in ("plain", "other")]
    assert events[0] == events[1]
    assert len(events[0]) >= 14


def is_clean(value: Any) -> bool:
    text = repr(value)
    return not any(mark in text for mark in (POISONED, "dead-4bad", "2001-02-03", ": 77"))


async def shown(client: Client, ground: Ground) -> list[Any]:
    """Return what administrators see of the licences, devices, and history of a ground."""
    seen = []
    for license_id in (ground.seat.license["license_id"], ground.world.b_license["license_id"]):
        for suffix in ("", "/devices", "/events"):
            body = (await client.admin("GET", f"/licenses/{license_id}{suffix}")).body
            body.pop("statistics", None)
            seen.append(without_places_in_the_log(body))
    return seen


def without_places_in_the_log(value: Any) -> Any:
    if isinstance(value, dict):
        changing = {"position", "request_id", "last_seen_at"}
        return {name: without_places_in_the_log(one) for name, one in value.items() if name not in changing}
    return [without_places_in_the_log(one) for one in value] if isinstance(value, list) else value


def events_of(ports: Ports, prefix: str) -> list[Any]:
    """Return the events that some requests made, without ids, times and ciphertexts."""
    return [
        (
            event.cause.request_id.removeprefix(prefix),
            event.cause.actor.partition(":")[0],
            event.cause.command,
            event.originator_version,
            type(event.fact).__name__,
            same(
                msgspec.to_builtins(
                    {name: plain_of(value) for name, value in msgspec.structs.asdict(event.fact).items()}
                )
            ),
        )
        for _, event in read_log(ports.database)
        if event.cause.request_id.startswith(prefix)
    ]


def plain_of(value: Any) -> Any:
    """Return a value of a fact without its ciphertexts and digests."""
    if isinstance(value, dict):
        return sorted(value)
    if isinstance(value, bytes) or value is msgspec.UNSET:
        return type(value).__name__
    return value
