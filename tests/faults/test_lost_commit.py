"""What was committed while its reply was lost is neither lost nor done twice: orders, usage rows, views."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from infra.postgres import Database
from tests.support.behind_proxy import Plant, running_behind_proxy
from tests.support.client import Client, Reply, eventually
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants, check_outcomes
from tests.support.postgres_proxy import Fault
from tests.support.processes import client_of
from tests.support.workers import are_at_the_end, differing_rows

FAULTS = 5
CALLERS = 24

_MARKS = "SELECT app_version, count(*) AS times FROM usage WHERE app_version LIKE %s GROUP BY app_version"


@pytest.fixture(scope="module")
def plant(cluster: Cluster) -> Iterator[Plant]:
    with running_behind_proxy(cluster) as running:
        yield running


def stored(database: Database, prefix: str) -> Counter[str]:
    """Return how many usage rows there are of each mark that begins so."""
    with database.connect() as connection:
        rows = connection.execute(_MARKS, (f"{prefix}%",)).fetchall()
    return Counter({row["app_version"]: row["times"] for row in rows})


@pytest.mark.parametrize("fault", ["the reply to COPY", "the end of COPY"])
async def test_a_usage_round_whose_reply_is_lost_is_stored_once(plant: Plant, fault: Fault) -> None:
    prefix = fault.replace(" ", "-")
    async with client_of(plant.process) as client:
        license = await with_device(client)
        marks: list[str] = []
        for round_ in range(FAULTS):
            plant.proxy.lose(fault, "lizenzserver-usage")
            for batch in range(2):
                now = [f"{prefix}-{round_}-{batch}-{number}" for number in range(20)]
                replies = await asyncio.gather(
                    *(client.validate(license, "pc", fields={"app_version": mark}) for mark in now)
                )
                assert {reply.status for reply in replies} == {200}
                marks += now
            assert await asyncio.to_thread(plant.proxy.happened.wait, 20)
        await eventually(lambda: all_are_stored(plant.database, prefix, marks))
        # What comes after is stored after it: nothing can still be on its way.
        assert (await client.validate(license, "pc", fields={"app_version": f"{prefix}-last"})).status == 200
        await eventually(lambda: all_are_stored(plant.database, f"{prefix}-last", [f"{prefix}-last"]))
    assert stored(plant.database, prefix) == Counter([*marks, f"{prefix}-last"])


async def with_device(client: Client) -> dict[str, Any]:
    client.api_key = (await client.new_api_key())["api_key"]
    license = await client.new_license(max_devices=100_000)
    assert (await client.activate(license, "pc")).status == 201
    assert (await client.validate(license, "pc")).status == 200
    return license


async def all_are_stored(database: Database, prefix: str, marks: list[str]) -> bool:
    return (await asyncio.to_thread(stored, database, prefix)).keys() >= set(marks)


@pytest.mark.parametrize("fault", ["the reply to COMMIT", "COMMIT"])
async def test_orders_under_load_whose_commit_or_its_reply_is_lost_are_carried_out_once(
    plant: Plant, fault: Fault
) -> None:
    prefix = fault.replace(" ", "-")
    answered: dict[str, Reply] = {}
    async with client_of(plant.process) as client:
        license = await with_device(client)

        async def order(key: str) -> Reply:
            """Some make a licence, whose answer is rendered from the views; others have no idempotency key."""
            if key.endswith(("0", "3", "6", "9")):
                body = {"customer_id": key, "max_devices": 1}
                return await client.admin("POST", "/licenses", body, idempotency_key=key, x_request_id=key)
            return await client.activate(license, key, x_request_id=key, idempotency_key=None if keyless(key) else key)

        async def caller(number: int, enough: asyncio.Event) -> None:
            attempt = 0
            while not enough.is_set():
                key = f"{prefix}-{number}-{attempt}"
                answered[key] = await order(key)
                attempt += 1

        enough = asyncio.Event()
        callers = [asyncio.create_task(caller(number, enough)) for number in range(CALLERS)]
        for _ in range(FAULTS):
            so_far = len(answered)
            plant.proxy.lose(fault)
            assert await asyncio.to_thread(plant.proxy.happened.wait, 20)
            await eventually(lambda so_far=so_far: more_than(answered, so_far + CALLERS))
        enough.set()
        await asyncio.gather(*callers)
        # Whoever could not be told asks again; nobody hears of a conflict with what they did themselves.
        assert {reply.status for reply in answered.values()} <= {201, 503}
        unknown = {key for key, reply in answered.items() if reply.status == 503 and keyless(key)}
        with_key = {key: reply for key, reply in answered.items() if not keyless(key)}
        for key, first in with_key.items():
            if first.status == 503:
                assert "Retry-After" in first.headers
                assert (await order(key)).status == 201
        for key in list(with_key)[:: len(with_key) // 20]:
            again = await order(key)
            assert again.status == 201
            assert "Idempotency-Replayed" in again.headers
            assert answered[key].status == 503 or again.body == answered[key].body
    check_outcomes(check_invariants(plant.database), dict.fromkeys(answered.keys() - unknown, 201))


def keyless(key: str) -> bool:
    return key.endswith(("1", "4", "5", "7"))


async def more_than(answered: dict[str, Reply], number: int) -> bool:
    return len(answered) > number


@pytest.mark.parametrize("fault", ["the reply to COMMIT", "COMMIT"])
async def test_a_projector_whose_commit_or_its_reply_is_lost_applies_all_once(plant: Plant, fault: Fault) -> None:
    async with client_of(plant.process) as client:
        license = await with_device(client)
        for round_ in range(3):
            plant.proxy.lose(fault, "lizenzserver-projector")
            for number in range(5):
                device = f"{fault.replace(' ', '-')}-{round_}-{number}"
                assert (await client.activate(license, device)).status == 201
                assert (await client.validate(license, device)).status == 200
            assert await asyncio.to_thread(plant.proxy.happened.wait, 20)
    await eventually(lambda: asyncio.to_thread(are_at_the_end, plant.database))
    assert differing_rows(plant.database) == {}
