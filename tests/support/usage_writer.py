"""A writer of the usage log as a process of its own: `python -m tests.support.usage_writer DATABASE_URL ROWS`."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime

from commands.usage_log import UsageLog
from commands.usage_row import usage_line
from infra.postgres import Database
from projections.log_watch import LogWatch

AT_ONCE = 50
"""Rows of a round, as of so many requests at a time."""


async def write(database: Database, rows: int) -> None:
    """Store rows as the services do, and return when all are stored."""
    usage = UsageLog(database.connect_async, database.connect_login, LogWatch(), wait_seconds=60)
    usage.start()
    try:
        for start in range(0, rows, AT_ONCE):
            line = usage_line(
                occurred_at=datetime.now(UTC), type="device.heartbeat", operation="heartbeat", hardware_id="pc-1"
            )
            # All rows of a round have the same future.
            added = {usage.append((), line)[0] for _ in range(min(AT_ONCE, rows - start))}
            await asyncio.gather(*added)
    finally:
        await usage.stop()
    if usage.stats.rows != rows:
        raise SystemExit(f"{usage.stats.rows} of {rows} rows were stored")


if __name__ == "__main__":
    asyncio.run(write(Database(sys.argv[1], sys.argv[1]), int(sys.argv[2])))
