"""Bodies and query parameters of the admin service."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, UnsetType

from api.schemas.common import Features, Identifier, JsonObject16K, Name, Timestamp
from api.schemas.license import Limits

MaxDevices = Annotated[int, Meta(ge=1, le=100_000)]
TermDays = Annotated[int, Meta(ge=1, le=36_500)]
Email = Annotated[
    str, Meta(min_length=3, max_length=320, pattern=r"^\s*[^@\s]+@[^@\s]+\s*$", description="an e-mail address")
]


class CreateRequest(msgspec.Struct, kw_only=True):
    """A licence to issue. Without `expires_in_days` it is perpetual."""

    customer_id: Identifier
    max_devices: MaxDevices = 1
    expires_in_days: TermDays | None = None
    features: Features = msgspec.field(default_factory=list)
    is_test: bool = False
    metadata: JsonObject16K = msgspec.field(default_factory=dict)
    product: Name | None = None
    edition: Name | None = None
    email: Email | None = None
    floating: bool = False
    key_format: Literal["prefixed", "grouped"] = "prefixed"


class BulkCreateRequest(msgspec.Struct, kw_only=True):
    """Up to 1,000 licences, all or none."""

    licenses: Annotated[list[CreateRequest], Meta(min_length=1, max_length=1000)]


class UpdateRequest(msgspec.Struct, kw_only=True):
    """What changes; what is left out stays. `metadata` is replaced whole; `expires_at: null` makes it perpetual."""

    max_devices: MaxDevices | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    expires_at: Timestamp | UnsetType | None = UNSET
    features: Features | UnsetType = UNSET
    metadata: JsonObject16K | UnsetType = UNSET
    email: Email | UnsetType | None = UNSET
    product: Name | UnsetType | None = UNSET
    edition: Name | UnsetType | None = UNSET
    floating: bool | UnsetType = UNSET


class LicenseAnswer(msgspec.Struct, kw_only=True):
    """A licence."""

    license_id: UUID
    license_key: str
    customer_id: str | None
    email: str | None
    product: str | None
    edition: str | None
    max_devices: int
    current_devices: int
    features: tuple[str, ...]
    is_active: bool
    is_test: bool
    floating: bool
    created_at: Timestamp
    expires_at: Timestamp | None
    metadata: dict[str, Any]


class AsOf(msgspec.Struct, kw_only=True):
    """How far in both logs the data behind an answer has come, and until when that was all.

    `lag_seconds` is the age of the oldest entry that is not in it yet; 0 where all is.
    """

    position: int
    usage_position: int
    time: Timestamp
    lag_seconds: float


class LastEvent(msgspec.Struct, kw_only=True):
    """The last event that an answer of the past rests on; `version` counts the licence's events from 1."""

    event_id: UUID
    position: int
    version: int
    occurred_at: Timestamp


PersonalData = Literal["readable", "erased", "damaged"]
"""Whether what is personal can be opened: its key is there, was destroyed, or is not as it was stored."""


class LicenseStatistics(msgspec.Struct, kw_only=True):
    """A licence's use in the last 30 days."""

    validations: int
    failed_validations: int
    heartbeats: int
    unique_devices: int
    last_seen_at: Timestamp | None
    as_of: AsOf


class LicenseWithStatistics(LicenseAnswer, kw_only=True):
    """A licence and its use; or, where `as_of` was given, as it was then, without its use."""

    statistics: LicenseStatistics | UnsetType = UNSET
    as_of: LastEvent | UnsetType = UNSET
    personal_data: PersonalData | UnsetType = UNSET


class Pagination(msgspec.Struct, kw_only=True):
    """Where in the list this page is. `next_cursor` continues after it at the same cost at any depth."""

    page: int
    per_page: int
    total: int
    pages: int
    next_cursor: str | None


class LicenseList(msgspec.Struct, kw_only=True):
    """A page of licences, newest first."""

    licenses: list[LicenseAnswer]
    pagination: Pagination


class BulkAnswer(msgspec.Struct, kw_only=True):
    """The licences issued, in the order asked."""

    licenses: list[LicenseAnswer]


