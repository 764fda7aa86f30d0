"""How many requests a caller may make: minute and hour windows counted in this process's memory.

A window opens at its first request and counts until it ends. `now` is in seconds of a clock that never goes back
(the event loop's), so that a corrected wall clock neither opens nor prolongs a window.
"""

from __future__ import annotations

from math import ceil
from typing import Protocol

import msgspec

from domain.errors import RateLimitExceeded

MINUTE = 60
HOUR = 3600
UNLIMITED_COUNT = 2**31 - 1
"""What the headers say where there is no limit: the largest number that every client can read."""
MAX_BUCKETS = 100_000
"""Callers that are counted one by one; about 25 MB when all are in use."""
SHARED_BUCKETS = 1024
MISSES = 20
MISS_WINDOW = 600
"""Seconds in which an address may miss MISSES times."""


class Quota(msgspec.Struct, frozen=True, gc=False):
    """What a caller has left.

    `limit`: requests a minute; `remaining`: requests that both windows still allow; `retry_after`: whole seconds until
    a refused request may be repeated, 0 where it was allowed.
    """

    limit: int
    remaining: int
    retry_after: int = 0


UNLIMITED = Quota(UNLIMITED_COUNT, UNLIMITED_COUNT)


class RateLimiter(Protocol):
    """Counts callers' requests."""

    async def hit(self, bucket: str, per_minute: int | None, per_hour: int | None, now: float) -> Quota:
        """Count one request of a caller; None stands for no limit. A refused request consumes nothing."""

    async def close(self) -> None:
        """Let go of connections."""


class MemoryRateLimiter:
    """Counts in this process alone. Make one for callers with credentials and one for addresses, see `_Buckets`."""

    def __init__(self, max_buckets: int = MAX_BUCKETS) -> None:
        self._buckets = _Buckets(max_buckets)

    async def hit(self, bucket: str, per_minute: int | None, per_hour: int | None, now: float) -> Quota:
        """Count one request of a caller, if both windows allow it."""
        if per_minute is None:
            per_minute = UNLIMITED_COUNT
            if per_hour is None:
                return UNLIMITED
        counts = self._buckets.of(bucket, now)
        if now >= counts.short_ends:
            counts.short_ends = now + MINUTE
            counts.short_used = 0
        if now >= counts.long_ends:
            counts.long_ends = now + HOUR
            counts.long_used = 0
        in_minute = per_minute - counts.short_used
        in_hour = UNLIMITED_COUNT if per_hour is None else per_hour - counts.long_used
        if in_minute > 0 and in_hour > 0:
            counts.short_used += 1
            counts.long_used += 1
            return Quota(per_minute, (in_minute if in_minute < in_hour else in_hour) - 1)  # noqa: FURB136 - hot path
        wait_for_minute = counts.short_ends - now if in_minute <= 0 else 0
        wait_for_hour = counts.long_ends - now if in_hour <= 0 else 0
        return Quota(per_minute, 0, ceil(max(wait_for_minute, wait_for_hour)))

    async def close(self) -> None:
        """Do nothing: there is only memory."""


class MissLimiter:
    """Slows down guessing: an address that missed 20 times in 10 minutes gets RateLimitExceeded for further misses."""

    def __init__(self, max_addresses: int = MAX_BUCKETS) -> None:
        self._buckets = _Buckets(max_addresses)

    def allowed(self, address: str, now: float) -> bool:
        """Whether a miss of this address would still be answered as a miss."""
        counts = self._buckets.of(address, now)
        return counts.short_used < MISSES or now >= counts.short_ends

    def record(self, address: str, now: float) -> None:
        """Count a miss. Raises RateLimitExceeded for one too many, which counts no further."""
        counts = self._buckets.of(address, now)
        if now >= counts.short_ends:
            counts.short_ends = now + MISS_WINDOW
            counts.short_used = 0
        if counts.short_used >= MISSES:
            raise RateLimitExceeded(ceil(counts.short_ends - now))
        counts.short_used += 1


class _Bucket:
    """Two windows: when each ends, and how much of it is used."""

    __slots__ = ("long_ends", "long_used", "short_ends", "short_used")

    def __init__(self) -> None:
        self.short_ends = self.long_ends = float("-inf")
        self.short_used = self.long_used = 0


class _Buckets:
    """A bounded table of buckets that never forgets one whose window is open.

    A used bucket is in `_young`. Each hour `_young` becomes `_old`, and what was in `_old`, idle for an hour and so
    without an open window, is forgotten. When the table is full, newcomers share a fixed set of buckets: a flood of
    made-up callers makes the limit stricter for newcomers, and gives nobody a fresh window.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._young: dict[str, _Bucket] = {}
        self._old: dict[str, _Bucket] = {}
        self._shared: dict[int, _Bucket] = {}
        self._turns = float("-inf")

    def of(self, key: str, now: float) -> _Bucket:
        """Find or make a caller's bucket."""
        if now >= self._turns:
            self._old = self._young if now < self._turns + HOUR else {}
            self._young = {}
            self._turns = now + HOUR
        return self._young.get(key) or self._bring(key, now)

    def _bring(self, key: str, now: float) -> _Bucket:
        bucket = self._old.pop(key, None)
        if bucket is None:
            # Who was counted in a shared bucket stays there while its windows are open, or would get a fresh one.
            slot = hash(key) % SHARED_BUCKETS
            shared = self._shared.get(slot)
            if shared and now < max(shared.short_ends, shared.long_ends):
                return shared
            if len(self._young) + len(self._old) >= self._capacity:
                return self._shared.setdefault(slot, _Bucket())
            bucket = _Bucket()
        self._young[key] = bucket
        return bucket
