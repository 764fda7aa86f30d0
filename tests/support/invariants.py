"""What must hold whatever happened, read from the database itself.

L: each command that was told a success has exactly one set of events; each other has none.
S: no activation takes a seat beyond the limit of its moment, at any position.
P: the views equal the fold of the log.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from eventsourcing.persistence import StoredEvent
from msgspec import UNSET

from commands.event_mapper import EventMapper
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
    SettingsChanged,
)
from domain.identifiers import device_digest
from infra.postgres import Database

Rows = dict[Any, dict[str, Any]]

_LOG = "SELECT notification_id, originator_id, originator_version, topic, state FROM licensing_events ORDER BY 1"

_LICENSES = """
    SELECT license_id, position, key_digest, key_sealed, subject_id, customer_id_sealed, email_sealed, metadata_sealed,
        product, edition, max_devices, current_devices, features, is_active, is_test, floating, epoch, created_at,
        expires_at
    FROM licenses
"""

_DEVICES = """
    SELECT license_id, device_digest, hardware_id, activation_id, is_active, activated_at, deactivated_at,
        device_name_sealed, os_info_sealed
    FROM devices
"""

_API_KEYS = """
    SELECT key_id, position, key_digest, client_name, allowed_endpoints, requests_per_minute, requests_per_hour,
        product, created_at, expires_at, revoked_at
    FROM api_keys
"""

_ANOMALIES = """
    SELECT anomaly_id, position, kind, severity, license_id, address_hash, subject_id, address_sealed, explanation,
        evidence, found_at, recorded_at, status, resolved_at, resolved_by, reason_sealed
    FROM anomalies
