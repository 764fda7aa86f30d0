"""Hundreds of callers that want the same thing at the same moment, of four API processes over one database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from itertools import count

import pytest

from infra.postgres import Database
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants, check_outcomes
from tests.support.nursery import Nursery, Server
from tests.support.stalls import undisturbed

PROCESSES = 4
CALLERS = 200
SEATS = 50
RACES = 4
REPLAYED = "Idempotency-Replayed"
MARKS = count()


@pytest.fixture(scope="module")
def database(cluster: Cluster) -> Iterator[Database]:
    made = cluster.new_database()
    yield made
    cluster.drop(made)


@pytest.fixture(scope="module")
def servers(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    data_dir = tmp_path_factory.mktemp("data")
    with Nursery(tmp_path_factory.mktemp("logs")) as nursery, ExitStack() as running:
        servers = [running.enter_context(nursery.serve(database, data_dir)) for _ in range(PROCESSES)]
        yield servers
        assert [server.stop() for server in servers] == [0] * PROCESSES
        assert [server.complaints() for server in servers] == [[]] * PROCESSES


@asynccontextmanager
async def clients_of(servers: list[Server]) -> AsyncIterator[list[Client]]:
    """Give a client of each process, all with one API key that has no limits."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(server.client()) for server in servers]
        api_key = (await clients[0].new_api_key())["api_key"]
        for client in clients:
            client.api_key = api_key
        yield clients


def pids(servers: list[Server]) -> list[int]:
    return [server.pid for server in servers]


async def test_two_hundred_race_for_fifty_seats(servers: list[Server], database: Database) -> None:
    async with clients_of(servers) as clients:

        async def race() -> None:
            mark = next(MARKS)
            license = await clients[0].new_license(max_devices=SEATS)
            replies = await asyncio.gather(
                *(
                    clients[n % PROCESSES].activate(license, f"pc-{n}", x_request_id=f"seat-{mark}-{n}")
                    for n in range(CALLERS)
                )
            )
            assert Counter(reply.status for reply in replies) == {201: SEATS, 409: CALLERS - SEATS}
            refused = [reply for reply in replies if reply.status == 409]
            assert {reply["error_code"] for reply in refused} == {"DEVICE_LIMIT_EXCEEDED"}
            assert all(reply["details"] == {"max_devices": SEATS, "current_devices": SEATS} for reply in refused)
            validated = await asyncio.gather(
                *(clients[(n + 1) % PROCESSES].validate(license, f"pc-{n}") for n in range(CALLERS))
            )
            assert [reply.status == 200 for reply in validated] == [reply.status == 201 for reply in replies]
            statuses = {f"seat-{mark}-{n}": reply.status for n, reply in enumerate(replies)}
            check_outcomes(check_invariants(database), statuses)

        await undisturbed(race, *pids(servers))


async def test_fifty_orders_under_one_key_are_one(servers: list[Server], database: Database) -> None:
    async with clients_of(servers) as clients:

        async def race() -> None:
            license = await clients[0].new_license(max_devices=SEATS)
            key = f"one-{next(MARKS)}"
            replies = await asyncio.gather(
                *(
                    clients[n % PROCESSES].activate(license, "pc", idempotency_key=key, x_request_id=key)
                    for n in range(50)
                )
            )
            assert {reply.status for reply in replies} == {201}
            assert len({str(reply.body) for reply in replies}) == 1
            assert sum(REPLAYED not in reply.headers for reply in replies) == 1
            check_outcomes(check_invariants(database), {key: 201})

        for _ in range(RACES):
            await undisturbed(race, *pids(servers))


async def test_fifty_creations_under_one_key_are_one(servers: list[Server], database: Database) -> None:
    async with clients_of(servers) as clients:

        async def race() -> None:
            key = f"created-{next(MARKS)}"
            names = {"idempotency_key": key, "x_request_id": key}
            # No two of them concern one licence: only the key keeps them apart.
            replies = await asyncio.gather(
                *(clients[n % PROCESSES].admin("POST", "/licenses", {"customer_id": key}, **names) for n in range(50))
            )
            assert {reply.status for reply in replies} == {201}
            assert len({str(reply.body) for reply in replies}) == 1
            check_outcomes(check_invariants(database), {key: 201})

        for _ in range(RACES):
            await undisturbed(race, *pids(servers))


async def test_of_two_bodies_under_one_key_one_is_carried_out(servers: list[Server], database: Database) -> None:
    async with clients_of(servers) as clients:

        async def race() -> None:
            license = await clients[0].new_license(max_devices=SEATS)
            key = f"two-{next(MARKS)}"
            replies = await asyncio.gather(
                *(
                    clients[n % PROCESSES].activate(
                        license, f"pc-{n // PROCESSES % 2}", idempotency_key=key, x_request_id=key
                    )
                    for n in range(48)
                )
            )
            made = [reply for reply in replies if reply.status == 201]
            refused = [reply for reply in replies if reply.status != 201]
            assert len(made) == len(refused) == 24, "all with the one body, none with the other"
            assert len({str(reply.body) for reply in made}) == 1
            assert {(reply.status, reply["error_code"]) for reply in refused} == {(422, "IDEMPOTENCY_KEY_REUSED")}
            check_outcomes(check_invariants(database), {key: 201})
            devices = await clients[0].admin("GET", f"/licenses/{license['license_id']}/devices")
            assert len(devices["devices"]) == 1

        for _ in range(RACES):
            await undisturbed(race, *pids(servers))
