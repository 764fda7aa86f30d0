"""Fills the event log without a writer: many events of many licences, fast, with the views left empty."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID

from commands.event_mapper import EventMapper
from domain.facts import (
    DeviceActivated,
    DeviceDeactivated,
    Fact,
    LicenseIssued,
    LicenseUpdated,
    Recorded,
    SeatTransferred,
)
from infra.postgres import Database
from tests.support.given import recorded

START = datetime(2026, 1, 1, tzinfo=UTC)


def append(database: Database, events: Iterable[Recorded]) -> None:
    """Append events as they are."""
    mapper = EventMapper()
    copy_in = "COPY licensing_events (originator_id, originator_version, topic, state) FROM STDIN"
    with database.connect() as connection, connection.cursor().copy(copy_in) as copy:
        for event in events:
            stored = mapper.to_stored_event(event)
            copy.write_row((stored.originator_id, stored.originator_version, stored.topic, stored.state))


def lives_of_licenses(count: int, seed: int = 1) -> Iterator[Recorded]:
    """Give about `count` events: licences are issued, seats are taken, moved and given up, terms change."""
    random = Random(seed)
    lives: list[tuple[UUID, list[str], list[int]]] = []
    for number in range(count):
        at = START + timedelta(seconds=number * 7)
        if number % 10 == 0 or not lives:
            lives.append((UUID(int=random.getrandbits(128), version=4), [], [1]))
            license_id, _, version = lives[-1]
            yield recorded(license_id, 1, _issued(license_id, random), occurred_at=at)
            continue
        license_id, devices, version = random.choice(lives[-50:])
        version[0] += 1
        yield recorded(license_id, version[0], _next(devices, number, random), occurred_at=at)


def _issued(license_id: UUID, random: Random) -> LicenseIssued:
    return LicenseIssued(
        key_digest=license_id.bytes * 2,
        key_sealed=b"sealed key",
        max_devices=random.randint(1, 50),
        product=random.choice(["Editor", "Viewer"]),
        sealed={"email": random.randbytes(60), "customer_id": random.randbytes(50)},
    )


def _next(devices: list[str], number: int, random: Random) -> Fact:
    kind = random.random()
    if devices and kind < 0.2:
        gone = devices.pop(random.randrange(len(devices)))
        return DeviceDeactivated(hardware_id=gone, activation_id=UUID(int=number))
    if devices and kind < 0.3:
        source, target = devices.pop(), f"HW-{number}"
        devices.append(target)
        return SeatTransferred(from_hardware_id=source, to_hardware_id=target, ended_activation_id=UUID(int=number))
    if kind < 0.35:
        return LicenseUpdated(max_devices=random.randint(1, 50))
    devices.append(f"HW-{number}")
    return DeviceActivated(hardware_id=devices[-1], sealed={"device_name": random.randbytes(50)})
