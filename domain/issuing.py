"""Decisions on a licence's terms: issue, update, deactivate, reactivate."""

from __future__ import annotations

from datetime import datetime

import msgspec
from msgspec import UNSET, UnsetType

from domain.errors import Invalid
from domain.facts import Fact, LicenseDeactivated, LicenseIssued, LicenseReactivated, LicenseUpdated
from domain.license import License

MAX_DEVICES = 100_000
MAX_TERM_DAYS = 36_500


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What a new licence shall allow. `sealed` holds customer_id, email and metadata as ciphertext."""

    key_digest: bytes
    key_sealed: bytes
    max_devices: int
    features: tuple[str, ...] = ()
    product: str | None = None
    edition: str | None = None
    floating: bool = False
    is_test: bool = False
    expires_at: datetime | None = None
    sealed: dict[str, bytes] = {}


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """What shall change; UNSET is 'as it was'."""

    max_devices: int | UnsetType = UNSET
    features: tuple[str, ...] | UnsetType = UNSET
    product: str | UnsetType | None = UNSET
    edition: str | UnsetType | None = UNSET
    expires_at: datetime | UnsetType | None = UNSET
    floating: bool | UnsetType = UNSET
    is_active: bool | UnsetType = UNSET
    sealed: dict[str, bytes] = {}


_CLEAR_FIELDS = ("max_devices", "features", "product", "edition", "expires_at", "floating")


def _check_max_devices(count: int) -> None:
    if not 1 <= count <= MAX_DEVICES:
        raise Invalid(max_devices=f"must be between 1 and {MAX_DEVICES}")


def issue(terms: Terms, *, is_active: bool = True) -> tuple[Fact, ...]:
    """Issue a licence, revoked from the start where it is not active.

    Raises Invalid for a number of devices outside 1 to 100,000.
    """
    _check_max_devices(terms.max_devices)
    issued = LicenseIssued(**msgspec.structs.asdict(terms))
    return (issued,) if is_active else (issued, LicenseDeactivated())


def update(license: License, changes: Changes) -> tuple[Fact, ...]:
    """Change what differs, and nothing where nothing differs.

    Lowering `max_devices` below use keeps active devices and refuses new ones. Sealed values can't be compared,
    so they count as changed whenever they are sent.
    """
    if changes.max_devices is not UNSET:
        _check_max_devices(changes.max_devices)
    differing = {
        name: value
        for name in _CLEAR_FIELDS
        if (value := getattr(changes, name)) is not UNSET and value != getattr(license, name)
    }
    facts: list[Fact] = []
    if differing or changes.sealed:
        facts.append(LicenseUpdated(**differing, sealed=changes.sealed))
    if changes.is_active is True:
        facts.extend(reactivate(license))
    elif changes.is_active is False:
        facts.extend(deactivate(license))
    return tuple(facts)


def deactivate(license: License, sealed: dict[str, bytes] | None = None) -> tuple[Fact, ...]:
    """Revoke the licence; a revoked one stays as it is."""
    return (LicenseDeactivated(sealed=sealed or {}),) if license.is_active else ()


def reactivate(license: License) -> tuple[Fact, ...]:
    """Make a revoked licence good again; a good one stays as it is."""
    return () if license.is_active else (LicenseReactivated(),)
