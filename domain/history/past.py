"""A licence as it was at a moment, folded from its events, each field with the event that set it last."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
from msgspec import UNSET

from domain.facts import (
    DeviceActivated,
    DeviceDeactivated,
    DeviceRenamed,
    Fact,
    LicenseDeactivated,
    LicenseIssued,
    LicenseReactivated,
    LicenseUpdated,
    Recorded,
    SeatTransferred,
)
from domain.license import License, evolve


class Entry(NamedTuple):
    """An event and its position in the log."""

    position: int
    event: Recorded


class Moment(msgspec.Struct, frozen=True):
    """A point in history: a log position, which is in it, or a time. One of both is given."""

    position: int | None = None
    time: datetime | None = None

    def has(self, entry: Entry) -> bool:
        """Tell whether an event had happened by then. Of a time, ask in the log's order and stop at the first no."""
        if self.position is not None:
            return entry.position <= self.position
        assert self.time is not None
        return entry.event.occurred_at <= self.time


class Sealed(msgspec.Struct, frozen=True):
    """A value under the data subject's key."""

    blob: bytes


class DeviceThen(msgspec.Struct, frozen=True, kw_only=True):
    """A device that held or had held a seat. `given_by` gave the seat, `ended_by` took it."""

    hardware_id: str
    given_by: Entry
    ended_by: Entry | None = None
    device_name: Sealed | None = None
    os_info: Sealed | None = None

    @property
    def is_active(self) -> bool:
        """Tell whether it held its seat."""
        return self.ended_by is None

    @property
    def activation_id(self) -> UUID:
        """Return the id of the event that gave the seat."""
        return self.given_by.event.event_id

    @property
    def activated_at(self) -> datetime:
        """Return since when it held the seat."""
        return self.given_by.event.occurred_at

    @property
    def deactivated_at(self) -> datetime | None:
        """Return when the seat ended."""
        return None if self.ended_by is None else self.ended_by.event.occurred_at


class LicenseThen(msgspec.Struct, kw_only=True):
    """A licence as it was right after `last`.

    `license` is what decisions went by. `sealed` holds customer_id, email and metadata, `set_by` which event set a
    field last. Devices are known by hardware id, those that had given up their seats included.
    """

    license: License
    issued: Entry
    last: Entry
    sealed: dict[str, Sealed]
    set_by: dict[str, Entry]
    devices: dict[str, DeviceThen] = msgspec.field(default_factory=dict)

    @property
    def issue(self) -> LicenseIssued:
        """Return the fact of its issue."""
        fact = self.issued.event.fact
        assert isinstance(fact, LicenseIssued)
        return fact

    @property
    def subject_id(self) -> UUID | None:
        """Return whose personal data is in it."""
        return self.issued.event.subject_id

    @property
    def created_at(self) -> datetime:
        """Return when it was issued."""
        return self.issued.event.occurred_at


_TERMS = ("product", "edition", "max_devices", "features", "floating", "expires_at")
_SHOWN = (*_TERMS, "is_active", "current_devices")
_DEVICE_FIELDS = ("is_active", "activation_id", "device_name", "os_info")


def advance(then: LicenseThen | None, entry: Entry) -> LicenseThen:
    """Apply the next event in place and return the licence; the first event makes it.

    Raises ValueError where it can't follow the one before it: the log is wrong then.
    """
    event = entry.event
    license = evolve(then.license if then else None, event)
    if then is None:
        return LicenseThen(
            license=license,
            issued=entry,
            last=entry,
            sealed=_sealed(event.fact),
            set_by=dict.fromkeys((*_TERMS, "is_active"), entry),
        )
    then.last = entry
    match event.fact:
        case DeviceActivated(hardware_id=hardware_id):
            then.devices[hardware_id] = _seated(entry, hardware_id)
        case DeviceDeactivated(hardware_id=hardware_id):
            _end(then, hardware_id, entry)
        case SeatTransferred(from_hardware_id=source, to_hardware_id=target):
            _end(then, source, entry)
            then.devices[target] = DeviceThen(hardware_id=target, given_by=entry)
        case DeviceRenamed(hardware_id=hardware_id) as fact:
            name = _sealed(fact)["device_name"]
            then.devices[hardware_id] = msgspec.structs.replace(then.devices[hardware_id], device_name=name)
        case LicenseUpdated() as fact:
            then.set_by.update(dict.fromkeys((name for name in _TERMS if getattr(fact, name) is not UNSET), entry))
            then.sealed.update(_sealed(fact))
        case LicenseDeactivated() | LicenseReactivated():
            then.set_by["is_active"] = entry
    return then


