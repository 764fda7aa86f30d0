"""Which licences an auditor asks for: one by its key or id, or all of a customer."""

from __future__ import annotations

from uuid import UUID

from api.call import as_uuid
from cli.core import Workbench
from cli.errors import Failure
from domain.identifiers import license_key_digest
from projections import history, licenses


async def licenses_of(bench: Workbench, license: str | None, customer: str | None) -> frozenset[UUID] | None:
    """Return the ids of what is asked for: licences, and of a customer its data subject; None where all are.

    Raises Failure where there is no such licence or customer.
    """
    if license is not None:
        return frozenset({await license_of(bench, license)})
    if customer is not None:
        return await _of_customer(bench, customer)
    return None


async def license_of(bench: Workbench, key_or_id: str) -> UUID:
    """Return the id of a licence that is named by its key or id. Raises Failure where there is none."""
    text = key_or_id.strip()
    row = await licenses.by_key(bench.connection, license_key_digest(text))
    if row is not None:
        return row.license_id
    license_id = as_uuid(text)
    # The log itself is asked: a view may lack what an auditor looks for.
    if license_id is None or not await history.is_license(bench.connection, license_id):
        raise Failure("there is no licence with this key or id")
    return license_id


async def _of_customer(bench: Workbench, customer: str) -> frozenset[UUID]:
    text = customer.strip()
    subject_id = await bench.subjects.find(bench.connection, bench.subjects.lookup_hash(text, None))
    if subject_id is None:
        subject_id = await bench.subjects.find(bench.connection, bench.subjects.lookup_hash(None, text))
    # Who was erased is found by nothing but the data subject's id, which `customer.erased` has.
    subject_id = subject_id or as_uuid(text)
    found = await licenses.ids_of_subject(bench.connection, subject_id) if subject_id else []
    if subject_id is None or not found:
        raise Failure(
            "there are no licences of this customer: give the customer id, the e-mail or the data subject's id"
        )
    return frozenset({subject_id, *found})
