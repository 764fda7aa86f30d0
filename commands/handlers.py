"""Which decision an order asks of which aggregate. The table at the end is the whole list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from commands.orders import (
    ActivateDevice,
    CorrectEvent,
    CreateApiKey,
    DeactivateDevice,
    DeactivateLicense,
    EraseCustomer,
    IssueLicenses,
    Order,
    ResolveAnomaly,
    RevokeApiKey,
    TransferSeat,
    UpdateLicense,
)
from domain import anomaly, api_key, corrections, data_subject, issuing, license, seats
from domain.anomaly import Anomaly
from domain.api_key import ApiKey
from domain.data_subject import DataSubject
from domain.errors import LicenseNotFound, NotFound
from domain.facts import AnomalyDetected, ApiKeyCreated, CustomerErased, Fact, Recorded
from domain.license import License

Aggregate = License | ApiKey | Anomaly | DataSubject
States = Mapping[UUID, Aggregate | None]
Decided = list[tuple[UUID, UUID | None, tuple[Fact, ...]]]
"""For each aggregate: its id, the data subject of its events, the facts to record."""


def evolve(state: Aggregate | None, event: Recorded) -> Aggregate:
    """Apply an event to whichever aggregate it belongs to. Raises ValueError for one out of order."""
    if isinstance(state, ApiKey) or (state is None and isinstance(event.fact, ApiKeyCreated)):
        return api_key.evolve(state, event)
    if isinstance(state, Anomaly) or (state is None and isinstance(event.fact, AnomalyDetected)):
        return anomaly.evolve(state, event)
    if isinstance(state, DataSubject) or (state is None and isinstance(event.fact, CustomerErased)):
        return data_subject.evolve(state, event)
    return license.evolve(state, event)


def _license(states: States, license_id: UUID) -> License:
    state = states.get(license_id)
    if not isinstance(state, License):
        raise LicenseNotFound
    return state


def _issue(order: IssueLicenses, states: States) -> Decided:
    return [
        (new.license_id, new.subject_id, issuing.issue(new.terms, is_active=new.is_active))
        for new in order.licenses
        if states.get(new.license_id) is None
    ]


def _update(order: UpdateLicense, states: States) -> Decided:
    state = _license(states, order.license_id)
    return [(state.id, state.subject_id, issuing.update(state, order.changes))]


def _deactivate_license(order: DeactivateLicense, states: States) -> Decided:
    state = _license(states, order.license_id)
    return [(state.id, state.subject_id, issuing.deactivate(state, order.sealed))]


def _activate(order: ActivateDevice, states: States) -> Decided:
    state = _license(states, order.license_id)
    facts = seats.activate(state, order.device, order.now, repeatable=order.repeatable)
    return [(state.id, state.subject_id, facts)]


def _deactivate_device(order: DeactivateDevice, states: States) -> Decided:
    state = _license(states, order.license_id)
    return [(state.id, state.subject_id, seats.deactivate(state, order.hardware_id, order.sealed))]


def _transfer(order: TransferSeat, states: States) -> Decided:
    state = _license(states, order.license_id)
    facts = seats.transfer(state, order.from_hardware_id, order.to_hardware_id, order.sealed)
    return [(state.id, state.subject_id, facts)]


def _correct(order: CorrectEvent, states: States) -> Decided:
    state = _license(states, order.license_id)
    return [(state.id, state.subject_id, corrections.undo(state, order.event, order.sealed))]


def _create_api_key(order: CreateApiKey, states: States) -> Decided:
    del states
    fact = ApiKeyCreated(
        key_digest=order.key_digest,
        client_name=order.client_name,
        allowed_endpoints=order.allowed_endpoints,
        requests_per_minute=order.requests_per_minute,
        requests_per_hour=order.requests_per_hour,
        product=order.product,
        expires_at=order.expires_at,
    )
    return [(order.key_id, None, (fact,))]


def _revoke_api_key(order: RevokeApiKey, states: States) -> Decided:
    state = states.get(order.key_id)
    if not isinstance(state, ApiKey):
        raise NotFound
    return [(state.id, None, api_key.revoke(state))]


def _resolve_anomaly(order: ResolveAnomaly, states: States) -> Decided:
    state = states.get(order.anomaly_id)
    if not isinstance(state, Anomaly):
        raise NotFound
    return [(state.id, state.subject_id, anomaly.resolve(state, order.resolution, order.sealed))]


def _erase(order: EraseCustomer, states: States) -> Decided:
    decided: Decided = []
    for one in order.subjects:
        state = states.get(one.subject_id)
        assert state is None or isinstance(state, DataSubject)
        facts = data_subject.erase(state, one.license_ids, order.sealed)
        decided.append((one.subject_id, order.kept_under, facts))
    return decided


def _of_license(order: Any) -> tuple[UUID, ...]:
    return (order.license_id,)


def _of_api_key(order: Any) -> tuple[UUID, ...]:
    return (order.key_id,)


def _of_anomaly(order: Any) -> tuple[UUID, ...]:
    return (order.anomaly_id,)


def _of_subjects(order: EraseCustomer) -> tuple[UUID, ...]:
    return tuple(one.subject_id for one in order.subjects)


def _of_new_licenses(order: IssueLicenses) -> tuple[UUID, ...]:
    return tuple(new.license_id for new in order.licenses)


HANDLERS: dict[type[Order], tuple[Callable[[Any], tuple[UUID, ...]], Callable[[Any, States], Decided]]] = {
    IssueLicenses: (_of_new_licenses, _issue),
    UpdateLicense: (_of_license, _update),
    DeactivateLicense: (_of_license, _deactivate_license),
    ActivateDevice: (_of_license, _activate),
    DeactivateDevice: (_of_license, _deactivate_device),
    TransferSeat: (_of_license, _transfer),
    CorrectEvent: (_of_license, _correct),
    CreateApiKey: (_of_api_key, _create_api_key),
    RevokeApiKey: (_of_api_key, _revoke_api_key),
    ResolveAnomaly: (_of_anomaly, _resolve_anomaly),
    EraseCustomer: (_of_subjects, _erase),
}
"""Order type to (ids of the aggregates it concerns, decision)."""
