"""What happened and how much is used, for administrators: events, usage, statistics."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.presentation import event_answer
from api.responses import Answer, answer
from api.routes.admin_licenses import existing_license
from api.schemas.admin import AsOf, DailyUsage, DaysQuery, EventList, EventsQuery, StatisticsAnswer, UsageAnswer
from domain.errors import LicenseNotFound
from projections import fleet, history, usage_reports
from projections.snapshot import snapshot


async def events(call: Call) -> Answer:
    """List a licence's events of the last hours, newest first."""
    query: EventsQuery = call.query
    row = await existing_license(call)
    since = call.now - timedelta(hours=query.hours)
    async with call.services.pool.connection() as connection:
        found = await history.of_license(connection, row.license_id, row.subject_id, since, call.services.decode_event)
        # Why somebody was erased is kept under another key than what was erased.
        await call.services.senders.remember_async(connection, (event.subject_id for _, event in found))
    shown = [event_answer(call.services.vault, position, event) for position, event in found]
    return answer(200, EventList(events=shown))


async def usage(call: Call) -> Answer:
    """Sum up a licence's use, and by day."""
    query: DaysQuery = call.query
    row = await existing_license(call)
    async with call.services.pool.connection() as connection, snapshot(connection):
        totals = await usage_reports.of_license(connection, row.license_id, call.now, query.days)
        daily = await usage_reports.daily(connection, row.license_id, call.now, query.days)
    report = UsageAnswer(
        license_id=row.license_id,
        days=query.days,
        validations=totals.validations,
        failed_validations=totals.failed_validations,
        heartbeats=totals.heartbeats,
        unique_devices=totals.unique_devices,
        daily=[DailyUsage(**msgspec.structs.asdict(day)) for day in daily],
        as_of=AsOf(**msgspec.structs.asdict(totals.as_of)),
    )
    return answer(200, report)


async def statistics(call: Call) -> Answer:
    """Count licences, seats and use over the whole fleet."""
    async with call.services.pool.connection() as connection, snapshot(connection):
        counted = await fleet.statistics(connection, call.now)
    fields = msgspec.structs.asdict(counted)
    return answer(200, StatisticsAnswer(**{**fields, "as_of": AsOf(**msgspec.structs.asdict(counted.as_of))}))


_PATH = "/api/v1/admin/licenses/{license_id}"

ENDPOINTS = (
    Endpoint(
        method="GET",
        path=f"{_PATH}/events",
        handler=events,
        summary="Get a licence's events",
        auth=Auth.ADMIN_KEY,
        query=EventsQuery,
        answers={200: EventList},
        refusals=(LicenseNotFound,),
        tag="reports",
    ),
    Endpoint(
        method="GET",
        path=f"{_PATH}/usage",
        handler=usage,
        summary="Get a licence's usage statistics",
        auth=Auth.ADMIN_KEY,
        query=DaysQuery,
        answers={200: UsageAnswer},
        refusals=(LicenseNotFound,),
        tag="reports",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/admin/statistics",
        handler=statistics,
        summary="Get statistics of the whole fleet",
        auth=Auth.ADMIN_KEY,
        answers={200: StatisticsAnswer},
        tag="reports",
    ),
)
