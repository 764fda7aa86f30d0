"""Workers that are killed at the worst moments: what is done twice is applied once, and nothing is passed over."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.postgres import Database
from infra.vault import Vault
from projections import dead_letters
from projections.behaviour import CONSUMER
from tests.support.both_logs import BothLogs
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.detecting import found, recorded_ids, remembered, vault_of
from tests.support.event_log import START
from tests.support.fleet_logs import fleet_lines, rows_of
from tests.support.nursery import Nursery
from tests.support.postgres_faults import postmaster
from tests.support.rabbit import Rabbit
from tests.support.relaying import log_positions
from tests.support.stalls import stalls
from tests.support.usage import Use
from tests.support.worker_plant import WorkerPlant
from tests.support.workers import holder, identify
from workers.broker import Broker

QUEUE = "analyst"
ROWS = 150
TAKEOVER_SECONDS = 10.0


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("logs")) as running:
        yield running


@pytest.fixture(scope="module")
def plant(
    cluster: Cluster, rabbit: Rabbit, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerPlant]:
    database = cluster.new_database()
    identify(database)
    yield WorkerPlant(nursery, rabbit, rabbit.new_host(), tmp_path_factory.mktemp("data"), BothLogs(database))
    cluster.drop(database)


@pytest.mark.parametrize("point", ["view written", "position moved", "step committed", "acking"])
async def test_a_projector_that_is_killed_applies_each_row_once(plant: WorkerPlant, point: str) -> None:
    with plant.work("relay"):
        with plant.work("projector", KILL_AT=point) as killed:
            await plant.listens(killed)
            plant.logs.add(ROWS)
            assert await asyncio.to_thread(killed.ended_at, point)
        with plant.work("projector") as projector:
            await plant.listens(projector)
            await plant.logs.followed("relay")
            await plant.logs.followed()
        if point == "acking":
            await plant.acks_all("projector")
    plant.logs.assert_applied_once()
    with plant.database.connect() as connection:
        assert dead_letters.listed(connection) == []


@pytest.fixture
async def analyst(plant: WorkerPlant) -> str:
    """Give an empty queue of an analyst's, which gets all that is published from now on."""
    await (await Broker.connect(plant.host.url, "test")).close()
    with plant.host.channel() as channel:
        channel.queue_delete(QUEUE)
    plant.host.new_queue(QUEUE)
    return QUEUE


@pytest.mark.parametrize("point, times", [("publishing", 1), ("confirmed", 2), ("relayed", 1)])
async def test_a_relay_that_is_killed_publishes_each_row_and_its_consumers_apply_it_once(
    plant: WorkerPlant, analyst: str, point: str, times: int
) -> None:
    with plant.work("relay"):
        await plant.logs.followed("relay")
    with plant.host.channel() as channel:
        channel.queue_purge(analyst)
    before = log_positions(plant.database)
    with plant.work("projector") as projector:
        await plant.listens(projector)
        plant.logs.add(ROWS)
        with plant.work("relay", KILL_AT=point) as killed:
            assert await asyncio.to_thread(killed.ended_at, point)
        with plant.work("relay"):
            await plant.logs.followed("relay")
            await plant.logs.followed()
    taken = Counter((one.event["source"], int(one.event["sequence"])) for one in plant.host.take(analyst))
    for log, old, now in zip(("events", "usage"), before, log_positions(plant.database), strict=True):
        of_log = {position: count for (source, position), count in taken.items() if source.endswith(log)}
        assert of_log == dict.fromkeys(now[len(old) :], times)
    plant.logs.assert_applied_once()


@dataclass(frozen=True)
class Fleet:
    """A history, in a database that copies are made of, and what an undisturbed worker makes of it."""

    logs: Database
    data_dir: Path
    vault: Vault
    outcome: tuple[list[Any], dict[str, Any]]


@pytest.fixture(scope="module")
def fleet(cluster: Cluster, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    data_dir = tmp_path_factory.mktemp("fleet")
    logs = cluster.new_database()
    rows_of(logs, data_dir, fleet_lines(seed=2, licenses=8, days=5)).put(logs)
    done = cluster.copy(logs)
    with nursery.run(done, data_dir, "work", "anomaly") as worker:
        asyncio.run(BothLogs(done).followed(CONSUMER))
        assert worker.stop() == 0
    vault = vault_of(data_dir)
    yield Fleet(logs, data_dir, vault, outcome_of(done, vault))
    cluster.drop(done)
    cluster.drop(logs)


def outcome_of(database: Database, vault: Vault) -> tuple[list[Any], dict[str, Any]]:
    """Return what was found, once each, and what is remembered."""
    ids = recorded_ids(database)
    anomalies = found(database, vault)
    assert sorted(ids) == sorted(one.id for one in anomalies)
    assert len(ids) == len(set(ids)) > 0
    return anomalies, remembered(database)


@pytest.mark.parametrize("point", ["states stored", "committed", "acking"])
async def test_an_anomaly_worker_that_is_killed_finds_each_anomaly_once(
    cluster: Cluster, rabbit: Rabbit, nursery: Nursery, fleet: Fleet, point: str
) -> None:
    database = cluster.copy(fleet.logs)
    plant = WorkerPlant(nursery, rabbit, rabbit.new_host(), fleet.data_dir, BothLogs(database))
    with plant.work("anomaly", KILL_AT=point) as killed, plant.work("relay"):
        assert await asyncio.to_thread(killed.ended_at, point)
        with plant.work("anomaly") as worker:
            await plant.listens(worker)
            await plant.logs.followed(CONSUMER)
        if point == "acking":
            await plant.logs.followed("relay")
            await plant.acks_all(CONSUMER)
    assert outcome_of(database, fleet.vault) == fleet.outcome
    with database.connect() as connection:
        assert dead_letters.listed(connection) == []
    cluster.drop(database)


async def held_by(database: Database) -> int:
    """Return who holds the place: nobody may, for a moment, where the machine stands still."""

    async def found() -> int | None:
        return holder(database, CONSUMER)

    pid: int = await eventually(found)
    return pid


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
async def test_another_anomaly_worker_takes_over(
    cluster: Cluster, nursery: Nursery, fleet: Fleet, number: signal.Signals
) -> None:
    database = cluster.copy(fleet.logs)
    logs = BothLogs(database)
    with (
        nursery.run(database, fleet.data_dir, "work", "anomaly") as one,
        nursery.run(database, fleet.data_dir, "work", "anomaly") as other,
    ):
        await logs.followed(CONSUMER)
        workers = {one.pid: (one, other), other.pid: (other, one)}
        working, standby = workers[await held_by(database)]
        working.send(number)
        async with stalls(standby.pid, postmaster(cluster)) as machine:
            ended_at = time.monotonic()
            logs.add_uses([Use(START, None, type="license.validation.failed", reason="LICENSE_NOT_FOUND")])
            await logs.followed(CONSUMER, seconds=2 * TAKEOVER_SECONDS)
            assert time.monotonic() - ended_at < TAKEOVER_SECONDS + machine.seconds
        assert holder(database, CONSUMER) == standby.pid
        if number == signal.SIGSTOP:
            working.send(signal.SIGCONT)
            assert standby.stop() == 0
            logs.add_uses([Use(START, None, type="license.validation.failed", reason="LICENSE_NOT_FOUND")])
            await logs.followed(CONSUMER)
    assert outcome_of(database, fleet.vault)[0] == fleet.outcome[0]
    cluster.drop(database)
