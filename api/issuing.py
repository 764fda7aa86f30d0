"""Turning what an admin asks for into licences to issue: keys, subjects, sealed fields."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec

from api.schemas.admin import CreateRequest, LicenseAnswer
from commands.orders import IssueLicenses, LicenseToIssue
from commands.recorder import OrderOutdated
from domain.identifiers import KeyFormat, license_key_digest, new_license_key
from domain.issuing import Terms
from infra.subjects import Subjects
from infra.vault import Vault

if TYPE_CHECKING:
    from api.call import Call


class Wanted(msgspec.Struct, kw_only=True, frozen=True):
    """A licence as either dialect or the command line asks for it. `customer_id` or `email` names the data subject.

    `expires_in_days` or `expires_at` ends it; without both it is perpetual. A `license_key` or `license_id` that is
    not given is made.
    """

    customer_id: str | None
    email: str | None
    max_devices: int
    expires_in_days: int | None = None
    expires_at: datetime | None = None
    features: tuple[str, ...] = ()
    is_test: bool = False
    metadata: dict[str, Any] = {}
    product: str | None = None
    edition: str | None = None
    floating: bool = False
    key_format: KeyFormat = "prefixed"
    license_key: str | None = None
    license_id: UUID | None = None
    is_active: bool = True

    @classmethod
    def of(cls, request: CreateRequest) -> Wanted:
        """Take over what the first dialect asks for."""
        fields = msgspec.structs.asdict(request)
        email = request.email.strip() if request.email is not None else None
        return cls(**{**fields, "features": tuple(request.features), "email": email})


async def order_of(call: Call, wanted: Sequence[Wanted]) -> tuple[IssueLicenses, list[LicenseAnswer]]:
    """Make the order, and the answers that hold once it is carried out. Raises AnswerErased, OrderOutdated."""
    services = call.services
    async with services.pool.connection() as connection:
        await call.check_not_erased(connection)
        prepared = await prepare(services.vault, services.subjects, connection, wanted, call.now)
    licenses = tuple(license for license, _ in prepared)
    subject_ids = {license.subject_id for license in licenses}
    # An address can be sealed under one subject's key only, so orders for several customers keep none.
    cause = call.cause(IssueLicenses, subject_ids.pop() if len(subject_ids) == 1 else None)
    return IssueLicenses(cause=cause, now=call.now, licenses=licenses), [shown for _, shown in prepared]


async def prepare(
    vault: Vault, subjects: Subjects, connection: Any, wanted: Sequence[Wanted], now: datetime
) -> list[tuple[LicenseToIssue, LicenseAnswer]]:
    """Make keys and subjects and seal what is personal; return each licence to issue with how it will be shown.

    Raises OrderOutdated where a customer was erased meanwhile, or has a key that is damaged.
    """
    hashes = [subjects.lookup_hash(one.customer_id, one.email) for one in wanted]
    known = await subjects.ensure(connection, hashes)
    if not all(map(vault.knows, known.values())):
        raise OrderOutdated(frozenset())
    return [_prepare(vault, one, known[lookup], now) for one, lookup in zip(wanted, hashes, strict=True)]


def _prepare(vault: Vault, wanted: Wanted, subject_id: UUID, now: datetime) -> tuple[LicenseToIssue, LicenseAnswer]:
    key = wanted.license_key or new_license_key(wanted.key_format)
    expires_at = (
        now + timedelta(days=wanted.expires_in_days) if wanted.expires_in_days is not None else wanted.expires_at
    )
    terms = Terms(
        key_digest=license_key_digest(key),
        key_sealed=vault.seal_secret(key),
        max_devices=wanted.max_devices,
        features=wanted.features,
        product=wanted.product,
        edition=wanted.edition,
        floating=wanted.floating,
        is_test=wanted.is_test,
        expires_at=expires_at,
        sealed=_sealed(vault, subject_id, wanted),
    )
    license_id = wanted.license_id or uuid4()
    shown = LicenseAnswer(
        license_id=license_id,
        license_key=key,
        customer_id=wanted.customer_id,
        email=wanted.email,
        product=wanted.product,
        edition=wanted.edition,
        max_devices=wanted.max_devices,
        current_devices=0,
        features=wanted.features,
        is_active=wanted.is_active,
        is_test=wanted.is_test,
        floating=wanted.floating,
        created_at=now,
        expires_at=expires_at,
        metadata=wanted.metadata,
    )
    license = LicenseToIssue(license_id=license_id, subject_id=subject_id, terms=terms, is_active=wanted.is_active)
    return license, shown


def _sealed(vault: Vault, subject_id: UUID, wanted: Wanted) -> dict[str, bytes]:
    values = {"customer_id": wanted.customer_id, "email": wanted.email, "metadata": wanted.metadata or None}
    return {name: vault.seal(subject_id, value) for name, value in values.items() if value is not None}
