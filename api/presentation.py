"""How stored rows become answers: sealed values are opened here, and nowhere earlier."""

from __future__ import annotations

import logging
from typing import Any
from uuid import UUID

import msgspec

from api.schemas.admin import DeviceAnswer, EventAnswer, EventCause, LicenseAnswer
from api.schemas.anomalies import AdminAnomalyAnswer
from domain.facts import Recorded
from infra.vault import SealBroken, UnknownSubject, Vault
from projections.anomalies import AnomalyRow
from projections.devices import DeviceRow
from projections.licenses import LicenseRow

log = logging.getLogger(__name__)

_NOT_SHOWN = frozenset({"sealed", "key_digest", "key_sealed", "name_tag"})


def opened(vault: Vault, subject_id: UUID | None, sealed: bytes | None) -> Any:
    """Open a sealed value; None where there is none, or where its subject was erased, or where it is damaged."""
    if sealed is None or subject_id is None:
        return None
    try:
        return vault.open(subject_id, bytes(sealed))
    except (UnknownSubject, SealBroken):
        return None


def license_fields(vault: Vault, row: LicenseRow) -> dict[str, Any]:
    """Return the fields of a licence's answer."""
    vault.take(row.subject_id, row.wrapped_key)
    return {
        "license_id": row.license_id,
        "license_key": license_key(vault, row.license_id, row.key_sealed),
        "customer_id": opened(vault, row.subject_id, row.customer_id_sealed),
        "email": opened(vault, row.subject_id, row.email_sealed),
        "product": row.product,
        "edition": row.edition,
        "max_devices": row.max_devices,
        "current_devices": row.current_devices,
        "features": row.features,
        "is_active": row.is_active,
        "is_test": row.is_test,
        "floating": row.floating,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "metadata": opened(vault, row.subject_id, row.metadata_sealed) or {},
    }


def license_key(vault: Vault, license_id: UUID, key_sealed: bytes) -> str:
    """Open the licence key; empty where it is damaged: one row must not hold up a whole list."""
    try:
        return vault.open_secret(bytes(key_sealed)).decode()
    except (SealBroken, UnicodeDecodeError) as error:
        log.warning("the key of licence %s can't be shown: %s", license_id, error)
        return ""


def license_answer(vault: Vault, row: LicenseRow) -> LicenseAnswer:
    """Show a licence."""
    return LicenseAnswer(**license_fields(vault, row))


def device_answer(vault: Vault, subject_id: UUID, row: DeviceRow) -> DeviceAnswer:
    """Show a device of a licence whose subject's key is in memory."""
    return DeviceAnswer(
        hardware_id=row.hardware_id,
        device_name=opened(vault, subject_id, row.device_name_sealed),
        os_info=opened(vault, subject_id, row.os_info_sealed),
        is_active=row.is_active,
        activated_at=row.activated_at,
        deactivated_at=row.deactivated_at,
        last_seen_at=row.last_seen_at,
    )


def anomaly_fields(row: AnomalyRow) -> dict[str, Any]:
    """Return the fields of an anomaly's answer that everybody may see."""
    return {
        "anomaly_id": row.anomaly_id,
        "kind": row.kind,
        "severity": row.severity,
        "status": row.status,
        "license_id": row.license_id,
        "explanation": row.explanation,
        "evidence": row.evidence,
        "found_at": row.found_at,
        "resolved_at": row.resolved_at,
        "resolved_by": row.resolved_by,
    }


def admin_anomaly_answer(vault: Vault, row: AnomalyRow) -> AdminAnomalyAnswer:
    """Show an anomaly to administrators."""
    if row.subject_id is not None:
        vault.take(row.subject_id, row.wrapped_key)
    return AdminAnomalyAnswer(
        **anomaly_fields(row),
        recorded_at=row.recorded_at,
        address=opened(vault, row.subject_id, row.address_sealed),
        reason=opened(vault, row.subject_id, row.reason_sealed),
    )


def event_answer(vault: Vault, position: int, event: Recorded) -> EventAnswer:
    """Show an event; its subject's key is in memory, unless it was erased."""
    fields = {f.name: getattr(event.fact, f.name) for f in msgspec.structs.fields(event.fact)}
    data = {name: value for name, value in fields.items() if name not in _NOT_SHOWN and value is not msgspec.UNSET}
    data.update({name: opened(vault, event.subject_id, sealed) for name, sealed in event.fact.sealed.items()})
    return EventAnswer(
        event_id=event.event_id,
        position=position,
        type=event.fact.stored_name,
        occurred_at=event.occurred_at,
        hardware_id=fields.get("hardware_id") or fields.get("to_hardware_id"),
        actor=event.cause.actor,
        cause=EventCause(
            command=event.cause.command,
            command_id=event.cause.command_id,
            request_id=event.cause.request_id,
            country=event.cause.origin.country,
        ),
        data=data,
    )
