"""Why a program would have been answered as it would have been: the rules of validation, each with its events."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from heapq import nlargest
from typing import NamedTuple

import msgspec

from domain.errors import LicenseNotFound, Refusal
from domain.history.past import DeviceThen, Entry, LicenseThen
from domain.validation import RULES, Rule, expired, inactive, of_another_product, without_seat

MOST_SEATS = 20
"""Of a licence without a free seat, so many activations are named: the newest ones."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Which device asks, under which products, and when. What rules read of a claim is in it."""

    hardware_id: str
    at: datetime
    device: DeviceThen | None = None
    products: tuple[str, ...] = ()

    @property
    def device_is_active(self) -> bool:
        """Tell whether the device held a seat."""
        return self.device is not None and self.device.is_active


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule came to. `decides` is true of the first one that refuses; `events` are those it rests on."""

    rule: str
    refusal: Refusal | None
    decides: bool
    because: str
    events: tuple[Entry, ...]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a validation would have been told: refused, or not; and each rule in the order in which they are asked."""

    refusal: Refusal | None
    findings: tuple[Finding, ...]


class _Ground(NamedTuple):
    because: str
    events: tuple[Entry, ...]


def explain(then: LicenseThen | None, asked: Asked) -> Verdict:
    """Return the verdict on a device of a licence as it was then, None where it had not been issued."""
    if then is None:
        missing = LicenseNotFound()
        found = Finding(
            rule="license_exists", refusal=missing, decides=True, because="It had not been issued yet.", events=()
        )
        return Verdict(refusal=missing, findings=(found,))
    asked = msgspec.structs.replace(asked, device=then.devices.get(asked.hardware_id))
    exists = Finding(
        rule="license_exists",
        refusal=None,
        decides=False,
        because=f"It was issued {_at(then.issued)}.",
        events=(then.issued,),
    )
    findings, decided = [exists], None
    for rule in RULES:
        name, ground = GROUNDS[rule]
        refusal = rule(then.license, asked, asked.at)
        decides = refusal is not None and decided is None
        decided = decided or refusal
        because, events = ground(then, asked)
        findings.append(Finding(rule=name, refusal=refusal, decides=decides, because=because, events=events))
    return Verdict(refusal=decided, findings=tuple(findings))


def _of_product(then: LicenseThen, asked: Asked) -> _Ground:
    product = then.license.product
    is_for = f"It was for {product!r}" if product is not None else "It named no product"
    if not asked.products:
        return _Ground("No product was asked for.", (then.set_by["product"],))
    named = " and ".join(map(repr, asked.products))
    return _Ground(f"{is_for}, and {named} was asked for.", (then.set_by["product"],))


def _of_revocation(then: LicenseThen, asked: Asked) -> _Ground:
    del asked
    entry = then.set_by["is_active"]
    if not then.license.is_active:
        return _Ground(f"It was revoked {_at(entry)}.", (entry,))
    if entry is then.issued:
        return _Ground("It had never been revoked.", (entry,))
    return _Ground(f"It was made good again {_at(entry)}.", (entry,))


def _of_term(then: LicenseThen, asked: Asked) -> _Ground:
    end = then.license.expires_at
    events = (then.set_by["expires_at"],)
    if end is None:
        return _Ground("It had no end.", events)
    return _Ground(f"{'It ended' if asked.at > end else 'It was good until'} {_time(end)}.", events)


def _of_seat(then: LicenseThen, asked: Asked) -> _Ground:
    device, license = asked.device, then.license
    if device is not None and device.is_active:
        return _Ground(f"The device held a seat, given {_at(device.given_by)}.", (device.given_by,))
    seats = f"{license.current_devices} of {license.max_devices} seats were taken"
    events: tuple[Entry, ...] = ()
    because = f"The device had never held a seat; {seats}."
    if device is not None:
        assert device.ended_by is not None
        events = device.given_by, device.ended_by
        because = f"The device's seat ended {_at(device.ended_by)}; {seats}."
    if license.current_devices < license.max_devices:
        return _Ground(because, events)
    held = (one.given_by for one in then.devices.values() if one.is_active)
    newest = nlargest(MOST_SEATS, held, key=_position)
    return _Ground(because, (*events, then.set_by["max_devices"], *reversed(newest)))


GROUNDS: dict[Rule, tuple[str, Callable[[LicenseThen, Asked], _Ground]]] = {
    of_another_product: ("product", _of_product),
    inactive: ("active", _of_revocation),
    expired: ("term", _of_term),
    without_seat: ("seat", _of_seat),
}
"""Each rule of validation: its name for people and programs, and what it rests on."""


def _position(entry: Entry) -> int:
    return entry.position


def _at(entry: Entry) -> str:
    event = entry.event
    return f"on {_time(event.occurred_at)} by {event.cause.actor}"


def _time(moment: datetime) -> str:
    text: str = msgspec.to_builtins(moment)
    return text
