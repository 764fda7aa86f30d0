"""The views over the event log, folded in plain Python from the stored JSON: none of the service's code is in it.

Where an event can't follow what was before it (a seat too many, a version left out), a finding says so and the fold
goes on, so that one thing that is wrong is told as one.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any
from uuid import UUID

Row = dict[str, Any]
Rows = dict[Any, Row]

TERMS = ("max_devices", "product", "edition", "expires_at", "floating", "features")


@dataclass(frozen=True, slots=True)
class Finding:
    """That an invariant (L, S, D, P, V or X) does not hold, and where."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the event log, decoded no further than its JSON."""

    position: int
    aggregate: UUID
    version: int
    topic: str
    id: UUID
    at: datetime
    subject_id: UUID | None
    cause: dict[str, Any]
    data: dict[str, Any]

    def sealed(self, name: str) -> bytes | None:
        value = self.data.get("sealed", {}).get(name)
        return None if value is None else b64decode(value)


def event_of(row: Row) -> Event:
    """Decode a row of `licensing_events`."""
    state = json.loads(bytes(row["state"]))
    return Event(
        position=row["notification_id"],
        aggregate=row["originator_id"],
        version=row["originator_version"],
        topic=row["topic"],
        id=UUID(state["event_id"]),
        at=datetime.fromisoformat(state["occurred_at"]),
        subject_id=_uuid(state.get("subject_id")),
        cause=state["cause"],
        data=state["data"],
    )


