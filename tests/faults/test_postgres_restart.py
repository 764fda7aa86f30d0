"""PostgreSQL is restarted at once, under load: ready again within five seconds, and nothing lost or done twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants, check_outcomes
from tests.support.postgres_faults import kill_server, postmaster
from tests.support.processes import Pair, running_pair
from tests.support.stalls import stalls
from tests.support.workers import are_at_the_end, differing_rows

READY_SECONDS = 5.0
RESTARTS = 2
CALLERS = 12
"""On each of two processes; as many validate."""


@pytest.fixture
def restarting() -> Iterator[tuple[Cluster, Pair]]:
    """Give a server of our own, and two API processes over it."""
    with Cluster() as cluster, running_pair(cluster) as running:
        yield cluster, running


class Load:
    """Callers that activate, and others that validate, until `enough`; what each heard."""

    def __init__(self, license: dict[str, Any]) -> None:
        self.license = license
        self.orders: dict[str, Reply] = {}
        self.verdicts: list[Reply] = []
        self.enough = asyncio.Event()

    async def activate(self, client: Client, name: str) -> None:
        attempt = 0
        while not self.enough.is_set():
            key = f"{name}-{attempt}"
            self.orders[key] = await self.ask(client, key)
            attempt += 1
            # A caller that is refused waits a little; else it would only count refusals.
            await asyncio.sleep(0.02 if self.orders[key].status == 503 else 0)

    async def validate(self, client: Client) -> None:
        while not self.enough.is_set():
            self.verdicts.append(await client.validate(self.license, "pc"))
            await asyncio.sleep(0.005)

    async def ask(self, client: Client, key: str) -> Reply:
        """Activate the device of this name under the key of this name."""
        return await client.activate(self.license, key, idempotency_key=key, x_request_id=key)


async def test_it_is_ready_again_within_five_seconds_and_nothing_is_lost(restarting: tuple[Cluster, Pair]) -> None:
    cluster, pair = restarting
    async with pair.clients() as clients:
        license = await clients[0].new_license(max_devices=100_000)
        assert (await clients[0].activate(license, "pc")).status == 201
        load = Load(license)
        callers = [
            asyncio.create_task(one)
            for number, client in enumerate(clients)
            for caller in range(CALLERS)
            for one in (load.activate(client, f"{number}-{caller}"), load.validate(client))
        ]
        for _ in range(RESTARTS):
            so_far = len(load.orders)
            await eventually(lambda so_far=so_far: has_answered(load, so_far + 100))
            await asyncio.to_thread(kill_server, cluster)
            await asyncio.to_thread(cluster.server.start)
            async with stalls(pair.one.pid, pair.other.pid, postmaster(cluster)) as machine:
                began = time.monotonic()
                await eventually(lambda: all_ready(clients, license), 30)
                assert time.monotonic() - began <= READY_SECONDS + machine.seconds
        load.enough.set()
        await asyncio.gather(*callers)
        heard = Counter(reply.status for reply in [*load.orders.values(), *load.verdicts])
        assert heard.keys() <= {200, 201, 503}, heard
        for reply in [*load.orders.values(), *load.verdicts]:
            assert reply.status != 503 or "Retry-After" in reply.headers
        refused = [key for key, reply in load.orders.items() if reply.status == 503]
        assert refused
        for some in batched(refused, 100):
            again = await asyncio.gather(*(load.ask(clients[0], key) for key in some))
            assert {reply.status for reply in again} == {201}
    await eventually(lambda: asyncio.to_thread(are_at_the_end, pair.database))
    assert differing_rows(pair.database) == {}
    check_outcomes(check_invariants(pair.database), dict.fromkeys(load.orders, 201))


def batched(keys: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]


async def has_answered(load: Load, number: int) -> bool:
    return len(load.orders) > number


async def all_ready(clients: list[Client], license: dict[str, Any]) -> bool:
    """Tell whether both are ready, and orders and validations succeed on both."""
    for number, client in enumerate(clients):
        key = f"ready-{number}"
        if (await client.request("GET", "/health/ready")).status != 200:
            return False
        if (await client.activate(license, key, idempotency_key=key)).status != 201:
            return False
        if (await client.validate(license, "pc")).status != 200:
            return False
    return True
