"""The views that clients must see at once, written in the events' own transaction.

A batch of events becomes a few statements: new rows, net changes of seats, and the last state of each device.
The same code writes them when views are rebuilt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from msgspec import UNSET
from psycopg import Connection
from psycopg.sql import SQL, Composable, Identifier, Placeholder

from domain.facts import (
    ApiKeyCreated,
    ApiKeyRevoked,
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


class EmailHashes(Protocol):
    """Opens a sealed e-mail and gives its lookup hash; None where the subject was erased."""

    def prepare(self, subject_ids: set[UUID]) -> None:
        """Get ready for the e-mails of some data subjects."""

    def email_hash(self, subject_id: UUID | None, email_sealed: bytes) -> bytes | None:
        """Return the lookup hash of a sealed e-mail."""


_ISSUE = """
    INSERT INTO licenses (license_id, position, key_digest, key_sealed, subject_id, customer_id_sealed, email_sealed,
        metadata_sealed, email_hash, product, edition, max_devices, features, is_test, floating, created_at, expires_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

_COUNT_SEATS = """
    UPDATE licenses SET current_devices = current_devices + change.seats
    FROM unnest(%b::uuid[], %b::int[]) AS change (license_id, seats)
    WHERE licenses.license_id = change.license_id
"""

_PUT_DEVICES = """
    INSERT INTO devices (license_id, device_digest, hardware_id, activation_id, is_active, activated_at,
        device_name_sealed, os_info_sealed)
    SELECT license_id, device_digest, hardware_id, activation_id, true, activated_at, device_name_sealed, os_info_sealed
    FROM unnest(%b::uuid[], %b::bytea[], %b::text[], %b::uuid[], %b::timestamptz[], %s::bytea[], %s::bytea[])
        AS new (license_id, device_digest, hardware_id, activation_id, activated_at, device_name_sealed, os_info_sealed)
    ON CONFLICT (license_id, device_digest) DO UPDATE SET
        activation_id = excluded.activation_id, is_active = true, activated_at = excluded.activated_at,
        deactivated_at = NULL, device_name_sealed = excluded.device_name_sealed,
        os_info_sealed = excluded.os_info_sealed
"""

_END_DEVICE = "UPDATE devices SET is_active = false, deactivated_at = %s WHERE license_id = %s AND device_digest = %s"

_RENAME_DEVICE = "UPDATE devices SET device_name_sealed = %s WHERE license_id = %s AND device_digest = %s"

_DEACTIVATE = "UPDATE licenses SET is_active = false, epoch = epoch + 1 WHERE license_id = %s"

_REACTIVATE = "UPDATE licenses SET is_active = true WHERE license_id = %s"

_CREATE_API_KEY = """
    INSERT INTO api_keys (key_id, position, key_digest, client_name, allowed_endpoints, requests_per_minute,
        requests_per_hour, product, created_at, expires_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

_REVOKE_API_KEY = "UPDATE api_keys SET revoked_at = %s WHERE key_id = %s"


class InlineViews:
    """Licence, device and credential views. Holds no state of its own."""

    TABLES = ("licenses", "devices", "api_keys")

    def __init__(self, emails: EmailHashes) -> None:
        self._emails = emails

    def apply(self, connection: Connection[Any], events: Sequence[tuple[int, Recorded]]) -> None:
        """Write what the events change. Within a batch, statements keep the events' order where it matters."""
        self._emails.prepare({e.subject_id for _, e in events if e.subject_id is not None and "email" in e.fact.sealed})
        run = _Run(connection, self._emails)
        for position, event in events:
            run.add(position, event)
        run.flush()


class _Run:
    """One pass over a batch: new licences and activations gather, and are written before what could depend on them."""

    def __init__(self, connection: Connection[Any], emails: EmailHashes) -> None:
        self._connection = connection
        self._emails = emails
        self._issued: list[tuple[Any, ...]] = []
        self._seats: defaultdict[UUID, int] = defaultdict(int)
        self._activated: dict[tuple[UUID, bytes], tuple[Any, ...]] = {}

    def add(self, position: int, event: Recorded) -> None:  # noqa: C901 - one case a fact
        license_id = event.originator_id
        match event.fact:
            case DeviceActivated(hardware_id=hardware_id, sealed=sealed):
                self._activate(event, hardware_id, sealed)
                self._seats[license_id] += 1
            case DeviceDeactivated(hardware_id=hardware_id):
                self._end(event, hardware_id)
                self._seats[license_id] -= 1
            case SeatTransferred(from_hardware_id=source, to_hardware_id=target):
                self._end(event, source)
                self._activate(event, target, {})
            case DeviceRenamed(hardware_id=hardware_id, sealed=sealed):
                self._flush_devices()
                row = (sealed["device_name"], license_id, device_digest(hardware_id))
                self._connection.execute(_RENAME_DEVICE, row)
            case LicenseIssued() as fact:
                self._issue(position, event, fact)
            case LicenseUpdated() as fact:
                self._update(event, fact)
            case LicenseDeactivated():
                self._flush_licenses()
                self._connection.execute(_DEACTIVATE, (license_id,))
            case LicenseReactivated():
                self._flush_licenses()
                self._connection.execute(_REACTIVATE, (license_id,))
            case ApiKeyCreated() as fact:
                self._create_api_key(position, event, fact)
            case ApiKeyRevoked():
                self._connection.execute(_REVOKE_API_KEY, (event.occurred_at, license_id))

    def flush(self) -> None:
        self._flush_licenses()
        self._flush_devices()
        if changed := {license_id: seats for license_id, seats in self._seats.items() if seats}:
            self._connection.execute(_COUNT_SEATS, (list(changed), list(changed.values())))

    def _activate(self, event: Recorded, hardware_id: str, sealed: dict[str, bytes]) -> None:
        digest = device_digest(hardware_id)
        self._activated[event.originator_id, digest] = (
            event.originator_id,
            digest,
            hardware_id,
            event.event_id,
            event.occurred_at,
            sealed.get("device_name"),
            sealed.get("os_info"),
        )

    def _end(self, event: Recorded, hardware_id: str) -> None:
        self._flush_devices()
        row = (event.occurred_at, event.originator_id, device_digest(hardware_id))
        self._connection.execute(_END_DEVICE, row)

    def _flush_devices(self) -> None:
        if self._activated:
            columns = [list(column) for column in zip(*self._activated.values(), strict=True)]
            self._connection.execute(_PUT_DEVICES, columns)
            self._activated.clear()

    def _flush_licenses(self) -> None:
        if len(self._issued) == 1:
            self._connection.execute(_ISSUE, self._issued[0])
        elif self._issued:
            with self._connection.cursor() as cursor:
                cursor.executemany(_ISSUE, self._issued)
        self._issued.clear()

    def _issue(self, position: int, event: Recorded, fact: LicenseIssued) -> None:
        email_sealed = fact.sealed.get("email")
        row = (
            event.originator_id,
            position,
            fact.key_digest,
            fact.key_sealed,
            event.subject_id,
            fact.sealed.get("customer_id"),
            email_sealed,
            fact.sealed.get("metadata"),
            self._emails.email_hash(event.subject_id, email_sealed) if email_sealed else None,
            fact.product,
            fact.edition,
            fact.max_devices,
            list(fact.features),
            fact.is_test,
            fact.floating,
            event.occurred_at,
            fact.expires_at,
        )
        self._issued.append(row)

    def _update(self, event: Recorded, fact: LicenseUpdated) -> None:
        names = ("max_devices", "product", "edition", "expires_at", "floating")
        changed = {name: value for name in names if (value := getattr(fact, name)) is not UNSET}
        if fact.features is not UNSET:
            changed["features"] = list(fact.features)
        if "metadata" in fact.sealed:
            changed["metadata_sealed"] = fact.sealed["metadata"]
        if "email" in fact.sealed:
            changed["email_sealed"] = fact.sealed["email"]
            changed["email_hash"] = self._emails.email_hash(event.subject_id, fact.sealed["email"])
        if not changed:
            return
        self._flush_licenses()
        assignments: list[Composable] = [SQL("{} = {}").format(Identifier(name), Placeholder(name)) for name in changed]
        statement = SQL("UPDATE licenses SET {} WHERE license_id = %(license_id)s").format(SQL(", ").join(assignments))
        self._connection.execute(statement, {**changed, "license_id": event.originator_id})

    def _create_api_key(self, position: int, event: Recorded, fact: ApiKeyCreated) -> None:
        row = (
            event.originator_id,
            position,
            fact.key_digest,
            fact.client_name,
            list(fact.allowed_endpoints),
            fact.requests_per_minute,
            fact.requests_per_hour,
            fact.product,
            event.occurred_at,
            fact.expires_at,
        )
        self._connection.execute(_CREATE_API_KEY, row)
