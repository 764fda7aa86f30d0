"""State for decisions: `given` what has happened, a licence as the domain sees it."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import reduce
from uuid import UUID, uuid4

from domain import license as licenses
from domain.facts import Cause, DeviceActivated, Fact, LicenseIssued, Recorded
from domain.license import License

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CAUSE = Cause(actor="admin:test", command="Test", command_id=UUID(int=7), request_id="req-1")


def issued(max_devices: int = 2, expires_at: datetime | None = None, product: str | None = None) -> LicenseIssued:
    """Return the fact with which a licence begins."""
    return LicenseIssued(
        key_digest=b"digest", key_sealed=b"sealed", max_devices=max_devices, expires_at=expires_at, product=product
    )


def activated(hardware_id: str, name_tag: bytes | None = None) -> DeviceActivated:
    """Return the fact that gives a device a seat."""
    return DeviceActivated(hardware_id=hardware_id, name_tag=name_tag)


def recorded(originator_id: UUID, version: int, fact: Fact, *, occurred_at: datetime = NOW) -> Recorded:
    """Return a fact as the log keeps it, with an event id of its own."""
    return Recorded(
        originator_id=originator_id,
        originator_version=version,
        event_id=uuid4(),
        occurred_at=occurred_at,
        subject_id=UUID(int=9),
        cause=CAUSE,
        fact=fact,
    )


def history(*facts: Fact, originator_id: UUID | None = None) -> list[Recorded]:
    """Return facts as consecutive events of one aggregate."""
    aggregate_id = originator_id or uuid4()
    return [recorded(aggregate_id, version, fact) for version, fact in enumerate(facts, 1)]


def given(*facts: Fact) -> License:
    """Return the licence to which these facts have led."""
    return fold(history(*facts))


def fold(events: list[Recorded]) -> License:
    """Return the licence that a list of events, which must not be empty, makes."""
    license = reduce(licenses.evolve, events, None)
    assert license is not None
    return license


def then(license: License, facts: tuple[Fact, ...]) -> License:
    """Apply decided facts to a licence and return it."""
    for fact in facts:
        license = licenses.evolve(license, recorded(license.id, license.version + 1, fact))
    return license
