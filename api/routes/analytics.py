"""Analytics: how licences are used. An API key that is bound to a product sees that product's licences only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from api.call import Call
from api.endpoint import Auth, Endpoint
from api.responses import Answer, answer
from api.routes.admin_licenses import license_id_of
from api.schemas.admin import DaysQuery
from api.schemas.analytics import DashboardAnswer, PatternsAnswer, UsageReportAnswer
from domain.errors import LicenseNotFound
from projections import dashboard as dashboards
from projections import fleet_usage, licenses, usage_patterns
from projections.periods import last_days
from projections.snapshot import snapshot


async def patterns(call: Call) -> Answer:
    """Show when, where and how regularly a licence is used."""
    query: DaysQuery = call.query
    license_id, product = license_id_of(call), product_of(call)
    period = last_days(call.now, query.days)
    async with reading(call) as connection:
        row = await licenses.by_id(connection, license_id)
        if row is None or product not in {None, row.product}:
            raise LicenseNotFound("License not found")
        found = await usage_patterns.of_license(connection, license_id, period, call.now)
    return answer(200, msgspec.convert(found, PatternsAnswer, from_attributes=True))


async def usage_report(call: Call) -> Answer:
    """Sum up the use of all licences."""
    query: DaysQuery = call.query
    async with reading(call) as connection:
        found = await fleet_usage.report(connection, last_days(call.now, query.days), call.now, product_of(call))
    return answer(200, msgspec.convert(found, UsageReportAnswer, from_attributes=True))


async def dashboard(call: Call) -> Answer:
    """Show the state of things on one screen."""
    async with reading(call) as connection:
        found = await dashboards.read(connection, call.now, product_of(call))
    return answer(200, msgspec.convert(found, DashboardAnswer, from_attributes=True))


@asynccontextmanager
async def reading(call: Call) -> AsyncIterator[Any]:
    """Give a connection within a snapshot, once it is this request's turn."""
    async with call.services.analyses, call.services.pool.connection() as connection, snapshot(connection):
        yield connection


def product_of(call: Call) -> str | None:
    """Return the product that the API key is bound to, if any."""
    api_key = call.credential.api_key
    assert api_key is not None
    return api_key.product


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        method="GET",
        path="/api/v1/analytics/licenses/{license_id}/patterns",
        handler=patterns,
        summary="Analyse a licence's usage patterns",
        auth=Auth.API_KEY,
        query=DaysQuery,
        answers={200: PatternsAnswer},
        refusals=(LicenseNotFound,),
        tag="analytics",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/analytics/reports/usage",
        handler=usage_report,
        summary="Report the use of all licences",
        auth=Auth.API_KEY,
        query=DaysQuery,
        answers={200: UsageReportAnswer},
        tag="analytics",
    ),
    Endpoint(
        method="GET",
        path="/api/v1/analytics/dashboard",
        handler=dashboard,
        summary="Get the dashboard's data",
        auth=Auth.API_KEY,
        answers={200: DashboardAnswer},
        tag="analytics",
    ),
)
