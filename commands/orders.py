"""The orders that the service takes, one frozen dataclass each, in the imperative."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from domain.anomaly import Resolution
from domain.facts import Cause, Recorded
from domain.issuing import Changes, Terms
from domain.seats import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """Base of all orders: who ordered it, and when it is decided (aware UTC, corrected to database time)."""

    cause: Cause
    now: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenseToIssue:
    """One licence of an IssueLicenses order. Ids are made by whoever orders, so that a repeat is recognised.

    One that is not active is revoked from the start, as when it comes from another licence server.
    """

    license_id: UUID
    subject_id: UUID
    terms: Terms
    is_active: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueLicenses(Order):
    """Issue one or many licences, all or none."""

    licenses: tuple[LicenseToIssue, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateLicense(Order):
    """Change terms; `changes.is_active` revokes or restores."""

    license_id: UUID
    changes: Changes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeactivateLicense(Order):
    """Revoke a licence; a repeat changes nothing."""

    license_id: UUID
    sealed: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActivateDevice(Order):
    """Give a device a seat. `repeatable`: the same device again is a success that takes none."""

    license_id: UUID
    device: Device
    repeatable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeactivateDevice(Order):
    """Take a device's seat back. Sealed: reason."""

    license_id: UUID
    hardware_id: str
    sealed: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSeat(Order):
    """Move a seat from one device to another. Sealed: reason."""

    license_id: UUID
    from_hardware_id: str
    to_hardware_id: str
    sealed: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CorrectEvent(Order):
    """Undo a revocation or a transfer by its opposite. `event` is what the log has of it. Sealed: reason."""

    license_id: UUID
    event: Recorded
    sealed: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateApiKey(Order):
    """Make an API key. Limits are requests; None is no limit."""

    key_id: UUID
    key_digest: bytes
    client_name: str
    allowed_endpoints: tuple[str, ...]
    requests_per_minute: int | None
    requests_per_hour: int | None
    product: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeApiKey(Order):
    """Revoke an API key; a repeat changes nothing."""

    key_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectToErase:
    """A data subject of an EraseCustomer order, with all of its licences."""

    subject_id: UUID
    license_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EraseCustomer(Order):
    """Destroy the keys of data subjects, all or none; a repeat changes nothing.

    `kept_under` is the data subject whose key seals the reason and the address it was ordered from.
    """

    subjects: tuple[SubjectToErase, ...]
    kept_under: UUID
    sealed: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveAnomaly(Order):
    """Acknowledge or dismiss an anomaly; a repeat changes nothing. Sealed: reason."""

    anomaly_id: UUID
    resolution: Resolution
    sealed: dict[str, bytes] = field(default_factory=dict)
