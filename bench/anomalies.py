"""How fast the anomaly worker is: `python -m bench.anomalies [ROWS]`.

It starts a PostgreSQL of its own, with the worker as a process of its own: first over a stored history of about so many
rows, then over 2,000 rows a second as they come, of 20,000 licences of which it remembers as much as of real ones.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from statistics import quantiles
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple
from uuid import UUID

from bench.fleet.lines import Line
from commands.usage_log import UsageLog
from infra.postgres import Database
from projections.behaviour import CONSUMER
from projections.log_watch import LogWatch
from tests.support.client import eventually
from tests.support.cluster import Cluster
from tests.support.fleet_logs import fleet_lines, rows_of
from tests.support.workers import WorkerProcess, are_at_the_end
from workers.intake import SETTLE_SECONDS

LICENSES = 400
ROWS_A_DAY = 12_000
"""Of a fleet of so many licences."""
COPIES = 50
ROWS_PER_SECOND = 2_000
ROWS_AT_ONCE = 100
WARM_UP_SECONDS = SETTLE_SECONDS + 5
SECONDS = 20
_TICKS = os.sysconf("SC_CLK_TCK")

_COPY_STATES = """
    INSERT INTO license_behaviour
    SELECT md5(license_id::text || n)::uuid, state FROM license_behaviour, generate_series(1, %s) AS n
"""
_WAL = """
    SELECT coalesce(sum((pg_stat_get_backend_wal(pid)).wal_bytes), 0)::float8 AS bytes FROM pg_stat_activity
    WHERE application_name LIKE 'lizenzserver-anomaly%'
