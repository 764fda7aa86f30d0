"""A connection to PostgreSQL on which nothing ever comes again, while it stays open: none of ours waits for it long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.support.behind_proxy import Plant, let_it_hold, running_behind_proxy
from tests.support.client import Client, eventually
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants
from tests.support.postgres_faults import postmaster
from tests.support.processes import client_of
from tests.support.stalls import stalls, undisturbed
from tests.support.workers import are_at_the_end, differing_rows

LAG_SECONDS = 2.0
BACK_SECONDS = 5.0

USAGE, QUERIES_AND_WRITER, PULSE = "lizenzserver-usage", "lizenzserver", "lizenzserver-pulse"
PROJECTOR, ANOMALY = "lizenzserver-projector", "lizenzserver-anomaly"
ALL = ""


@pytest.fixture(scope="module")
def plant(cluster: Cluster) -> Iterator[Plant]:
    with running_behind_proxy(cluster, with_other=True) as running:
        yield running


def of(plant: Plant) -> tuple[int, ...]:
    """Return all processes that work for a test."""
    assert plant.other is not None
    return plant.process.pid, plant.other.pid, postmaster(plant.cluster)


async def swallow(plant: Plant, name: str) -> None:
    """Let nothing more through on the connections of this name, or on all. Who was cut off before has another soon."""
    for wanted in [name] if name else (USAGE, QUERIES_AND_WRITER, PULSE, PROJECTOR, ANOMALY):
        await eventually(lambda wanted=wanted: is_connected(plant, wanted))
    assert plant.proxy.swallow(*([name] if name else [])) >= 1


async def is_connected(plant: Plant, name: str) -> bool:
    return name in plant.proxy.names()


@pytest.mark.parametrize("name", [USAGE, QUERIES_AND_WRITER, PULSE, PROJECTOR, ANOMALY, ALL])
async def test_verdicts_stay_right_and_orders_go_on(plant: Plant, name: str) -> None:
    assert plant.other is not None
    async with client_of(plant.process) as client, client_of(plant.other) as beside:
        beside.api_key = client.api_key = (await beside.new_api_key())["api_key"]
        licenses = [await beside.new_license() for _ in range(6)]
        for license in licenses:
            assert (await beside.activate(license, "pc")).status == 201
            assert (await client.validate(license, "pc")).status == 200
        await swallow(plant, name)
        # Ended on the other process: from then on nothing may be let through here, whatever the connections do.
        for license in licenses[:3]:
            assert (await beside.admin("DELETE", f"/licenses/{license['license_id']}")).status == 200
            refused = await client.validate(license, "pc")
            assert refused.status in {403, 503}, refused
        for license in licenses[3:]:
            assert (await client.validate(license, "pc")).status == 200
        async with stalls(*of(plant)) as machine:
            began = time.monotonic()
            await eventually(lambda: activated(client, licenses[3]), 20)
            assert time.monotonic() - began < BACK_SECONDS + machine.seconds
        refused = await client.validate(licenses[0], "pc")
        assert (refused.status, refused["error_code"]) == (403, "LICENSE_INACTIVE")
        reply = await client.request("GET", "/health/ready")
        assert reply.status == 200, reply
    check_invariants(plant.database)


async def activated(client: Client, license: dict[str, str]) -> bool:
    reply = await client.activate(license, "another", idempotency_key="another")
    assert reply.status in {201, 503}, reply
    return reply.status == 201


async def test_an_order_on_a_lost_connection_is_carried_out_within_two_seconds(plant: Plant) -> None:
    async with client_of(plant.process) as client:
        client.api_key = (await client.new_api_key())["api_key"]
        license = await client.new_license()
        assert (await client.activate(license, "first")).status == 201
        await swallow(plant, QUERIES_AND_WRITER)
        async with stalls(*of(plant)) as machine:
            began = time.monotonic()
            assert (await client.activate(license, "second")).status == 201
            assert time.monotonic() - began < LAG_SECONDS + machine.seconds


async def test_usage_on_a_lost_connection_is_stored_once(plant: Plant) -> None:
    async with client_of(plant.process) as client:
        client.api_key = (await client.new_api_key())["api_key"]
        license = await client.new_license()
        assert (await client.activate(license, "pc")).status == 201
        for round_ in range(3):
            await swallow(plant, USAGE)
            async with stalls(*of(plant)) as machine:
                began = time.monotonic()
                replies = await asyncio.gather(
                    *(client.validate(license, "pc", fields={"app_version": f"hole-{round_}-{n}"}) for n in range(10))
                )
                assert {reply.status for reply in replies} == {200}
                await eventually(lambda round_=round_: rows(plant, f"hole-{round_}-%", 10))
                assert time.monotonic() - began < LAG_SECONDS + machine.seconds
        assert await rows(plant, "hole-%", 30)


async def rows(plant: Plant, pattern: str, number: int) -> bool:
    with plant.database.connect() as connection:
        row = connection.execute("SELECT count(*) AS n FROM usage WHERE app_version LIKE %s", (pattern,)).fetchone()
    assert row is not None
    return bool(row["n"] == number)


async def test_views_lag_less_than_two_seconds(plant: Plant) -> None:
    assert plant.other is not None
    async with client_of(plant.other) as beside:
        beside.api_key = (await beside.new_api_key())["api_key"]
        license = await beside.new_license()
        await let_it_hold(plant, "projector")
        await swallow(plant, PROJECTOR)
        assert (await beside.activate(license, "pc")).status == 201
        async with stalls(*of(plant)) as machine:
            began = time.monotonic()
            await eventually(lambda: asyncio.to_thread(are_at_the_end, plant.database), 20)
            assert time.monotonic() - began < LAG_SECONDS + machine.seconds
    assert differing_rows(plant.database) == {}


async def test_one_lost_connection_is_not_taken_for_a_database_that_is_away(plant: Plant) -> None:
    async with client_of(plant.process) as client:
        client.api_key = (await client.new_api_key())["api_key"]
        license = await client.new_license()
        assert (await client.activate(license, "pc")).status == 201

        async def is_not_away() -> None:
            await eventually(lambda: says(client, "database_away", 0))
            before = await metric(client, "answers_from_memory_total")
            await swallow(plant, PULSE)
            until = time.monotonic() + 1.5
            while time.monotonic() < until:
                assert (await client.validate(license, "pc")).status == 200
                assert await metric(client, "database_away") == 0
            assert await metric(client, "answers_from_memory_total") == before

        await undisturbed(is_not_away, *of(plant))


async def metric(client: Client, name: str) -> float:
    async with client.session.get(f"{client.base}/metrics") as response:
        text = await response.text()
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"lizenzserver_{name} "))


async def says(client: Client, name: str, number: float) -> bool:
    return await metric(client, name) == number


async def test_a_slow_network_is_no_lost_connection(plant: Plant) -> None:
    async with client_of(plant.process) as client:
        client.api_key = (await client.new_api_key())["api_key"]

        async def is_not_lost() -> None:
            await eventually(lambda: says(client, "database_away", 0))
            before = await metric(client, "sessions_lost_total")
            plant.proxy.delay(0.02)
            try:
                license = await client.new_license()
                assert (await client.activate(license, "pc")).status == 201
                for _ in range(10):
                    assert (await client.validate(license, "pc")).status == 200
                assert await metric(client, "database_away") == 0
            finally:
                plant.proxy.delay(0)
            assert await metric(client, "sessions_lost_total") == before

        await undisturbed(is_not_lost, *of(plant))
