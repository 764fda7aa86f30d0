"""A genuine token of one licence beside everything that is another's: the answer is that for what does not exist."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from api.endpoint import Auth, Endpoint
from api.server import all_in_one
from infra.keyring import Keyring
from infra.tokens import Claims, TokenKind, Tokens
from tests.support.client import Client, Reply
from tests.support.ports import Ports
from tests.support.world import Request, Seat, World, make_world, valid_requests

BEARER = ["/api/v1/auth/verify", "/api/v1/license/heartbeat", "/api/v1/license/offline-token"]
REFRESH, OFFLINE = "/api/v1/auth/refresh", "/api/v1/license/validate-offline"
CREDENTIALS = {
    Auth.API_KEY: "X-API-Key", Auth.ADMIN_KEY: "X-Admin-API-Key", Auth.ADMIN_SECRET: "X-Admin-Secret",
    Auth.CLIENT_TOKEN: "X-Client-Token", Auth.ADMIN_TOKEN: "X-Admin-Token", Auth.EITHER_TOKEN: "X-Client-Token",
}  # fmt: skip
OTHERS = [one for one in all_in_one().endpoints if one.auth in CREDENTIALS]
VARYING = frozenset({"date", "x-request-id", "x-ratelimit-remaining"})


@dataclass(frozen=True, slots=True)
class Told:
    """All of an answer that somebody could tell two of them apart by."""

    status: int
    headers: frozenset[tuple[str, str]]
    body: Any


def told(reply: Reply) -> Told:
    headers = {(name.lower(), value) for name, value in reply.headers.items() if name.lower() not in VARYING}
    return Told(reply.status, frozenset(headers), reply.body)


async def send(client: Client, request: Request, **headers: str) -> Told:
    return told(await client.request(request.method, request.path, request.body, **{**request.headers, **headers}))


@pytest.fixture(scope="module")
def keyring(ports: Ports) -> Keyring:
    """Give the service's own keys: what they sign is as genuine as it gets."""
    return Keyring.open(ports.folder / "data" / "keys", None, None)


@pytest.fixture
async def mine(attacker: Client) -> Seat:
    return (await make_world(attacker)).seats[0]


@pytest.fixture
async def others(attacker: Client) -> Seat:
    """Give another customer's licence, whose device has a name of its own."""
    license = await attacker.new_license(customer_id="another", email="another@example.com", max_devices=9)
    hardware_id = f"others-{uuid4()}"
    assert (await attacker.activate(license, hardware_id)).status == 201
    tokens = await attacker.tokens(license, hardware_id)
    offline = await attacker.bearer(BEARER[2], tokens["access_token"])
    return Seat(license, hardware_id, tokens["access_token"], tokens["refresh_token"], offline["token"])


@pytest.fixture
def tokens(keyring: Keyring, mine: Seat, others: Seat) -> list[str]:
    """Give access tokens of three licences, one of which does not exist, and what is none at all."""
    nobodys = issue(keyring, TokenKind.ACCESS, mine, license_id=uuid4())
    return [mine.access, nobodys, others.access, "x.y.z"]


def issue(keyring: Keyring, kind: TokenKind, seat: Seat, **changed: Any) -> str:
    """Sign a token like a seat's own, but for the claims named."""
    signer = Tokens(keyring)
    now = datetime.now(UTC)
    own = {TokenKind.ACCESS: seat.access, TokenKind.REFRESH: seat.refresh, TokenKind.OFFLINE: seat.offline}[kind]
    claims = {**_rests_on(signer.verify(own, kind, now)), **changed}
    token, _ = signer.issue(kind, now=now, lifetime=timedelta(hours=1), **claims)
    return token


def _rests_on(claims: Claims) -> dict[str, Any]:
    return {name: getattr(claims, name) for name in ("license_id", "hardware_id", "activation_id", "epoch")}


def presented(path: str, token: str) -> Request:
    if path == REFRESH:
        return Request("POST", path, {}, {"refresh_token": token})
    if path == OFFLINE:
        return Request("POST", path, {}, {"token": token})
    return Request("POST", path, {"Authorization": f"Bearer {token}"}, {})


