"""Bodies and query parameters about customers: who is erased, and all that is stored of one."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import Meta

from api.schemas.admin import DeviceAnswer, EventAnswer, LicenseAnswer
from api.schemas.anomalies import AdminAnomalyAnswer, Reason
from api.schemas.common import Timestamp

NamedBy: TypeAlias = Literal["customer_id", "email", "license_id", "subject_id"]
"""What the path names a customer by."""

Position = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class EraseQuery(msgspec.Struct, kw_only=True):
    """What the path's name is."""

    by: NamedBy = "customer_id"


class EraseRequest(msgspec.Struct, kw_only=True):
    """Why. It is kept under a key of its own: better a ticket's number than a name."""

    reason: Reason


class ErasedAnswer(msgspec.Struct, kw_only=True):
    """Who was erased, and which licences were theirs.

    `record_id` is the data subject under whose key the reason is kept; it can be erased too. `licenses_of_others` carry
    an e-mail of theirs: nothing of those was erased.
    """

    subject_ids: list[UUID]
    license_ids: list[UUID]
    erased_at: Timestamp
    record_id: UUID
    licenses_of_others: list[UUID]


class ExportQuery(EraseQuery, kw_only=True):
    """What the path's name is, and after which licences and rows of the logs to go on."""

    licenses_after: Position = 0
    events_after: Position = 0
    usage_after: Position = 0


class ExportedLicense(LicenseAnswer, kw_only=True):
    """A licence and its devices; `position` is that of the event that issued it."""

    position: int
    devices: list[DeviceAnswer]


class ExportedEvent(EventAnswer, kw_only=True):
    """An event of a licence, with the address it was ordered from."""

    license_id: UUID
    address: str | None


class ExportedUse(msgspec.Struct, kw_only=True):
    """A row of the usage log. `details` are address, place and operating system, `session` a heartbeat's data."""

    id: int
    occurred_at: Timestamp
    type: str
    operation: str
    license_id: UUID
    hardware_id: str | None
    reason: str | None
    app_version: str | None
    client_time: Timestamp | None
    country: str | None
    details: dict[str, Any] | None
    session: dict[str, Any] | None


class ExportAnswer(msgspec.Struct, kw_only=True):
    """All that is stored of a customer, page by page; anomalies are on the first one.

    Where there is more, the three of `next_…_after` are what to ask for next; all are null on the last page.
    """

    subject_ids: list[UUID]
    licenses_of_others: list[UUID]
    licenses: list[ExportedLicense]
    anomalies: list[AdminAnomalyAnswer]
    events: list[ExportedEvent]
    usage: list[ExportedUse]
    next_licenses_after: int | None
    next_events_after: int | None
    next_usage_after: int | None
