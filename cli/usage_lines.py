"""Rows of both logs as lines of JSON, in the form that a backtest reads."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain.anomalies.observation import SIGHTINGS
from domain.facts import DeviceActivated, LicenseIssued, LicenseUpdated, Recorded
from domain.identifiers import usage_row_id
from infra.senders import NOBODY, Senders
from projections import observations


class UsageLine(msgspec.Struct, omit_defaults=True, gc=False):
    """A line of the history. Fields without a default are always there; `id` is the row's on the queue."""

    time: datetime
    type: str
    license_id: UUID | None
    hardware_id: str | None
    ip: str | None
    country: str | None
    app_version: str | None
    os: str | None
    id: UUID
    reason: str | None = None
    client_time: datetime | None = None
    key_hash: str | None = None
    operation: str | None = None
    from_hardware_id: str | None = None
    max_devices: int | UnsetType = UNSET
    floating: bool | UnsetType = UNSET
    expires_at: datetime | UnsetType | None = UNSET


class LicenseLine(msgspec.Struct):
    """What a licence allows."""

    license_id: UUID
    max_devices: int
    floating: bool
    expires_at: datetime | None

    def change(self, fact: LicenseUpdated) -> None:
        """Take over what a change says."""
        for name in ("max_devices", "floating", "expires_at"):
            value = getattr(fact, name)
            if value is not UNSET:
                setattr(self, name, value)


class Lines:
    """Makes lines. The keys of the rows' data subjects must have been remembered by `senders`.

    `instance` is the fingerprint that names this installation. `unopened` counts addresses that could not be opened.
    """

    def __init__(self, senders: Senders, instance: str) -> None:
        self._senders = senders
        self._instance = instance
        self._encode = msgspec.json.Encoder().encode
        self.unopened = 0

    def of_use(self, row: Any) -> bytes:
        """Return the line of a row of the usage log, which has columns as attributes."""
        sender = self._senders.of_details(row.subject_id, row.details_sealed)
        if sender.address is None and row.details_sealed is not None:
            self.unopened += 1
        line = UsageLine(
            row.occurred_at,
            row.type,
            row.license_id,
            row.hardware_id,
            sender.address,
            row.country,
            row.app_version,
            sender.os,
            usage_row_id(self._instance, row.id),
            row.reason,
            row.client_time,
            None if row.key_digest is None else row.key_digest.hex(),
            row.operation,
        )
        return self._encode(line) + b"\n"

    def of_event(self, event: Recorded) -> bytes | None:
        """Return the line of an event; None where it says nothing about a licence's use."""
        fact, cause, sender = event.fact, event.cause, NOBODY
        if isinstance(fact, DeviceActivated):
            sender = self._senders.of_event(event.subject_id, cause.sealed_address, fact.sealed.get("os_info"))
        seen = observations.of_event(event, lambda *_: sender)
        if seen is None:
            return None
        if seen.type in SIGHTINGS and sender.address is None and cause.sealed_address is not None:
            self.unopened += 1
        line = UsageLine(
            time=event.occurred_at,
            type=seen.type,
            license_id=event.originator_id,
            hardware_id=seen.hardware_id,
            ip=sender.address,
            country=seen.country,
            app_version=seen.app_version,
            os=seen.os,
            id=event.event_id,
            from_hardware_id=seen.from_hardware_id,
        )
        if isinstance(fact, DeviceActivated):
            line.client_time = fact.client_time
        elif isinstance(fact, LicenseIssued | LicenseUpdated):
            line.max_devices, line.floating, line.expires_at = fact.max_devices, fact.floating, fact.expires_at
        return self._encode(line) + b"\n"
