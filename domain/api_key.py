"""The ApiKey aggregate: who may call which endpoints, how often, and until when."""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from uuid import UUID

import msgspec

from domain.facts import ApiKeyCreated, ApiKeyRevoked, Fact, Recorded

DEFAULT_ENDPOINTS = ("/api/v1/license/*", "/api/v1/auth/token")
"""What a key may call that names nothing: such keys ship inside programs, so fleet-wide reading is not among it."""

DEFAULT_PER_MINUTE = 60
DEFAULT_PER_HOUR = 1_000


class ApiKey(msgspec.Struct, kw_only=True):
    """An API key as decisions see it."""

    id: UUID
    version: int
    is_revoked: bool = False


def evolve(key: ApiKey | None, event: Recorded) -> ApiKey:
    """Apply an event in place and return the key; the first event makes it. Raises ValueError out of order."""
    match key, event.fact:
        case None, ApiKeyCreated():
            return ApiKey(id=event.originator_id, version=1)
        case ApiKey(), ApiKeyRevoked() if event.originator_version == key.version + 1:
            key.is_revoked = True
            key.version = event.originator_version
            return key
        case _:
            msg = f"API key {event.originator_id}: {event.fact.stored_name} is out of order"
            raise ValueError(msg)


def revoke(key: ApiKey) -> tuple[Fact, ...]:
    """Revoke the key; a revoked one stays as it is."""
    return () if key.is_revoked else (ApiKeyRevoked(),)


@lru_cache(maxsize=4096)
def covers(allowed_endpoints: tuple[str, ...], route: str) -> bool:
    """Tell whether a route (normalised, with its parameters' names) is among paths or globs."""
    return any(fnmatchcase(route, pattern) for pattern in allowed_endpoints)


def has_ended(expires_at: datetime | None, revoked_at: datetime | None, now: datetime) -> bool:
    """Tell whether a key may not be used any more."""
    return revoked_at is not None or (expires_at is not None and now > expires_at)
