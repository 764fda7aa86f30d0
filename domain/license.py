"""The License aggregate: the state that decisions need, and how facts change it."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET

from domain.facts import (
    DeviceActivated,
    DeviceDeactivated,
    DeviceRenamed,
    LicenseDeactivated,
    LicenseIssued,
    LicenseReactivated,
    LicenseUpdated,
    Recorded,
    SeatTransferred,
)
from domain.identifiers import device_digest


class Activation(msgspec.Struct, frozen=True):
    """A seat in use. `activation_id` is the id of the event that gave it."""

    activation_id: UUID
    activated_at: datetime
    name_tag: bytes | None = None


class License(msgspec.Struct, kw_only=True):
    """A licence as decisions see it. Devices are known by digest only; no personal data.

    `deactivated_by` is the event that revoked it, while it is revoked.
    """

    id: UUID
    version: int
    subject_id: UUID | None
    product: str | None
    edition: str | None
    max_devices: int
    features: tuple[str, ...]
    floating: bool
    expires_at: datetime | None
    is_active: bool = True
    deactivated_by: UUID | None = None
    devices: dict[bytes, Activation] = msgspec.field(default_factory=dict)

    @property
    def current_devices(self) -> int:
        """Seats in use."""
        return len(self.devices)

    @property
    def limits(self) -> dict[str, int]:
        """Seats allowed and in use, as answers and refusals show them."""
        return {"max_devices": self.max_devices, "current_devices": len(self.devices)}

    def activation(self, hardware_id: str) -> Activation | None:
        """Return the device's activation, or None where it holds no seat."""
        return self.devices.get(device_digest(hardware_id))


def evolve(license: License | None, event: Recorded) -> License:  # noqa: C901 - one case a fact
    """Apply an event in place and return the licence; the first event makes it.

    Raises ValueError for an event out of order: the log is wrong then, and nothing may be decided on it.
    """
    fact = event.fact
    if license is None:
        if not isinstance(fact, LicenseIssued) or event.originator_version != 1:
            msg = f"licence {event.originator_id} does not begin with its issue"
            raise ValueError(msg)
        return _issued(event, fact)
    if event.originator_version != license.version + 1:
        msg = f"licence {license.id} is at version {license.version}, not before {event.originator_version}"
        raise ValueError(msg)
    match fact:
        case DeviceActivated(hardware_id=hardware_id, name_tag=tag):
            license.devices[device_digest(hardware_id)] = Activation(event.event_id, event.occurred_at, tag)
        case DeviceDeactivated(hardware_id=hardware_id):
            del license.devices[device_digest(hardware_id)]
        case SeatTransferred(from_hardware_id=source, to_hardware_id=target):
            del license.devices[device_digest(source)]
            license.devices[device_digest(target)] = Activation(event.event_id, event.occurred_at)
        case DeviceRenamed(hardware_id=hardware_id, name_tag=tag):
            digest = device_digest(hardware_id)
            seat = license.devices[digest]
            license.devices[digest] = Activation(seat.activation_id, seat.activated_at, tag)
        case LicenseUpdated():
            _updated(license, fact)
        case LicenseDeactivated():
            license.is_active = False
            license.deactivated_by = event.event_id
        case LicenseReactivated():
            license.is_active = True
            license.deactivated_by = None
        case _:
            msg = f"a licence does not know {type(fact).__name__}"
            raise ValueError(msg)
    license.version = event.originator_version
    return license


def _issued(event: Recorded, fact: LicenseIssued) -> License:
    return License(
        id=event.originator_id,
        version=1,
        subject_id=event.subject_id,
        product=fact.product,
        edition=fact.edition,
        max_devices=fact.max_devices,
        features=fact.features,
        floating=fact.floating,
        expires_at=fact.expires_at,
    )


def _updated(license: License, fact: LicenseUpdated) -> None:
    for name in ("max_devices", "features", "product", "edition", "expires_at", "floating"):
        value = getattr(fact, name)
        if value is not UNSET:
            setattr(license, name, value)
