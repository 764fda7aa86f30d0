"""Is this process alive, is it ready, and what does it count?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import psycopg
from aiohttp import web
from psycopg_pool import PoolTimeout, TooManyRequests

from api.responses import answer, respond
from api.services import Services
from infra.migrations import migrations

MAX_QUEUED_ROWS = 50_000
"""Usage rows in memory from which on this process counts as not ready."""

PROBE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that readiness depends on: `ok`, and in words why not."""

    ok: bool
    detail: str | None = None


async def readiness(services: Services) -> dict[str, Probe]:
    """Look at everything that readiness depends on."""
    usage = services.usage
    queued = usage.queued()
    return {
        **await _database(services),
        "usage_log": Probe(
            ok=not usage.is_down and not usage.is_stuck and queued < MAX_QUEUED_ROWS,
            detail=f"{queued} rows wait for the database" if usage.is_down or usage.is_stuck else None,
        ),
    }


async def _newest_migration(services: Services) -> int | None:
    async with services.pool.connection() as connection:
        cursor = await connection.execute("SELECT max(number) AS newest FROM schema_migrations")
        row = await cursor.fetchone()
    return row["newest"] if row else None


async def _database(services: Services) -> dict[str, Probe]:
    asking = asyncio.create_task(_newest_migration(services))
    # No asyncio.timeout: a query that is cancelled waits on for a server that hangs.
    await asyncio.wait([asking], timeout=PROBE_SECONDS)
    try:
        newest = asking.result()
    except (psycopg.Error, PoolTimeout, TooManyRequests, asyncio.InvalidStateError):
        asking.cancel()
        unreachable = Probe(ok=False, detail="can't be reached")
        return {"database": unreachable, "migrations": Probe(ok=False, detail="unknown")}
    expected = migrations()[-1].number
    behind = None if newest == expected else f"the schema is at {newest}, this program needs {expected}"
    return {"database": Probe(ok=True), "migrations": Probe(ok=behind is None, detail=behind)}


def routes(services: Services) -> list[web.RouteDef]:
    """Make the routes that every service has."""

    async def live(_: web.Request) -> web.Response:
        return respond(answer(200, {"status": "ok"}))

    async def ready(_: web.Request) -> web.Response:
        probes = await readiness(services)
        good = all(probe.ok for probe in probes.values())
        checks: dict[str, Any] = {
            name: {"ok": probe.ok} | ({"detail": probe.detail} if probe.detail else {})
            for name, probe in probes.items()
        }
        return respond(answer(200 if good else 503, {"status": "ok" if good else "unavailable", "checks": checks}))

    async def metrics(_: web.Request) -> web.Response:
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=services.metrics.render(), headers=headers)

    return [
        web.RouteDef("GET", "/health/live", live, {}),
        web.RouteDef("GET", "/health/ready", ready, {}),
        web.RouteDef("GET", "/metrics", metrics, {}),
    ]
