"""How the past becomes answers: sealed values are opened here; where the subject was erased, a tombstone is shown."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from api.errors import services_body, status_of
from api.presentation import event_answer, license_key
from api.schemas.admin import DeviceAnswer, EventAnswer, LastEvent, LicenseWithStatistics, PersonalData
from api.schemas.history import ChangeAnswer, HistoryEntry, RuleAnswer, VerdictAnswer
from api.schemas.license import Limits
from domain.facts import LicenseReactivated, SeatTransferred
from domain.history.past import Change, DeviceThen, Entry, LicenseThen, Sealed
from domain.history.why import Finding, Verdict
from infra.subjects import KeyState, Subjects
from infra.vault import SealBroken, UnknownSubject, Vault

TOMBSTONE = {"erased": True}
"""Stands for what was personal once its data subject was erased."""

DAMAGED = {"damaged": True}
"""Stands for what can't be opened although the key is there."""

TURN = 50
"""So many things are shown without a pause: to open what is sealed takes a few microseconds each."""

T = TypeVar("T")
Shown = TypeVar("Shown")

_API_KEY = "api-key:"


class Opener:
    """Opens one data subject's sealed values, whose key is in memory where it is `there`."""

    def __init__(self, vault: Vault, subject_id: UUID | None, key: KeyState) -> None:
        self._vault = vault
        self._subject_id = subject_id
        self._key = key

    @property
    def is_erased(self) -> bool:
        """Tell whether the data subject was erased."""
        return self._key == "gone"

    @property
    def personal_data(self) -> PersonalData:
        """Tell whether what is personal can be read."""
        return _PERSONAL_DATA[self._key]

    def shown(self, value: Any) -> Any:
        """Return a value as people see it: what is sealed opened, or what stands in its place."""
        if not isinstance(value, Sealed):
            return value
        if self._subject_id is None or self.is_erased:
            return TOMBSTONE
        try:
            return self._vault.open(self._subject_id, value.blob)
        except UnknownSubject:  # Its key is damaged, or it was erased just now.
            return DAMAGED if self._key == "damaged" else TOMBSTONE
        except SealBroken:
            return DAMAGED

    def opened(self, sealed: Sealed | None) -> Any:
        """Open what is sealed; None for nothing, and for what can't be opened."""
        plain = self.shown(sealed)
        return None if plain is TOMBSTONE or plain is DAMAGED else plain

    def event(self, entry: Entry) -> EventAnswer:
        """Show an event."""
        shown = event_answer(self._vault, entry.position, entry.event)
        if self._key != "there":
            shown.data.update({name: self.shown(Sealed(blob)) for name, blob in entry.event.fact.sealed.items()})
        return shown


async def opener_of(vault: Vault, subjects: Subjects, connection: Any, subject_id: UUID | None) -> Opener:
    """Return what opens a data subject's personal data, by what the database now says of its key."""
    key: KeyState = "gone" if subject_id is None else await subjects.key_of(connection, subject_id)
    return Opener(vault, subject_id, key)


_PERSONAL_DATA: dict[KeyState, PersonalData] = {"there": "readable", "gone": "erased", "damaged": "damaged"}


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
        license_key=license_key(vault, license.id, then.issue.key_sealed),
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


async def devices_then(opener: Opener, then: LicenseThen) -> list[DeviceAnswer]:
    """Show the devices that held or had held a seat, the longest active first."""
    in_order = sorted(then.devices.values(), key=lambda device: (device.activated_at, device.hardware_id))
    return await in_turns(lambda device: _device_then(opener, device), in_order)


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


async def in_turns(show: Callable[[T], Shown], things: Iterable[T]) -> list[Shown]:
    """Show many things; others have their turn in between."""
    shown: list[Shown] = []
    for thing in things:
        shown.append(show(thing))
        if len(shown) % TURN == 0:
            await asyncio.sleep(0)
    return shown


def history_entry(opener: Opener, entry: Entry, changes: tuple[Change, ...]) -> HistoryEntry:
    """Show an event with who ordered it from where, and what it changed."""
    event, shown = entry.event, msgspec.structs.asdict(opener.event(entry))
    fact, address = event.fact, event.cause.sealed_address
    undoes = fact.undoes if isinstance(fact, LicenseReactivated | SeatTransferred) else None
    return HistoryEntry(
        **shown,
        version=event.originator_version,
        changes=change_answers(opener, changes),
        address=opener.shown(Sealed(address)) if address is not None else None,
        api_key=event.cause.actor.removeprefix(_API_KEY) if event.cause.actor.startswith(_API_KEY) else None,
        undoes=msgspec.UNSET if undoes is None else undoes,
    )


def change_answers(opener: Opener, changes: Iterable[Change]) -> list[ChangeAnswer]:
    """Show changes. What was sealed anew and is the same once it is opened did not change."""
    shown = (
        ChangeAnswer(
            field=change.field,
            hardware_id=change.hardware_id,
            before=opener.shown(change.before),
            after=opener.shown(change.after),
        )
        for change in changes
    )
    return [one for one in shown if one.before != one.after or one.after is TOMBSTONE or one.after is DAMAGED]


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
