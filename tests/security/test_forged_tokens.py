"""Tokens that were not issued here, or not for this: 401 from every endpoint that takes one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.keyring import Keyring
from tests.support.client import Client, Reply
from tests.support.ports import Ports
from tests.support.world import Seat

Json = dict[str, Any]

BEARER = ["/api/v1/auth/verify", "/api/v1/license/heartbeat", "/api/v1/license/offline-token"]
ENDPOINTS = [*BEARER, "/api/v1/auth/refresh", "/api/v1/license/validate-offline"]
L = 2**252 + 27742317777372353535851937790883648493
"""The order of Ed25519's group (RFC 8032): S + L signs the same where a verifier does not check."""


@pytest.fixture(scope="module")
def keyring(ports: Ports) -> Keyring:
    """Give the service's own keys: what they sign is as genuine as it gets."""
    return Keyring.open(ports.folder / "data" / "keys", None, None)


async def present(client: Client, endpoint: str, token: str) -> Reply:
    match endpoint:
        case "/api/v1/auth/refresh":
            return await client.request("POST", endpoint, {"refresh_token": token})
        case "/api/v1/license/validate-offline":
            return await client.request("POST", endpoint, {"token": token})
        case _:
            return await client.bearer(endpoint, token)


def genuine(seat: Seat, endpoint: str) -> str:
    return {ENDPOINTS[3]: seat.refresh, ENDPOINTS[4]: seat.offline}.get(endpoint, seat.access)


def parts(token: str) -> tuple[Json, Json, bytes]:
    header, payload, signature = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    return json.loads(header), json.loads(payload), signature


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed(keyring: Keyring, header: Any, payload: Any) -> str:
    data = f"{segment(header)}.{segment(payload)}"
    return f"{data}.{segment(keyring.active.signing.sign(data.encode()).signature)}"


def by_strangers(token: str, keyring: Keyring) -> Iterator[str]:
    header, payload, signature = parts(token)
    data = f"{segment(header)}.{segment(payload)}"
    for algorithm in ("none", "None", "NONE", "nOnE", ""):
        unsigned = f"{segment({**header, 'alg': algorithm})}.{segment(payload)}"
        yield from (f"{unsigned}.", unsigned, f"{unsigned}.{segment(signature)}")
    public = keyring.active.public_raw
    for secret in (public, base64.b64encode(public), b"", b"secret"):
        by_hmac = f"{segment({**header, 'alg': 'HS256'})}.{segment(payload)}"
        yield f"{by_hmac}.{segment(hmac.digest(secret, by_hmac.encode(), hashlib.sha256))}"
    stranger = Ed25519PrivateKey.generate()
    kids = [
        header["kid"],
        "",
        "../../etc/passwd",
        "/dev/null",
        "' OR 1=1 --",
        "x" * 500,
        None,
        1,
        [header["kid"]],
        str(uuid4()),
    ]
    for kid in kids:
        forged = f"{segment({**header, 'kid': kid})}.{segment(payload)}"
        yield f"{forged}.{segment(stranger.sign(forged.encode()))}"
    jwk = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(stranger.public_key()))
    for extra in (
        {"jwk": jwk},
        {"jku": "http://127.0.0.1:1/jwks.json"},
        {"x5u": "http://127.0.0.1:1/"},
        {"x5c": ["AA=="]},
    ):
        forged = f"{segment({**header, **extra})}.{segment(payload)}"
        yield f"{forged}.{segment(stranger.sign(forged.encode()))}"
    number = int.from_bytes(signature[32:], "little") + L
    yield f"{data}.{segment(signature[:32] + number.to_bytes(33, 'little')[:32])}"
    yield f"{data}.{segment(signature[:63])}"
    yield f"{data}.{segment(signature + b'0')}"
    yield f"{data}.{segment(bytes(64))}"
    yield f"{data}.{segment((1).to_bytes(32, 'little') + bytes(32))}"  # the identity signs for a small-order key


def spoilt(token: str) -> Iterator[str]:
    header, payload, signature = token.split(".")
    yield from (
        "",
        ".",
        "..",
        "a.b.c",
        token[:-1],
        f"{token}=",
        f"{token}A",
        f"{token}.",
        f"{token}.{signature}",
        f" {token}x",
    )
    yield f"{header}.{payload}"
    yield f"{payload}.{header}.{signature}"
    yield f"{header}=.{payload}.{signature}"
    for name, value in (
        ("sub", str(uuid4())),
        ("hwid", "another"),
        ("exp", 4_000_000_000),
        ("features", ["everything"]),
    ):
        altered = {**parts(token)[1], name: value}
        yield f"{header}.{segment(altered)}.{signature}"
    yield "A" * 7_000
    yield f"{segment(b'[' * 5000)}.{payload}.{signature}"


