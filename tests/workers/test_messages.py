"""Messages as other programs read them, and what our own consumers take for ours."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_type_hints
from uuid import UUID, uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.facts import (
    FACTS,
    AnomalyDetected,
    AnomalyResolved,
    ApiKeyCreated,
    Fact,
    LicenseIssued,
    LicenseUpdated,
    Recorded,
    SettingsChanged,
)
from tests.support.facts import RECORDED
from tests.support.given import recorded
from workers.messages import PRIVATE_FIELDS, NotOurs, Word, of_event, of_usage, parse

LICENSE, KEY, EVENT, ANOMALY = UUID(int=1), UUID(int=2), UUID(int=3), UUID(int=4)
NOON = datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)

USAGE_ROW: dict[str, Any] = {
    "id": 42,
    "occurred_at": NOON,
    "type": "license.validation.failed",
    "operation": "validate",
    "license_id": LICENSE,
    "key_digest": None,
    "hardware_id": "pc-1",
    "api_key_id": KEY,
    "reason": "LICENSE_EXPIRED",
    "app_version": "1.2",
    "client_time": NOON,
    "country": "DE",
    "network": b"\xab\xcd",
}


def read(body: bytes) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(body)
    return event


def issued() -> Recorded:
    fact = LicenseIssued(
        sealed={"email": b"sealed-mail"},
        key_digest=b"the-digest",
        key_sealed=b"the-key",
        max_devices=3,
        product="Avion",
    )
    return recorded(LICENSE, 1, fact, occurred_at=NOON)


def test_an_event_is_a_cloud_event_with_all_its_public_fields() -> None:
    event = issued()
    message = of_event(7, event, "abc")
    assert (message.id, message.type, message.log, message.position) == (
        str(event.event_id),
        "license.issued",
        "events",
        7,
    )
    assert read(message.body) == {
        "specversion": "1.0",
        "id": str(event.event_id),
        "source": "/lizenzserver/abc/events",
        "type": "license.issued",
        "subject": str(LICENSE),
        "time": "2026-03-01T12:00:00.000005Z",
        "datacontenttype": "application/json",
        "sequence": "0000000000000000007",
        "data": {
            "max_devices": 3,
            "features": [],
            "product": "Avion",
            "edition": None,
            "floating": False,
            "is_test": False,
            "expires_at": None,
            "version": 1,
            "actor": "admin:test",
            "command": "Test",
            "command_id": "00000000-0000-0000-0000-000000000007",
            "request_id": "req-1",
            "country": None,
            "network": None,
        },
    }


def test_a_change_tells_only_what_has_changed() -> None:
    data = read(of_event(1, recorded(LICENSE, 2, LicenseUpdated(edition=None)), "abc").body)["data"]
    assert data["edition"] is None
    assert not {"max_devices", "features", "product", "expires_at", "floating"} & data.keys()


def test_an_api_keys_event_is_about_the_key() -> None:
    fact = ApiKeyCreated(
        key_digest=b"d", client_name="app", allowed_endpoints=("/x",), requests_per_minute=1, requests_per_hour=None
    )
    assert read(of_event(1, recorded(KEY, 1, fact), "abc").body)["subject"] == str(KEY)


def found(**about: Any) -> dict[str, Any]:
    """Return the message of an anomaly."""
    fact = AnomalyDetected(
        kind="hammering",
        severity="high",
        found_at=NOON,
        explanation="Too much.",
        evidence=("one", "two"),
        sealed={"address": b"sealed-address"},
        **about,
    )
    return read(of_event(1, recorded(ANOMALY, 1, fact), "abc").body)


def test_an_anomaly_s_event_is_about_the_licence() -> None:
    event = found(license_id=LICENSE)
    assert event["subject"] == event["data"]["license_id"] == str(LICENSE)
    assert event["data"] == event["data"] | {
        "anomaly_id": str(ANOMALY),
        "kind": "hammering",
        "severity": "high",
        "found_at": "2026-03-01T12:00:00.000005Z",
        "explanation": "Too much.",
        "address_hash": None,
        "evidence": ["one", "two"],
    }
    assert "sealed" not in str(event)


def test_an_address_is_told_by_its_hash() -> None:
    event = found(address_hash=b"\x0a\xff")
    assert "subject" not in event
    assert (event["data"]["license_id"], event["data"]["address_hash"]) == (None, "0aff")


@pytest.mark.parametrize("license_id, address_hash", [(LICENSE, None), (None, b"\x0a")])
def test_what_a_person_said_of_an_anomaly_is_about_the_same(license_id: UUID | None, address_hash: bytes) -> None:
    fact = AnomalyResolved(
        resolution="dismissed",
        kind="hammering",
        severity="high",
        license_id=license_id,
        address_hash=address_hash,
        sealed={"reason": b"sealed-reason"},
    )
    event = read(of_event(1, recorded(ANOMALY, 2, fact), "abc").body)
    before = found(license_id=license_id, address_hash=address_hash)
    assert event.get("subject") == before.get("subject")
    same = ("anomaly_id", "kind", "license_id", "address_hash")
    assert [event["data"][name] for name in same] == [before["data"][name] for name in same]
    assert event["data"]["resolution"] == "dismissed"
    assert "sealed" not in str(event)


def test_settings_are_about_nobody() -> None:
    fact = SettingsChanged(section="anomaly_thresholds", values={"one": 1, "two": [1.5, 2.5]}, changed=("two",))
    event = read(of_event(1, recorded(EVENT, 3, fact), "abc").body)
    assert "subject" not in event
    assert event["data"]["values"] == {"one": 1, "two": [1.5, 2.5]}
    assert (event["data"]["changed"], event["data"]["version"]) == (["two"], 3)
    assert "anomaly_id" not in event["data"]


def test_a_usage_row_is_a_cloud_event() -> None:
    message = of_usage(USAGE_ROW, "abc")
    event = read(message.body)
    assert event.pop("data") == {
        "operation": "validate",
        "license_id": str(LICENSE),
        "hardware_id": "pc-1",
        "api_key_id": str(KEY),
        "reason": "LICENSE_EXPIRED",
        "app_version": "1.2",
        "client_time": "2026-03-01T12:00:00.000005Z",
        "country": "DE",
        "network": "abcd",
        "key_hash": None,
    }
    assert event == {
        "specversion": "1.0",
        "id": message.id,
        "source": "/lizenzserver/abc/usage",
        "type": "license.validation.failed",
        "subject": str(LICENSE),
        "time": "2026-03-01T12:00:00.000005Z",
        "datacontenttype": "application/json",
        "sequence": "0000000000000000042",
    }


def test_an_unknown_key_has_no_subject_but_a_hash() -> None:
    event = read(of_usage({**USAGE_ROW, "license_id": None, "key_digest": b"\x01\x02"}, "abc").body)
    assert "subject" not in event
    assert event["data"]["key_hash"] == "0102"


def test_the_same_row_has_the_same_id_and_no_other_has_it() -> None:
    ids = [of_usage({**USAGE_ROW, "id": n}, instance).id for n in (1, 2) for instance in ("abc", "abd")]
    assert len(set(ids)) == 4
    assert of_usage({**USAGE_ROW, "id": 1}, "abc").id == ids[0]


def test_times_are_in_utc_and_sequences_sort_as_text() -> None:
    abroad = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert read(of_usage({**USAGE_ROW, "occurred_at": abroad}, "abc").body)["time"] == "2026-03-01T12:00:00.000005Z"
    positions = [1, 9, 10, 99, 2**40, 2**63 - 1]
    texts = [read(of_usage({**USAGE_ROW, "id": position}, "abc").body)["sequence"] for position in positions]
    assert texts == sorted(texts)


@pytest.mark.parametrize("kind", FACTS)
def test_whatever_a_fact_holds_as_bytes_is_private(kind: type[Fact]) -> None:
    # Ciphertext, digests and keyed hashes are bytes: a new field of that kind must be looked at. Published are keyed
    # hashes by which analysts can tell that two messages are about one and the same.
    fields = {name for name, hint in get_type_hints(kind).items() if "bytes" in str(hint)}
    assert fields <= PRIVATE_FIELDS | {"address_hash"}


@given(RECORDED, st.integers(1, 2**63 - 1))
@settings(max_examples=300, deadline=None)
def test_every_fact_can_be_told_and_keeps_its_secrets(event: Recorded, position: int) -> None:
    message = of_event(position, event, "abc")
    assert not PRIVATE_FIELDS & read(message.body)["data"].keys()
    assert parse(message.body, "abc") == Word("events", position)


def test_word_is_taken_from_a_message_of_ours() -> None:
    assert parse(of_usage(USAGE_ROW, "abc").body, "abc") == Word("usage", 42)


def changed(**fields: Any) -> bytes:
    event = read(of_usage(USAGE_ROW, "abc").body)
    event |= fields
    return json.dumps({name: value for name, value in event.items() if value is not ...}).encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"null",
        b"[]",
        b"\xff\xfe",
        b'{"specversion":"1.0"' + b'{"a":' * 5000,
        changed(specversion="0.3"),
        changed(id="1"),
        changed(id=...),
        changed(source="/lizenzserver/other/usage"),
        changed(source="/lizenzserver/abc/secrets"),
        changed(source="/lizenzserver/abc/x/usage"),
        changed(source="/elsewhere/abc/usage"),
        changed(type=""),
        changed(type=...),
        changed(time="yesterday"),
        changed(sequence=42),
        changed(sequence="42"),
        changed(sequence="000000000000000004\uff12"),
        changed(sequence="0" * 19),
        changed(sequence="9" * 19),
        changed(sequence="-000000000000000042"),
        changed(sequence="0000000000000000042\n"),
        changed(sequence=...),
        changed(datacontenttype="text/plain"),
        changed(data="x"),
        changed(data={"deep": 0}).replace(b'"deep": 0', b'"deep": ' + b"[" * 100_000 + b"]" * 100_000),
        changed(source="/lizenzserver/abc/events\n"),
        changed(data=...),
    ],
)
def test_what_is_not_ours_is_refused(body: bytes) -> None:
    with pytest.raises(NotOurs):
        parse(body, "abc")


def test_two_installations_do_not_take_each_others_word() -> None:
    body = of_event(1, recorded(uuid4(), 1, issued().fact), "abd").body
    assert parse(body, "abd") == Word("events", 1)
    with pytest.raises(NotOurs):
        parse(body, "abc")
