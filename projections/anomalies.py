"""What detection found, as people read it: one anomaly, a licence's, or a filtered page of all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg.sql import SQL, Composed, Literal

from domain.anomalies.findings import Kind, Severity
from domain.anomaly import Status


class AnomalyRow(msgspec.Struct, frozen=True, kw_only=True):
    """An anomaly's row; address and reason are still sealed, `wrapped_key` is their subject's data key.

    `license_id` is None for one that is about an address. `evidence` holds ids, the newest first.
    """

    anomaly_id: UUID
    position: int
    kind: Kind
    severity: Severity
    license_id: UUID | None
    subject_id: UUID | None
    address_sealed: bytes | None
    explanation: str
    evidence: tuple[str, ...]
    found_at: datetime
    recorded_at: datetime
    status: Status
    resolved_at: datetime | None
    resolved_by: str | None
    reason_sealed: bytes | None
    wrapped_key: bytes | None


class AnomalyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which anomalies a list shows; None is 'any'. `since` is inclusive, `until` exclusive, of when they were found.

    With a `product`, only those about licences for it, and none about addresses.
    """

    license_id: UUID | None = None
    product: str | None = None
    kind: Kind | None = None
    severities: tuple[Severity, ...] | None = None
    status: Status | None = None
    since: datetime | None = None
    until: datetime | None = None


_SELECT = SQL("""
    SELECT a.anomaly_id, a.position, a.kind, a.severity, a.license_id, a.subject_id, a.address_sealed, a.explanation,
        a.evidence, a.found_at, a.recorded_at, a.status, a.resolved_at, a.resolved_by, a.reason_sealed, s.wrapped_key
    FROM anomalies a LEFT JOIN data_subjects s USING (subject_id)
""")

BY_ID = _SELECT + SQL("WHERE a.anomaly_id = %s")
_OF_LICENSE = _SELECT + SQL("WHERE a.license_id = %s ORDER BY a.position DESC")
_OF_LICENSES = _SELECT + SQL("JOIN unnest(%s::uuid[]) AS license (id) ON a.license_id = license.id ORDER BY a.position")

_CONDITIONS = {
    "license_id": SQL("a.license_id = {}"),
    "product": SQL("EXISTS (SELECT FROM licenses l WHERE l.license_id = a.license_id AND l.product = {})"),
    "kind": SQL("a.kind = {}"),
    "severities": SQL("a.severity = ANY({})"),
    "status": SQL("a.status = {}"),
    "since": SQL("a.found_at >= {}"),
    "until": SQL("a.found_at < {}"),
}


def row_of(row: dict[str, Any]) -> AnomalyRow:
    """Turn a database row into an AnomalyRow."""
    return AnomalyRow(**{**row, "evidence": tuple(row["evidence"])})


async def by_id(connection: Any, anomaly_id: UUID) -> AnomalyRow | None:
    """Return the anomaly with this id, or None."""
    row = await (await connection.execute(BY_ID, (anomaly_id,))).fetchone()
    return row_of(row) if row else None


async def of_license(connection: Any, license_id: UUID) -> list[AnomalyRow]:
    """Return all that was recorded about a licence, the newest first: a few a week at most, since alerts are quiet."""
    return [row_of(row) for row in await (await connection.execute(_OF_LICENSE, (license_id,))).fetchall()]


async def of_licenses(connection: Any, license_ids: Sequence[UUID]) -> list[AnomalyRow]:
    """Return all that was recorded about some licences, the oldest first."""
    return [row_of(row) for row in await (await connection.execute(_OF_LICENSES, (list(license_ids),))).fetchall()]


async def page(connection: Any, wanted: AnomalyFilter, *, offset: int, limit: int) -> tuple[list[AnomalyRow], int]:
    """Return up to `limit` anomalies after skipping `offset`, the newest first, and how many match in all."""
    total = await count(connection, wanted)
    if offset >= total:
        return [], total
    query = (
        _SELECT
        + _where(wanted)
        + SQL(" ORDER BY a.position DESC OFFSET {} LIMIT {}").format(Literal(offset), Literal(limit))
    )
    return [row_of(row) for row in await (await connection.execute(query)).fetchall()], total


async def page_before(connection: Any, wanted: AnomalyFilter, *, position: int, limit: int) -> list[AnomalyRow]:
    """Return up to `limit` anomalies recorded before a log position, the newest first."""
    before = SQL(" AND a.position < {}").format(Literal(position))
    query = _SELECT + _where(wanted) + before + SQL(" ORDER BY a.position DESC LIMIT {}").format(Literal(limit))
    return [row_of(row) for row in await (await connection.execute(query)).fetchall()]


async def count(connection: Any, wanted: AnomalyFilter) -> int:
    """Return how many anomalies match."""
    cursor = await connection.execute(SQL("SELECT count(*) AS total FROM anomalies a ") + _where(wanted))
    return int((await cursor.fetchone())["total"])


def _where(wanted: AnomalyFilter) -> Composed:
    conditions: list[Composed] = [SQL("true").format()]
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(condition.format(Literal(list(value) if isinstance(value, tuple) else value)))
    return SQL("WHERE ") + SQL(" AND ").join(conditions)
