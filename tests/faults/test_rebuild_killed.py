"""`lizenzserver rebuild`, killed anywhere: the old view is served until the swap, and the next one makes it good."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from infra.postgres import Database
from projections.inline_views import InlineViews
from projections.registry import ASYNCHRONOUS
from tests.support.both_logs import BothLogs
from tests.support.client import Client
from tests.support.cluster import Cluster
from tests.support.invariants import check_invariants
from tests.support.nursery import Nursery
from tests.support.usage import Use, utc
from tests.support.workers import identify

POINTS = ["rebuilt to 10 %", "rebuilt to 50 %", "rebuilt to 90 %", "swapping", "swapped"]
BATCH = "20"
"""Rows that are folded at once, so that a small log is folded in many steps."""

WRONG = {
    "usage": "UPDATE usage_days SET validations = validations + 1",
    "devices-seen": "DELETE FROM device_days WHERE hardware_id = 'pc-1'",
    "seats": "UPDATE seat_days SET activations = 0",
}
TABLES = {projection.name: projection.tables for projection in ASYNCHRONOUS}


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with Nursery(tmp_path_factory.mktemp("logs")) as running:
        yield running


@dataclass
class History:
    """Logs that are followed, in a database from which tests make copies."""

    logs: BothLogs
    data_dir: Path


@pytest.fixture(scope="module")
def history(cluster: Cluster, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    database, data_dir = cluster.new_database(), tmp_path_factory.mktemp("data")
    identify(database)
    logs = BothLogs(database)
    logs.add(600)
    with nursery.run(database, data_dir, "work", "projector") as projector:
        asyncio.run(logs.followed())
        assert projector.stop() == 0
    logs.assert_applied_once()
    yield History(logs, data_dir)
    cluster.drop(database)


def rows(database: Database, tables: tuple[str, ...]) -> dict[str, list[tuple[Any, ...]]]:
    """Return what tables hold, in the same order each time."""
    with database.connect() as connection:
        return {
            table: sorted((tuple(row.values()) for row in connection.execute(f"TABLE {table}").fetchall()), key=repr)
            for table in tables
        }


@pytest.mark.parametrize("name", WRONG)
def test_the_old_view_is_served_until_the_swap_and_then_the_new_one(
    cluster: Cluster, nursery: Nursery, history: History, name: str
) -> None:
    database = cluster.copy(history.logs.database)
    right = rows(database, TABLES[name])
    with database.connect() as connection:
        connection.execute(WRONG[name])
    wrong = rows(database, TABLES[name])
    assert wrong != right
    for point in POINTS:
        with nursery.run(database, history.data_dir, "rebuild", name, KILL_AT=point, BATCH=BATCH) as killed:
            assert killed.ended_at(point), killed.log()
        assert rows(database, TABLES[name]) == wrong
    later = BothLogs(database)
    later.uses = [*history.logs.uses]
    later.add_uses([Use(utc("2026-01-02"), None, type="license.validation.failed", reason="LICENSE_NOT_FOUND")])
    with nursery.run(database, history.data_dir, "rebuild", name) as again:
        assert again.wait() == 0, again.log()
    assert "a rebuild that was ended goes on" in again.log()
    if name != "usage":
        assert rows(database, TABLES[name]) == right
    with nursery.run(database, history.data_dir, "work", "projector") as projector:
        asyncio.run(later.followed())
        assert projector.stop() == 0
    later.assert_applied_once()
    cluster.drop(database)


async def test_licences_are_rebuilt_while_they_change(
    cluster: Cluster, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory
) -> None:
    database, data_dir = cluster.new_database(), tmp_path_factory.mktemp("served")
    with nursery.serve(database, data_dir) as server:
        async with server.client() as client:
            client.api_key = (await client.new_api_key())["api_key"]
            licenses = [await client.new_license(max_devices=100_000) for _ in range(40)]
            for number in range(5):
                for license in licenses:
                    await activated(client, license, f"pc-{number}")
            with database.connect() as connection:
                connection.execute("UPDATE licenses SET features = '{falsified}'")
            ordering = asyncio.create_task(order_on(client, licenses))
            for point in POINTS:
                killed = nursery.run(database, data_dir, "rebuild", "licenses", KILL_AT=point, BATCH=BATCH)
                assert await asyncio.to_thread(killed.ended_at, point), killed.log()
                with database.connect() as connection:
                    served = connection.execute("SELECT features FROM licenses").fetchall()
                assert sum(row["features"] == ["falsified"] for row in served) == len(licenses)
            with nursery.run(database, data_dir, "rebuild", "licenses") as again:
                assert await asyncio.to_thread(again.wait) == 0, again.log()
            ordering.cancel()
            await asyncio.wait([ordering])
            assert ordering.cancelled(), "no order failed"
            await client.new_license()
        assert server.stop() == 0
    assert rows(database, InlineViews.TABLES)["devices"]
    check_invariants(database)
    cluster.drop(database)


async def activated(client: Client, license: dict[str, Any], hardware_id: str) -> None:
    """Activate a device, which must succeed."""
    reply = await client.activate(license, hardware_id)
    assert reply.status == 201, reply


async def order_on(client: Client, licenses: list[dict[str, Any]]) -> None:
    """Order one change after the other until cancelled. None may fail."""
    for number in count():
        license = licenses[number % len(licenses)]
        await activated(client, license, f"later-{number}")
        created = await client.admin("POST", "/licenses", {"customer_id": "later"})
        assert created.status == 201, created
