"""A process of ours is frozen in the middle of its transaction: the others go on, and it does no harm when it thaws."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from tests.support.behind_proxy import Plant, let_it_hold, running_behind_proxy
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants, check_outcomes
from tests.support.postgres_faults import postmaster
from tests.support.processes import client_of
from tests.support.stalls import stalls
from tests.support.workers import are_at_the_end, differing_rows, holder

GO_ON_SECONDS = 10.0


@pytest.fixture(scope="module")
def plant(cluster: Cluster) -> Iterator[Plant]:
    with running_behind_proxy(cluster, with_other=True) as running:
        try:
            yield running
        finally:
            running.process.thaw()


async def test_with_the_event_logs_lock(plant: Plant) -> None:
    assert plant.other is not None
    async with client_of(plant.process) as client, client_of(plant.other) as beside:
        beside.api_key = client.api_key = (await beside.new_api_key())["api_key"]
        license = await beside.new_license(max_devices=9)
        plant.proxy.swallow_from("COMMIT", "lizenzserver", plant.process.freeze)
        frozen = asyncio.create_task(client.activate(license, "a", idempotency_key="a", x_request_id="a"))
        assert await asyncio.to_thread(plant.proxy.happened.wait, 20)
        async with stalls(plant.other.pid, postmaster(plant.cluster)) as machine:
            began = time.monotonic()
            replies = await asyncio.gather(
                *(beside.activate(license, name, idempotency_key=name, x_request_id=name) for name in "bcd")
            )
            assert time.monotonic() - began <= GO_ON_SECONDS + machine.seconds
        assert [reply.status for reply in replies] == [201] * 3
        assert not frozen.done()
        plant.process.thaw()
        first = await frozen
        assert first.status in {201, 503}
        again = await client.activate(license, "a", idempotency_key="a", x_request_id="a")
        assert again.status == 201
        assert first.status == 503 or again.body == first.body
    check_outcomes(check_invariants(plant.database), dict.fromkeys("abcd", 201))


async def test_with_the_usage_logs_lock(plant: Plant) -> None:
    assert plant.other is not None
    async with client_of(plant.process) as client, client_of(plant.other) as beside:
        beside.api_key = client.api_key = (await beside.new_api_key())["api_key"]
        license = await beside.new_license()
        assert (await beside.activate(license, "pc")).status == 201
        for one in (client, beside):
            assert (await one.validate(license, "pc")).status == 200
        plant.proxy.swallow_from("the end of COPY", "lizenzserver-usage", plant.process.freeze)
        frozen = asyncio.create_task(client.validate(license, "pc", fields={"app_version": "frozen-0"}))
        assert await asyncio.to_thread(plant.proxy.happened.wait, 20)
        async with stalls(plant.other.pid, postmaster(plant.cluster)) as machine:
            began = time.monotonic()
            for number in range(1, 6):
                reply = await beside.validate(license, "pc", fields={"app_version": f"frozen-{number}"})
                assert reply.status == 200
            await eventually(lambda: stored_times(plant, 5), 2 * GO_ON_SECONDS)
            assert time.monotonic() - began <= GO_ON_SECONDS + machine.seconds
        plant.process.thaw()
        assert (await frozen).status == 200
        await eventually(lambda: stored_times(plant, 6))


async def stored_times(plant: Plant, number: int) -> bool:
    with plant.database.connect() as connection:
        rows = connection.execute("SELECT app_version FROM usage WHERE app_version LIKE 'frozen-%'").fetchall()
    marks = [row["app_version"] for row in rows]
    assert len(marks) == len(set(marks)), marks
    return len(marks) == number


async def test_with_the_projectors_position(plant: Plant) -> None:
    assert plant.other is not None
    async with client_of(plant.other) as beside:
        beside.api_key = (await beside.new_api_key())["api_key"]
        license = await beside.new_license(max_devices=9)
        await let_it_hold(plant, "projector")
        plant.proxy.swallow_from("COMMIT", "lizenzserver-projector", plant.process.freeze)
        assert (await beside.activate(license, "a")).status == 201
        assert await asyncio.to_thread(plant.proxy.happened.wait, 20)
        async with stalls(plant.other.pid, postmaster(plant.cluster)) as machine:
            began = time.monotonic()
            await eventually(lambda: asyncio.to_thread(are_at_the_end, plant.database), 2 * GO_ON_SECONDS)
            assert time.monotonic() - began <= GO_ON_SECONDS + machine.seconds
        assert holder(plant.database, "projector") == plant.other.pid
        plant.process.thaw()
        assert (await beside.activate(license, "b")).status == 201
        await eventually(lambda: asyncio.to_thread(are_at_the_end, plant.database))
    assert differing_rows(plant.database) == {}
