"""Health and metrics on every service: for machines that watch, without credentials and without secrets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest
from aiohttp import web
from prometheus_client.parser import text_string_to_metric_families

from api import fan_out
from api.connections import Runner
from api.edge import answer_unreadable
from api.server import SERVICES, Service, application
from api.services import Services
from tests.support.client import Client, Reply, eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def metrics(client: Client) -> str:
    async with client.session.get(f"{client.base}/metrics") as response:
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain")
        return await response.text()


def requests_of(text: str, route: str, status: str) -> float:
    """Return how many requests a route has answered with a status."""
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.endswith("_count") and sample.labels.get("route") == route and sample.labels["status"] == status
    )


async def test_alive_and_ready(client: Client) -> None:
    live = await client.request("GET", "/health/live")
    assert (live.status, live["status"]) == (200, "ok")

    async def ready() -> Reply | None:
        reply = await client.request("GET", "/health/ready")
        assert reply.status == 200
        return reply if reply["status"] == "ok" else None

    checks = (await eventually(ready))["checks"]
    assert {"database", "migrations", "projector", "anomaly", "notary", "dead_letters", "usage_log"} == set(checks)
    assert all(check["ok"] is True for check in checks.values())
    alive = {f'lizenzserver_worker_alive{{worker="{name}"}} 1.0' for name in ("projector", "anomaly", "notary")}
    lags = {
        f'lizenzserver_consumer_lag_seconds{{consumer="{name}"}}'
        for name in ("usage", "devices-seen", "seats", "anomaly", "notary")
    }

    async def shown() -> bool:
        text = await metrics(client)
        return all(line in text for line in alive | lags)

    await eventually(shown)


class BusyPool:
    """The pool of a process with much to do: a connection is given back only after others have had their turn."""

    def __init__(self, services: Services) -> None:
        self._pool = services.pool

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with self._pool.connection() as connection:
            yield connection
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("queued, status", [(49_999, 200), (50_000, 503)])
async def test_who_has_too_many_rows_in_memory_gets_no_more_requests(
    services: Services, client: Client, monkeypatch: pytest.MonkeyPatch, queued: int, status: int
) -> None:
    monkeypatch.setattr(services.usage, "queued", lambda: queued)
    reply = await client.request("GET", "/health/ready")
    assert (reply.status, reply["checks"]["usage_log"]["ok"]) == (status, status == 200)
    assert reply.headers.get("Retry-After") == (None if status == 200 else "1")


async def test_many_may_ask_at_once(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fan_out, "FRESH_SECONDS", 0.0)
    watch = fan_out.FanOutWatch(BusyPool(services))

    async def ask() -> bool:
        return all([(await watch.read()).is_alive("projector") for _ in range(5)])

    assert all(await asyncio.gather(*(ask() for _ in range(6))))


async def test_what_was_set_aside_is_told_and_ends_no_service(client: Client, services: Services) -> None:
    async with services.pool.connection() as connection:
        await connection.execute("INSERT INTO dead_letters VALUES ('seats', 'events', 4711, 'ValueError: no')")

    async def told() -> Reply | None:
        reply = await client.request("GET", "/health/ready")
        return reply if reply["checks"]["dead_letters"]["ok"] is False else None

    reply = await eventually(told)
    assert (reply.status, reply["status"]) == (200, "degraded")
    assert reply["checks"]["dead_letters"]["detail"] == "seats has 1"
    assert 'lizenzserver_dead_letters{consumer="seats"} 1.0' in await metrics(client)
    async with services.pool.connection() as connection:
        await connection.execute("DELETE FROM dead_letters")


async def test_it_is_ready_while_a_rebuild_swaps(
    client: Client, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.routes.health.PROBE_SECONDS", 4.0)
    async with services.pool.connection() as connection:
        conninfo = connection.info.dsn
    async with await psycopg.AsyncConnection.connect(conninfo) as owner:
        await owner.execute("RESET ROLE")
        await owner.execute("LOCK TABLE consumers IN ACCESS EXCLUSIVE MODE")
        services.fan_out.last = None
        reply = await client.request("GET", "/health/ready")
        assert (reply.status, reply["status"]) == (200, "degraded")
        assert reply["checks"]["database"] == {"ok": True}
        for worker in ("projector", "anomaly"):
            assert reply["checks"][worker] == {"ok": False, "detail": "unknown"}
        assert "lizenzserver_" in await metrics(client)


async def test_what_keeps_the_relay_from_its_work_is_told(client: Client, services: Services) -> None:
    async with services.pool.connection() as connection:
        await connection.execute("INSERT INTO consumers (consumer) VALUES ('relay')")
        await connection.execute(
            "INSERT INTO leases VALUES"
            " ('relay', gen_random_uuid(), 'there:1', now() + interval '1 minute', 'broker away')"
        )

    async def told() -> Reply | None:
        reply = await client.request("GET", "/health/ready")
        return reply if "broker away" in str(reply["checks"].get("relay")) else None

    reply = await eventually(told)
    assert (reply.status, reply["checks"]["relay"]) == (200, {"ok": False, "detail": "broker away"})
    text = await metrics(client)
    assert 'lizenzserver_worker_trouble{worker="relay"} 1.0' in text
    assert 'lizenzserver_worker_trouble{worker="notary"} 0.0' in text
    async with services.pool.connection() as connection:
        await connection.execute("DELETE FROM leases WHERE worker = 'relay'")
        await connection.execute("DELETE FROM consumers WHERE consumer = 'relay'")


@pytest.mark.parametrize("which", SERVICES, ids=lambda service: str(service.name))
async def test_every_service_has_them(client: Client, services: Services, which: Service) -> None:
    runner = Runner(application(which, services, "test"), answer_unreadable(services))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = f"http://127.0.0.1:{runner.addresses[0][1]}"
        for path in ("/health/live", "/health/ready", "/metrics", "/.well-known/jwks.json"):
            async with client.session.get(base + path) as response:
                assert response.status == 200, path
                assert response.headers["X-Request-ID"]
                await response.read()
        async with client.session.get(base + "/openapi.json") as response:
            document = await response.json()
        assert document["openapi"].startswith("3.1")
        assert {endpoint.path for endpoint in which.endpoints} <= set(document["paths"])
    finally:
        await runner.cleanup()


async def test_requests_are_counted_by_route_and_status(client: Client) -> None:
    route = "/api/v1/license/validate"
    license = await client.new_license()
    await client.activate(license, "pc")
    before = await metrics(client)
    for _ in range(3):
        await client.validate(license, "pc")
    await client.validate(license, "other")
    after = await metrics(client)
    assert requests_of(after, route, "200") - requests_of(before, route, "200") == 3
    assert requests_of(after, route, "403") - requests_of(before, route, "403") == 1


async def test_a_scanner_makes_no_new_series(client: Client) -> None:
    await client.request("GET", "/scan-0")
    before = len((await metrics(client)).splitlines())
    for number in range(20):
        await client.request("GET", f"/scan-{number}")
        await client.request("GET", f"/api/v1/admin/licenses/{number}")
    after = len((await metrics(client)).splitlines())
    assert after - before <= 30


async def test_they_hold_no_secret_and_no_id(client: Client) -> None:
    license = await client.new_license(customer_id="customer-of-metrics", email="zoe@example.org")
    await client.activate(license, "hardware-of-metrics")
    token = (await client.tokens(license, "hardware-of-metrics"))["access_token"]
    await client.bearer("/api/v1/license/heartbeat", token, {})
    text = await metrics(client) + str((await client.request("GET", "/health/ready")).body)
    for private in (
        license["license_id"],
        license["license_key"],
        "customer-of-metrics",
        "hardware-of-metrics",
        "zoe@",
        token[-20:],
        client.api_key,
        client.address,
    ):
        assert private not in text
