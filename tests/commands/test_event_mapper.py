"""Between facts and rows: nothing is lost, nothing unknown is believed, nothing is imported, old rows stay readable."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, get_args
from uuid import UUID

import msgspec
import pytest
from eventsourcing.persistence import StoredEvent
from hypothesis import given, settings

from commands import event_mapper
from commands.event_mapper import UPCASTS, EventMapper, UnknownFact
from domain.facts import (
    FACTS,
    AnomalyDetected,
    AnomalyResolved,
    ApiKeyCreated,
    ApiKeyRevoked,
    Cause,
    CustomerErased,
    DeviceActivated,
    DeviceDeactivated,
    DeviceRenamed,
    Fact,
    LicenseDeactivated,
    LicenseIssued,
    LicenseReactivated,
    LicenseUpdated,
    Origin,
    Recorded,
    SeatTransferred,
    SettingsChanged,
)
from tests.support.facts import RECORDED

STORED = Path(__file__).parent / "stored_events"
MAPPER = EventMapper()
TIME = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)

VERSION_1: tuple[Fact, ...] = (
    LicenseIssued(
        key_digest=b"\x01" * 32,
        key_sealed=b"sealed key",
        max_devices=5,
        features=("export", "sync"),
        product="editor",
        edition="pro",
        floating=True,
        is_test=True,
        expires_at=datetime(2027, 3, 1, 12, tzinfo=UTC),
        sealed={"customer_id": b"sealed customer", "email": b"sealed e-mail", "metadata": b"sealed metadata"},
    ),
    LicenseUpdated(
        max_devices=7,
        features=(),
        product=None,
        edition="basic",
        expires_at=None,
        floating=False,
        sealed={"email": b"sealed e-mail"},
    ),
    LicenseDeactivated(sealed={"reason": b"sealed reason"}),
    LicenseReactivated(),
    DeviceActivated(
        hardware_id="caf\u00e9-01",
        name_tag=b"\x02" * 16,
        app_version="1.2.3",
        client_time=TIME,
        sealed={"device_name": b"sealed name", "os_info": b"sealed os"},
    ),
    DeviceRenamed(hardware_id="pc-1", name_tag=b"\x03" * 16, sealed={"device_name": b"sealed name"}),
    DeviceDeactivated(hardware_id="pc-1", activation_id=UUID(int=4), sealed={"reason": b"sealed reason"}),
    SeatTransferred(
        from_hardware_id="pc-1",
        to_hardware_id="pc-2",
        ended_activation_id=UUID(int=5),
        sealed={"reason": b"sealed reason"},
    ),
    ApiKeyCreated(
        key_digest=b"\x06" * 32,
        client_name="Editor",
        allowed_endpoints=("/api/v1/license/*",),
        requests_per_minute=60,
        requests_per_hour=None,
        product="editor",
        expires_at=TIME,
    ),
    ApiKeyRevoked(),
    AnomalyDetected(
        kind="key_guessing",
        severity="high",
        found_at=TIME,
        explanation="This address tried 31 keys.",
        license_id=UUID(int=6),
        address_hash=b"\x09" * 16,
        evidence=("00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"),
        sealed={"address": b"sealed address"},
    ),
    AnomalyResolved(
        resolution="dismissed",
        kind="key_guessing",
        severity="high",
        license_id=UUID(int=6),
        address_hash=b"\x09" * 16,
        sealed={"reason": b"sealed reason"},
    ),
    SettingsChanged(
        section="anomaly_thresholds",
        values={"quiet_seconds": 604800, "guessing_keys": 15.5, "risk_points": [20.0, 50.0, 75.0, 90.0]},
        changed=("guessing_keys",),
    ),
    CustomerErased(
        license_ids=(UUID(int=6),), ordered_at=TIME, ordered_by="admin:maria", sealed={"reason": b"sealed reason"}
    ),
)
"""What the files in stored_events hold. Neither these nor the files may ever be changed; add new ones."""


LATER_FIELDS: dict[str, Fact] = {
    "license.reactivated.v1.undoes": LicenseReactivated(undoes=UUID(int=10), sealed={"reason": b"sealed reason"}),
    "license.transferred.v1.undoes": SeatTransferred(
        from_hardware_id="pc-2",
        to_hardware_id="pc-1",
        ended_activation_id=UUID(int=5),
        undoes=UUID(int=5),
        sealed={"reason": b"sealed reason"},
    ),
}
"""The same for optional fields that a version has got since. For these too: only ever add."""


@settings(max_examples=400, deadline=None)
@given(RECORDED)
def test_what_is_stored_is_what_is_read(event: Recorded) -> None:
    stored = MAPPER.to_stored_event(event)
    assert stored.topic == event.fact.stored_name
    assert MAPPER.to_domain_event(stored) == event


@pytest.mark.parametrize("fact", VERSION_1, ids=lambda fact: fact.stored_name)
def test_events_that_were_stored_at_version_1_are_read_for_ever(fact: Fact) -> None:
    state = (STORED / f"{fact.stored_name}.v1.json").read_bytes()
    event = MAPPER.to_domain_event(StoredEvent(UUID(int=1), 1, fact.stored_name, state))
    assert event == Recorded(
        originator_id=UUID(int=1),
        originator_version=1,
        event_id=UUID(int=2),
        occurred_at=TIME,
        subject_id=None if fact.stored_name.startswith(("apikey.", "settings.")) else UUID(int=3),
        cause=Cause(
            actor="admin:default",
            command="Order",
            command_id=UUID(int=7),
            request_id="req-1",
            origin=Origin(country="FR", network=b"\x08" * 16),
            sealed_address=b"sealed address",
        ),
        fact=fact,
    )


@pytest.mark.parametrize("name, fact", LATER_FIELDS.items())
def test_fields_that_a_version_gained_later_are_read_for_ever(name: str, fact: Fact) -> None:
    state = (STORED / f"{name}.json").read_bytes()
    assert MAPPER.to_domain_event(StoredEvent(UUID(int=1), 1, fact.stored_name, state)).fact == fact


def test_every_fact_has_a_stored_example_and_a_name_of_its_own() -> None:
    assert {type(fact) for fact in VERSION_1} == set(FACTS)
    names = {f"{fact.stored_name}.v1" for fact in VERSION_1} | LATER_FIELDS.keys()
    assert {path.stem for path in STORED.iterdir()} == names
    assert len({fact.stored_name for fact in FACTS}) == len(FACTS)


def test_what_an_update_leaves_out_stays_left_out() -> None:
    (stored,) = (fact for fact in VERSION_1 if isinstance(fact, LicenseUpdated))
    assert stored.product is None
    assert LicenseUpdated().product is msgspec.UNSET
    assert msgspec.json.encode(LicenseUpdated()) == b"{}"


@pytest.mark.parametrize("name", ["license.forged", "antigravity:fly", "os:system", "", "domain.facts:LicenseIssued"])
def test_an_unknown_name_is_refused_and_never_imported(name: str) -> None:
    state = (STORED / "license.reactivated.v1.json").read_bytes()
    with pytest.raises(UnknownFact, match="unknown fact"):
        MAPPER.to_domain_event(StoredEvent(UUID(int=1), 1, name, state))
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize("version", [0, 2, 99])
def test_a_schema_version_that_this_program_does_not_know_is_refused(version: int) -> None:
    envelope = json.loads((STORED / "license.activated.v1.json").read_text())
    state = json.dumps({**envelope, "schema_version": version}).encode()
    with pytest.raises(UnknownFact, match="schema version"):
        MAPPER.to_domain_event(StoredEvent(UUID(int=1), 1, "license.activated", state))


def test_what_looks_like_the_librarys_own_types_is_only_text() -> None:
    for text in ('{"_type_": "uuid_hex", "_data_": "00"}', "\\u0000", "\u2028", "\U0001f5a5"):
        event = Recorded(
            originator_id=UUID(int=1),
            originator_version=1,
            event_id=UUID(int=2),
            occurred_at=TIME,
            subject_id=None,
            cause=Cause(actor=text, command="Order", command_id=UUID(int=7), request_id=text),
            fact=DeviceActivated(hardware_id=text, sealed={text: text.encode()}),
        )
        assert MAPPER.to_domain_event(MAPPER.to_stored_event(event)) == event


SHAPES = json.loads((Path(__file__).parent / "stored_shapes.json").read_text("utf-8"))


@pytest.mark.parametrize("part", [event_mapper._Envelope, Cause, Origin])
def test_what_all_events_have_keeps_its_shape(part: type[msgspec.Struct]) -> None:
    """It has no version: what is in stored_shapes.json of it can be added to, as below, and never changed."""
    assert shape_of(part) == SHAPES[part.__name__.removeprefix("_").lower()]


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.stored_name)
def test_a_stored_shape_changes_only_with_its_version(fact: type[Fact]) -> None:
    """What is in stored_shapes.json was stored, somewhere: it is never changed there, only added to.

    A field that is optional, and whose absence means what was always meant, may be added to a version's shape, with an
    example in `LATER_FIELDS`. Anything else is a new version: another entry here, an upcast, and its own examples.
    """
    assert shape_of(fact) == SHAPES[f"{fact.stored_name} v{fact.schema_version}"]
    versions = {f"{fact.stored_name} v{version}" for version in range(1, fact.schema_version + 1)}
    assert {name for name in SHAPES if name.partition(" ")[0] == fact.stored_name} == versions
    assert {version for name, version in UPCASTS if name == fact.stored_name} == set(range(1, fact.schema_version))


def shape_of(part: type[msgspec.Struct]) -> dict[str, str]:
    """Return for each field its type, and what is meant where it is left out."""
    return {field.encode_name: f"{annotation(field.type)}{meant(field)}" for field in msgspec.structs.fields(part)}


def meant(field: Any) -> str:
    if field.required:
        return ""
    is_made = field.default is msgspec.NODEFAULT
    return f" = {field.default_factory() if is_made else field.default!r}"


def annotation(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


class _Happened(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A fact that has had two other shapes before."""

    stored_name: ClassVar[str] = "test.happened"
    schema_version: ClassVar[int] = 3

    minutes: int
    at: datetime


