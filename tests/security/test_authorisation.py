"""Who may do what: an endpoint takes its own credential only, and no spelling of path or method changes that."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from api.endpoint import Auth, Dialect, Endpoint
from api.server import all_in_one
from tests.security.raw_http import ask
from tests.support.client import Client
from tests.support.ports import Ports
from tests.support.world import Request, Seat, World, valid_requests

GUARDED = [endpoint for endpoint in all_in_one().endpoints if endpoint.auth is not Auth.NONE]


def credentials(world: World) -> dict[Auth, dict[str, str]]:
    secrets = world.client.secrets
    return {
        Auth.API_KEY: {"X-API-Key": world.client.api_key},
        Auth.BEARER: {"Authorization": f"Bearer {world.seats[0].access}"},
        Auth.ADMIN_KEY: {"X-Admin-API-Key": secrets.admin_api_key},
        Auth.ADMIN_SECRET: {"X-Admin-Secret": secrets.admin_secret},
        Auth.CLIENT_TOKEN: {"X-Client-Token": secrets.client_token},
        Auth.ADMIN_TOKEN: {"X-Admin-Token": secrets.admin_token},
    }


def wrong_for(endpoint: Endpoint, world: World) -> list[dict[str, str]]:
    """Give every credential but the endpoint's own, the others' secrets under its own name, and none."""
    known = credentials(world)
    own = {Auth.CLIENT_TOKEN, Auth.ADMIN_TOKEN} if endpoint.auth is Auth.EITHER_TOKEN else {endpoint.auth}
    others = [headers for auth, headers in known.items() if auth not in own]
    misused = []
    for auth in own:
        (name,) = known[auth]
        prefix = "Bearer " if auth is Auth.BEARER else ""
        values = [next(iter(headers.values())) for headers in others]
        genuine = known[auth][name]
        altered = [
            genuine[:-1],
            f"{genuine}a",
            genuine.swapcase(),
            f"{prefix}",
            f"{prefix}null",
            f"{prefix}{genuine[:8]}",
        ]
        misused += [{name: value} for value in [*values, *altered]]
    return [{}, *others, *misused]


@pytest.mark.parametrize("endpoint", GUARDED, ids=lambda one: f"{one.method} {one.path}")
async def test_only_its_own_credential_opens_an_endpoint(attacker: Client, world: World, endpoint: Endpoint) -> None:
    path = endpoint.path.replace("{license_id}", world.seats[0].license["license_id"]).replace("{key_id}", world.key_id)
    names = {"{anomaly_id}": world.anomaly_id, "{customer_id}": world.customer_id, "{event_id}": world.event_id}
    for name, value in names.items():
        path = path.replace(name, value)
    for number, headers in enumerate(wrong_for(endpoint, world)):
        attacker.address = f"10.55.{number}.1"
        reply = await attacker.request(endpoint.method, path, b"{", **headers)
        assert reply.status == 401, (headers, reply)
        if endpoint.dialect is Dialect.LICENSES_API:
            assert reply.body == {"detail": "invalid client/admin token"}
        else:
            assert reply["error_code"] in {"UNAUTHORIZED", "INVALID_TOKEN"}


@pytest.mark.parametrize("path", ["/licenses-api/v1/public-key", "/licenses-api/v1/admin/licenses"])
async def test_both_tokens_are_one_too_many(attacker: Client, path: str) -> None:
    secrets = attacker.secrets
    reply = await attacker.request("GET", path, x_client_token=secrets.client_token, x_admin_token=secrets.admin_token)

    assert (reply.status, reply.body) == (401, {"detail": "invalid client/admin token"})


@pytest.mark.parametrize("suffix", ["", "/devices", "/events", "/usage"])
@pytest.mark.parametrize("license_id", [str(uuid4()), "1", "' OR 1=1 --", "*", "00000000-0000-0000-0000-000000000000"])
async def test_what_does_not_exist_says_so_in_one_way(attacker: Client, license_id: str, suffix: str) -> None:
    reply = await attacker.admin("GET", f"/licenses/{license_id}{suffix}")

    assert (reply.status, reply["error_code"]) == (404, "LICENSE_NOT_FOUND")


async def test_a_token_for_another_licences_device_is_not_given(attacker: Client, world: World) -> None:
    mine, other = world.seats[:2]
    body = {"license_id": mine.license["license_id"], "hardware_id": other.hardware_id}
    unknown = {**body, "license_id": str(uuid4())}

    assert (await attacker.program("/api/v1/auth/token", body))["error_code"] == "DEVICE_NOT_ACTIVATED"
    assert (await attacker.program("/api/v1/auth/token", unknown))["error_code"] == "LICENSE_NOT_FOUND"


async def test_a_key_bound_to_a_product_opens_no_other_products_licences(attacker: Client, seat: Seat) -> None:
    attacker.api_key = (await attacker.new_api_key(product="another"))["api_key"]
    token = {"license_id": seat.license["license_id"], "hardware_id": seat.hardware_id}

    for reply in (
        await attacker.validate(seat.license, seat.hardware_id),
        await attacker.validate(seat.license, seat.hardware_id, fields={"product": "x"}),
        await attacker.activate(seat.license, "new"),
        await attacker.program("/api/v1/auth/token", token),
    ):
        assert (reply.status, reply["error_code"]) == (403, "PRODUCT_MISMATCH")


ACTIVATE = "/api/v1/license/activate"
VALIDATE = "/api/v1/license/validate"
TARGETS = [
    ACTIVATE, "/api/v1/license%2Factivate", "/api/v1/license%252Factivate", "/api/v1/license/%61ctivate",
    "/api/v1/license/validate/../activate", "/api/v1/license/validate/%2e%2e/activate", "/api/v1/license/./activate",
    "//api/v1/license/activate", "/api/v1/license//activate", "/api/v1/license/activate/", "/api/v1/license/activate;x",
    "/api/v1/license/activate%00", "/api/v1/license/activate%20", "/api/v1/license/ACTIVATE",
    "/API/v1/license/activate",
    "/api/v1/license/activate?", "/api/v1/license/activate?x=/api/v1/license/validate", "/api/v1/license/activate#a",
    "http://127.0.0.1/api/v1/license/activate", "http://user@a/api/v1/license/activate",
    "/api/v1/license/validate;/../activate",
    "/api/v1/license/validate%2f..%2factivate", "/api/v1/license/validate%5c..%5cactivate",
    "\\api\\v1\\license\\activate",
    "/api/v1/license/activate.json", "/api/v1/license/activate%2e", "/api/v1/license/validate%0d%0a/activate",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("allowed", [[VALIDATE], [], ["/api/v1/license/activate/*"], ["/api/v1/*/validate"]])
async def test_no_spelling_of_a_path_gets_around_the_allowed_endpoints(
    attacker: Client, ports: Ports, seat: Seat, target: str, allowed: list[str]
) -> None:
    key = (await attacker.new_api_key(allowed_endpoints=allowed))["api_key"]
    body = {"license_key": seat.license["license_key"], "hardware_id": "intruder"}
    answer = await ask(ports.ports["all"], Request("POST", target, {"X-API-Key": key}, body).raw())

    assert answer.status in {400, 403, 404, 405}
    assert answer.problem() is None
    assert await in_use(attacker, seat) == 1


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "OPTIONS", "PUT", "TRACE", "CONNECT", "post", "Post", "POSTX", "PROPFIND"]
)
@pytest.mark.parametrize("override", ["", "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
async def test_no_other_method_acts(attacker: Client, ports: Ports, seat: Seat, method: str, override: str) -> None:
    headers = {"X-API-Key": attacker.api_key} | ({override: "POST"} if override else {})
    body = {"license_key": seat.license["license_key"], "hardware_id": "intruder"}
    answer = await ask(ports.ports["all"], Request(method, f"{ACTIVATE}?_method=POST", headers, body).raw())

    assert answer.status in {400, 404, 405}
    assert answer.problem() is None
    assert await in_use(attacker, seat) == 1


async def in_use(client: Client, seat: Seat) -> int:
    shown = await client.admin("GET", f"/licenses/{seat.license['license_id']}")
    used: int = shown["current_devices"]
    return used


async def test_a_revoked_or_expired_key_opens_nothing(attacker: Client, seat: Seat) -> None:
    secret = {"x_admin_secret": attacker.secrets.admin_secret}
    revoked = await attacker.new_api_key()
    expired = await attacker.new_api_key(expires_at="2020-01-01T00:00:00Z")
    attacker.api_key = revoked["api_key"]
    assert (await attacker.validate(seat.license, seat.hardware_id)).status == 200
    await attacker.request("DELETE", f"/api/v1/auth/api-keys/{revoked['key_id']}", **secret)

    assert (await attacker.validate(seat.license, seat.hardware_id)).status == 401
    attacker.api_key = expired["api_key"]
    assert (await attacker.validate(seat.license, seat.hardware_id)).status == 401


INTERNAL: dict[str, Any] = {
    "license_id": str(uuid4()), "license_key": "LIC-AAAAAAAAAAAA", "current_devices": -5,
    "created_at": "2000-01-01T00:00:00Z",
    "epoch": 9, "subject_id": str(uuid4()), "position": 1, "key_digest": "00", "sealed": {"email": "x"},
    "devices": ["x"],
    "license_key_hash": "0" * 64, "activations": 99, "is_admin": True, "actor": "admin:root", "originator_version": 7,
}  # fmt: skip


async def test_unknown_and_internal_fields_change_nothing(attacker: Client) -> None:
    plain = await attacker.new_license(metadata={"a": 1})
    made = await attacker.new_license(metadata={"a": 1}, **INTERNAL, is_active=False)
    assert {name: made[name] for name in made if name not in {"license_id", "license_key", "created_at"}} == {
        name: plain[name] for name in plain if name not in {"license_id", "license_key", "created_at"}
    }
    assert {made[name] for name in ("license_id", "license_key", "created_at")}.isdisjoint(map(str, INTERNAL.values()))

    one = f"/licenses/{made['license_id']}"
    change = {**INTERNAL, "customer_id": "other", "is_test": True, "metadata": INTERNAL}
    changed = await attacker.admin("PATCH", one, change)
    assert changed.body == {**made, "metadata": INTERNAL}

    events = (await attacker.admin("GET", f"{one}/events"))["events"]
    assert {event["actor"] for event in events} == {"admin:default"}


async def test_internal_fields_change_nothing_in_the_second_dialect(attacker: Client) -> None:
    body = {"email": "a@example.com", "product": "p", "edition": "e", "max_activations": 2}
    made = await attacker.b_admin("POST", "/licenses", {**body, **INTERNAL, "enabled": False, "max_devices": 99})

    assert (made.status, made["enabled"], made["activations"], made["max_activations"]) == (201, True, 0, 2)
    assert (made["devices"], made["license_key"] != INTERNAL["license_key"]) == ([], True)


async def test_internal_fields_of_an_api_key_change_nothing(attacker: Client) -> None:
    made = await attacker.new_api_key(
        api_key="sk_chosen", key_id=str(uuid4()), revoked_at=None, created_at="2000-01-01T00:00:00Z"
    )

    assert made.status == 201
    assert made["api_key"] != "sk_chosen"
    assert made["allowed_endpoints"] == ["/api/v1/license/*", "/api/v1/auth/token"]
    assert not made["created_at"].startswith("2000")


def test_every_endpoint_is_among_the_valid_requests(world: World) -> None:
    """What fuzzing and these tests go by would otherwise leave out an endpoint that was added later."""
    license_id = world.seats[0].license["license_id"]
    names = {
        license_id: "{license_id}",
        world.key_id: "{key_id}",
        world.anomaly_id: "{anomaly_id}",
        world.customer_id: "{customer_id}",
        world.event_id: "{event_id}",
    }

    def route(path: str) -> str:
        return "/".join(names.get(part, part) for part in path.partition("?")[0].split("/"))

    routes = {(each.method, route(each.path)) for each in valid_requests(world, world.seats[0], "x")}
    expected = {(each.method, each.path) for each in all_in_one().endpoints}

    assert expected - routes <= {("DELETE", "/api/v1/admin/licenses/{license_id}")}
