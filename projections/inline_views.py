"""The views that clients must see at once, written in the events' own transaction.

A batch of events becomes a few statements: new rows, net changes of seats, and the last state of each device.
The same code writes them when views are rebuilt.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, Protocol
from uuid import UUID

from msgspec import UNSET, json
from psycopg.sql import SQL, Composed, Identifier

from domain.facts import (
    AnomalyDetected,
    AnomalyResolved,
    ApiKeyCreated,
    ApiKeyRevoked,
    CustomerErased,
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

DeviceKey = tuple[UUID, bytes]
"""A licence and the digest of a device's id."""


class EmailHashes(Protocol):
    """Opens a sealed e-mail and gives its lookup hash; None where the subject was erased."""

    def prepare(self, subject_ids: set[UUID]) -> None:
        """Get ready for the e-mails of some data subjects."""

    def email_hash(self, subject_id: UUID | None, email_sealed: bytes) -> bytes | None:
        """Return the lookup hash of a sealed e-mail."""


class Statements(Protocol):
    """Where statements are executed, now or together a little later; nothing is read from them."""

    def execute(self, statement: Any, parameters: Sequence[Any], /) -> object:
        """Execute a statement with psycopg's placeholders."""


# Features travel as JSON: arrays of arrays must all be of one length.
_ISSUE = """
    INSERT INTO licenses (license_id, position, key_digest, key_sealed, subject_id, customer_id_sealed, email_sealed,
        metadata_sealed, email_hash, product, edition, max_devices, features, is_test, floating, created_at, expires_at)
    SELECT license_id, position, key_digest, key_sealed, subject_id, customer_id_sealed, email_sealed, metadata_sealed,
        email_hash, product, edition, max_devices, ARRAY(SELECT jsonb_array_elements_text(features::jsonb)), is_test,
        floating, created_at, expires_at
    FROM unnest(%b::uuid[], %b::bigint[], %b::bytea[], %b::bytea[], %b::uuid[], %b::bytea[], %b::bytea[], %b::bytea[],
        %b::bytea[], %b::text[], %b::text[], %b::int[], %b::text[], %b::bool[], %b::bool[], %b::timestamptz[],
        %b::timestamptz[])
        AS new (license_id, position, key_digest, key_sealed, subject_id, customer_id_sealed, email_sealed,
            metadata_sealed, email_hash, product, edition, max_devices, features, is_test, floating, created_at,
            expires_at)
"""

_COUNT_SEATS = """
    UPDATE licenses SET current_devices = current_devices + change.seats
    FROM unnest(%b::uuid[], %b::int[]) AS change (license_id, seats)
    WHERE licenses.license_id = change.license_id
"""

_PUT_DEVICES = """
    INSERT INTO devices (license_id, device_digest, hardware_id, activation_id, is_active, activated_at, deactivated_at,
        device_name_sealed, os_info_sealed)
    SELECT license_id, device_digest, hardware_id, activation_id, deactivated_at IS NULL, activated_at, deactivated_at,
        device_name_sealed, os_info_sealed
    FROM unnest(%b::uuid[], %b::bytea[], %b::text[], %b::uuid[], %b::timestamptz[], %b::timestamptz[], %b::bytea[],
        %b::bytea[])
        AS new (license_id, device_digest, hardware_id, activation_id, activated_at, deactivated_at, device_name_sealed,
            os_info_sealed)
    ON CONFLICT (license_id, device_digest) DO UPDATE SET
        activation_id = excluded.activation_id, is_active = excluded.is_active, activated_at = excluded.activated_at,
        deactivated_at = excluded.deactivated_at, device_name_sealed = excluded.device_name_sealed,
        os_info_sealed = excluded.os_info_sealed
"""

_END_DEVICES = """
    UPDATE devices SET is_active = false, deactivated_at = ended.at
    FROM unnest(%b::uuid[], %b::bytea[], %b::timestamptz[]) AS ended (license_id, device_digest, at)
    WHERE devices.license_id = ended.license_id AND devices.device_digest = ended.device_digest
"""

_RENAME_DEVICES = """
    UPDATE devices SET device_name_sealed = renamed.name_sealed
    FROM unnest(%b::uuid[], %b::bytea[], %b::bytea[]) AS renamed (license_id, device_digest, name_sealed)
    WHERE devices.license_id = renamed.license_id AND devices.device_digest = renamed.device_digest
"""

_TYPES: dict[str, LiteralString] = {
    "max_devices": "int",
    "product": "text",
    "edition": "text",
    "expires_at": "timestamptz",
    "floating": "bool",
    "features": "text",
    "metadata_sealed": "bytea",
    "email_sealed": "bytea",
    "email_hash": "bytea",
}
"""Of the columns that an update may change; features as JSON."""