class ListQuery(msgspec.Struct, kw_only=True):
    """Filters of the licence list."""

    customer_id: Identifier | None = None
    email: Annotated[str, Meta(min_length=1, max_length=320)] | None = None
    product: Name | None = None
    edition: Name | None = None
    is_active: bool | None = None
    is_test: bool | None = None
    created_after: Timestamp | None = None
    created_before: Timestamp | None = None
    expires_after: Timestamp | None = None
    expires_before: Timestamp | None = None
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    per_page: Annotated[int, Meta(ge=1, le=100)] = 50
    cursor: Annotated[str, Meta(min_length=1, max_length=256)] | None = None


class DeviceAnswer(msgspec.Struct, kw_only=True):
    """A device that holds or held a seat."""

    hardware_id: str
    device_name: str | None
    os_info: dict[str, Any] | None
    is_active: bool
    activated_at: Timestamp
    deactivated_at: Timestamp | None
    last_seen_at: Timestamp | None


class DeviceList(msgspec.Struct, kw_only=True):
    """A licence's devices, the longest active first; or, with `as_of`, as they were, without `last_seen_at`."""

    devices: list[DeviceAnswer]
    as_of: LastEvent | UnsetType = UNSET
    personal_data: PersonalData | UnsetType = UNSET


class DeactivateDeviceRequest(msgspec.Struct, kw_only=True):
    """Takes a seat back."""

    hardware_id: Identifier
    reason: Annotated[str, Meta(max_length=1000)] | None = None


class DeactivateDeviceAnswer(msgspec.Struct, kw_only=True):
    """The seat is free."""

    license_id: UUID
    hardware_id: str
    deactivated_at: Timestamp
    limits: Limits


class TransferRequest(msgspec.Struct, kw_only=True):
    """Moves a seat between devices."""

    from_hardware_id: Identifier
    to_hardware_id: Identifier
    reason: Annotated[str, Meta(max_length=1000)] | None = None


class TransferAnswer(msgspec.Struct, kw_only=True):
    """The seat is the new device's."""

    license_id: UUID
    from_hardware_id: str
    to_hardware_id: str
    transferred_at: Timestamp
    limits: Limits


class EventsQuery(msgspec.Struct, kw_only=True):
    """How far back to look."""

    hours: Annotated[int, Meta(ge=1, le=8_760)] = 24


class DaysQuery(msgspec.Struct, kw_only=True):
    """How far back to look."""

    days: Annotated[int, Meta(ge=1, le=365)] = 30


class EventCause(msgspec.Struct, kw_only=True):
    """Which command made the event, in which request."""

    command: str
    command_id: UUID
    request_id: str
    country: str | None


class EventAnswer(msgspec.Struct, kw_only=True):
    """An event of the log; `type` is its routing key on the queue."""

    event_id: UUID
    position: int
    type: str
    occurred_at: Timestamp
    hardware_id: str | None
    actor: str
    cause: EventCause
    data: dict[str, Any]


class EventList(msgspec.Struct, kw_only=True):
    """Events, newest first."""

    events: list[EventAnswer]


class DailyUsage(msgspec.Struct, kw_only=True):
    """One day (UTC). Refused activations are among the failed validations."""

    date: str
    validations: int
    failed_validations: int
    heartbeats: int
    unique_devices: int


class UsageAnswer(msgspec.Struct, kw_only=True):
    """A licence's use by day."""

    license_id: UUID
    days: int
    validations: int
    failed_validations: int
    heartbeats: int
    unique_devices: int
    daily: list[DailyUsage]
    as_of: AsOf


class StatisticsAnswer(msgspec.Struct, kw_only=True):
    """The whole fleet in numbers; `…_24h` are the 24 hours of the clock up to and including this one."""

    total_licenses: int
    active_licenses: int
    inactive_licenses: int
    expired_licenses: int
    expiring_in_30_days: int
    test_licenses: int
    total_devices: int
    active_devices: int
    seats: int
    validations_24h: int
    failed_validations_24h: int
    heartbeats_24h: int
    as_of: AsOf