@dataclass
class SeatFold:
    """Rows of the views by their keys. `touched` are the aggregates of all events since it was last emptied."""

    licenses: Rows = field(default_factory=dict)
    devices: Rows = field(default_factory=dict)
    api_keys: Rows = field(default_factory=dict)
    anomalies: Rows = field(default_factory=dict)
    seat_changes: Rows = field(default_factory=dict)
    taken: Counter[date] = field(default_factory=Counter)
    given_up: Counter[date] = field(default_factory=Counter)
    versions: dict[UUID, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    touched: set[UUID] = field(default_factory=set)

    @property
    def seat_days(self) -> Rows:
        return {
            day: {"day": day, "activations": self.taken[day], "deactivations": self.given_up[day]}
            for day in self.taken.keys() | self.given_up.keys()
        }

    def apply(self, event: Event) -> None:
        """Change the rows as the event says."""
        before = self.versions.get(event.aggregate, 0)
        if event.version != before + 1:
            self._find("L", event, f"version {event.version} follows version {before}: an event is missing")
        self.versions[event.aggregate] = event.version
        self.touched.add(event.aggregate)
        step = getattr(self, "_" + event.topic.replace(".", "_"), None)
        if step is None:
            self._find("L", event, "the checker knows no such event")
            return
        try:
            step(event)
        except KeyError as error:
            self._find("L", event, f"it is about {error}, which has not been")

    def _license_issued(self, event: Event) -> None:
        data = event.data
        self.licenses[event.aggregate] = {
            "license_id": event.aggregate,
            "position": event.position,
            "key_digest": b64decode(data["key_digest"]),
            "key_sealed": b64decode(data["key_sealed"]),
            "subject_id": event.subject_id,
            **{f"{name}_sealed": event.sealed(name) for name in ("customer_id", "email", "metadata")},
            "product": data.get("product"),
            "edition": data.get("edition"),
            "max_devices": data["max_devices"],
            "current_devices": 0,
            "features": data.get("features", []),
            "is_active": True,
            "is_test": data.get("is_test", False),
            "floating": data.get("floating", False),
            "epoch": 0,
            "created_at": event.at,
            "expires_at": _time(data.get("expires_at")),
        }
        self._note_seats(event, 0, 0, data["max_devices"])

    def _license_updated(self, event: Event) -> None:
        license = self.licenses[event.aggregate]
        for name in TERMS:
            if name in event.data:
                value = event.data[name]
                license[name] = _time(value) if name == "expires_at" else value
        for name in event.data.get("sealed", {}):
            license[f"{name}_sealed"] = event.sealed(name)
        if "max_devices" in event.data:
            self._note_seats(event, 0, 0, event.data["max_devices"])

    def _license_deactivated(self, event: Event) -> None:
        license = self.licenses[event.aggregate]
        license["is_active"] = False
        license["epoch"] += 1

    def _license_reactivated(self, event: Event) -> None:
        self.licenses[event.aggregate]["is_active"] = True

    def _license_activated(self, event: Event) -> None:
        license = self.licenses[event.aggregate]
        if license["current_devices"] >= license["max_devices"]:
            self._find("S", event, f"a seat is taken beyond {license['max_devices']}")
        license["current_devices"] += 1
        self._seat(event, event.data["hardware_id"])
        self._note_seats(event, 1, 0, None)

    def _device_deactivated(self, event: Event) -> None:
        self.licenses[event.aggregate]["current_devices"] -= 1
        self._end(event, event.data["hardware_id"], event.data["activation_id"])
        self._note_seats(event, 0, 1, None)

    def _license_transferred(self, event: Event) -> None:
        self._end(event, event.data["from_hardware_id"], event.data["ended_activation_id"])
        self._seat(event, event.data["to_hardware_id"])
        self._note_seats(event, 1, 1, None)

    def _device_renamed(self, event: Event) -> None:
        row = self.devices[event.aggregate, digest(event.data["hardware_id"])]
        row["device_name_sealed"] = event.sealed("device_name")

    def _apikey_created(self, event: Event) -> None:
        data = event.data
        self.api_keys[event.aggregate] = {
            "key_id": event.aggregate,
            "position": event.position,
            "key_digest": b64decode(data["key_digest"]),
            "client_name": data["client_name"],
            "allowed_endpoints": data["allowed_endpoints"],
            "requests_per_minute": data["requests_per_minute"],
            "requests_per_hour": data["requests_per_hour"],
            "product": data.get("product"),
            "created_at": event.at,
            "expires_at": _time(data.get("expires_at")),
            "revoked_at": None,
        }

    def _apikey_revoked(self, event: Event) -> None:
        self.api_keys[event.aggregate]["revoked_at"] = event.at

    def _anomaly_detected(self, event: Event) -> None:
        if event.aggregate in self.anomalies:
            self._find("D", event, f"the anomaly {event.aggregate} is recorded again")
        data = event.data
        address = data.get("address_hash")
        self.anomalies[event.aggregate] = {
            "anomaly_id": event.aggregate,
            "position": event.position,
            "kind": data["kind"],
            "severity": data["severity"],
            "license_id": _uuid(data.get("license_id")),
            "address_hash": None if address is None else b64decode(address),
            "subject_id": event.subject_id,
            "address_sealed": event.sealed("address"),
            "explanation": data["explanation"],
            "evidence": data.get("evidence", []),
            "found_at": _time(data["found_at"]),
            "recorded_at": event.at,
            "status": "open",
            "resolved_at": None,
            "resolved_by": None,
            "reason_sealed": None,
        }

    def _anomaly_resolved(self, event: Event) -> None:
        self.anomalies[event.aggregate].update(
            status=event.data["resolution"],
            resolved_at=event.at,
            resolved_by=event.cause["actor"],
            reason_sealed=event.sealed("reason"),
        )

    def _settings_changed(self, event: Event) -> None:
        """No view tells settings."""

    def _customer_erased(self, event: Event) -> None:
        """What a licence loses is the e-mail's hash under the service's key, which no row here has."""

    def _seat(self, event: Event, hardware_id: str) -> None:
        key = event.aggregate, digest(hardware_id)
        if self.devices.get(key, {}).get("is_active"):
            self._find("S", event, f"{hardware_id} takes a second seat")
        self.devices[key] = {
            "license_id": event.aggregate,
            "device_digest": key[1],
            "hardware_id": hardware_id,
            "activation_id": event.id,
            "is_active": True,
            "activated_at": event.at,
            "deactivated_at": None,
            "device_name_sealed": event.sealed("device_name"),
            "os_info_sealed": event.sealed("os_info"),
        }

    def _end(self, event: Event, hardware_id: str, activation_id: str) -> None:
        row = self.devices[event.aggregate, digest(hardware_id)]
        if not row["is_active"] or row["activation_id"] != UUID(activation_id):
            self._find("S", event, f"{hardware_id} gives up a seat that it does not hold")
        row.update(is_active=False, deactivated_at=event.at)

    def _note_seats(self, event: Event, taken: int, given_up: int, allowed: int | None) -> None:
        self.seat_changes[event.aggregate, event.position] = {
            "license_id": event.aggregate,
            "position": event.position,
            "at": event.at,
            "activations": taken,
            "deactivations": given_up,
            "allowed": allowed,
        }
        if taken:
            self.taken[event.at.date()] += taken
        if given_up:
            self.given_up[event.at.date()] += given_up

    def _find(self, invariant: str, event: Event, text: str) -> None:
        self.findings.append(
            Finding(invariant, f"{text} ({event.topic} of {event.aggregate} at position {event.position})")
        )


def digest(hardware_id: str) -> bytes:
    """Return what stands for a hardware id in the devices' view."""
    return hashlib.sha256(hardware_id.encode()).digest()[:16]


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _uuid(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)
