"""Facts of every kind, for property tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st

from domain.facts import (
    FACTS,
    AnomalyDetected,
    AnomalyResolved,
    ApiKeyCreated,
    Cause,
    CustomerErased,
    DeviceActivated,
    DeviceRenamed,
    Fact,
    LicenseIssued,
    LicenseUpdated,
    Origin,
    Recorded,
    SeatTransferred,
    SettingsChanged,
)
from domain.facts import DeviceDeactivated as Ended

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
OPTIONAL = st.none() | TEXT
BYTES = st.binary(max_size=40)
TIMES = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))  # noqa: DTZ001
SEALED = st.dictionaries(TEXT, BYTES, max_size=3)
SEATS = st.integers(1, 100_000)
LISTS = st.lists(TEXT, max_size=4).map(tuple)

VALUES = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | TEXT
"""What JSON gives back as it was."""

_ABOUT: dict[str, st.SearchStrategy[object]] = {"license_id": st.none() | st.uuids(), "address_hash": st.none() | BYTES}

_OPTIONAL_TERMS = {
    "features": LISTS,
    "product": OPTIONAL,
    "edition": OPTIONAL,
    "floating": st.booleans(),
    "expires_at": st.none() | TIMES,
}

_FIELDS: dict[type[Fact], tuple[dict[str, st.SearchStrategy[object]], dict[str, st.SearchStrategy[object]]]] = {
    LicenseIssued: (
        {"key_digest": BYTES, "key_sealed": BYTES, "max_devices": SEATS},
        {**_OPTIONAL_TERMS, "is_test": st.booleans()},
    ),
    LicenseUpdated: ({}, {**_OPTIONAL_TERMS, "max_devices": SEATS}),
    DeviceActivated: (
        {"hardware_id": TEXT},
        {"name_tag": st.none() | BYTES, "app_version": OPTIONAL, "client_time": st.none() | TIMES},
    ),
    DeviceRenamed: ({"hardware_id": TEXT, "name_tag": BYTES}, {}),
    Ended: ({"hardware_id": TEXT, "activation_id": st.uuids()}, {}),
    SeatTransferred: ({"from_hardware_id": TEXT, "to_hardware_id": TEXT, "ended_activation_id": st.uuids()}, {}),
    ApiKeyCreated: (
        {
            "key_digest": BYTES,
            "client_name": TEXT,
            "allowed_endpoints": LISTS,
            "requests_per_minute": st.none() | st.integers(1, 2**53),
            "requests_per_hour": st.none() | st.integers(1, 2**53),
        },
        {"product": OPTIONAL, "expires_at": st.none() | TIMES},
    ),
    AnomalyDetected: (
        {"kind": TEXT, "severity": TEXT, "found_at": TIMES, "explanation": TEXT},
        {**_ABOUT, "evidence": LISTS},
    ),
    AnomalyResolved: (
        {"resolution": st.sampled_from(["acknowledged", "dismissed"]), "kind": TEXT, "severity": TEXT},
        _ABOUT,
    ),
    SettingsChanged: (
        {"section": TEXT, "values": st.dictionaries(TEXT, VALUES | st.lists(VALUES, max_size=4), max_size=4)},
        {"changed": LISTS},
    ),
    CustomerErased: (
        {},
        {
            "license_ids": st.lists(st.uuids(), max_size=4).map(tuple),
            "ordered_at": st.none() | TIMES,
            "ordered_by": OPTIONAL,
        },
    ),
}


def facts_of(kind: type[Fact]) -> st.SearchStrategy[Fact]:
    """Return facts of one kind, with any subset of what may be left out."""
    required, optional = _FIELDS.get(kind, ({}, {}))
    fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(required, optional={**optional, "sealed": SEALED})
    return fields.map(lambda given: kind(**given))


FACTS_OF_ALL_KINDS = st.sampled_from(FACTS).flatmap(facts_of)

CAUSES = st.builds(
    Cause,
    actor=TEXT,
    command=TEXT,
    command_id=st.uuids(),
    request_id=TEXT,
    origin=st.builds(Origin, country=OPTIONAL, network=st.none() | BYTES),
    sealed_address=st.none() | BYTES,
)

RECORDED = st.builds(
    Recorded,
    originator_id=st.uuids(),
    originator_version=st.integers(1, 2**62),
    event_id=st.uuids(),
    occurred_at=TIMES,
    subject_id=st.none() | st.uuids(),
    cause=CAUSES,
    fact=FACTS_OF_ALL_KINDS,
)
