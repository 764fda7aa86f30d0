"""Puts rows into the usage log as its writer does, and reads projections in a snapshot."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg.rows import dict_row

from commands.usage_row import COLUMNS, Operation, UsageType, usage_line
from infra.postgres import Database
from projections.snapshot import snapshot

OPERATIONS: dict[UsageType, Operation] = {
    "license.validated": "validate",
    "license.validation.failed": "validate",
    "device.heartbeat": "heartbeat",
}


class Use(NamedTuple):
    """A row of the usage log, as far as reports read it."""

    at: datetime
    license_id: UUID | None
    hardware_id: str = "pc-1"
    type: UsageType = "device.heartbeat"
    country: str | None = None
    app_version: str | None = None
    reason: str | None = None


def utc(day: str, time: str = "00:00") -> datetime:
    """Return a moment in UTC, of ISO 8601 texts."""
    return datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=UTC)


def failed(at: datetime, license_id: UUID | None, reason: str, hardware_id: str = "pc-1") -> Use:
    """Return a refusal."""
    return Use(at, license_id, hardware_id, "license.validation.failed", reason=reason)


def store(database: Database, uses: Iterable[Use]) -> None:
    """Append rows, and the partitions they need."""
    rows = list(uses)
    days = [use.at.date() for use in rows]
    with database.connect() as connection:
        connection.execute("SELECT ensure_usage_partitions(%s, %s)", (min(days), max(days)))
        with connection.cursor().copy(f"COPY usage ({', '.join(COLUMNS)}) FROM STDIN") as copy:
            copy.write(b"".join(_line(use) for use in rows))


def issue(database: Database, product: str | None = None, **columns: Any) -> UUID:
    """Put a licence into its view and return its id; `columns` replace the usual values."""
    license_id = uuid4()
    values = {
        "license_id": license_id,
        "position": license_id.int % 2**62,
        "key_digest": license_id.bytes,
        "key_sealed": b"",
        "subject_id": uuid4(),
        "product": product,
        "max_devices": 3,
        "features": [],
        "is_test": False,
        "floating": False,
        "created_at": utc("2024-01-01"),
        **columns,
    }
    marks = ", ".join(f"%({name})s" for name in values)
    with database.connect() as connection:
        connection.execute(f"INSERT INTO licenses ({', '.join(values)}) VALUES ({marks})", values)
    return license_id


@asynccontextmanager
async def reading(database: Database) -> AsyncIterator[Any]:
    """Give a connection that is within a snapshot."""
    connection = await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True, row_factory=dict_row)
    async with connection, snapshot(connection):
        yield connection


def _line(use: Use) -> bytes:
    return usage_line(
        occurred_at=use.at,
        type=use.type,
        operation=OPERATIONS[use.type],
        license_id=use.license_id,
        hardware_id=use.hardware_id,
        reason=use.reason,
        country=use.country,
        app_version=use.app_version,
    )