_DEACTIVATE = "UPDATE licenses SET is_active = false, epoch = epoch + 1 WHERE license_id = %s"

_REACTIVATE = "UPDATE licenses SET is_active = true WHERE license_id = %s"

_CREATE_API_KEY = """
    INSERT INTO api_keys (key_id, position, key_digest, client_name, allowed_endpoints, requests_per_minute,
        requests_per_hour, product, created_at, expires_at)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""

_REVOKE_API_KEY = "UPDATE api_keys SET revoked_at = %s WHERE key_id = %s"


_DETECT = """
    INSERT INTO anomalies (anomaly_id, position, kind, severity, license_id, address_hash, subject_id, address_sealed,
        explanation, evidence, found_at, recorded_at, status)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'open')
"""

_RESOLVE = """
    UPDATE anomalies SET status = %s, resolved_at = %s, resolved_by = %s, reason_sealed = %s WHERE anomaly_id = %s
"""


# Whoever is erased is erased in a rebuild too, where the last two find nothing left to do.
_ERASE = (
    "SELECT require_all_licenses(%s::uuid, %s::uuid[])",
    "UPDATE licenses SET email_hash = NULL WHERE subject_id = %s AND email_hash IS NOT NULL",
    "UPDATE data_subjects SET lookup_hash = NULL, wrapped_key = NULL WHERE subject_id = %s AND wrapped_key IS NOT NULL",
    """
    UPDATE idempotency SET body_hash = '', answer_sealed = ''
    WHERE subject_ids @> ARRAY[%s::uuid] AND answer_sealed <> ''
    """,
)


class InlineViews:
    """Licence, device, credential and anomaly views. Holds no state of its own."""

    TABLES = ("licenses", "devices", "api_keys", "anomalies")

    def __init__(self, emails: EmailHashes) -> None:
        self._emails = emails

    def need_positions(self, events: Sequence[Recorded]) -> bool:
        """Tell whether a view holds the position of one of the events."""
        return any(isinstance(event.fact, LicenseIssued | ApiKeyCreated | AnomalyDetected) for event in events)

    def apply(self, statements: Statements, events: Sequence[tuple[int | None, Recorded]]) -> None:
        """Write what the events change; positions may be None where none is needed.

        Within a batch, statements keep the events' order where it matters.
        """
        self._emails.prepare({e.subject_id for _, e in events if e.subject_id is not None and "email" in e.fact.sealed})
        run = _Run(statements, self._emails)
        for position, event in events:
            run.add(position, event)
        run.flush()


@dataclass(slots=True)
class _Device:
    """A device that took its seat within the batch, as the batch leaves it."""

    hardware_id: str
    activation_id: UUID
    activated_at: datetime
    deactivated_at: datetime | None
    name_sealed: bytes | None
    os_info_sealed: bytes | None


class _Run:
    """One pass over a batch: what it does to licences and devices gathers in memory, and is written at its end."""

    def __init__(self, statements: Statements, emails: EmailHashes) -> None:
        self._statements = statements
        self._emails = emails
        self._issued: list[tuple[Any, ...]] = []
        self._updated: defaultdict[UUID, dict[str, Any]] = defaultdict(dict)
        self._seats: defaultdict[UUID, int] = defaultdict(int)
        self._activated: dict[DeviceKey, _Device] = {}
        self._ended: dict[DeviceKey, datetime] = {}
        self._renamed: dict[DeviceKey, bytes] = {}
        self._erased: list[tuple[UUID, list[UUID]]] = []

    def add(self, position: int | None, event: Recorded) -> None:  # noqa: C901, PLR0912 - one case a fact
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
                self._rename((license_id, device_digest(hardware_id)), sealed["device_name"])
            case LicenseIssued() as fact:
                self._issue(position, event, fact)
            case LicenseUpdated() as fact:
                self._update(event, fact)
            case LicenseDeactivated():
                self._change_license(_DEACTIVATE, license_id)
            case LicenseReactivated():
                self._change_license(_REACTIVATE, license_id)
            case ApiKeyCreated() as fact:
                self._create_api_key(position, event, fact)
            case ApiKeyRevoked():
                self._statements.execute(_REVOKE_API_KEY, (event.occurred_at, event.originator_id))
            case AnomalyDetected() as fact:
                self._detect(position, event, fact)
            case AnomalyResolved(resolution=status, sealed=sealed):
                by, reason = event.cause.actor, sealed.get("reason")
                self._statements.execute(_RESOLVE, (status, event.occurred_at, by, reason, event.originator_id))
            case CustomerErased(license_ids=license_ids):
                self._erased.append((license_id, list(license_ids)))

    def flush(self) -> None:
        self._flush_licenses()
        self._flush_updates()
        if self._activated:
            rows = [
                (
                    *key,
                    d.hardware_id,
                    d.activation_id,
                    d.activated_at,
                    d.deactivated_at,
                    d.name_sealed,
                    d.os_info_sealed,
                )
                for key, d in self._activated.items()
            ]
            self._statements.execute(_PUT_DEVICES, _columns(rows))
        if self._ended:
            self._statements.execute(_END_DEVICES, _columns([(*key, at) for key, at in self._ended.items()]))
        if self._renamed:
            self._statements.execute(_RENAME_DEVICES, _columns([(*key, name) for key, name in self._renamed.items()]))
        if changed := {license_id: seats for license_id, seats in self._seats.items() if seats}:
            self._statements.execute(_COUNT_SEATS, (list(changed), list(changed.values())))
        for subject_id, license_ids in self._erased:
            self._erase(subject_id, license_ids)

    def _erase(self, subject_id: UUID, license_ids: list[UUID]) -> None:
        """Destroy the key, and what else leads to a data subject. After all else: it is gone, whatever came before."""
        complete, *statements = _ERASE
        self._statements.execute(complete, (subject_id, license_ids))
        for statement in statements:
            self._statements.execute(statement, (subject_id,))

    def _activate(self, event: Recorded, hardware_id: str, sealed: dict[str, bytes]) -> None:
        key = event.originator_id, device_digest(hardware_id)
        # What came before within the batch is overwritten.
        self._ended.pop(key, None)
        self._renamed.pop(key, None)
        self._activated[key] = _Device(
            hardware_id=hardware_id,
            activation_id=event.event_id,
            activated_at=event.occurred_at,
            deactivated_at=None,
            name_sealed=sealed.get("device_name"),
            os_info_sealed=sealed.get("os_info"),
        )

    def _end(self, event: Recorded, hardware_id: str) -> None:
        key = event.originator_id, device_digest(hardware_id)
        if key in self._activated:
            self._activated[key].deactivated_at = event.occurred_at
        else:
            self._ended[key] = event.occurred_at

    def _rename(self, key: DeviceKey, name_sealed: bytes) -> None:
        if key in self._activated:
            self._activated[key].name_sealed = name_sealed
        else:
            self._renamed[key] = name_sealed

    def _flush_licenses(self) -> None:
        if self._issued:
            self._statements.execute(_ISSUE, _columns(self._issued))
            self._issued.clear()

    def _change_license(self, statement: str, license_id: UUID) -> None:
        self._flush_licenses()
        self._statements.execute(statement, (license_id,))

    def _issue(self, position: int | None, event: Recorded, fact: LicenseIssued) -> None:
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
            json.encode(fact.features).decode(),
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
            changed["features"] = json.encode(fact.features).decode()
        if "metadata" in fact.sealed:
            changed["metadata_sealed"] = fact.sealed["metadata"]
        if "email" in fact.sealed:
            changed["email_sealed"] = fact.sealed["email"]
            changed["email_hash"] = self._emails.email_hash(event.subject_id, fact.sealed["email"])
        if changed:
            self._updated[event.originator_id].update(changed)

    def _flush_updates(self) -> None:
        """Change the licences' terms, with one statement for all those of which the same terms change."""
        alike: defaultdict[tuple[str, ...], list[tuple[Any, ...]]] = defaultdict(list)
        for license_id, changed in self._updated.items():
            names = tuple(sorted(changed))
            alike[names].append((license_id, *(changed[name] for name in names)))
        for names, rows in alike.items():
            self._statements.execute(_update_statement(names), _columns(rows))

    def _create_api_key(self, position: int | None, event: Recorded, fact: ApiKeyCreated) -> None:
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
        self._statements.execute(_CREATE_API_KEY, row)

    def _detect(self, position: int | None, event: Recorded, fact: AnomalyDetected) -> None:
        row = (
            event.originator_id,
            position,
            fact.kind,
            fact.severity,
            fact.license_id,
            fact.address_hash,
            event.subject_id,
            fact.sealed.get("address"),
            fact.explanation,
            list(fact.evidence),
            fact.found_at,
            event.occurred_at,
        )
        self._statements.execute(_DETECT, row)


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def _update_statement(names: Sequence[str]) -> Composed:
    assignments = [
        SQL("features = ARRAY(SELECT jsonb_array_elements_text(new.features::jsonb))")
        if name == "features"
        else SQL("{0} = new.{0}").format(Identifier(name))
        for name in names
    ]
    arrays = [SQL("%b::uuid[]"), *(SQL("%b::") + SQL(_TYPES[name]) + SQL("[]") for name in names)]
    return SQL(
        "UPDATE licenses SET {} FROM unnest({}) AS new (license_id, {}) WHERE licenses.license_id = new.license_id"
    ).format(SQL(", ").join(assignments), SQL(", ").join(arrays), SQL(", ").join(Identifier(name) for name in names))
