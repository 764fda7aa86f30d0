"""The Anomaly aggregate: something that detection found, and what a person thinks of it."""

from __future__ import annotations

from typing import Literal
from uuid import UUID, uuid5

import msgspec

from domain.errors import AnomalyDismissed
from domain.facts import AnomalyDetected, AnomalyResolved, Fact, Recorded

Status = Literal["open", "acknowledged", "dismissed"]
Resolution = Literal["acknowledged", "dismissed"]

_IDS = UUID("0b9d5f0e-8f5c-4d0a-9a53-3c1f0e1c7a44")


class Anomaly(msgspec.Struct, kw_only=True):
    """An anomaly as decisions see it. It is about a licence, or about an address by its hash."""

    id: UUID
    version: int
    subject_id: UUID | None
    kind: str
    severity: str
    license_id: UUID | None
    address_hash: bytes | None
    status: Status = "open"


def anomaly_id(kind: str, subject: str, completed_by: str) -> UUID:
    """Return the id of what an observation completed, the same wherever and however often it is found.

    `subject` is the licence's id or the address's hash in hex, `completed_by` the observation's id.
    """
    return uuid5(_IDS, f"{kind}/{subject}/{completed_by}")


def evolve(anomaly: Anomaly | None, event: Recorded) -> Anomaly:
    """Apply an event in place and return the anomaly; the first one makes it. Raises ValueError out of order."""
    match anomaly, event.fact:
        case None, AnomalyDetected() as fact:
            return Anomaly(
                id=event.originator_id,
                version=1,
                subject_id=event.subject_id,
                kind=fact.kind,
                severity=fact.severity,
                license_id=fact.license_id,
                address_hash=fact.address_hash,
            )
        case Anomaly(), AnomalyResolved(resolution=resolution) if event.originator_version == anomaly.version + 1:
            anomaly.status = resolution
            anomaly.version = event.originator_version
            return anomaly
        case _:
            msg = f"anomaly {event.originator_id}: {event.fact.stored_name} is out of order"
            raise ValueError(msg)


def resolve(anomaly: Anomaly, resolution: Resolution, sealed: dict[str, bytes]) -> tuple[Fact, ...]:
    """Say what is to be thought of it; who says the same again changes nothing.

    Raises AnomalyDismissed where one that was dismissed is to be acknowledged: detection has learnt from it already.
    """
    if anomaly.status == resolution:
        return ()
    if anomaly.status == "dismissed":
        raise AnomalyDismissed
    fact = AnomalyResolved(
        resolution=resolution,
        kind=anomaly.kind,
        severity=anomaly.severity,
        license_id=anomaly.license_id,
        address_hash=anomaly.address_hash,
        sealed=sealed,
    )
    return (fact,)