def _seated(entry: Entry, hardware_id: str) -> DeviceThen:
    sealed = _sealed(entry.event.fact)
    return DeviceThen(
        hardware_id=hardware_id,
        given_by=entry,
        device_name=sealed.get("device_name"),
        os_info=sealed.get("os_info"),
    )


def _end(then: LicenseThen, hardware_id: str, entry: Entry) -> None:
    then.devices[hardware_id] = msgspec.structs.replace(then.devices[hardware_id], ended_by=entry)


def _sealed(fact: Fact) -> dict[str, Sealed]:
    return {name: Sealed(blob) for name, blob in fact.sealed.items()}


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A field that became another; of a device where `hardware_id` is given. None: there was, or is, no value.

    Values are as stored: what is personal is `Sealed`, and counts as changed whenever it was set.
    """

    field: str
    before: Any
    after: Any
    hardware_id: str | None = None


class Picture(NamedTuple):
    """What was to be seen of a licence. The fold goes on in place; this stays."""

    fields: dict[str, Any]
    devices: dict[str, DeviceThen]


NOTHING = Picture({}, {})
"""Of a licence that was not issued yet."""


def picture(then: LicenseThen | None) -> Picture:
    """Return what is to be seen of a licence now."""
    return Picture(_fields(then), dict(then.devices)) if then else NOTHING


def compared(before: Picture, after: Picture, hardware_ids: Iterable[str]) -> tuple[Change, ...]:
    """Return what differs between two pictures of a licence: in its terms, and of these devices."""
    changes = _differing(before.fields, after.fields)
    for hardware_id in hardware_ids:
        was, is_now = before.devices.get(hardware_id), after.devices.get(hardware_id)
        changes += _differing(_device_fields(was), _device_fields(is_now), hardware_id)
    return tuple(changes)


def step(then: LicenseThen | None, entry: Entry) -> tuple[LicenseThen, tuple[Change, ...]]:
    """Apply the next event in place; return the licence and what changed. Raises ValueError as `advance`."""
    touched = devices_of(entry.event.fact)
    before = _part(then, touched)
    then = advance(then, entry)
    return then, compared(before, _part(then, touched), touched)


def _part(then: LicenseThen | None, hardware_ids: Iterable[str]) -> Picture:
    if then is None:
        return NOTHING
    return Picture(_fields(then), {id: then.devices[id] for id in hardware_ids if id in then.devices})


def _fields(then: LicenseThen | None) -> dict[str, Any]:
    if then is None:
        return {}
    shown = {name: getattr(then.license, name) for name in _SHOWN}
    return {**shown, "is_test": then.issue.is_test, **then.sealed}


def _device_fields(device: DeviceThen | None) -> dict[str, Any]:
    return {name: getattr(device, name) for name in _DEVICE_FIELDS} if device else {}


def _differing(before: dict[str, Any], after: dict[str, Any], hardware_id: str | None = None) -> list[Change]:
    return [
        Change(field=name, before=before.get(name), after=after.get(name), hardware_id=hardware_id)
        for name in dict.fromkeys((*before, *after))
        if before.get(name) != after.get(name)
    ]


def devices_of(fact: Fact) -> tuple[str, ...]:
    """Return the devices that an event says something of."""
    match fact:
        case SeatTransferred(from_hardware_id=source, to_hardware_id=target):
            return source, target
        case DeviceActivated(hardware_id=hardware_id):
            return (hardware_id,)
        case DeviceDeactivated(hardware_id=hardware_id) | DeviceRenamed(hardware_id=hardware_id):
            return (hardware_id,)
        case _:
            return ()
