"""Without PostgreSQL: validations from memory, all else 503 within a second; and with it again, all as before."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pytest

from api.services import Services
from cli.composition import running_services
from commands.recorder import EVENTS_LOCK
from infra import pulse
from infra.first_start import ensure_credentials
from tests.http.passing_time import Passing
from tests.support.behind_proxy import Plant, running_behind_proxy
from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants, check_outcomes
from tests.support.postgres_faults import frozen_server, kill_server, postmaster
from tests.support.postgres_proxy import PostgresProxy
from tests.support.processes import ServerProcess, client_of
from tests.support.service import running, settings_for
from tests.support.stalls import stalls, undisturbed
from tests.support.world import Request, World, make_world, valid_requests

LONGEST_SECONDS = 1.0
BACK_SECONDS = 5.0

FROM_MEMORY = {"/api/v1/license/validate", "/api/v1/license/heartbeat"}
HEARTBEAT = "/api/v1/license/heartbeat"
WITHOUT_DATABASE = {
    "/licenses-api/v1/public-key",
    "/.well-known/jwks.json",
    "/health/live",
    "/metrics",
    "/openapi.json",
    "/docs",
}


CONNECTED = {"lizenzserver", "lizenzserver-usage", "lizenzserver-pulse"}
"""What a process that works has connections for, besides its workers."""


@pytest.fixture(scope="module")
def plant() -> Iterator[Plant]:
    with Cluster() as cluster, running_behind_proxy(cluster) as running_plant:
        yield running_plant


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
    deadline = time.monotonic() + 10
    while not plant.proxy.names() >= CONNECTED:
        assert time.monotonic() < deadline, plant.proxy.names()
        time.sleep(0.01)
    assert plant.proxy.swallow(new=True) >= len(CONNECTED)
    try:
        yield
    finally:
        plant.proxy.let_through()


NUMBERS = count(1)


class Timed(NamedTuple):
    request: Request
    reply: Reply
    seconds: float

    def __str__(self) -> str:
        return f"{self.request.method} {self.request.path}: {self.reply.status} in {self.seconds:.2f} s"


async def timed(client: Client, request: Request) -> Timed:
    """Send a request as it is, from an address of its own: limits are no matter here."""
    number = next(NUMBERS)
    headers = {**request.headers, "X-Forwarded-For": f"10.0.{number >> 8}.{number & 255}"}
    began = time.monotonic()
    async with client.session.request(
        request.method, client.base + request.path, json=request.body, headers=headers
    ) as response:
        raw = await response.read()
        body = await response.json() if raw and "json" in response.headers["Content-Type"] else None
    return Timed(request, Reply(response.status, response.headers, body), time.monotonic() - began)


async def ask(plant: Plant, client: Client, requests: list[Request]) -> list[Timed]:
    """Send all requests at once, each on a connection of its own; look that none takes long."""
    async with stalls(plant.process.pid) as machine:
        answered = await asyncio.gather(*(timed(client, request) for request in requests))
    slow = [str(one) for one in answered if one.seconds > LONGEST_SECONDS + machine.seconds]
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
            look(await ask(plant, client, requests))
            look(await ask(plant, client, requests))
            await eventually(lambda: is_away(client))
            look(await ask(plant, client, requests))
            assert await metric(client, "answers_from_memory_total") >= before + 4
        finally:
            await asyncio.to_thread(outage.__exit__, None, None, None)
        async with stalls(plant.process.pid, postmaster(plant.cluster)) as machine:
            began = time.monotonic()
            await eventually(lambda: all_is_well(client, world, gone.__name__), 30)
            assert time.monotonic() - began <= BACK_SECONDS + machine.seconds


async def is_ready(client: Client) -> bool:
    return (await client.request("GET", "/health/ready")).status == 200


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


async def test_memory_answers_for_five_minutes_after_the_last_look_at_the_log(tmp_path: Path, cluster: Cluster) -> None:
    with PostgresProxy(cluster.new_database()) as proxy:
        async with running(settings_for(tmp_path), proxy.database) as (services, client):
            passing = Passing(services)
            license = await client.new_license()
            assert (await client.activate(license, "pc")).status == 201
            assert (await client.validate(license, "pc")).status == 200
            # Long after it was read, but each look at the log since then has found it unchanged.
            passing.by(minutes=4, seconds=59)
            assert (await client.validate(license, "pc")).status == 200
            access = (await client.tokens(license, "pc"))["access_token"]
            assert (await client.bearer(HEARTBEAT, access, {})).status == 200
            proxy.swallow(new=True)
            await eventually(lambda: known(services, away=True))
            # Some seconds less than five minutes, which this test itself takes where the machine stands still.
            passing.by(minutes=4, seconds=45)
            assert (await client.validate(license, "pc")).status == 200
            assert (await client.bearer(HEARTBEAT, access, {})).status == 200
            passing.by(seconds=20)
            # A heartbeat has no API key that could be too old: what is known of the device is.
            assert (await client.bearer(HEARTBEAT, access, {})).status == 503
            refused = await client.validate(license, "pc")
            assert (refused.status, refused["error_code"]) == (503, "SERVICE_UNAVAILABLE")
            assert int(refused.headers["Retry-After"]) >= 1
            proxy.let_through()
            await eventually(lambda: known(services, away=False))
            assert (await client.validate(license, "pc")).status == 200


async def known(services: Services, *, away: bool) -> bool:
    return services.pulse.is_away == away


async def test_what_was_revoked_before_is_not_answered_from_memory(plant: Plant) -> None:
    """Memory holds what the log was last known to say: a revocation that this process has seen ends it."""
    async with client_of(plant.process) as client:
        await eventually(lambda: is_ready(client))
        client.api_key = (await client.new_api_key())["api_key"]
        licenses = [await client.new_license() for _ in range(2)]
        for license in licenses:
            assert (await client.activate(license, "pc")).status == 201
            assert (await client.validate(license, "pc")).status == 200
        revoked, kept = licenses
        assert (await client.admin("DELETE", f"/licenses/{revoked['license_id']}")).status == 200
        assert (await client.validate(revoked, "pc")).status == 403
        with swallowed(plant):
            await eventually(lambda: is_away(client))
            assert (await client.validate(kept, "pc")).status == 200
            assert (await client.validate(revoked, "pc")).status == 503


async def test_what_others_have_ended_is_refused_as_soon_as_it_is_back(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that still waits for an answer that never comes asks anew before it answers from memory."""
    # A busy machine may take a quarter of a second for a new connection: it would be away still.
    monkeypatch.setattr(pulse, "AGAIN_SECONDS", 1.5)
    database = cluster.new_database()
    settings = settings_for(tmp_path)
    with PostgresProxy(database) as proxy:
        async with running(settings, database) as (_, beside), running(settings, proxy.database) as (services, client):
            license = await beside.new_license()
            assert (await beside.activate(license, "pc")).status == 201
            assert (await client.validate(license, "pc")).status == 200
            proxy.swallow(new=True)
            await eventually(lambda: known(services, away=True))
            assert (await client.validate(license, "pc")).status == 200
            assert (await beside.admin("DELETE", f"/licenses/{license['license_id']}")).status == 200
            await asyncio.sleep(0.2)
            proxy.let_through()
            refused = await client.validate(license, "pc")
            assert (refused.status, refused["error_code"]) == (403, "LICENSE_INACTIVE")


