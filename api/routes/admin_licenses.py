"""Licences for administrators: create, bulk-create, get, update, delete, list."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET

from api.call import Call
from api.endpoint import KIB, Auth, Endpoint
from api.issuing import Wanted, order_of
from api.paging import read_page
from api.past_answers import license_then
from api.presentation import license_answer, license_fields
from api.responses import Answer, answer
from api.schemas.admin import (
    AsOf,
    BulkAnswer,
    BulkCreateRequest,
    CreateRequest,
    LicenseAnswer,
    LicenseList,
    LicenseStatistics,
    LicenseWithStatistics,
    ListQuery,
    UpdateRequest,
)
from api.schemas.history import AsOfQuery, moment_of
from api.time_travel import license_at
from commands.batch import Outcome
from commands.orders import DeactivateLicense, IssueLicenses, UpdateLicense
from domain.errors import CustomerIsErased, LicenseNotFound
from domain.issuing import Changes
from projections import licenses, usage_reports
from projections.licenses import LicenseFilter, LicenseRow
from projections.snapshot import snapshot

STATISTICS_DAYS = 30


def license_id_of(call: Call) -> UUID:
    """Return the licence that the path names. Raises LicenseNotFound for what can't name one."""
    license_id = call.path_id("license_id")
    if license_id is None:
        raise LicenseNotFound("License not found")
    return license_id


async def existing_license(call: Call) -> LicenseRow:
    """Return the licence that the path names, its subject's key in memory. Raises LicenseNotFound."""
    async with call.services.pool.connection() as connection:
        row = await licenses.by_id(connection, license_id_of(call))
    if row is None:
        raise LicenseNotFound("License not found")
    call.services.vault.take(row.subject_id, row.wrapped_key)
    return row


async def create_license(call: Call) -> Answer:
    """Issue a licence."""
    body: CreateRequest = call.body
    order, (shown,) = await order_of(call, [Wanted.of(body)])
    return await call.execute(order, lambda _, __: msgspec.json.encode(shown), 201, shows=_subjects(order))


async def bulk_create(call: Call) -> Answer:
    """Issue many licences, all or none."""
    body: BulkCreateRequest = call.body
    order, shown = await order_of(call, [Wanted.of(one) for one in body.licenses])
    return await call.execute(
        order, lambda _, __: msgspec.json.encode(BulkAnswer(licenses=shown)), 201, shows=_subjects(order)
    )


def _subjects(order: IssueLicenses) -> list[UUID]:
    return [license.subject_id for license in order.licenses]


async def get_license(call: Call) -> Answer:
    """Show a licence and its use in the last 30 days; or as it was then."""
    query: AsOfQuery = call.query
    if query.as_of is not None:
        moment = moment_of(query.as_of, "as_of")
        then, opener = await license_at(call, license_id_of(call), moment, "as_of")
        return answer(200, license_then(opener, call.services.vault, then))
    row = await existing_license(call)
    async with call.services.pool.connection() as connection, snapshot(connection):
        totals = await usage_reports.of_license(connection, row.license_id, call.now, STATISTICS_DAYS)
    fields = license_fields(call.services.vault, row)
    statistics = LicenseStatistics(
        validations=totals.validations,
        failed_validations=totals.failed_validations,
        heartbeats=totals.heartbeats,
        unique_devices=totals.unique_devices,
        last_seen_at=totals.last_seen_at,
        as_of=AsOf(**msgspec.structs.asdict(totals.as_of)),
    )
    return answer(200, LicenseWithStatistics(**fields, statistics=statistics))


async def update_license(call: Call) -> Answer:
    """Change what is sent, and nothing else."""
    body: UpdateRequest = call.body
    row = await existing_license(call)
    order = UpdateLicense(
        cause=call.cause(UpdateLicense, row.subject_id),
        now=call.now,
        license_id=row.license_id,
        changes=_changes(call, body, row),
    )
    return await call.execute(order, _shown_after(call, row.license_id), needs_views=True, shows=[row.subject_id])


def _changes(call: Call, body: UpdateRequest, row: LicenseRow) -> Changes:
    return Changes(
        max_devices=body.max_devices,
        features=tuple(body.features) if body.features is not UNSET else UNSET,
        product=body.product,
        edition=body.edition,
        expires_at=body.expires_at,
        floating=body.floating,
        is_active=body.is_active,
        sealed=_sealed(call, body, row),
    )