"""


class Reading(NamedTuple):
    """The worker at a moment: CPU seconds it has used, bytes of WAL it has written."""

    at: float
    cpu: float
    wal: float


def main() -> None:
    rows = int(sys.argv[1]) if sys.argv[1:] else 100_000
    print(f"load before: {os.getloadavg()[0]:.1f}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="lizenzserver-bench-")))
        database = stack.enter_context(Cluster()).new_database()
        began = time.monotonic()
        lines = fleet_lines(1, LICENSES, max(5, round(rows / ROWS_A_DAY)))
        history = rows_of(database, folder, lines)
        history.put(database)
        print(f"{len(lines):,} rows made and stored in {time.monotonic() - began:.0f} s")
        _print_catch_up(asyncio.run(catch_up(database, folder, len(lines))))
        _print_live(asyncio.run(live(database, folder, history.uses, history.use_lines)))
    print(f"load after: {os.getloadavg()[0]:.1f}")


class CatchUp(NamedTuple):
    """What the worker did over a stored history: rows a second, shares of a core, bytes of its states."""

    rows_a_second: float
    cores: float
    seconds_to_begin: float
    states: int
    mean_bytes: int
    most_bytes: int
    anomalies: int


class Live(NamedTuple):
    """How the worker kept up with rows as they came: seconds behind, beyond the wait for late ones."""

    rows_a_second: float
    lag_median: float
    lag_p95: float
    lag_most: float
    cores: float
    wal_mb_a_second: float


async def catch_up(database: Database, folder: Path, rows: int) -> CatchUp:
    """How long the worker takes for the stored history."""
    with WorkerProcess(database, "anomaly", folder) as worker:
        await _until(lambda: _passed(database) > 0)
        first, passed = _read(database, worker), _passed(database)
        await _until(lambda: are_at_the_end(database, CONSUMER))
        last = _read(database, worker)
        worker.stop()
    seconds, cpu = last.at - first.at, last.cpu - first.cpu
    per_second = (rows - passed) / seconds
    with database.connect() as connection:
        (row,) = connection.execute(
            "SELECT count(*) AS count, avg(octet_length(state))::int AS mean, max(octet_length(state)) AS most"
            " FROM license_behaviour"
        ).fetchall()
        (found,) = connection.execute("SELECT count(*) AS count FROM anomalies").fetchall()
    return CatchUp(
        per_second, cpu / seconds, first.cpu, row["count"], row["mean"] or 0, row["most"] or 0, found["count"]
    )


def _print_catch_up(found: CatchUp) -> None:
    print(
        f"catch-up: {found.rows_a_second:,.0f} rows a second, {found.cores:.0%} of a core,"
        f" {found.seconds_to_begin:.1f} s CPU to begin with"
    )
    print(
        f"states: {found.states} of {found.mean_bytes:,} bytes, at most {found.most_bytes:,};"
        f" {found.anomalies} anomalies"
    )


async def live(database: Database, folder: Path, uses: list[bytes], use_lines: list[Line]) -> Live:
    """How far behind the worker is while rows come, beyond the time for which it waits for late ones."""
    with database.connect_owner() as owner:
        owner.execute("SET search_path = lizenzserver")
        owner.execute(_COPY_STATES, (COPIES - 1,))
        owner.execute("ANALYZE license_behaviour")
        owner.execute("CHECKPOINT")
    templates = _templates(database, uses, use_lines)
    async with AsyncExitStack() as stack:
        usage = UsageLog(database.connect_async, database.connect_login, LogWatch(), wait_seconds=60)
        usage.start()
        stack.push_async_callback(usage.stop)
        worker = stack.enter_context(WorkerProcess(database, "anomaly", folder))
        writing = asyncio.create_task(_write(usage, templates))
        await asyncio.sleep(WARM_UP_SECONDS)
        first, lags = _read(database, worker), []
        while time.monotonic() < first.at + SECONDS:
            lags.append(await asyncio.to_thread(_lag, database))
            await asyncio.sleep(0.05)
        last, rows = _read(database, worker), usage.stats.rows
        writing.cancel()
        await asyncio.wait([writing])
        await _until(lambda: are_at_the_end(database, CONSUMER))
        worker.stop()
    seconds = last.at - first.at
    cuts = quantiles(lags, n=20)
    return Live(
        rows_a_second=rows / (WARM_UP_SECONDS + SECONDS),
        lag_median=cuts[9],
        lag_p95=cuts[18],
        lag_most=max(lags),
        cores=(last.cpu - first.cpu) / seconds,
        wal_mb_a_second=(last.wal - first.wal) / seconds / 1e6,
    )


def _print_live(found: Live) -> None:
    print(
        f"live: {found.rows_a_second:,.0f} rows a second; behind by {found.lag_median:.1f} s (median),"
        f" {found.lag_p95:.1f} s (p95), {found.lag_most:.1f} s (max) beyond the {SETTLE_SECONDS:.0f} s;"
        f" {found.cores:.0%} of a core; {found.wal_mb_a_second:.1f} MB of WAL a second"
    )


def _templates(database: Database, uses: list[bytes], use_lines: list[Line]) -> list[bytes]:
    """Return a row of each device of each licence and of each of its copies, without the time."""
    last = {
        (line.license_id, line.hardware_id): use
        for use, line in zip(uses, use_lines, strict=True)
        if line.license_id is not None and line.reason is None
    }
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT id::text, md5(id::text || n)::uuid::text AS copy FROM unnest(%s::uuid[]) AS id,"
            " generate_series(1, %s) AS n",
            (sorted({UUID(license_id) for license_id, _ in last}), COPIES - 1),
        ).fetchall()
    copies: dict[str, list[str]] = {}
    for row in rows:
        copies.setdefault(row["id"], []).append(row["copy"])
    made: list[bytes] = []
    for (license_id, _), use in last.items():
        rest = use[use.index(b"\t") :]
        made.append(rest)
        made += [rest.replace(license_id.encode(), copied.encode()) for copied in copies[license_id]]
    return made


async def _write(usage: UsageLog, templates: list[bytes]) -> None:
    random = Random(1)  # noqa: S311 - it only picks devices
    began, number = time.monotonic(), 0
    while True:
        number += ROWS_AT_ONCE
        await asyncio.sleep(max(0.0, began + number / ROWS_PER_SECOND - time.monotonic()))
        now = datetime.now(UTC).isoformat().encode()
        for rest in random.choices(templates, k=ROWS_AT_ONCE):
            usage.append((), now + rest)


def _lag(database: Database) -> float:
    """Return by how many seconds the worker is behind, beyond those for which rows are held back."""
    with database.connect() as connection:
        (row,) = connection.execute(
            "SELECT extract(epoch FROM clock_timestamp())::float8 - usage_at AS seconds FROM detection_clock"
        ).fetchall()
    return float(row["seconds"]) - SETTLE_SECONDS


def _passed(database: Database) -> int:
    with database.connect() as connection:
        row: dict[str, Any] | None = connection.execute(
            "SELECT event_position + usage_position AS rows FROM consumers WHERE consumer = %s", (CONSUMER,)
        ).fetchone()
    return int(row["rows"]) if row else 0


def _read(database: Database, worker: WorkerProcess) -> Reading:
    user, system = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    with database.connect_owner() as owner:
        (row,) = owner.execute(_WAL).fetchall()
    return Reading(time.monotonic(), (int(user) + int(system)) / _TICKS, row["bytes"])


async def _until(condition: Callable[[], bool]) -> None:
    async def asked() -> bool:
        return await asyncio.to_thread(condition)

    await eventually(asked, 600)


if __name__ == "__main__":
    main()
