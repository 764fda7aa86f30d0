"""The rules of validation, in their order. The first rule that refuses decides."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from domain.errors import (
    DeviceLimitExceeded,
    DeviceNotActivated,
    LicenseExpired,
    LicenseInactive,
    ProductMismatch,
    Refusal,
)


class Terms(Protocol):
    """What the rules read of a licence; the aggregate and the read model both have it."""

    @property
    def is_active(self) -> bool:
        """Whether the licence was not deactivated."""

    @property
    def product(self) -> str | None:
        """What the licence is for."""

    @property
    def expires_at(self) -> datetime | None:
        """The last instant at which the licence is good; None is perpetual."""

    @property
    def max_devices(self) -> int:
        """Seats allowed."""

    @property
    def current_devices(self) -> int:
        """Seats in use."""


class Claim(Protocol):
    """What a program asks: whether this device may run, perhaps under these products."""

    @property
    def device_is_active(self) -> bool:
        """Whether the device holds a seat."""

    @property
    def products(self) -> tuple[str, ...]:
        """The products that the request and its API key name."""


def has_expired(terms: Terms, now: datetime) -> bool:
    """Tell whether the term is over. A licence is good up to and including the instant `expires_at`."""
    return terms.expires_at is not None and now > terms.expires_at


def of_another_product(terms: Terms, claim: Claim, now: datetime) -> Refusal | None:
    """Refuse where the request, or its API key, names another product than the licence's."""
    del now
    for product in claim.products:
        if product != terms.product:
            return ProductMismatch()
    return None


def inactive(terms: Terms, claim: Claim, now: datetime) -> Refusal | None:
    """Refuse a licence that was deactivated."""
    del claim, now
    return None if terms.is_active else LicenseInactive()


def expired(terms: Terms, claim: Claim, now: datetime) -> Refusal | None:
    """Refuse a licence whose term is over."""
    del claim
    return LicenseExpired() if has_expired(terms, now) else None


def without_seat(terms: Terms, claim: Claim, now: datetime) -> Refusal | None:
    """Refuse a device that holds no seat, and say whether one is free."""
    del now
    if claim.device_is_active:
        return None
    if terms.current_devices < terms.max_devices:
        return DeviceNotActivated()
    return DeviceLimitExceeded(max_devices=terms.max_devices, current_devices=terms.current_devices)


Rule = Callable[[Terms, Claim, datetime], Refusal | None]

USABLE: tuple[Rule, ...] = (of_another_product, inactive, expired)
"""What must hold before any device is looked at: activation uses these too."""

RULES: tuple[Rule, ...] = (*USABLE, without_seat)
"""All of validation, in order. That the licence exists comes before: there is nothing to read otherwise."""


def refusal(terms: Terms, claim: Claim, now: datetime, rules: tuple[Rule, ...] = RULES) -> Refusal | None:
    """Return why the claim is refused at `now`, or None where it is good."""
    for rule in rules:
        if (found := rule(terms, claim, now)) is not None:
            return found
    return None
