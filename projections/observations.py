"""Rows of both logs as detection sees them: what is sealed is opened, what is personal becomes a keyed hash."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol
from uuid import UUID

from msgspec import UNSET

from domain.anomalies.observation import LicenseTerms, Observation
from domain.facts import (
    DeviceActivated,
    DeviceDeactivated,
    LicenseDeactivated,
    LicenseIssued,
    LicenseReactivated,
    LicenseUpdated,
    Recorded,
    SeatTransferred,
)
from domain.identifiers import usage_row_id

USAGE_COLUMNS = (
    "id, occurred_at, type, operation, license_id, key_digest, subject_id, hardware_id, reason, app_version,"
    " client_time, country, network, details_sealed"
)
"""Of the usage log, as `of_use` needs them."""


class Sender(Protocol):
    """What is known of who sent something. `family` is 4 or 6, 0 where the address is not known."""

    @property
    def address_hash(self) -> bytes | None:
        """Keyed hash of the address."""

    @property
    def family(self) -> int:
        """Of the address: 4 or 6, or 0."""

    @property
    def place(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees."""

    @property
    def os(self) -> str | None:
        """Name and version of the operating system."""


OfEvent = Callable[[UUID | None, bytes | None, bytes | None], Sender]
"""Returns who ordered an event, by its data subject, its sealed address and its sealed operating system."""


class _What(NamedTuple):
    hardware_id: str | None = None
    from_hardware_id: str | None = None
    app_version: str | None = None
    client_time: float | None = None
    terms: LicenseTerms | None = None


def of_event(event: Recorded, sender_of: OfEvent) -> Observation | None:
    """Return what an event says of a licence's use; None where it says nothing about that."""
    what = _what(event)
    if what is None:
        return None
    cause = event.cause
    # Other events are ordered by whoever administers the licence, from where they are.
    is_sighting = isinstance(event.fact, DeviceActivated)
    sender = sender_of(event.subject_id, cause.sealed_address, event.fact.sealed.get("os_info"))
    return Observation(
        time=event.occurred_at.timestamp(),
        type=event.fact.stored_name,
        id=str(event.event_id),
        license_id=str(event.originator_id),
        hardware_id=what.hardware_id,
        network=_network(cause.origin.network, sender) if is_sighting else None,
        country=cause.origin.country if is_sighting else None,
        place=sender.place if is_sighting else None,
        app_version=what.app_version,
        os=sender.os,
        client_time=what.client_time,
        from_hardware_id=what.from_hardware_id,
        terms=what.terms,
    )


def of_use(row: Mapping[str, Any], sender: Sender, instance: str) -> Observation:
    """Return what a row of the usage log says. `instance` is the fingerprint that names this installation."""
    license_id, client_time = row["license_id"], row["client_time"]
    address = sender.address_hash.hex() if license_id is None and sender.address_hash is not None else None
    return Observation(
        time=row["occurred_at"].timestamp(),
        type=row["type"],
        id=str(usage_row_id(instance, row["id"])),
        license_id=None if license_id is None else str(license_id),
        hardware_id=row["hardware_id"],
        network=_network(row["network"], sender),
        address=address,
        country=row["country"],
        place=sender.place,
        app_version=row["app_version"],
        os=sender.os,
        reason=row["reason"],
        client_time=None if client_time is None else client_time.timestamp(),
        key_hash=None if row["key_digest"] is None else bytes(row["key_digest"]).hex(),
        operation=row["operation"],
    )


def _what(event: Recorded) -> _What | None:
    match event.fact:
        case LicenseIssued() | LicenseUpdated() as fact:
            return _What(terms=_terms(fact))
        case DeviceActivated() as fact:
            client_time = None if fact.client_time is None else fact.client_time.timestamp()
            return _What(fact.hardware_id, app_version=fact.app_version, client_time=client_time)
        case DeviceDeactivated(hardware_id=hardware_id):
            return _What(hardware_id)
        case SeatTransferred(from_hardware_id=source, to_hardware_id=target):
            return _What(target, from_hardware_id=source)
        case LicenseDeactivated() | LicenseReactivated():
            return _What()
        case _:
            return None


def _terms(fact: LicenseIssued | LicenseUpdated) -> LicenseTerms:
    expires_at = fact.expires_at
    return LicenseTerms(
        max_devices=fact.max_devices,
        floating=fact.floating,
        expires_at=expires_at if expires_at is UNSET or expires_at is None else expires_at.timestamp(),
    )


def _network(network: bytes | None, sender: Sender) -> bytes | None:
    """Return the network's hash, after its address family: a device may use one of each at one place."""
    return None if network is None else bytes((sender.family,)) + bytes(network)
