"""An API process, or two, that reach their database through a proxy which can lose, swallow and cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from infra.postgres import Database
from tests.support.both_logs import give_place
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.postgres_proxy import PostgresProxy
from tests.support.processes import ServerProcess
from tests.support.workers import holder
from workers.lease import RENEW_SECONDS


class Plant(NamedTuple):
    """`database` leads past the proxy. `other` is a process that the proxy's faults do not meet, where there is one."""

    cluster: Cluster
    database: Database
    proxy: PostgresProxy
    process: ServerProcess
    other: ServerProcess | None = None


async def let_it_hold(plant: Plant, worker: str) -> None:
    """Have a worker's place held by the process behind the proxy: after a fault or a stall, the other one may."""

    async def holds() -> bool:
        if (found := holder(plant.database, worker)) is not None and found != plant.process.pid:
            # Whoever looks first takes it.
            give_place(plant.database, worker)
        return found == plant.process.pid

    if not await holds():
        await eventually(holds, 30)
        # For so long the other one may still take it for its own.
        await asyncio.sleep(RENEW_SECONDS)


@contextmanager
def running_behind_proxy(cluster: Cluster, *, with_other: bool = False) -> Iterator[Plant]:
    """Run a process behind a proxy over a new database; with another one, beside it, that needs no proxy."""
    database = cluster.new_database()
    with PostgresProxy(database) as proxy, TemporaryDirectory(prefix="lizenzserver-proxied-") as folder:
        process = ServerProcess(proxy.database, Path(folder)).wait_ready()
        other = ServerProcess(database, Path(folder)) if with_other else None
        try:
            if other is not None:
                other.wait_ready()
            yield Plant(cluster, database, proxy, process, other)
        finally:
            if other is not None:
                other.stop()
            process.stop()