async def test_an_order_that_was_under_way_is_told_503_and_resolved_by_its_key(plant: Plant) -> None:
    async with client_of(plant.process) as client:
        await eventually(lambda: is_ready(client))
        client.api_key = (await client.new_api_key())["api_key"]
        license = await client.new_license(max_devices=100)

        async def activate(name: str) -> Timed:
            began = time.monotonic()
            reply = await client.activate(license, name, idempotency_key=name, x_request_id=name)
            return Timed(Request("POST", "/api/v1/license/activate"), reply, time.monotonic() - began)

        async with stalls(plant.process.pid) as machine:
            with frozen(plant):
                names = [f"under-way-{number}" for number in range(20)]
                answered = await asyncio.gather(*(activate(name) for name in names))
            for one in answered:
                assert (one.reply.status, one.reply["error_code"]) == (503, "SERVICE_UNAVAILABLE"), str(one)
                assert one.seconds <= LONGEST_SECONDS + machine.seconds, str(one)
        async with stalls(plant.process.pid, postmaster(plant.cluster)) as machine:
            began = time.monotonic()
            await eventually(lambda: all_succeed(activate, names), 30)
            assert time.monotonic() - began <= BACK_SECONDS + machine.seconds
        log = check_invariants(plant.database)
        check_outcomes(log, dict.fromkeys(names, 201))


async def all_succeed(activate: Callable[[str], Awaitable[Timed]], names: list[str]) -> bool:
    return {(await activate(name)).reply.status for name in names} == {201}


async def test_an_order_that_waits_for_a_lock_is_not_refused(plant: Plant) -> None:
    """A database that is only slow is not away: whoever waits gets an answer."""
    async with client_of(plant.process) as client:
        await eventually(lambda: is_ready(client))
        client.api_key = (await client.new_api_key())["api_key"]
        license = await client.new_license(max_devices=9)
        numbers = count()

        async def waits() -> None:
            with plant.database.connect() as other:
                other.execute("BEGIN")
                other.execute("SELECT pg_advisory_xact_lock(%s)", (EVENTS_LOCK,))
                waiting = asyncio.create_task(client.activate(license, f"pc-{next(numbers)}"))
                await asyncio.wait([waiting], timeout=1.8)
                assert not waiting.done()
                assert not await is_away(client)
                other.execute("COMMIT")
            assert (await waiting).status == 201

        await undisturbed(waits, plant.process.pid, postmaster(plant.cluster))


async def test_a_process_starts_though_the_database_is_slow_to_answer(tmp_path: Path, cluster: Cluster) -> None:
    """Where all start at once, none may give up for the others."""
    settings = settings_for(tmp_path)
    with PostgresProxy(cluster.new_database()) as proxy:
        # Longer than an answer may take, but not so long that no connection comes about in two seconds.
        proxy.delay(0.15)
        secrets = ensure_credentials(settings, settings.data_dir)
        async with running_services(settings, proxy.database, secrets) as services:
            proxy.delay(0)
            await eventually(lambda: known(services, away=False))


async def test_a_process_that_is_asked_to_end_meanwhile_ends(cluster: Cluster, tmp_path: Path) -> None:
    with PostgresProxy(cluster.new_database()) as proxy:
        process = ServerProcess(proxy.database, tmp_path).wait_ready()
        try:
            async with client_of(process) as client:
                proxy.swallow(new=True)
                await eventually(lambda: is_away(client))
            began = time.monotonic()
            await asyncio.to_thread(process.stop)
            assert time.monotonic() - began < 15
        finally:
            await asyncio.to_thread(process.kill)