KINDS = {**dict.fromkeys(BEARER, TokenKind.ACCESS), REFRESH: TokenKind.REFRESH, OFFLINE: TokenKind.OFFLINE}


@pytest.mark.parametrize("path", KINDS)
async def test_what_a_token_names_of_anothers_is_as_if_it_did_not_exist(
    attacker: Client, keyring: Keyring, mine: Seat, others: Seat, path: str
) -> None:
    """Not even who could sign claims of his choice would learn from the answer which licence or device there is."""
    kind = KINDS[path]
    theirs = _rests_on(Tokens(keyring).verify(others.access, TokenKind.ACCESS, datetime.now(UTC)))
    foreign = [
        {"license_id": theirs["license_id"]},
        {"hardware_id": theirs["hardware_id"]},
        {"activation_id": theirs["activation_id"]},
        {name: theirs[name] for name in ("license_id", "hardware_id")},
        {name: theirs[name] for name in ("license_id", "activation_id")},
        {name: theirs[name] for name in ("hardware_id", "activation_id")},
        {"license_id": uuid4(), "hardware_id": others.hardware_id},
        {"epoch": 1},
    ]
    nobodys = await send(attacker, presented(path, issue(keyring, kind, mine, license_id=uuid4())))

    assert nobodys.status == 401 or path == OFFLINE
    for claims in foreign:
        answer = await send(attacker, presented(path, issue(keyring, kind, mine, **claims)))
        if path == OFFLINE:  # A genuine one is told what it says itself, and that it holds no more.
            answer = replace(answer, body=_without_what_it_says(answer.body))
            assert answer.body == {"valid": False, "revoked": True}
        else:
            assert answer == nobodys, claims
    if path != OFFLINE:
        assert nobodys.body["error_code"] == "INVALID_TOKEN"
    assert (await send(attacker, presented(path, issue(keyring, kind, mine)))).status == 200


