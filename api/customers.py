"""Customers as people name them, and their erasure: the same for the admin service and for the command line."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from api.call import as_uuid
from api.schemas.customers import NamedBy
from commands.orders import SubjectToErase
from domain.errors import NotFound, ServiceUnavailable
from infra.erasure_register import Erasure, ErasureRegister
from infra.vault import Vault
from projections import behaviour, customers

log = logging.getLogger(__name__)


class Customer(msgspec.Struct, frozen=True, kw_only=True):
    """The data subjects that a name stands for, with all their licences.

    `licenses_of_others` carry an e-mail of theirs too, or the one that was asked for, but are not theirs alone.
    """

    subjects: tuple[SubjectToErase, ...]
    licenses_of_others: tuple[UUID, ...] = ()

    @property
    def subject_ids(self) -> list[UUID]:
        """Ids of the data subjects."""
        return [one.subject_id for one in self.subjects]

    @property
    def license_ids(self) -> list[UUID]:
        """Ids of all their licences."""
        return [license_id for one in self.subjects for license_id in one.license_ids]


async def find(vault: Vault, connection: Any, name: str, by: NamedBy) -> Customer:
    """Return whom a name stands for. Raises NotFound where there is nobody, or nobody any more."""
    name = name.strip()
    match by:
        case "customer_id":
            found = await customers.by_lookup(connection, vault.lookup_hash("customer", name))
        case "email":
            found = await customers.by_email(connection, vault.lookup_hash("email", name))
        case "license_id":
            found = await _by_id(customers.by_license, connection, name)
        case "subject_id":
            found = await _by_id(customers.by_subject, connection, name)
    asked_for = vault.lookup_hash("email", name) if by == "email" else None
    others = await customers.others_with_email(connection, asked_for, found)
    if not found:
        named = {"licenses_of_others": [str(license_id) for license_id in others]} if others else {}
        raise NotFound("Customer not found", **named)
    licenses = await customers.licenses_by_subject(connection, found)
    subjects = tuple(SubjectToErase(subject_id=one, license_ids=tuple(licenses[one])) for one in found)
    return Customer(subjects=subjects, licenses_of_others=tuple(others))


async def _by_id(read: Any, connection: Any, name: str) -> list[UUID]:
    id = as_uuid(name)
    found: list[UUID] = [] if id is None else await read(connection, id)
    return found


async def enter(register: ErasureRegister, erasures: Sequence[Erasure]) -> None:
    """Have erasures in the register, on the disk, before they are ordered.

    Raises ServiceUnavailable where that can't be: a restored backup would bring them back.
    """
    try:
        await asyncio.to_thread(register.add, erasures)
    except OSError as error:
        log.error("nobody can be erased, the register can't be written: %s", error)  # noqa: TRY400 - it says all
        raise ServiceUnavailable("The register of erasures can't be written") from error


async def forget_behaviour(connection: Any, license_ids: Sequence[UUID]) -> None:
    """Drop who used licences, when and where, from what is remembered. The anomaly worker does so too, in its turn.

    Not in the transaction that erases: the worker holds these rows while it waits for the log.
    """
    await behaviour.begin_anew(connection, license_ids)
