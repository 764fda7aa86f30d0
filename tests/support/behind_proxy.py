"""An API process, or two, that reach their database through a proxy which can lose, swallow and cut."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from infra.postgres import Database
from tests.support.cluster import Cluster
from tests.support.postgres_proxy import PostgresProxy
from tests.support.processes import ServerProcess


class Plant(NamedTuple):
    """`database` leads past the proxy. `other` is a process that the proxy's faults do not meet, where there is one."""

    cluster: Cluster
    database: Database
    proxy: PostgresProxy
    process: ServerProcess
    other: ServerProcess | None = None


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
