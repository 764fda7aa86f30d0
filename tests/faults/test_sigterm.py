"""SIGTERM under load: what was begun is finished, all that was answered is stored, and the process is gone in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.postgres import Database
from tests.support.both_logs import BothLogs
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.keyed_commands import KeyedCommands
from tests.support.marked_validations import MarkedValidations
from tests.support.nursery import Nursery, Server
from tests.support.workers import holder

STOP_SECONDS = 15.0
"""Ten for the requests that are under way, five for the last rows of use."""


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("logs")) as running:
        yield running


@pytest.fixture
def database(cluster: Cluster) -> Iterator[Database]:
    made = cluster.new_database()
    yield made
    cluster.drop(made)


async def test_a_service_finishes_what_it_has_begun(nursery: Nursery, database: Database, tmp_path: Path) -> None:
    # The one that is ended answers before it has stored: all rows of use wait in its memory.
    with nursery.serve(database, tmp_path) as survivor, nursery.serve(database, tmp_path, USAGE_WAIT_MS="0") as ended:
        async with survivor.client() as client:
            client.api_key = (await client.new_api_key())["api_key"]
            async with ended.client(client.api_key) as other:
                commands, validations = await KeyedCommands.prepare(client), await MarkedValidations.prepare(client)
                load = asyncio.gather(commands.run(other, "stop"), validations.run(other))

                async def is_under_way() -> bool:
                    return len(commands.answered) > 100 and len(validations.answered) > 100

                await eventually(is_under_way, 20)
                assert await asyncio.to_thread(stopped_in_time, ended)
                await load
                unanswered = set(commands.unanswered)
                untold = await commands.resolve(client, database)
        assert survivor.stop() == 0
    assert unanswered
    assert not untold, "whose order was carried out was told"
    assert validations.refused == []
    commands.check(database)
    stored = validations.stored(database)
    assert stored.keys() == validations.answered
    assert set(stored.values()) == {1}
    assert ended.complaints() == []


def stopped_in_time(server: Server) -> bool:
    began = time.monotonic()
    return server.stop() == 0 and time.monotonic() - began < STOP_SECONDS


@pytest.mark.parametrize("name", ["projector", "anomaly", "notary"])
async def test_a_worker_finishes_its_step_and_leaves_its_place(
    nursery: Nursery, database: Database, tmp_path: Path, name: str
) -> None:
    with nursery.run(database, tmp_path, "licenses", "list") as first:
        assert first.wait() == 0, "the database has this data folder's identity from now on"
    logs = BothLogs(database)
    for _ in range(3):
        logs.add(400)
        with nursery.run(database, tmp_path, "work", name) as worker:

            async def holds(pid: int = worker.pid) -> bool:
                return holder(database, name) == pid

            await eventually(holds)
            logs.add(400)
            assert await asyncio.to_thread(worker.stop) == 0, worker.log()
        assert holder(database, name) is None
    with nursery.run(database, tmp_path, "work", "projector"):
        await logs.followed()
    logs.assert_applied_once()
