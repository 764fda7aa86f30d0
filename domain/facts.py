"""What has happened: the facts that the event log holds, and the names under which it holds them.

Facts are in the past tense and are never changed; a new form of a fact gets a new schema version and an upcast.
Personal data is in a fact only as `sealed` values (field name to ciphertext under the data subject's key).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType


class Fact(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all facts. `stored_name` is the topic in the log and the routing key on the queue."""

    stored_name: ClassVar[str]
    schema_version: ClassVar[int] = 1

    sealed: dict[str, bytes] = {}


class LicenseIssued(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A licence came into being. Sealed: customer_id, email, metadata."""

    stored_name: ClassVar[str] = "license.issued"

    key_digest: bytes
    key_sealed: bytes
    max_devices: int
    features: tuple[str, ...] = ()
    product: str | None = None
    edition: str | None = None
    floating: bool = False
    is_test: bool = False
    expires_at: datetime | None = None


class LicenseUpdated(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """Terms of a licence changed; fields left out did not. Sealed: email, metadata where changed."""

    stored_name: ClassVar[str] = "license.updated"

    max_devices: int | UnsetType = UNSET
    features: tuple[str, ...] | UnsetType = UNSET
    product: str | UnsetType | None = UNSET
    edition: str | UnsetType | None = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    floating: bool | UnsetType = UNSET


class LicenseDeactivated(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A licence was revoked: nothing validates, tokens end, seats are kept. Sealed: reason."""

    stored_name: ClassVar[str] = "license.deactivated"


class LicenseReactivated(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A revoked licence is good again; tokens of before stay dead. Sealed: reason.

    `undoes` is the id of the revocation that was a mistake, where it was one.
    """

    stored_name: ClassVar[str] = "license.reactivated"

    undoes: UUID | None = None


class DeviceActivated(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A device took a seat. Sealed: device_name, os_info. The event's id names the activation."""

    stored_name: ClassVar[str] = "license.activated"

    hardware_id: str
    name_tag: bytes | None = None
    app_version: str | None = None
    client_time: datetime | None = None


class DeviceRenamed(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An active device told another name. Sealed: device_name."""

    stored_name: ClassVar[str] = "device.renamed"

    hardware_id: str
    name_tag: bytes


class DeviceDeactivated(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A device gave up its seat. Sealed: reason."""

    stored_name: ClassVar[str] = "device.deactivated"

    hardware_id: str
    activation_id: UUID


class SeatTransferred(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A seat moved between devices; the event's id names the new activation. Sealed: reason.

    `undoes` is the id of the transfer that was a mistake, where this moves its seat back.
    """

    stored_name: ClassVar[str] = "license.transferred"

    from_hardware_id: str
    to_hardware_id: str
    ended_activation_id: UUID
    undoes: UUID | None = None


class ApiKeyCreated(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An API key was made for a client. Limits are requests; None is no limit."""

    stored_name: ClassVar[str] = "apikey.created"

    key_digest: bytes
    client_name: str
    allowed_endpoints: tuple[str, ...]
    requests_per_minute: int | None
    requests_per_hour: int | None
    product: str | None = None
    expires_at: datetime | None = None


class ApiKeyRevoked(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """An API key may not be used any more."""

    stored_name: ClassVar[str] = "apikey.revoked"


class AnomalyDetected(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """Detection found something that a person should look at. Sealed: address, under its day's key.

    It is about a licence, or about an address, of which `address_hash` is a keyed hash. `found_at` is when the
    observation that completed it occurred. `evidence` holds ids of events and usage messages, the newest first.
    """

    stored_name: ClassVar[str] = "anomaly.detected"

    kind: str
    severity: str
    found_at: datetime
    explanation: str
    license_id: UUID | None = None
    address_hash: bytes | None = None
    evidence: tuple[str, ...] = ()


class AnomalyResolved(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A person said what is to be thought of an anomaly: what it was about is said again. Sealed: reason.

    One that was acknowledged is taken care of; one that was dismissed is nothing, and keeps its subject and kind quiet.
    """

    stored_name: ClassVar[str] = "anomaly.resolved"

    resolution: Literal["acknowledged", "dismissed"]
    kind: str
    severity: str
    license_id: UUID | None = None
    address_hash: bytes | None = None


class SettingsChanged(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """Settings that decide what is found became others. `values` holds all of the section, `changed` which are new."""

    stored_name: ClassVar[str] = "settings.changed"

    section: str
    values: dict[str, Any]
    changed: tuple[str, ...] = ()


class CustomerErased(Fact, frozen=True, kw_only=True, omit_defaults=True):
    """A data subject, the event's aggregate, has no key any more. Sealed: reason, under a key of its own.

    `license_ids` are all of its licences. Where the register outside the database is applied again, `ordered_at` and
    `ordered_by` say when that was ordered first, and by whom.
    """

    stored_name: ClassVar[str] = "customer.erased"

    license_ids: tuple[UUID, ...] = ()
    ordered_at: datetime | None = None
    ordered_by: str | None = None


FACTS: tuple[type[Fact], ...] = (
    LicenseIssued,
    LicenseUpdated,
    LicenseDeactivated,
    LicenseReactivated,
    DeviceActivated,
    DeviceRenamed,
    DeviceDeactivated,
    SeatTransferred,
    ApiKeyCreated,
    ApiKeyRevoked,
    AnomalyDetected,
    AnomalyResolved,
    SettingsChanged,
    CustomerErased,
)
"""The allow-list: a stored name that is not among these is refused, never imported."""


class Origin(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a request came from, without its address: country (ISO 3166) and keyed hash of its network."""

    country: str | None = None
    network: bytes | None = None


class Cause(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who ordered what: every event of one command carries the same cause.

    `actor` is `admin:NAME`, `api-key:ID`, `client-token`, `token:JTI` or `job:NAME`. `sealed_address` is the
    requester's address under the data subject's key.
    """

    actor: str
    command: str
    command_id: UUID
    request_id: str
    origin: Origin = Origin()
    sealed_address: bytes | None = None


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """A fact as the log keeps it. `originator_id` is the aggregate; versions count from 1 without gaps."""

    originator_id: UUID
    originator_version: int
    event_id: UUID
    occurred_at: datetime
    subject_id: UUID | None
    cause: Cause
    fact: Fact
