"""Without PostgreSQL: validations from memory, all else 503 within a second; and with it again, all as before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest

from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.postgres_faults import frozen_server, kill_server
from tests.support.postgres_proxy import PostgresProxy
from tests.support.processes import ServerProcess, client_of
from tests.support.world import Request, World, make_world, valid_requests

LONGEST_SECONDS = 1.0
BACK_SECONDS = 5.0

FROM_MEMORY = {"/api/v1/license/validate", "/api/v1/license/heartbeat"}
WITHOUT_DATABASE = {
    "/licenses-api/v1/public-key",
    "/.well-known/jwks.json",
    "/health/live",
    "/metrics",
    "/openapi.json",
    "/docs",
}


class Plant(NamedTuple):
    """A server of our own, and an API process that reaches it through a proxy."""

    cluster: Cluster
    proxy: PostgresProxy
    process: ServerProcess


@pytest.fixture(scope="module")
def plant() -> Iterator[Plant]:
    with (
        Cluster() as cluster,
        PostgresProxy(cluster.new_database()) as proxy,
        TemporaryDirectory(prefix="lizenzserver-degradation-") as folder,
    ):
        process = ServerProcess(proxy.database, Path(folder)).wait_ready()
        try:
            yield Plant(cluster, proxy, process)
        finally:
            process.stop()


@contextmanager
def killed(plant: Plant) -> Iterator[None]:
    kill_server(plant.cluster)
    try:
        yield
    finally:
        plant.cluster.server.start()


@contextmanager
def frozen(plant: Plant) -> Iterator[None]:
    with frozen_server(plant.cluster):
        yield


@contextmanager
def stopped(plant: Plant) -> Iterator[None]:
    plant.cluster.server.stop()
    try:
        yield
    finally:
        plant.cluster.server.start()


@contextmanager
def swallowed(plant: Plant) -> Iterator[None]:
    assert plant.proxy.swallow(new=True) > 4
    try:
        yield
    finally:
        plant.proxy.let_through()


class Timed(NamedTuple):
    request: Request
    reply: Reply
    seconds: float

    def __str__(self) -> str:
        return f"{self.request.method} {self.request.path}: {self.reply.status} in {self.seconds:.2f} s"


async def timed(client: Client, request: Request) -> Timed:
    """Send a request as it is."""
    began = time.monotonic()
    async with client.session.request(
        request.method, client.base + request.path, json=request.body, headers=request.headers
    ) as response:
        raw = await response.read()
        body = await response.json() if raw and "json" in response.headers["Content-Type"] else None
    return Timed(request, Reply(response.status, response.headers, body), time.monotonic() - began)


async def ask(client: Client, requests: list[Request]) -> list[Timed]:
    """Send all requests at once, each on a connection of its own; look that none takes long."""
    answered = await asyncio.gather(*(timed(client, request) for request in requests))
    slow = [str(one) for one in answered if one.seconds > LONGEST_SECONDS]
    assert not slow, [str(one) for one in sorted(answered, key=lambda one: one.seconds)]
    return answered


def look(answered: list[Timed]) -> None:
    for one in answered:
        path = one.request.path.partition("?")[0]
        if path in FROM_MEMORY or path in WITHOUT_DATABASE:
            assert one.reply.status == 200, str(one)
        else:
            assert one.reply.status == 503, str(one)
            assert int(one.reply.headers["Retry-After"]) >= 1, str(one)


async def metric(client: Client, name: str) -> float:
    async with client.session.get(f"{client.base}/metrics") as response:
        text = await response.text()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"lizenzserver_{name} "))


@pytest.mark.parametrize("gone", [killed, stopped, frozen, swallowed])
async def test_without_the_database_validations_go_on_and_all_else_is_503_within_a_second(
    plant: Plant, gone: Callable[[Plant], AbstractContextManager[None]]
) -> None:
    async with client_of(plant.process) as client:
        client.api_key = (await client.new_api_key(allowed_endpoints=["*"]))["api_key"]
        world = await make_world(client)
        (seat,) = world.seats
        requests = valid_requests(world, seat, gone.__name__)
        for request in requests:
            if request.path in FROM_MEMORY:
                assert (await timed(client, request)).reply.status == 200
        before = await metric(client, "answers_from_memory_total")
        outage = gone(plant)
        await asyncio.to_thread(outage.__enter__)
        try:
            # At once, when nobody knows it yet; while it is found out; and when it is known.
            look(await ask(client, requests))
            look(await ask(client, requests))
            await eventually(lambda: is_away(client))
            look(await ask(client, requests))
            assert await metric(client, "answers_from_memory_total") >= before + 4
        finally:
            await asyncio.to_thread(outage.__exit__, None, None, None)
        began = time.monotonic()
        await eventually(lambda: all_is_well(client, world, gone.__name__), 30)
        assert time.monotonic() - began <= BACK_SECONDS


async def is_away(client: Client) -> bool:
    return await metric(client, "database_away") == 1


async def all_is_well(client: Client, world: World, mark: str) -> bool:
    (seat,) = world.seats
    ready, activated, listed, *validated = await asyncio.gather(
        client.request("GET", "/health/ready"),
        client.activate(seat.license, f"again-{mark}", idempotency_key=f"again-{mark}"),
        client.admin("GET", "/licenses"),
        *(client.validate(seat.license, seat.hardware_id) for _ in range(20)),
    )
    statuses = [ready.status, activated.status, listed.status, *(one.status for one in validated)]
    return statuses == [200, 201, 200, *[200] * 20]
