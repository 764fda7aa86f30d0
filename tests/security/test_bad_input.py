"""What JSON parsers are attacked with: refused in the dialect's shape, nothing stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.client import Client, Reply
from tests.support.world import World

CREATE = {
    "customer_id": "c",
    "email": "a@example.com",
    "product": "p",
    "edition": "e",
    "max_activations": 3,
    "max_devices": 3,
}
CREATED = json.dumps(CREATE).encode()


def with_value(name: str, raw: bytes) -> bytes:
    """Put a raw value into an otherwise valid body that creates a licence in either dialect."""
    rest = json.dumps({key: value for key, value in CREATE.items() if key != name}).encode()
    return b'{"%b":%b,%b' % (name.encode(), raw, rest[1:])


BODIES: dict[str, bytes] = {
    "empty": b"",
    "blank": b"  \r\n",
    "a word": b"hello",
    "cut off": CREATED[:-1],
    "two values": CREATED + CREATED,
    "something after it": CREATED + b"x",
    "NUL after it": CREATED + b"\0",
    "an array": b"[" + CREATED + b"]",
    "null": b"null",
    "a number": b"5",
    "a string": b'"{}"',
    "a byte order mark": b"\xef\xbb\xbf" + CREATED,
    "UTF-16": CREATED.decode().encode("utf-16"),
    "Latin-1": with_value("product", '"é"'.encode("latin-1")),
    "overlong UTF-8": with_value("product", b'"\xc0\xaf"'),
    "a surrogate in UTF-8": with_value("product", b'"\xed\xa0\x80"'),
    "half an escape": with_value("product", rb'"\ud800"'),
    "half an escape as a name": with_value(r"\udfff", b"1"),
    "half an escape in what is ignored": with_value("ignored", rb'["\ud800"]'),
    "invalid UTF-8 in what is ignored": with_value("ignored", b'"\xff"'),
    "NUL": with_value("product", rb'"a\u0000b"'),
    "NUL in features": with_value("features", rb'["a\u0000b"]'),
    "NUL in what is ignored": with_value("ignored", rb'{"\u0000":1}'),
    "a raw control character": with_value("product", b'"a\nb"'),
    "10,000 levels of arrays": with_value("ignored", b"[" * 10_000 + b"]" * 10_000),
    "10,000 levels of objects": with_value("ignored", b'{"a":' * 10_000 + b"1" + b"}" * 10_000),
    "10,000 arrays never closed": b"[" * 10_000,
    "33 levels": with_value("ignored", b"[" * 33 + b"]" * 33),
    "NaN": with_value("ignored", b"NaN"),
    "Infinity": with_value("ignored", b"-Infinity"),
    "a number beyond a double": with_value("ignored", b"1e999"),
    "5,000 digits": with_value("ignored", b"1" * 5000),
    "5,000 digits for a limit": with_value("max_devices", b"1" * 5000),
    "beyond int64": with_value("ignored", b"9223372036854775808"),
    "below int64": with_value("ignored", b"-9223372036854775809"),
    "a leading zero": with_value("ignored", b"01"),
    "hexadecimal": with_value("ignored", b"0x10"),
    "a name twice": with_value("product", b'"other","product":"p"'),
    "a name twice in what is ignored": with_value("ignored", b'{"a":1,"a":2}'),
    "a name twice by an escape": with_value("product", rb'"p","prod\u0075ct":"other"'),
    "single quotes": CREATED.replace(b'"', b"'"),
    "a comment": b"/* */" + CREATED,
    "a comma too many": CREATED[:-1] + b",}",
    "an object for a text": with_value("product", b"{}"),
    "an array for an object": b"[]",
    "an object for an array": with_value("features", b"{}"),
    "a number for a text": with_value("email", b"5"),
    "a text too long": with_value("product", b'"' + b"a" * 257 + b'"'),
    "too many features": with_value("features", json.dumps(["a"] * 201).encode()),
    "features too long together": with_value("features", json.dumps(["a" * 250] * 40).encode()),
}
SERVICES_ONLY: dict[str, bytes] = {
    "a text for a number": with_value("max_devices", b'"3"'),
    "a boolean for a number": with_value("max_devices", b"true"),
    "a fraction": with_value("max_devices", b"1.5"),
    "zero devices": with_value("max_devices", b"0"),
    "too many devices": with_value("max_devices", b"100001"),
    "an endless term": with_value("expires_in_days", b"36501"),
    "a blank identifier": with_value("customer_id", rb'" \u00a0 "'),
    "a control character in an identifier": with_value("customer_id", rb'"a\u0085b"'),
    "an array for metadata": with_value("metadata", b"[]"),
    "metadata of nine levels": with_value("metadata", b'{"a":' * 9 + b"1" + b"}" * 9),
    "metadata over 16 KiB": with_value("metadata", json.dumps({"a": "x" * 16_384}).encode()),
}
TYPES = [
    "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=a", "text/json", "a", "",
    "application/json; charset=utf-16", "application/json; charset=latin-1", "application/json; charset=nothing",
    "application/json, text/plain", "application/jsonp",
]  # fmt: skip


async def create(client: Client, dialect: str, body: bytes, **headers: str) -> Reply:
    call = client.admin if dialect == "services" else client.b_admin
    return await call("POST", "/licenses", body, **headers)


def check_refused(reply: Reply, dialect: str) -> None:
    if dialect == "services":
        assert (reply.status, reply["error_code"]) == (400, "VALIDATION_ERROR"), reply
        assert reply["details"]
        assert reply.body.keys() == {"error", "error_code", "details"}
    else:
        assert reply.status == 422, reply
        assert reply.body.keys() == {"detail"}
        assert reply["detail"]
        assert all(problem.keys() == {"loc", "msg"} for problem in reply["detail"])
    assert len(json.dumps(reply.body)) < 20_000


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("dialect", ["services", "licenses-api"])
async def test_bad_bodies(attacker: Client, dialect: str) -> None:
    for name, body in {**BODIES, **(SERVICES_ONLY if dialect == "services" else {})}.items():
        reply = await create(attacker, dialect, body, idempotency_key=name)
        check_refused(reply, dialect)


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("dialect", ["services", "licenses-api"])
@pytest.mark.parametrize("content_type", TYPES)
async def test_bad_content_types(attacker: Client, dialect: str, content_type: str) -> None:
    check_refused(await create(attacker, dialect, CREATED, **{"Content-Type": content_type}), dialect)


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("dialect", ["services", "licenses-api"])
@pytest.mark.parametrize("key", ["", " ", "a" * 256, "é"])
async def test_bad_idempotency_keys(attacker: Client, dialect: str, key: str) -> None:
    check_refused(await create(attacker, dialect, CREATED, idempotency_key=key), dialect)


TIMES = [
    "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00", "0001-01-01T00:00:00+01:00",
    "2030-01-01T00:00:00", "2030-01-01", "2030-02-30T00:00:00Z", "2030-01-01T25:00:00Z", "2030-01-01T00:00:60Z",
    "20300101T000000Z", "2030-W01-1T00:00:00Z", "1893456000", "now", "", " 2030-01-01T00:00:00Z",
]  # fmt: skip


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("moment", TIMES)
async def test_bad_times(attacker: Client, world: World, moment: str) -> None:
    one = f"/licenses/{world.seats[0].license['license_id']}"
    check_refused(await attacker.admin("PATCH", one, {"expires_at": moment}), "services")
    check_refused(await attacker.admin("GET", f"/licenses?created_after={moment or '%20'}"), "services")


QUERIES = [
    "page=1000000000", "page=0", "page=-1", "page=1.0", "page=%31%00", "page=٣", "page=99999999999999999999", "page=",
    "per_page=101", "per_page=0", "is_active=True", "is_active=1", "is_active=", "unknown=1", "page=1&page=2",
    "customer_id=%00",
    "customer_id=", "cursor=", "cursor=AAAA", "cursor=%27", "cursor=" + "A" * 27, "cursor=" + "A" * 300, "email=",
    "%ff=1",
]  # fmt: skip


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("query", QUERIES)
async def test_bad_queries(attacker: Client, query: str) -> None:
    check_refused(await attacker.admin("GET", f"/licenses?{query}"), "services")
    if "cursor" not in query and "customer" not in query and "is_active" not in query:
        check_refused(await attacker.b_admin("GET", f"/licenses?{query}"), "licenses-api")


async def test_altered_cursors(attacker: Client) -> None:
    cursor = (await attacker.admin("GET", "/licenses?per_page=1"))["pagination"]["next_cursor"]
    assert (await attacker.admin("GET", f"/licenses?per_page=1&cursor={cursor}")).status == 200

    for number, letter in enumerate(cursor):
        other = "A" if letter != "A" else "B"
        altered = cursor[:number] + other + cursor[number + 1 :]
        check_refused(await attacker.admin("GET", f"/licenses?cursor={altered}"), "services")
    for altered in (cursor[:-1], f"{cursor}=", f"{cursor}A", cursor.swapcase()):
        check_refused(await attacker.admin("GET", f"/licenses?cursor={altered}"), "services")


@pytest.mark.usefixtures("nothing_is_stored")
@pytest.mark.parametrize("query", ["hours=0", "hours=8761", "days=1", "hours=1e3", "hours=24&hours=24"])
async def test_bad_periods(attacker: Client, world: World, query: str) -> None:
    one = f"/licenses/{world.seats[0].license['license_id']}"

    check_refused(await attacker.admin("GET", f"{one}/events?{query}"), "services")


VALUES: list[Any] = [
    {"_type_": "uuid_hex", "_data_": "x"}, {"_type_": "os:system", "_data_": "true"}, {"__proto__": {"a": 1}},
    {"a": "\r\nX-Evil: 1"}, {"a": "=cmd()"}, {"a": 0.1}, {"a": 2**63 - 1}, {"": ""}, {"é\U0001f600": ["\u2028",
    "\x7f"]},
]  # fmt: skip


@pytest.mark.parametrize("metadata", VALUES)
async def test_odd_but_good_metadata_comes_back_as_it_was(attacker: Client, metadata: dict[str, Any]) -> None:
    license = await attacker.new_license(metadata=metadata)
    one = f"/licenses/{license['license_id']}"
    assert (await attacker.activate(license, "pc")).status == 201
    assert (await attacker.admin("PATCH", one, {"metadata": {"before": metadata}})).status == 200

    shown = await attacker.admin("GET", one)
    events = await attacker.admin("GET", f"{one}/events")
    assert shown["metadata"] == {"before": metadata}
    assert events["events"][-1]["data"]["metadata"] == metadata
    assert "X-Evil" not in shown.headers


@pytest.mark.parametrize("given", VALUES)
async def test_odd_but_good_facts_about_a_device_come_back_as_they_were(
    attacker: Client, given: dict[str, Any]
) -> None:
    """Also what a library of events would take for one of its own types: the licence can be read on."""
    license = await attacker.new_license()
    activated = await attacker.activate(license, "pc", fields={"os_info": given, "device_name": str(given)})
    assert activated.status == 201
    token = (await attacker.tokens(license, "pc"))["access_token"]
    beat = await attacker.bearer("/api/v1/license/heartbeat", token, {"session_data": given})
    assert beat.status == 200

    (device,) = (await attacker.admin("GET", f"/licenses/{license['license_id']}/devices"))["devices"]
    assert (device["os_info"], device["device_name"]) == (given, str(given))
    assert (await attacker.activate(license, "pc-2")).status == 201
