"""Turning what an admin asks for into licences to issue: keys, subjects, sealed fields."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import msgspec

from api.call import Call
from api.schemas.admin import CreateRequest, LicenseAnswer
from commands.orders import IssueLicenses, LicenseToIssue
from domain.identifiers import KeyFormat, license_key_digest, new_license_key
from domain.issuing import Terms
from infra.vault import Vault


class Wanted(msgspec.Struct, kw_only=True, frozen=True):
    """A licence as either dialect asks for it. `customer_id` or `email` names the data subject."""

    customer_id: str | None
    email: str | None
    max_devices: int
    expires_in_days: int | None = None
    features: tuple[str, ...] = ()
    is_test: bool = False
    metadata: dict[str, Any] = {}
    product: str | None = None
    edition: str | None = None
    floating: bool = False
    key_format: KeyFormat = "prefixed"

    @classmethod
    def of(cls, request: CreateRequest) -> Wanted:
        """Take over what the first dialect asks for."""
        fields = msgspec.structs.asdict(request)
        email = request.email.strip() if request.email is not None else None
        return cls(**{**fields, "features": tuple(request.features), "email": email})


async def order_of(call: Call, wanted: Sequence[Wanted]) -> tuple[IssueLicenses, list[LicenseAnswer]]:
    """Make the order, and the answers that hold once it is carried out."""
    subjects = call.services.subjects
    hashes = [subjects.lookup_hash(one.customer_id, one.email) for one in wanted]
    async with call.services.pool.connection() as connection:
        known = await subjects.ensure(connection, hashes)
    prepared = [_prepare(call, one, known[lookup]) for one, lookup in zip(wanted, hashes, strict=True)]
    order = IssueLicenses(
        cause=call.cause(IssueLicenses, known[hashes[0]] if len(known) == 1 else None),
        now=call.now,
        licenses=tuple(license for license, _ in prepared),
    )
    return order, [shown for _, shown in prepared]


def _prepare(call: Call, wanted: Wanted, subject_id: UUID) -> tuple[LicenseToIssue, LicenseAnswer]:
    key = new_license_key(wanted.key_format)
    expires_at = call.now + timedelta(days=wanted.expires_in_days) if wanted.expires_in_days is not None else None
    vault = call.services.vault
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
    license_id = uuid4()
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
        is_active=True,
        is_test=wanted.is_test,
        floating=wanted.floating,
        created_at=call.now,
        expires_at=expires_at,
        metadata=wanted.metadata,
    )
    return LicenseToIssue(license_id=license_id, subject_id=subject_id, terms=terms), shown


def _sealed(vault: Vault, subject_id: UUID, wanted: Wanted) -> dict[str, bytes]:
    values = {"customer_id": wanted.customer_id, "email": wanted.email, "metadata": wanted.metadata or None}
    return {name: vault.seal(subject_id, value) for name, value in values.items() if value is not None}