"""


@dataclass
class Views:
    """Rows of the four views by their keys, folded one event at a time, as simply as can be."""

    licenses: Rows = field(default_factory=dict)
    devices: Rows = field(default_factory=dict)
    api_keys: Rows = field(default_factory=dict)
    anomalies: Rows = field(default_factory=dict)

    def apply(self, position: int, event: Recorded) -> None:  # noqa: C901, PLR0912 - one case a fact
        """Change the rows as the event says; assert S on the way."""
        license = self.licenses.get(event.originator_id, {})
        fact = event.fact
        match fact:
            case LicenseIssued():
                self.licenses[event.originator_id] = _issued(position, event, fact)
            case LicenseUpdated():
                for name in ("max_devices", "product", "edition", "expires_at", "floating", "features"):
                    if (value := getattr(fact, name)) is not UNSET:
                        license[name] = list(value) if name == "features" else value
                license.update({f"{name}_sealed": sealed for name, sealed in fact.sealed.items()})
            case LicenseDeactivated():
                license["is_active"] = False
                license["epoch"] += 1
            case LicenseReactivated():
                license["is_active"] = True
            case DeviceActivated():
                assert license["current_devices"] < license["max_devices"], f"S: a seat too many at {position}"
                self._seat(event, fact.hardware_id, fact.sealed)
                license["current_devices"] += 1
            case DeviceDeactivated():
                self._end(event, fact.hardware_id, fact.activation_id)
                license["current_devices"] -= 1
            case SeatTransferred():
                self._end(event, fact.from_hardware_id, fact.ended_activation_id)
                self._seat(event, fact.to_hardware_id, {})
            case DeviceRenamed():
                row = self.devices[event.originator_id, device_digest(fact.hardware_id)]
                row["device_name_sealed"] = fact.sealed["device_name"]
            case ApiKeyCreated():
                self.api_keys[event.originator_id] = _api_key(position, event, fact)
            case ApiKeyRevoked():
                self.api_keys[event.originator_id]["revoked_at"] = event.occurred_at
            case AnomalyDetected():
                assert event.originator_id not in self.anomalies, f"an anomaly is recorded again at {position}"
                self.anomalies[event.originator_id] = _anomaly(position, event, fact)
            case AnomalyResolved():
                self.anomalies[event.originator_id].update(
                    status=fact.resolution,
                    resolved_at=event.occurred_at,
                    resolved_by=event.cause.actor,
                    reason_sealed=fact.sealed.get("reason"),
                )
            case SettingsChanged():
                pass  # no view tells settings
            case CustomerErased():
                for license_id in fact.license_ids:
                    self.licenses[license_id]["email_hash"] = None
            case _:
                raise AssertionError(f"the checker does not know {fact}")

    def _seat(self, event: Recorded, hardware_id: str, sealed: dict[str, bytes]) -> None:
        key = event.originator_id, device_digest(hardware_id)
        held = self.devices.get(key)
        assert held is None or not held["is_active"], f"{hardware_id} holds a seat already"
        self.devices[key] = {
            "license_id": event.originator_id,
            "device_digest": key[1],
            "hardware_id": hardware_id,
            "activation_id": event.event_id,
            "is_active": True,
            "activated_at": event.occurred_at,
            "deactivated_at": None,
            "device_name_sealed": sealed.get("device_name"),
            "os_info_sealed": sealed.get("os_info"),
        }

    def _end(self, event: Recorded, hardware_id: str, activation_id: UUID) -> None:
        row = self.devices[event.originator_id, device_digest(hardware_id)]
        assert row["is_active"], f"{hardware_id} holds no seat"
        assert row["activation_id"] == activation_id
        row.update(is_active=False, deactivated_at=event.occurred_at)


def _issued(position: int, event: Recorded, fact: LicenseIssued) -> dict[str, Any]:
    return {
        "license_id": event.originator_id,
        "position": position,
        "key_digest": fact.key_digest,
        "key_sealed": fact.key_sealed,
        "subject_id": event.subject_id,
        "customer_id_sealed": fact.sealed.get("customer_id"),
        "email_sealed": fact.sealed.get("email"),
        "metadata_sealed": fact.sealed.get("metadata"),
        "product": fact.product,
        "edition": fact.edition,
        "max_devices": fact.max_devices,
        "current_devices": 0,
        "features": list(fact.features),
        "is_active": True,
        "is_test": fact.is_test,
        "floating": fact.floating,
        "epoch": 0,
        "created_at": event.occurred_at,
        "expires_at": fact.expires_at,
    }


def _api_key(position: int, event: Recorded, fact: ApiKeyCreated) -> dict[str, Any]:
    return {
        "key_id": event.originator_id,
        "position": position,
        "key_digest": fact.key_digest,
        "client_name": fact.client_name,
        "allowed_endpoints": list(fact.allowed_endpoints),
        "requests_per_minute": fact.requests_per_minute,
        "requests_per_hour": fact.requests_per_hour,
        "product": fact.product,
        "created_at": event.occurred_at,
        "expires_at": fact.expires_at,
        "revoked_at": None,
    }


def _anomaly(position: int, event: Recorded, fact: AnomalyDetected) -> dict[str, Any]:
    return {
        "anomaly_id": event.originator_id,
        "position": position,
        "kind": fact.kind,
        "severity": fact.severity,
        "license_id": fact.license_id,
        "address_hash": fact.address_hash,
        "subject_id": event.subject_id,
        "address_sealed": fact.sealed.get("address"),
        "explanation": fact.explanation,
        "evidence": list(fact.evidence),
        "found_at": fact.found_at,
        "recorded_at": event.occurred_at,
        "status": "open",
        "resolved_at": None,
        "resolved_by": None,
        "reason_sealed": None,
    }


def read_log(database: Database) -> list[tuple[int, Recorded]]:
    """Return all events with their positions, in order."""
    mapper = EventMapper()
    with database.connect() as connection:
        rows = connection.execute(_LOG).fetchall()
    return [
        (
            row["notification_id"],
            mapper.to_domain_event(
                StoredEvent(row["originator_id"], row["originator_version"], row["topic"], bytes(row["state"]))
            ),
        )
        for row in rows
    ]


def check_invariants(database: Database, *, settled: bool = True) -> list[tuple[int, Recorded]]:
    """Assert S and P, and that versions have no gaps in position order; return the log."""
    log = read_log(database)
    versions: defaultdict[UUID, int] = defaultdict(int)
    views = Views()
    for position, event in log:
        versions[event.originator_id] += 1
        assert event.originator_version == versions[event.originator_id], f"versions out of order at {position}"
        views.apply(position, event)
    if settled:
        with database.connect() as connection:
            _assert_equal("licenses", connection.execute(_LICENSES).fetchall(), views.licenses, _license_key)
            _assert_equal("devices", connection.execute(_DEVICES).fetchall(), views.devices, _device_key)
            _assert_equal("api_keys", connection.execute(_API_KEYS).fetchall(), views.api_keys, _api_key_key)
            _assert_equal("anomalies", connection.execute(_ANOMALIES).fetchall(), views.anomalies, _anomaly_key)
    return log


def check_outcomes(log: list[tuple[int, Recorded]], statuses: Mapping[str, int], *, events: int = 1) -> None:
    """Assert L: `statuses` has the final answer to each request id, where 2xx promises this many events."""
    commands: defaultdict[str, list[UUID]] = defaultdict(list)
    for _, event in log:
        commands[event.cause.request_id].append(event.cause.command_id)
    for request_id, status in statuses.items():
        found = commands.get(request_id, [])
        expected = events if 200 <= status < 300 else 0
        assert len(found) == expected, f"L: {request_id} was told {status} and has {len(found)} events"
        assert len(set(found)) <= 1


def _license_key(row: dict[str, Any]) -> Any:
    return row["license_id"]


def _device_key(row: dict[str, Any]) -> Any:
    return row["license_id"], bytes(row["device_digest"])


def _api_key_key(row: dict[str, Any]) -> Any:
    return row["key_id"]


def _anomaly_key(row: dict[str, Any]) -> Any:
    return row["anomaly_id"]


def _assert_equal(name: str, rows: list[dict[str, Any]], fold: Rows, key: Callable[[dict[str, Any]], Any]) -> None:
    found = {key(row): row for row in rows}
    assert len(found) == len(rows)
    differing = {one for one in found.keys() | fold.keys() if found.get(one) != fold.get(one)}
    shown = [(found.get(one), fold.get(one)) for one in list(differing)[:3]]
    assert not differing, f"P: {len(differing)} rows of {name} differ from the fold of the log: {shown}"