def _sealed(call: Call, body: UpdateRequest, row: LicenseRow) -> dict[str, bytes]:
    """Seal what changes of a person. Raises CustomerIsErased where there is something, and no key to seal it under."""
    vault = call.services.vault
    changed: dict[str, Any] = {}
    if body.metadata is not UNSET:
        changed["metadata"] = body.metadata
    if body.email is not UNSET:
        changed["email"] = body.email.strip() if body.email else None
    if not vault.knows(row.subject_id):
        if any(changed.values()):
            raise CustomerIsErased
        return {}
    return {name: vault.seal(row.subject_id, value) for name, value in changed.items()}


async def delete_license(call: Call) -> Answer:
    """Deactivate a licence; a repeat gives the same answer and makes no second event."""
    row = await existing_license(call)
    order = DeactivateLicense(
        cause=call.cause(DeactivateLicense, row.subject_id), now=call.now, license_id=row.license_id
    )
    return await call.execute(order, _shown_after(call, row.license_id), needs_views=True, shows=[row.subject_id])


def _shown_after(call: Call, license_id: UUID) -> Any:
    """Render the licence as the transaction has left it."""

    def render(_: Outcome, connection: Any) -> bytes:
        row = connection.execute(licenses.BY_ID, (license_id,)).fetchone()
        return msgspec.json.encode(license_answer(call.services.vault, licenses.row_of(row)))

    return render


async def list_licenses(call: Call) -> Answer:
    """List licences, newest first, by page number or by cursor."""
    query: ListQuery = call.query
    services = call.services
    async with services.pool.connection() as connection:
        wanted = await _filter(call, query, connection)
        rows, pagination = await read_page(services.keyring, connection, licenses, wanted, query)
    shown = [license_answer(services.vault, row) for row in rows]
    return answer(200, LicenseList(licenses=shown, pagination=pagination))


_NOBODY = UUID(int=0)
"""A subject that no licence has."""


async def _filter(call: Call, query: ListQuery, connection: Any) -> LicenseFilter:
    services = call.services
    subject_id = None
    if query.customer_id is not None:
        lookup = services.subjects.lookup_hash(query.customer_id, None)
        subject_id = await services.subjects.find(connection, lookup) or _NOBODY
    return LicenseFilter(
        subject_id=subject_id,
        email_hash=services.vault.lookup_hash("email", query.email) if query.email is not None else None,
        product=query.product,
        edition=query.edition,
        is_active=query.is_active,
        is_test=query.is_test,
        created_after=query.created_after,
        created_before=query.created_before,
        expires_after=query.expires_after,
        expires_before=query.expires_before,
    )


_PATH = "/api/v1/admin/licenses"

ENDPOINTS = (
    Endpoint(
        method="POST",
        path=_PATH,
        handler=create_license,
        summary="Create a licence",
        auth=Auth.ADMIN_KEY,
        body=CreateRequest,
        answers={201: LicenseAnswer},
        takes_idempotency_key=True,
        tag="licenses",
    ),
    Endpoint(
        method="GET",
        path=_PATH,
        handler=list_licenses,
        summary="Search and list licences",
        auth=Auth.ADMIN_KEY,
        query=ListQuery,
        answers={200: LicenseList},
        tag="licenses",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/bulk-create",
        handler=bulk_create,
        summary="Create many licences, all or none",
        auth=Auth.ADMIN_KEY,
        body=BulkCreateRequest,
        answers={201: BulkAnswer},
        takes_idempotency_key=True,
        max_body=4096 * KIB,
        tag="licenses",
    ),
    Endpoint(
        method="GET",
        path=f"{_PATH}/{{license_id}}",
        handler=get_license,
        summary="Get a licence with its statistics, or as it was",
        auth=Auth.ADMIN_KEY,
        query=AsOfQuery,
        answers={200: LicenseWithStatistics},
        refusals=(LicenseNotFound,),
        tag="licenses",
    ),
    Endpoint(
        method="PATCH",
        path=f"{_PATH}/{{license_id}}",
        handler=update_license,
        summary="Update a licence",
        auth=Auth.ADMIN_KEY,
        body=UpdateRequest,
        answers={200: LicenseAnswer},
        refusals=(LicenseNotFound, CustomerIsErased),
        takes_idempotency_key=True,
        tag="licenses",
    ),
    Endpoint(
        method="DELETE",
        path=f"{_PATH}/{{license_id}}",
        handler=delete_license,
        summary="Deactivate a licence",
        auth=Auth.ADMIN_KEY,
        answers={200: LicenseAnswer},
        refusals=(LicenseNotFound,),
        takes_idempotency_key=True,
        tag="licenses",
    ),
)
