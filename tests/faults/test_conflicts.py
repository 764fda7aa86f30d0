"""Processes that share a licence: each knows what the others have saved, and losing a race costs one more attempt."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count

import pytest

from infra.postgres import Database
from tests.support.answers import Answers, Command
from tests.support.checker import check
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.processes import ServerProcess, client_of
from tests.support.stalls import undisturbed

PROCESSES = 3
TURNS = 60
CALLERS = 24
ORDERS = 15


@dataclass(frozen=True)
class Trio:
    """Three API processes over one database."""

    database: Database
    servers: list[ServerProcess]


@pytest.fixture(scope="module")
def trio(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    database, folder = cluster.new_database(), tmp_path_factory.mktemp("trio")
    # The first makes the keys; the others find them.
    servers = [ServerProcess(database, folder).wait_ready()]
    servers += [ServerProcess(database, folder) for _ in range(PROCESSES - 1)]
    try:
        for server in servers[1:]:
            server.wait_ready()
        yield Trio(database, servers)
    finally:
        for server in servers:
            server.stop()
    cluster.drop(database)


async def clients_of(trio: Trio, stack: AsyncExitStack) -> list[Client]:
    clients = [await stack.enter_async_context(client_of(server)) for server in trio.servers]
    api_key = (await clients[0].new_api_key())["api_key"]
    for client in clients:
        client.api_key = api_key
    return clients


async def counted(clients: list[Client], name: str) -> int:
    """Return the sum of a counter over all processes."""
    total = 0
    for client in clients:
        async with client.session.get(f"{client.base}/metrics") as answer:
            found = re.search(rf"^lizenzserver_{name} (\S+)$", await answer.text(), re.MULTILINE)
        total += 0 if found is None else int(float(found[1]))
    return total


def activation(client: Client, id: str, key: str, device: str) -> Command:
    body = {"license_key": key, "hardware_id": device}
    return Command(id, "POST", "/api/v1/license/activate", body, {"X-API-Key": client.api_key})


async def test_who_takes_turns_never_conflicts(trio: Trio) -> None:
    """Each order is decided on what the others have saved, not on what its process knew before."""
    async with AsyncExitStack() as stack:
        clients = await clients_of(trio, stack)
        license = await clients[0].new_license(max_devices=TURNS)
        before = await counted(clients, "writer_conflicts_total")
        for turn in range(TURNS):
            reply = await clients[turn % PROCESSES].activate(license, f"pc-{turn}")
            assert reply.status == 201
            assert reply["limits"]["current_devices"] == turn + 1
        assert await counted(clients, "writer_conflicts_total") == before


async def test_a_busy_licence_serves_all_with_few_conflicts(trio: Trio) -> None:
    """Whose batch has met another process's decides again under the lock: once more, and not again and again."""
    races = count()

    async def race() -> None:
        prefix = f"t-{next(races)}-"
        answers = Answers(prefix)
        answers.is_down, answers.is_complete = False, True
        async with AsyncExitStack() as stack:
            clients = await clients_of(trio, stack)
            license = await clients[0].new_license(max_devices=CALLERS * ORDERS)
            conflicts, orders = [await counted(clients, f"writer_{name}_total") for name in ("conflicts", "orders")]

            async def caller(number: int) -> None:
                client = clients[number % PROCESSES]
                for order in range(ORDERS):
                    device = f"busy-{number}-{order}"
                    await answers.ask(client, activation(client, f"{prefix}{device}", license["license_key"], device))

            await asyncio.gather(*(caller(number) for number in range(CALLERS)))
            conflicts = await counted(clients, "writer_conflicts_total") - conflicts
            orders = await counted(clients, "writer_orders_total") - orders
        assert answers.statuses == {201: CALLERS * ORDERS}
        assert orders == CALLERS * ORDERS
        # A batch has at least one order, and meets another's once at most.
        assert 0 < conflicts <= orders

        report = await asyncio.to_thread(check, trio.database, answers, patience=20)
        assert report.holds, report

    # Who waited for a connection while the machine stood still was told 503.
    await undisturbed(race, *(server.pid for server in trio.servers))
