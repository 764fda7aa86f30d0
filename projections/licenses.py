"""Licences as administrators read them: one, by key, or a filtered page of all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg.sql import SQL, Composed, Literal


class LicenseRow(msgspec.Struct, frozen=True, kw_only=True):
    """A licence's row; personal fields are still sealed, `wrapped_key` is their subject's data key."""

    license_id: UUID
    position: int
    key_digest: bytes
    key_sealed: bytes
    subject_id: UUID
    customer_id_sealed: bytes | None
    email_sealed: bytes | None
    metadata_sealed: bytes | None
    email_hash: bytes | None
    product: str | None
    edition: str | None
    max_devices: int
    current_devices: int
    features: tuple[str, ...]
    is_active: bool
    is_test: bool
    floating: bool
    created_at: datetime
    expires_at: datetime | None
    wrapped_key: bytes | None


class LicenseFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which licences a list shows; None is 'any'. `subject_id` stands for a customer."""

    subject_id: UUID | None = None
    email_hash: bytes | None = None
    product: str | None = None
    edition: str | None = None
    is_active: bool | None = None
    is_test: bool | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    expires_after: datetime | None = None
    expires_before: datetime | None = None


_SELECT = SQL("""
    SELECT l.license_id, l.position, l.key_digest, l.key_sealed, l.subject_id, l.customer_id_sealed, l.email_sealed,
        l.metadata_sealed, l.email_hash, l.product, l.edition, l.max_devices, l.current_devices, l.features,
        l.is_active, l.is_test, l.floating, l.created_at, l.expires_at, s.wrapped_key
    FROM licenses l LEFT JOIN data_subjects s USING (subject_id)
""")

BY_ID = _SELECT + SQL("WHERE l.license_id = %s")
BY_KEY = _SELECT + SQL("WHERE l.key_digest = %s")
_OF_SUBJECTS = _SELECT + SQL("WHERE l.subject_id = ANY(%s) AND l.position > %s ORDER BY l.position LIMIT %s")

_CONDITIONS = {
    "subject_id": SQL("l.subject_id = {}"),
    "email_hash": SQL("l.email_hash = {}"),
    "product": SQL("l.product = {}"),
    "edition": SQL("l.edition = {}"),
    "is_active": SQL("l.is_active = {}"),
    "is_test": SQL("l.is_test = {}"),
    "created_after": SQL("l.created_at > {}"),
    "created_before": SQL("l.created_at < {}"),
    "expires_after": SQL("l.expires_at > {}"),
    "expires_before": SQL("l.expires_at < {}"),
}


def row_of(row: dict[str, Any]) -> LicenseRow:
    """Turn a database row into a LicenseRow."""
    return LicenseRow(**{**row, "features": tuple(row["features"])})


async def by_id(connection: Any, license_id: UUID) -> LicenseRow | None:
    """Return the licence with this id, or None."""
    return await _one(connection, BY_ID, license_id)


async def by_key(connection: Any, key_digest: bytes) -> LicenseRow | None:
    """Return the licence with this key's SHA-256, or None."""
    return await _one(connection, BY_KEY, key_digest)


async def ids_of_subject(connection: Any, subject_id: UUID) -> list[UUID]:
    """Return the ids of a data subject's licences, in the order of their issue."""
    cursor = await connection.execute(
        "SELECT license_id FROM licenses WHERE subject_id = %s ORDER BY position", (subject_id,)
    )
    return [row["license_id"] for row in await cursor.fetchall()]


async def of_subjects(connection: Any, subject_ids: Sequence[UUID], *, after: int, limit: int) -> list[LicenseRow]:
    """Return up to `limit` licences of data subjects that were issued after a log position, the oldest first."""
    cursor = await connection.execute(_OF_SUBJECTS, (list(subject_ids), after, limit))
    return [row_of(row) for row in await cursor.fetchall()]


async def _one(connection: Any, query: Composed, value: object) -> LicenseRow | None:
    cursor = await connection.execute(query, (value,))
    row = await cursor.fetchone()
    return row_of(row) if row else None


async def page(connection: Any, wanted: LicenseFilter, *, offset: int, limit: int) -> tuple[list[LicenseRow], int]:
    """Return up to `limit` licences after skipping `offset`, newest first, and how many match in all."""
    where = _where(wanted)
    total = await count(connection, wanted)
    if offset >= total:
        return [], total
    query = (
        _SELECT + where + SQL(" ORDER BY l.position DESC OFFSET {} LIMIT {}").format(Literal(offset), Literal(limit))
    )
    cursor = await connection.execute(query)
    return [row_of(row) for row in await cursor.fetchall()], total


async def page_before(connection: Any, wanted: LicenseFilter, *, position: int, limit: int) -> list[LicenseRow]:
    """Return up to `limit` licences issued before a log position, newest first: the same cost at any depth."""
    before = SQL(" AND l.position < {}").format(Literal(position))
    query = _SELECT + _where(wanted) + before + SQL(" ORDER BY l.position DESC LIMIT {}").format(Literal(limit))
    cursor = await connection.execute(query)
    return [row_of(row) for row in await cursor.fetchall()]


async def count(connection: Any, wanted: LicenseFilter) -> int:
    """Return how many licences match."""
    cursor = await connection.execute(SQL("SELECT count(*) AS total FROM licenses l ") + _where(wanted))
    row = await cursor.fetchone()
    return int(row["total"])


def _where(wanted: LicenseFilter) -> Composed:
    conditions: list[Composed] = [SQL("true").format()]
    for name, condition in _CONDITIONS.items():
        value = getattr(wanted, name)
        if value is not None:
            conditions.append(condition.format(Literal(value)))
    return SQL("WHERE ") + SQL(" AND ").join(conditions)
