"""Puts changes of seats into their view, as events of given moments would."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID, uuid4

from domain.facts import DeviceActivated, DeviceDeactivated, Fact, LicenseUpdated, SeatTransferred
from infra.postgres import Database
from projections.seats import apply_events
from tests.support.given import issued, recorded

Change = tuple[datetime, UUID, Fact]


def takes(at: datetime, license_id: UUID) -> Change:
    return at, license_id, DeviceActivated(hardware_id="pc")


def gives_up(at: datetime, license_id: UUID) -> Change:
    return at, license_id, DeviceDeactivated(hardware_id="pc", activation_id=uuid4())


def moves(at: datetime, license_id: UUID) -> Change:
    fact = SeatTransferred(from_hardware_id="pc", to_hardware_id="other", ended_activation_id=uuid4())
    return at, license_id, fact


def begins(at: datetime, license_id: UUID, max_devices: int) -> Change:
    return at, license_id, issued(max_devices)


def allows(at: datetime, license_id: UUID, max_devices: int) -> Change:
    return at, license_id, LicenseUpdated(max_devices=max_devices)


def happen(database: Database, changes: Iterable[Change]) -> None:
    """Apply changes at the next positions, in this order."""
    with database.connect() as connection:
        row = connection.execute("SELECT coalesce(max(position), 0) AS position FROM seat_changes").fetchone()
        assert row is not None
        events = [
            (position, recorded(license_id, position, fact, occurred_at=at))
            for position, (at, license_id, fact) in enumerate(changes, row["position"] + 1)
        ]
        apply_events(connection, events)
