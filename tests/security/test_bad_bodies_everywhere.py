"""What parsers are attacked with, at every route that takes a body: refused in its dialect's shape, nothing stored."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from api.endpoint import Dialect, Endpoint
from api.server import all_in_one
from tests.support.client import Client, Reply
from tests.support.world import Request, Seat, World, make_world, valid_requests

WITH_BODY = [one for one in all_in_one().endpoints if one.body is not None]


def bad(valid: dict[str, Any], endpoint: Endpoint) -> Iterator[tuple[str, bytes]]:
    """Yield bodies that are wrong at an endpoint, made of one that is not, each with what is wrong with it."""
    good = json.dumps(valid).encode()

    def beside(raw: bytes, name: bytes = b"ignored") -> bytes:
        return b'{"%b":%b%b' % (name, raw, good[1:] if good == b"{}" else b"," + good[1:])

    if endpoint.body_required:
        yield "empty", b""
    if needs_a_field(endpoint):
        yield "no field", b"{}"
    yield from {
        "blank": b" \r\n", "a word": b"hello", "cut off": good[:-1], "two values": good + good, "more": good + b"x",
        "NUL after it": good + b"\0", "an array": b"[" + good + b"]", "null": b"null", "a number": b"5",
        "a text": b'"{}"', "a byte order mark": b"\xef\xbb\xbf" + good, "UTF-16": good.decode().encode("utf-16"),
        "Latin-1": beside('"é"'.encode("latin-1")), "overlong UTF-8": beside(b'"\xc0\xaf"'),
        "a surrogate in UTF-8": beside(b'"\xed\xa0\x80"'), "half an escape": beside(rb'"\ud800"'),
        "half an escape as a name": beside(b"1", rb"\udfff"), "NUL": beside(rb'"a\u0000b"'),
        "NUL in a name": beside(b"1", rb"a\u0000"), "a raw control character": beside(b'"a\nb"'),
        "10,000 arrays": beside(b"[" * 10_000 + b"]" * 10_000), "never closed": beside(b"[" * 10_000),
        "10,000 objects": beside(b'{"a":' * 10_000 + b"1" + b"}" * 10_000), "33 levels": beside(b"[" * 33 + b"]" * 33),
        "NaN": beside(b"NaN"), "Infinity": beside(b"-Infinity"), "beyond a double": beside(b"1e999"),
        "5,000 digits": beside(b"1" * 5000), "beyond int64": beside(b"9223372036854775808"),
        "a leading zero": beside(b"01"), "a name twice": beside(b'1,"ignored":2'),
        "a name twice, deeper": beside(b'{"a":1,"a":2}'), "single quotes": (good + b" ").replace(b"}", b",'a':1}"),
        "a comma too many": good[:-1] + b",}", "a comment": b"/* */" + good,
    }.items()  # fmt: skip
    for name, value in valid.items():
        for wrong in (7, True, [], {}, None, [[value]], {"a": value}):
            if is_wrong(name, value, wrong):
                yield f"{wrong!r} for {name}", json.dumps({**valid, name: wrong}).encode()


def needs_a_field(endpoint: Endpoint) -> bool:
    try:
        msgspec.convert({}, endpoint.body)
    except msgspec.ValidationError:
        return True
    return False


OPTIONAL = {
    "device_name", "os_info", "app_version", "product", "client_time", "nonce", "expires_in_days", "edition", "email",
    "reason", "expires_at",
}  # fmt: skip
"""Fields that may be null somewhere."""


def is_wrong(name: str, value: Any, other: Any) -> bool:
    """Whether another value is of a kind that no route takes for this field."""
    if other is None:
        return name not in OPTIONAL
    if isinstance(value, dict):
        return not isinstance(other, dict)
    if isinstance(value, list):
        return not (isinstance(other, list) and not other) or name == "licenses"
    return type(other) is not type(value)


async def send(client: Client, request: Request, body: bytes, number: int) -> Reply:
    client.address = f"10.66.{number >> 8}.{number & 255}"
    headers = {**request.headers, "Idempotency-Key": str(uuid4())}
    return await client.request(request.method, request.path, body, **headers)


def check_refused(reply: Reply, endpoint: Endpoint, why: str) -> None:
    if endpoint.dialect is Dialect.LICENSES_API:
        assert (reply.status, list(reply.body)) == (422, ["detail"]), (why, reply)
        assert reply["detail"]
        assert all(problem.keys() == {"loc", "msg"} for problem in reply["detail"])
    else:
        assert (reply.status, reply.body.get("error_code")) == (400, "VALIDATION_ERROR"), (why, reply)
        assert reply.body.keys() == {"error", "error_code", "details"}
        assert reply["details"]
    assert len(json.dumps(reply.body)) < 20_000


def request_to(endpoint: Endpoint, world: World, seat: Seat) -> Request:
    """Return the valid request to an endpoint, with a token that has not been counted yet."""
    ids = {"{license_id}": seat.license["license_id"], "{key_id}": world.key_id, "{anomaly_id}": world.anomaly_id}
    ids["{customer_id}"] = world.customer_id
    path = "/".join(ids.get(part, part) for part in endpoint.path.split("/"))
    requests = valid_requests(world, seat, str(uuid4()))
    return next(one for one in requests if (one.method, one.path.partition("?")[0]) == (endpoint.method, path))


@pytest.fixture
async def fresh(attacker: Client, world: World) -> World:
    """Give the world with a seat that no other test has asked anything of."""
    made = await make_world(attacker)
    return replace(world, seats=made.seats, b_license=made.b_license)


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=lambda one: f"{one.method} {one.path}")
async def test_bad_bodies(attacker: Client, fresh: World, nothing_is_stored: None, endpoint: Endpoint) -> None:
    request = request_to(endpoint, fresh, fresh.seats[0])
    for number, (why, body) in enumerate(bad(request.body or {}, endpoint)):
        check_refused(await send(attacker, request, body, number), endpoint, why)


TYPES = [
    "text/plain",
    "application/x-www-form-urlencoded",
    "application/json; charset=utf-16",
    "application/jsonp",
    "a",
]


@pytest.mark.parametrize("endpoint", WITH_BODY, ids=lambda one: f"{one.method} {one.path}")
async def test_bad_content_types(attacker: Client, fresh: World, nothing_is_stored: None, endpoint: Endpoint) -> None:
    request = request_to(endpoint, fresh, fresh.seats[0])
    body = json.dumps(request.body or {"a": 1}).encode()
    for number, kind in enumerate(TYPES):
        typed = replace(request, headers={**request.headers, "Content-Type": kind})
        check_refused(await send(attacker, typed, body, number), endpoint, kind)


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("endpoint", WITH_BODY, ids=lambda one: f"{one.method} {one.path}")
async def test_bodies_that_are_too_large(
    attacker: Client, fresh: World, nothing_is_stored: None, endpoint: Endpoint
) -> None:
    request = request_to(endpoint, fresh, fresh.seats[0])
    blanks = b" " * endpoint.max_body + json.dumps(request.body or {}).encode()
    reply = await send(attacker, request, blanks, 1)

    assert reply.status == 413
    assert reply.body.keys() in ({"detail"}, {"error", "error_code", "details"})
