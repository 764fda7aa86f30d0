"""API keys as the services read them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec


class ApiKeyView(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """An API key without its secret. Limits are requests; None is no limit. `position`: as of where in the log.

    Two readings of a key are never equal: who keeps something for one of them need not compare all its fields.
    """

    key_id: UUID
    client_name: str
    allowed_endpoints: tuple[str, ...]
    requests_per_minute: int | None
    requests_per_hour: int | None
    product: str | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    position: int


_COLUMNS = """
    SELECT key_id, client_name, allowed_endpoints, requests_per_minute, requests_per_hour, product, created_at,
        expires_at, revoked_at, (SELECT coalesce(max(notification_id), 0) FROM licensing_events) AS position
    FROM api_keys
"""


async def by_digest(connection: Any, key_digest: bytes) -> ApiKeyView | None:
    """Return the API key with this SHA-256, or None."""
    cursor = await connection.execute(_COLUMNS + "WHERE key_digest = %s", (key_digest,))
    row = await cursor.fetchone()
    return _view(row) if row else None


async def by_id(connection: Any, key_id: UUID) -> ApiKeyView | None:
    """Return the API key with this id, or None."""
    cursor = await connection.execute(_COLUMNS + "WHERE key_id = %s", (key_id,))
    row = await cursor.fetchone()
    return _view(row) if row else None


async def all_keys(connection: Any) -> list[ApiKeyView]:
    """Return all API keys, revoked ones too, newest first."""
    cursor = await connection.execute(_COLUMNS + "ORDER BY api_keys.position DESC")
    return [_view(row) for row in await cursor.fetchall()]


def _view(row: dict[str, Any]) -> ApiKeyView:
    return ApiKeyView(**{**row, "allowed_endpoints": tuple(row["allowed_endpoints"])})
