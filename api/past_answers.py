"""How the past becomes answers: sealed values are opened here; where the subject was erased, a tombstone is shown."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from api.errors import services_body, status_of
from api.presentation import event_answer
from api.schemas.admin import DeviceAnswer, EventAnswer, LastEvent, LicenseWithStatistics, PersonalData
from api.schemas.history import ChangeAnswer, HistoryEntry, RuleAnswer, VerdictAnswer
from api.schemas.license import Limits
from domain.facts import LicenseReactivated, SeatTransferred
from domain.history.past import Change, DeviceThen, Entry, LicenseThen, Sealed
from domain.history.why import Finding, Verdict
from infra.vault import SealBroken, UnknownSubject, Vault

TOMBSTONE = {"erased": True}
"""Stands for what was personal once its data subject was erased."""

DAMAGED = {"damaged": True}
"""Stands for what can't be opened although the key is there."""

_API_KEY = "api-key:"


class Opener:
    """Opens one data subject's sealed values, whose key is in memory unless it `is_erased`."""

    def __init__(self, vault: Vault, subject_id: UUID | None, *, is_erased: bool) -> None:
        self._vault = vault
        self._subject_id = subject_id
        self.is_erased = is_erased

    @property
    def personal_data(self) -> PersonalData:
        """Tell whether what is personal can be read."""
        return "erased" if self.is_erased else "readable"

    def shown(self, value: Any) -> Any:
        """Return a value as people see it: what is sealed opened, or its tombstone."""
        return self.opened(value, TOMBSTONE) if isinstance(value, Sealed) else value

    def opened(self, sealed: Sealed | None, erased: Any = None) -> Any:
        """Open what is sealed; None for nothing, `erased` where it can't be opened any more."""
        if sealed is None or self._subject_id is None:
            return None
        if self.is_erased:
            return erased
        try:
            return self._vault.open(self._subject_id, sealed.blob)
        except UnknownSubject:  # It was erased just now.
            return erased
        except SealBroken:
            return erased and DAMAGED

    def event(self, entry: Entry) -> EventAnswer:
        """Show an event."""
        shown = event_answer(self._vault, entry.position, entry.event)
        if self.is_erased:
            shown.data.update(dict.fromkeys(entry.event.fact.sealed, TOMBSTONE))
        return shown


def last_event(entry: Entry) -> LastEvent:
    """Show which event an answer rests on."""
    event = entry.event
    return LastEvent(
        event_id=event.event_id,
        position=entry.position,
        version=event.originator_version,
        occurred_at=event.occurred_at,
    )


def license_then(opener: Opener, vault: Vault, then: LicenseThen) -> LicenseWithStatistics:
    """Show a licence as it was."""
    license, sealed = then.license, then.sealed
    return LicenseWithStatistics(
        license_id=license.id,
        license_key=vault.open_secret(then.issue.key_sealed).decode(),
        customer_id=opener.opened(sealed.get("customer_id")),
        email=opener.opened(sealed.get("email")),
        product=license.product,
        edition=license.edition,
        max_devices=license.max_devices,
        current_devices=license.current_devices,
        features=license.features,
        is_active=license.is_active,
        is_test=then.issue.is_test,
        floating=license.floating,
        created_at=then.created_at,
        expires_at=license.expires_at,
        metadata=opener.opened(sealed.get("metadata")) or {},
        as_of=last_event(then.last),
        personal_data=opener.personal_data,
    )


def devices_then(opener: Opener, then: LicenseThen) -> list[DeviceAnswer]:
    """Show the devices that held or had held a seat, the longest active first."""
    in_order = sorted(then.devices.values(), key=lambda device: (device.activated_at, device.hardware_id))
    return [_device_then(opener, device) for device in in_order]


def _device_then(opener: Opener, device: DeviceThen) -> DeviceAnswer:
    return DeviceAnswer(
        hardware_id=device.hardware_id,
        device_name=opener.opened(device.device_name),
        os_info=opener.opened(device.os_info),
        is_active=device.is_active,
        activated_at=device.activated_at,
        deactivated_at=device.deactivated_at,
        last_seen_at=None,
    )


def history_entry(opener: Opener, entry: Entry, changes: tuple[Change, ...]) -> HistoryEntry:
    """Show an event with who ordered it from where, and what it changed."""
    event, shown = entry.event, msgspec.structs.asdict(opener.event(entry))
    fact, address = event.fact, event.cause.sealed_address
    undoes = fact.undoes if isinstance(fact, LicenseReactivated | SeatTransferred) else None
    return HistoryEntry(
        **shown,
        version=event.originator_version,
        changes=[change_answer(opener, change) for change in changes],
        address=opener.shown(Sealed(address)) if address is not None else None,
        api_key=event.cause.actor.removeprefix(_API_KEY) if event.cause.actor.startswith(_API_KEY) else None,
        undoes=msgspec.UNSET if undoes is None else undoes,
    )


def change_answer(opener: Opener, change: Change) -> ChangeAnswer:
    """Show a change."""
    return ChangeAnswer(
        field=change.field,
        hardware_id=change.hardware_id,
        before=opener.shown(change.before),
        after=opener.shown(change.after),
    )


def verdict_answer(endpoint: Any, verdict: Verdict, then: LicenseThen | None) -> VerdictAnswer:
    """Show what `endpoint`, which validates, would have answered."""
    refusal = verdict.refusal
    if refusal is not None or then is None:
        assert refusal is not None
        told = services_body(refusal)
        return VerdictAnswer(
            valid=False, status=status_of(endpoint, type(refusal)), **told, **dict.fromkeys(_TERMS_TOLD)
        )
    license = then.license
    return VerdictAnswer(
        valid=True,
        status=200,
        error=None,
        error_code=None,
        details=None,
        expires_at=license.expires_at,
        features=license.features,
        limits=Limits(**license.limits),
        product=license.product,
        edition=license.edition,
    )


_TERMS_TOLD = ("expires_at", "features", "limits", "product", "edition")


def rule_answer(opener: Opener, finding: Finding) -> RuleAnswer:
    """Show what a rule came to."""
    return RuleAnswer(
        rule=finding.rule,
        holds=finding.refusal is None,
        decides=finding.decides,
        error_code=finding.refusal.code if finding.refusal else None,
        because=finding.because,
        events=[opener.event(entry) for entry in finding.events],
    )
