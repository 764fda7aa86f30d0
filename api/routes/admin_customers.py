"""Customers for administrators: all that is stored of one, and its erasure."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from api import customers
from api.call import Call
from api.customer_export import LICENSES_PAGE, PAGE, CustomerExport
from api.customers import Customer
from api.endpoint import Auth, Endpoint
from api.responses import Answer, answer
from api.schemas.customers import ErasedAnswer, EraseQuery, EraseRequest, ExportAnswer, ExportQuery
from commands.batch import Outcome
from commands.orders import EraseCustomer
from domain.data_subject import DataSubject
from domain.errors import NotFound
from infra.erasure_register import Erasure
from projections.snapshot import snapshot


async def erase(call: Call) -> Answer:
    """Erase a customer. A line in the register is on the disk before anything else is done."""
    body: EraseRequest = call.body
    query: EraseQuery = call.query
    services = call.services
    async with services.pool.connection() as connection:
        found = await customers.find(services.vault, connection, call.request.match_info["customer_id"], query.by)
        record_id = await services.subjects.make(connection)
    ordered_by = call.credential.actor
    lines = [Erasure(subject_id=one, ordered_at=call.now, ordered_by=ordered_by) for one in found.subject_ids]
    await customers.enter(services.register, lines)
    order = EraseCustomer(
        cause=call.cause(EraseCustomer, record_id),
        now=call.now,
        subjects=found.subjects,
        kept_under=record_id,
        sealed={"reason": services.vault.seal(record_id, body.reason)},
    )

    def render(outcome: Outcome, _: Any) -> bytes:
        times = [state.erased_at for state in outcome.states if isinstance(state, DataSubject)]
        erased = ErasedAnswer(
            subject_ids=found.subject_ids,
            license_ids=found.license_ids,
            erased_at=max(times),
            record_id=record_id,
            licenses_of_others=list(found.licenses_of_others),
        )
        return msgspec.json.encode(erased)

    done = await call.execute(order, render)
    services.forget_subjects(found.subject_ids)
    # It is done: where the database is away now, the anomaly worker does the rest in its turn.
    with suppress(psycopg.OperationalError, PoolTimeout, TooManyRequests):
        async with services.pool.connection() as connection:
            await customers.forget_behaviour(connection, found.license_ids)
    return done


async def export(call: Call) -> Answer:
    """Show all that is stored of a customer, page by page."""
    query: ExportQuery = call.query
    services = call.services
    async with services.pool.connection() as connection, snapshot(connection):
        name = call.request.match_info["customer_id"]
        found = await customers.find(services.vault, connection, name, query.by)
        exported = CustomerExport(services.vault, connection, found, services.decode_event)
        await exported.open()
        shown = await _page(exported, found, query)
    return answer(200, shown)


async def _page(exported: CustomerExport, found: Customer, query: ExportQuery) -> ExportAnswer:
    is_first = query.licenses_after == query.events_after == query.usage_after == 0
    licenses = await exported.licenses(query.licenses_after)
    events = await exported.events(query.events_after)
    usage = await exported.usage(query.usage_after)
    has_more = len(licenses) >= LICENSES_PAGE or len(events) >= PAGE or len(usage) >= PAGE
    # Where one of them has ended, its next page begins where it ended.
    return ExportAnswer(
        subject_ids=found.subject_ids,
        licenses_of_others=list(found.licenses_of_others),
        licenses=licenses,
        anomalies=await exported.anomalies() if is_first else [],
        events=events,
        usage=usage,
        next_licenses_after=(licenses[-1].position if licenses else query.licenses_after) if has_more else None,
        next_events_after=(events[-1].position if events else query.events_after) if has_more else None,
        next_usage_after=(usage[-1].id if usage else query.usage_after) if has_more else None,
    )


_PATH = "/api/v1/admin/customers/{customer_id}"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{_PATH}/export",
        handler=export,
        summary="Export all that is stored of a customer",
        auth=Auth.ADMIN_KEY,
        query=ExportQuery,
        answers={200: ExportAnswer},
        refusals=(NotFound,),
        tag="customers",
    ),
    Endpoint(
        method="POST",
        path=f"{_PATH}/erase",
        handler=erase,
        summary="Erase a customer's personal data for good",
        auth=Auth.ADMIN_KEY,
        query=EraseQuery,
        body=EraseRequest,
        answers={200: ErasedAnswer},
        refusals=(NotFound,),
        tag="customers",
    ),
)
