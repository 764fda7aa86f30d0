"""Decisions on seats: activate, deactivate, transfer. No order can take more seats than the licence has."""

from __future__ import annotations

from datetime import datetime

import msgspec

from domain.errors import AlreadyActivated, DeviceLimitExceeded, DeviceNotFound, Invalid
from domain.facts import DeviceActivated, DeviceDeactivated, DeviceRenamed, Fact, SeatTransferred
from domain.license import Activation, License
from domain.validation import USABLE, refusal


class Device(msgspec.Struct, frozen=True, kw_only=True):
    """A device that asks for a seat. `sealed` holds device_name and os_info; `name_tag` a keyed hash of the name."""

    hardware_id: str
    name_tag: bytes | None = None
    sealed: dict[str, bytes] = {}
    app_version: str | None = None
    client_time: datetime | None = None
    products: tuple[str, ...] = ()
    device_is_active: bool = True


def _already_activated(hardware_id: str, seat: Activation) -> AlreadyActivated:
    return AlreadyActivated(
        hardware_id=hardware_id, activation_id=str(seat.activation_id), activated_at=seat.activated_at
    )


def activate(license: License, device: Device, now: datetime, *, repeatable: bool = False) -> tuple[Fact, ...]:
    """Give the device a seat.

    `repeatable` makes a repeat by the same device a success that takes no seat and records a changed name.
    Raises ProductMismatch, LicenseInactive, LicenseExpired, AlreadyActivated, DeviceLimitExceeded.
    """
    refused = refusal(license, device, now, USABLE)
    if refused is not None:
        raise refused
    seat = license.activation(device.hardware_id)
    if seat is not None:
        if not repeatable:
            raise _already_activated(device.hardware_id, seat)
        return _renamed(device, seat)
    if license.current_devices >= license.max_devices:
        raise DeviceLimitExceeded(**license.limits)
    return (
        DeviceActivated(
            hardware_id=device.hardware_id,
            name_tag=device.name_tag,
            app_version=device.app_version,
            client_time=device.client_time,
            sealed=device.sealed,
        ),
    )


def _renamed(device: Device, seat: Activation) -> tuple[Fact, ...]:
    if device.name_tag is None or device.name_tag == seat.name_tag:
        return ()
    name = {"device_name": device.sealed["device_name"]}
    return (DeviceRenamed(hardware_id=device.hardware_id, name_tag=device.name_tag, sealed=name),)


def deactivate(license: License, hardware_id: str, sealed: dict[str, bytes]) -> tuple[Fact, ...]:
    """Take the device's seat back. Raises DeviceNotFound where it holds none."""
    seat = license.activation(hardware_id)
    if seat is None:
        raise DeviceNotFound
    return (DeviceDeactivated(hardware_id=hardware_id, activation_id=seat.activation_id, sealed=sealed),)


def transfer(license: License, source: str, target: str, sealed: dict[str, bytes]) -> tuple[Fact, ...]:
    """Move a seat; the number of seats in use stays.

    Raises Invalid for a device to itself, DeviceNotFound where the source holds none, AlreadyActivated where the
    target holds one.
    """
    if source == target:
        raise Invalid(to_hardware_id="must differ from from_hardware_id")
    seat = license.activation(source)
    if seat is None:
        raise DeviceNotFound
    taken = license.activation(target)
    if taken is not None:
        raise _already_activated(target, taken)
    return (
        SeatTransferred(
            from_hardware_id=source, to_hardware_id=target, ended_activation_id=seat.activation_id, sealed=sealed
        ),
    )