def test_old_shapes_are_lifted_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_mapper, "FACTS", (*FACTS, _Happened))
    monkeypatch.setitem(UPCASTS, ("test.happened", 1), lambda data: {"hours": data["hours"], "at": data["when"]})
    monkeypatch.setitem(UPCASTS, ("test.happened", 2), lambda data: {"minutes": data["hours"] * 60, "at": data["at"]})
    mapper = EventMapper()
    envelope = json.loads((STORED / "license.reactivated.v1.json").read_text())
    time = "2026-03-01T12:00:00.123456Z"

    def read(version: int, data: dict[str, Any]) -> Fact:
        state = json.dumps({**envelope, "schema_version": version, "data": data}).encode()
        fact: Fact = mapper.to_domain_event(StoredEvent(UUID(int=1), 1, "test.happened", state)).fact
        return fact

    expected = _Happened(minutes=120, at=TIME, sealed={"reason": b"sealed reason"})
    assert read(1, {"hours": 2, "when": time}) == _Happened(minutes=120, at=TIME)
    assert read(2, {"hours": 2, "at": time}) == _Happened(minutes=120, at=TIME)
    assert read(3, {"minutes": 120, "at": time, "sealed": {"reason": "c2VhbGVkIHJlYXNvbg=="}}) == expected
    assert mapper.to_domain_event(mapper.to_stored_event(_recorded(expected))).fact == expected
    with pytest.raises(UnknownFact, match="schema version 4"):
        read(4, {"minutes": 120, "at": time})


def _recorded(fact: Fact) -> Recorded:
    cause = Cause(actor="admin:default", command="Order", command_id=UUID(int=7), request_id="req-1")
    return Recorded(
        originator_id=UUID(int=1),
        originator_version=1,
        event_id=UUID(int=2),
        occurred_at=TIME,
        subject_id=None,
        cause=cause,
        fact=fact,
    )