def genuine_but_wrong(token: str, keyring: Keyring) -> Iterator[str]:
    """Give what only the service itself could sign by mistake, were its checks of the claims missing."""
    header, payload, _ = parts(token)
    for name in payload.keys() - {"features", "product", "epoch"}:
        yield signed(keyring, header, {key: value for key, value in payload.items() if key != name})
    wrong: list[Json] = [
        {"exp": str(payload["exp"])}, {"exp": None}, {"exp": -1}, {"exp": 2**70}, {"exp": float(payload["exp"])},
        {"exp": payload["iat"] - 1}, {"exp": True}, {"nbf": payload["nbf"] + 3600, "iat": payload["iat"] + 3600},
        {"aud": "other"}, {"aud": [payload["aud"], "other"]}, {"aud": ""}, {"iss": "other"}, {"iss": None},
        {"sub": "me"}, {"sub": str(uuid4())}, {"hwid": "another"}, {"act": str(uuid4())}, {"epoch": 7}, {"jti": 1},
    ]  # fmt: skip
    for change in wrong:
        yield signed(keyring, header, {**payload, **change})
    kinds = {"access", "refresh", "offline"} - {payload["aud"]}
    yield from (signed(keyring, header, {**payload, "aud": kind}) for kind in kinds)
    types = {"at+jwt", "rt+jwt", "offline+jwt", "JWT", "", None, header["typ"].upper()} - {header["typ"]}
    yield from (signed(keyring, {**header, "typ": kind}, payload) for kind in types)
    extras: list[Json] = [
        {"crit": ["exp"]},
        {"crit": ["b64"], "b64": False},
        {"crit": []},
        {"cty": "JWT"},
        {"zip": "DEF"},
        {"b64": False},
    ]
    for extra in extras:
        yield signed(keyring, {**header, **extra}, payload)
    yield signed(keyring, b'{"alg":"EdDSA","alg":"none",' + json.dumps(header).encode()[1:], payload)
    yield signed(keyring, header, b'{"exp":4000000000,' + json.dumps({**payload, "exp": 1}).encode()[1:])
    yield signed(keyring, header, b"[]")
    yield signed(keyring, header, b"\xff")


async def all_refused(client: Client, endpoint: str, tokens: Iterator[str]) -> int:
    """Present each token from an address of its own; an offline token by our own key may be called revoked instead."""
    number = 0
    for number, token in enumerate(tokens, 1):
        client.address = f"10.77.{number // 256}.{number % 256}"
        reply = await present(client, endpoint, token)
        if reply.status == 200:
            assert (reply["valid"], reply["revoked"]) == (False, True), (token, reply)
        else:
            expected = (401, "INVALID_TOKEN") if token or endpoint in BEARER else (400, "VALIDATION_ERROR")
            assert (reply.status, reply["error_code"]) == expected, (token, reply)
    return number


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("forge", [by_strangers, genuine_but_wrong])
async def test_forgeries(
    attacker: Client, seat: Seat, keyring: Keyring, endpoint: str, forge: Callable[[str, Keyring], Iterator[str]]
) -> None:
    assert await all_refused(attacker, endpoint, forge(genuine(seat, endpoint), keyring)) > 30
    assert (await present(attacker, endpoint, genuine(seat, endpoint))).status == 200


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_spoilt_tokens(attacker: Client, seat: Seat, endpoint: str) -> None:
    assert await all_refused(attacker, endpoint, spoilt(genuine(seat, endpoint))) > 15
    assert (await present(attacker, endpoint, genuine(seat, endpoint))).status == 200


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_each_kind_is_good_for_its_own_endpoints_only(attacker: Client, seat: Seat, endpoint: str) -> None:
    others = {seat.access, seat.refresh, seat.offline} - {genuine(seat, endpoint)}

    assert await all_refused(attacker, endpoint, iter(others)) == 2


async def test_an_offline_token_holds_for_its_own_device_only(attacker: Client, seat: Seat) -> None:
    endpoint = "/api/v1/license/validate-offline"

    mine = await attacker.request("POST", endpoint, {"token": seat.offline, "hardware_id": seat.hardware_id})
    other = await attacker.request("POST", endpoint, {"token": seat.offline, "hardware_id": "another"})

    assert (mine.status, mine["valid"]) == (200, True)
    assert (other.status, other["error_code"]) == (401, "INVALID_TOKEN")


async def test_a_token_of_an_ended_activation_stays_dead(attacker: Client, seat: Seat) -> None:
    license, hardware_id = seat.license, seat.hardware_id
    await attacker.program(
        "/api/v1/license/deactivate", {"license_key": license["license_key"], "hardware_id": hardware_id}
    )
    assert (await attacker.activate(license, hardware_id)).status == 201

    for endpoint in ENDPOINTS[:4]:
        assert (await present(attacker, endpoint, genuine(seat, endpoint))).status == 401
    offline = await present(attacker, ENDPOINTS[4], seat.offline)
    assert (offline["valid"], offline["revoked"]) == (False, True)
