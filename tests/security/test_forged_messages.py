"""Whoever can publish to the broker changes nothing: what is no message of ours is dead-lettered; the rest hints."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from functools import partial
from typing import Any
from uuid import uuid4

import pytest

from infra.postgres import Database
from projections.registry import ASYNCHRONOUS
from tests.support.both_logs import BothLogs
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.detecting import remembered
from tests.support.event_log import START
from tests.support.fleet_logs import fleet_lines, rows_of
from tests.support.nursery import Nursery
from tests.support.rabbit import Rabbit
from tests.support.usage import Use
from tests.support.worker_plant import WorkerPlant
from tests.support.workers import differing_rows
from workers.broker import queue_name

EXCHANGE = "licenses.events"
WORKERS = ("projector", "anomaly")
CONSUMERS = ("relay", "usage", "devices-seen", "seats", "anomaly")
REFUSED_SECONDS = 60.0
"""Of rows that do not exist, a message is refused at the first look that is five seconds later than it came."""

FAR_AWAY = "0000000000000999999"


@pytest.fixture
def plant(cluster: Cluster, rabbit: Rabbit, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerPlant]:
    database, data_dir = cluster.new_database(), tmp_path_factory.mktemp("data")
    rows_of(database, data_dir, fleet_lines(seed=2, licenses=8, days=5)).put(database)
    with Nursery(tmp_path_factory.mktemp("logs")) as nursery:
        yield WorkerPlant(nursery, rabbit, rabbit.new_host(), data_dir, BothLogs(database))
    cluster.drop(database)


def views(database: Database) -> dict[str, Any]:
    """Return what all views hold, and what detection remembers."""
    tables = ["anomalies", *(table for projection in ASYNCHRONOUS for table in projection.tables)]
    with database.connect() as connection:
        rows = {table: connection.execute(f"TABLE {table}").fetchall() for table in tables}
    return {table: sorted(map(repr, found)) for table, found in rows.items()} | remembered(database)


def changed(genuine: dict[str, Any], **fields: Any) -> bytes:
    """Return a message as it was, but for some fields."""
    return json.dumps({**genuine, **fields}).encode()


def forgeries(genuine: dict[str, Any]) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """Return what is no message of ours, what names rows that there are not, and what lies about rows that there are.

    `genuine` is an event's message.
    """
    usage = genuine["source"].replace("/events", "/usage")
    not_ours = [
        b"",
        b"\x00\xff",
        b"not JSON",
        b"[]",
        b"{}",
        b'{"a":' * 20_000,
        json.dumps({"sequence": genuine["sequence"], "data": "x" * 1_000_000}).encode(),
        changed(genuine, source="/lizenzserver/elsewhere/events"),
        changed(genuine, sequence="-000000000000000001"),
        changed(genuine, sequence="0" * 19),
        changed(genuine, sequence=1),
        changed(genuine, specversion="9"),
        changed(genuine, data="DROP TABLE licenses"),
    ]
    of_no_row = [changed(genuine, sequence=FAR_AWAY), changed(genuine, sequence=FAR_AWAY, source=usage)]
    revoked = {"is_active": False, "max_devices": 0, "version": 99, "actor": "admin:nobody"}
    lies = [
        changed(genuine, type="license.deactivated", data=revoked),
        changed(genuine, id=str(uuid4()), subject=str(uuid4())),
        changed(genuine, source=usage, type="license.validation.failed", data={"reason": "LICENSE_NOT_FOUND"}),
        changed(genuine, type="anomaly.detected", data={"kind": "leaked_key", "severity": "critical"}),
    ]
    return not_ours, of_no_row, lies * 5


async def test_a_forged_message_changes_nothing(plant: WorkerPlant) -> None:
    with plant.work("projector") as projector, plant.work("anomaly") as anomaly:
        for worker in (projector, anomaly):
            await plant.listens(worker)
        await asyncio.to_thread(plant.host.new_queue, "analyst")
        with plant.work("relay"):
            await plant.logs.followed(*CONSUMERS)
        before = views(plant.database)
        assert all(before[table] for table in ("anomalies", "usage_days", "seat_days", "license_behaviour"))
        taken = await asyncio.to_thread(plant.host.take, "analyst")
        genuine = next(one.event for one in taken if one.event["type"] == "license.issued")

        not_ours, of_no_row, lies = forgeries(genuine)
        refused = [*not_ours, *of_no_row]
        with plant.host.channel() as channel:
            for body in (*refused, *lies):
                channel.basic_publish(EXCHANGE, "license.issued", body)
            for worker_name in WORKERS:
                for body in refused:
                    channel.basic_publish("", queue_name(worker_name), body)
        # By both ways in all of them, and no lie.
        await eventually(partial(are_set_aside, plant, 2 * len(refused)), REFUSED_SECONDS)
        assert views(plant.database) == before
        plant.logs.add_uses([Use(START, None, type="license.validation.failed", reason="LICENSE_NOT_FOUND")])
        await plant.logs.followed(*CONSUMERS[1:])
        for worker in (projector, anomaly):
            assert worker.stop() == 0
            assert "refused a message" in worker.log()
            assert "Traceback" not in worker.log()
    assert [plant.host.size(queue_name(name)) for name in WORKERS] == [0, 0]
    assert differing_rows(plant.database) == {}


async def are_set_aside(plant: WorkerPlant, number: int) -> bool:
    """Tell whether each consumer has dead-lettered so many messages."""
    found = [await asyncio.to_thread(plant.host.size, f"{queue_name(name)}.dead") for name in WORKERS]
    assert max(found) <= number
    return found == [number] * len(WORKERS)