def _without_what_it_says(body: dict[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in ("valid", "revoked")}


@pytest.mark.parametrize("path", [*BEARER, REFRESH])
@pytest.mark.parametrize("end", ["deactivated", "revoked", "deleted"])
async def test_what_has_ended_is_as_if_it_had_never_been(
    attacker: Client, keyring: Keyring, mine: Seat, path: str, end: str
) -> None:
    kind, one = KINDS[path], f"/licenses/{mine.license['license_id']}"
    token = issue(keyring, kind, mine)
    nobodys = issue(keyring, kind, mine, license_id=uuid4())
    if end == "deactivated":
        await attacker.admin("POST", f"{one}/devices/deactivate", {"hardware_id": mine.hardware_id})
    elif end == "revoked":
        await attacker.admin("PATCH", one, {"is_active": False})
    else:
        await attacker.admin("DELETE", one)

    unknown = await send(attacker, presented(path, nobodys))
    assert await send(attacker, presented(path, token)) == unknown
    if end != "deactivated":  # Nor would it help to know how often the licence was revoked.
        of_after = issue(keyring, kind, mine, epoch=1)
        assert await send(attacker, presented(path, of_after)) == unknown


@pytest.mark.parametrize("endpoint", OTHERS, ids=lambda one: f"{one.method} {one.path}")
async def test_a_token_is_no_other_credential(
    attacker: Client, world: World, others: Seat, tokens: list[str], endpoint: Endpoint
) -> None:
    """Beside a request about another's licence, a genuine token counts for as much as one of a licence of nobody."""
    about = [each for each in valid_requests(world, others, str(uuid4())) if is_to(each, endpoint, world, others)]
    assert about
    name = CREDENTIALS[endpoint.auth]
    for request in about:
        bare = {key: value for key, value in request.headers.items() if key not in CREDENTIALS.values()}
        for given in ("Authorization", name):
            answers = {await _with(attacker, request, bare, given, token) for token in tokens}
            assert len(answers) == 1, request.path
            (status,) = {status for status, _ in answers}
            assert status == 401


async def _with(client: Client, request: Request, headers: dict[str, str], name: str, token: str) -> tuple[int, str]:
    value = f"Bearer {token}" if name == "Authorization" else token
    answer = await send(client, Request(request.method, request.path, {**headers, name: value}, request.body))
    return answer.status, repr((sorted(answer.headers), answer.body))


def is_to(request: Request, endpoint: Endpoint, world: World, seat: Seat) -> bool:
    ids = {
        seat.license["license_id"]: "{license_id}",
        f"{world.b_license['license_id'][:-1]}0": "{license_id}",
        world.key_id: "{key_id}",
        world.anomaly_id: "{anomaly_id}",
        world.customer_id: "{customer_id}",
        world.event_id: "{event_id}",
    }
    path = "/".join(ids.get(part, part) for part in request.path.partition("?")[0].split("/"))
    return (request.method, path) == (endpoint.method, endpoint.path)


@pytest.mark.parametrize("path", BEARER)
async def test_a_body_that_names_anothers_licence_is_about_ones_own(
    attacker: Client, ports: Ports, mine: Seat, others: Seat, path: str
) -> None:
    named = {
        **{name: others.license[name] for name in ("license_id", "license_key", "customer_id", "email")},
        "hardware_id": others.hardware_id, "device_hash": others.hardware_id, "token": others.offline,
        "access_token": others.access, "refresh_token": others.refresh, "sub": others.hardware_id,
    }  # fmt: skip
    before = rows_about(ports, others)
    reply = await attacker.bearer(path, mine.access, {**named, "session_data": named, "license": named})

    assert reply.status == 200
    license = reply["license"] if path == BEARER[1] else reply.body
    if path != BEARER[2]:
        assert license["license_id"] == mine.license["license_id"]
    told_of = str(reply.body)
    assert [value for value in named.values() if value in told_of] == []
    assert rows_about(ports, others) == before


def rows_about(ports: Ports, seat: Seat) -> tuple[int, ...]:
    """Count a licence's events, and the rows of the usage log about it."""
    license_id = UUID(seat.license["license_id"])
    with psycopg.connect(ports.database.conninfo()) as connection:
        counts = [
            connection.execute(query, (license_id,)).fetchone()
            for query in (
                "SELECT count(*) FROM licensing_events WHERE originator_id = %s",
                "SELECT count(*) FROM usage WHERE license_id = %s",
            )
        ]
    return tuple(row[0] for row in counts if row)


async def test_anothers_device_is_as_unknown_as_one_that_does_not_exist(
    attacker: Client, mine: Seat, others: Seat
) -> None:
    """An API key opens all licences of its product; a device holds a seat of its own licence and of no other."""
    key = {"license_key": others.license["license_key"]}
    for path, body in (
        ("/api/v1/auth/token", {"license_id": others.license["license_id"]}),
        ("/api/v1/license/validate", key),
        ("/api/v1/license/deactivate", key),
    ):
        request = Request("POST", path, {"X-API-Key": attacker.api_key})
        answers = [
            await send(attacker, replace(request, body={**body, "hardware_id": hardware_id}))
            for hardware_id in (f"{mine.hardware_id}-of-mine", mine.hardware_id, f"none-{uuid4()}")
        ]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0].status in {403, 404}
    for name in ("from_hardware_id", "to_hardware_id"):
        move = {"from_hardware_id": others.hardware_id, "to_hardware_id": "x", name: mine.hardware_id}
        moved = await attacker.admin("POST", f"/licenses/{others.license['license_id']}/transfer", move)
        assert moved.status == (404 if name == "from_hardware_id" else 200)
    shown = await attacker.validate(mine.license, mine.hardware_id)
    assert shown["valid"] is True


SUFFIXES = ["/patterns?days=7", "/risk-score", "/anomalies", "/anomalies/detect"]


@pytest.mark.parametrize("suffix", SUFFIXES)
async def test_to_a_key_of_another_product_a_licence_does_not_exist(
    attacker: Client, others: Seat, suffix: str
) -> None:
    key = (await attacker.new_api_key(product=f"p-{uuid4()}", allowed_endpoints=["/api/v1/analytics/*"]))["api_key"]
    method = "POST" if suffix.endswith("detect") else "GET"
    answers = [
        await send(attacker, Request(method, f"/api/v1/analytics/licenses/{one}{suffix}", {"X-API-Key": key}))
        for one in (others.license["license_id"], str(uuid4()))
    ]

    assert answers[0] == answers[1]
    assert answers[0].status == 404
