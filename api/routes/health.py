"""Is this process alive, is it ready, and what does it count?"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import psycopg
from aiohttp import web
from psycopg_pool import PoolTimeout, TooManyRequests

from api.reply import Reply, route
from api.responses import answer, respond
from api.services import Services
from infra.migrations import migrations
from projections.lag import FanOut
from projections.registry import CONSUMERS_OF

MAX_QUEUED_ROWS = 50_000
"""Usage rows in memory from which on this process counts as not ready."""

PROBE_SECONDS = 2.0


LONGEST_LAG_SECONDS = 60.0
"""A consumer that is further behind is worth a look."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One thing that is looked at: `ok`, and in words why not. Without what is `vital` no request can be served."""

    ok: bool
    detail: str | None = None
    vital: bool = True


async def readiness(services: Services) -> dict[str, Probe]:
    """Look at everything that readiness depends on."""
    usage = services.usage
    queued = usage.queued()
    return {
        **await _bounded(services),
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


async def _bounded(services: Services) -> dict[str, Probe]:
    # By themselves: a rebuild's swap may hold up the workers' state, and no request needs it.
    asking, asking_workers = asyncio.create_task(_database(services)), asyncio.create_task(_workers(services))
    # No asyncio.timeout: a query that is cancelled waits on for a server that hangs.
    await asyncio.wait([asking, asking_workers], timeout=PROBE_SECONDS)
    for task in (asking, asking_workers):
        if task.done() and (error := task.exception()) is not None:
            services.suspect_connections(error)
    unreachable = Probe(ok=False, detail="can't be reached")
    unknown = Probe(ok=False, detail="unknown", vital=False)
    return {
        **_answered(asking, {"database": unreachable, "migrations": Probe(ok=False, detail="unknown")}),
        **_answered(asking_workers, dict.fromkeys((*_names(services), "dead_letters"), unknown)),
    }


def _answered(asked: asyncio.Task[dict[str, Probe]], otherwise: dict[str, Probe]) -> dict[str, Probe]:
    try:
        return asked.result()
    except (psycopg.Error, PoolTimeout, TooManyRequests, asyncio.InvalidStateError):
        asked.cancel()
        return otherwise


def _names(services: Services) -> tuple[str, ...]:
    names = ("projector", "anomaly", "notary")
    return names if services.settings.amqp_url is None else (*names, "relay")


async def _database(services: Services) -> dict[str, Probe]:
    newest = await _newest_migration(services)
    expected = migrations()[-1].number
    if newest != expected:
        behind = f"the schema is at {newest}, this program needs {expected}"
        return {"database": Probe(ok=True), "migrations": Probe(ok=False, detail=behind)}
    return {"database": Probe(ok=True), "migrations": Probe(ok=True)}


async def _workers(services: Services) -> dict[str, Probe]:
    fan_out = await services.fan_out.read()
    names = _names(services)
    if fan_out.of("relay") is not None and "relay" not in names:
        # Another process knows the broker.
        names = (*names, "relay")
    workers = {worker: _worker(fan_out, worker) for worker in names}
    return {**workers, "dead_letters": _dead_letters(fan_out)}


def _worker(fan_out: FanOut, worker: str) -> Probe:
    if not fan_out.is_alive(worker):
        return Probe(ok=False, detail="no process does this work", vital=False)
    lags = {name: state.lag_seconds for name in CONSUMERS_OF[worker] if (state := fan_out.of(name)) is not None}
    troubles = [trouble] if (trouble := fan_out.trouble(worker)) else []
    troubles += [f"{name} is {lag:.0f} s behind" for name, lag in lags.items() if lag > LONGEST_LAG_SECONDS]
    return Probe(ok=not troubles, detail=", ".join(troubles) or None, vital=False)


def _dead_letters(fan_out: FanOut) -> Probe:
    found = [f"{state.consumer} has {state.dead_letters}" for state in fan_out.consumers if state.dead_letters]
    return Probe(ok=not found, detail=", ".join(found) or None, vital=False)


def routes(services: Services) -> list[web.RouteDef]:
    """Make the routes that every service has."""

    async def live(_: web.Request) -> Reply:
        return respond(answer(200, {"status": "ok"}))

    async def ready(_: web.Request) -> Reply:
        probes = await readiness(services)
        serves = all(probe.ok for probe in probes.values() if probe.vital)
        status = "ok" if all(probe.ok for probe in probes.values()) else "degraded" if serves else "unavailable"
        checks: dict[str, Any] = {
            name: {"ok": probe.ok} | ({"detail": probe.detail} if probe.detail else {})
            for name, probe in probes.items()
        }
        body = {"status": status, "checks": checks}
        return respond(answer(200, body) if serves else answer(503, body, {"Retry-After": "1"}))

    async def metrics(_: web.Request) -> web.Response:
        await _bounded(services)
        headers = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=services.metrics.render(), headers=headers)

    return [
        route("GET", "/health/live", live),
        route("GET", "/health/ready", ready),
        web.RouteDef("GET", "/metrics", metrics, {}),
    ]
