"""Rate limits that several processes share, counted in Redis through the `limits` package."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from math import ceil
from typing import Any, cast

from limits.aio.storage import RedisStorage
from limits.aio.storage.redis.redispy import RedispyBridge
from limits.errors import StorageError

from api.rate_limits import HOUR, MINUTE, UNLIMITED, UNLIMITED_COUNT, MemoryRateLimiter, Quota

PATIENCE = 0.25
"""Seconds that a request waits for Redis."""
PAUSE = 5.0
"""Seconds for which Redis is left alone after it failed."""

_log = logging.getLogger(__name__)


class RedisRateLimiter:
    """Counts in Redis; while that can't be reached, in this process alone, so that no request fails for it."""

    def __init__(self, url: str, on_fallback: Callable[[], None]) -> None:
        """Take a `redis://`, `rediss://` or `redis+unix://` URL; `on_fallback` is called per request counted here."""
        self._storage = RedisStorage(
            f"async+{url}", wrap_exceptions=True, implementation="redispy", key_prefix="lizenzserver:limits"
        )
        self._memory = MemoryRateLimiter()
        self._on_fallback = on_fallback
        self._ask_again_at = float("-inf")
        self._failing = False

    async def hit(self, bucket: str, per_minute: int | None, per_hour: int | None, now: float) -> Quota:
        """Count one request of a caller, if both windows allow it."""
        if per_minute is None and per_hour is None:
            return UNLIMITED
        if now >= self._ask_again_at:
            try:
                async with asyncio.timeout(PATIENCE):
                    quota = await self._count(bucket, per_minute, per_hour)
            except (StorageError, OSError, TimeoutError) as error:
                self._note_failure(error, now)
            else:
                self._note_success()
                return quota
        self._on_fallback()
        return await self._memory.hit(bucket, per_minute, per_hour, now)

    async def close(self) -> None:
        """Close the connections to Redis."""
        client: Any = cast("RedispyBridge", self._storage.bridge).get_connection()
        await client.aclose()

    async def _count(self, bucket: str, per_minute: int | None, per_hour: int | None) -> Quota:
        limit = UNLIMITED_COUNT if per_minute is None else per_minute
        left = UNLIMITED_COUNT
        if per_minute is not None:
            left = per_minute - await self._storage.incr(f"minute:{bucket}", MINUTE)
            if left < 0:
                return await self._refused(limit, f"minute:{bucket}")
        if per_hour is not None:
            left = min(left, per_hour - await self._storage.incr(f"hour:{bucket}", HOUR))
            if left < 0:
                if per_minute is not None:
                    await self._storage.incr(f"minute:{bucket}", MINUTE, -1)
                return await self._refused(limit, f"hour:{bucket}")
        return Quota(limit, left)

    async def _refused(self, limit: int, key: str) -> Quota:
        return Quota(limit, 0, max(1, ceil(await self._storage.get_expiry(key) - time.time())))

    def _note_failure(self, error: Exception, now: float) -> None:
        self._ask_again_at = now + PAUSE
        if not self._failing:
            self._failing = True
            _log.warning("Redis can't be reached (%s): rate limits are counted by each process", type(error).__name__)

    def _note_success(self) -> None:
        if self._failing:
            self._failing = False
            _log.warning("Redis can be reached again: rate limits are shared")
