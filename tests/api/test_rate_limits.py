"""Minute and hour windows, in memory and in a real Redis that the tests own; time is an argument."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from api import shared_rate_limits
from api.rate_limits import (
    HOUR,
    MISS_WINDOW,
    MISSES,
    SHARED_BUCKETS,
    UNLIMITED_COUNT,
    MemoryRateLimiter,
    MissLimiter,
    Quota,
    RateLimiter,
)
from api.shared_rate_limits import PATIENCE, PAUSE, RedisRateLimiter
from domain.errors import RateLimitExceeded
from tests.support.within import within

NOW = 1_000.0


async def hits(limiter: RateLimiter, count: int, per_minute: int | None, per_hour: int | None, now: float) -> Quota:
    for _ in range(count):
        quota = await limiter.hit("key", per_minute, per_hour, now)
    return quota


class TestInMemory:
    async def test_the_minute_is_used_up_and_begins_anew(self) -> None:
        limiter = MemoryRateLimiter()

        assert await hits(limiter, 1, 3, None, NOW) == Quota(3, 2)
        assert await hits(limiter, 2, 3, None, NOW + 10.5) == Quota(3, 0)
        assert await hits(limiter, 1, 3, None, NOW + 10.5) == Quota(3, 0, retry_after=50)
        assert await hits(limiter, 1, 3, None, NOW + 59.9) == Quota(3, 0, retry_after=1)
        assert await hits(limiter, 1, 3, None, NOW + 60) == Quota(3, 2)

    async def test_remaining_is_the_smaller_of_both_windows(self) -> None:
        limiter = MemoryRateLimiter()

        assert await hits(limiter, 2, 3, 4, NOW) == Quota(3, 1)
        assert await hits(limiter, 1, 3, 4, NOW + 60) == Quota(3, 1)
        assert await hits(limiter, 1, 3, 4, NOW + 60) == Quota(3, 0)
        assert await hits(limiter, 1, 3, 4, NOW + 60) == Quota(3, 0, retry_after=HOUR - 60)

    async def test_a_refused_request_consumes_nothing(self) -> None:
        limiter = MemoryRateLimiter()
        await hits(limiter, 100, 2, 5, NOW)

        assert await hits(limiter, 2, 2, 5, NOW + 60) == Quota(2, 0)
        assert await hits(limiter, 1, 2, 5, NOW + 120) == Quota(2, 0)

    async def test_no_limit_still_says_numbers(self) -> None:
        limiter = MemoryRateLimiter()

        assert await hits(limiter, 2, None, None, NOW) == Quota(UNLIMITED_COUNT, UNLIMITED_COUNT)
        assert await hits(limiter, 2, None, 5, NOW) == Quota(UNLIMITED_COUNT, 3)

    async def test_a_limit_of_none_at_all(self) -> None:
        assert await hits(MemoryRateLimiter(), 1, 0, 0, NOW) == Quota(0, 0, retry_after=HOUR)

    async def test_callers_do_not_share(self) -> None:
        limiter = MemoryRateLimiter()
        await hits(limiter, 2, 1, None, NOW)

        assert await limiter.hit("other", 1, None, NOW) == Quota(1, 0)

    async def test_memory_is_bounded_and_a_flood_resets_nobody(self) -> None:
        limiter = MemoryRateLimiter(max_buckets=10)
        await hits(limiter, 2, 1, 100, NOW)
        allowed: Counter[bool] = Counter()
        for number in range(5_000):
            quota = await limiter.hit(f"made up {number}", 1, 100, NOW + 1)
            allowed[quota.retry_after == 0] += 1

        assert (await hits(limiter, 1, 1, 100, NOW + 2)).retry_after == 58
        assert allowed[True] <= 10 + SHARED_BUCKETS
        assert size_of(limiter) <= 10 + SHARED_BUCKETS

    async def test_who_was_counted_with_others_gets_no_fresh_window_when_there_is_room_again(self) -> None:
        limiter = MemoryRateLimiter(max_buckets=1)
        await limiter.hit("first", 1, 2, NOW)
        await limiter.hit("other", 1, 2, NOW + HOUR)  # "first" is idle for an hour now, and forgotten in another.
        await limiter.hit("second", 1, 2, NOW + 1.5 * HOUR)
        await limiter.hit("second", 1, 2, NOW + 1.5 * HOUR + 60)

        assert await limiter.hit("second", 1, 2, NOW + 2 * HOUR) == Quota(1, 0, retry_after=HOUR // 2)
        assert await limiter.hit("second", 1, 2, NOW + 2.5 * HOUR) == Quota(1, 0)

    async def test_an_idle_caller_is_forgotten_and_a_busy_one_is_not(self) -> None:
        limiter = MemoryRateLimiter()
        await limiter.hit("idle", 1, 1000, NOW)
        for minute in range(180):
            quota = await hits(limiter, 1, 10, 1000, NOW + minute * 60)
            assert quota.remaining <= 1000 - 1 - minute % 60

        assert size_of(limiter) == 1


def size_of(limiter: MemoryRateLimiter) -> int:
    buckets = limiter._buckets
    return len(buckets._young) + len(buckets._old) + len(buckets._shared)


class TestMisses:
    def test_twenty_misses_in_ten_minutes(self) -> None:
        limiter = MissLimiter()
        for second in range(MISSES):
            assert limiter.allowed("203.0.113.7", NOW + second)
            limiter.record("203.0.113.7", NOW + second)

        assert not limiter.allowed("203.0.113.7", NOW + 20)
        assert limiter.allowed("203.0.113.8", NOW + 20)
        with pytest.raises(RateLimitExceeded) as caught:
            limiter.record("203.0.113.7", NOW + 20)
        assert caught.value.retry_after == MISS_WINDOW - 20

    def test_they_are_forgiven_afterwards(self) -> None:
        limiter = MissLimiter()
        for _ in range(MISSES):
            limiter.record("203.0.113.7", NOW)

        assert limiter.allowed("203.0.113.7", NOW + MISS_WINDOW)
        limiter.record("203.0.113.7", NOW + MISS_WINDOW)


class Redis:
    """A redis-server process on a socket in a folder of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self.socket = folder / "redis.sock"
        self.url = f"redis+unix://{self.socket}"
        self._command = [program, "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(folder)]
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert any("accept connections" in line for line in self._process.stdout)

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    program = shutil.which("redis-server")
    if program is None:
        message = "redis-server is not installed (Debian package redis-server)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    server = Redis(program, tmp_path)
    yield server
    server.kill()


class Fallbacks:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> None:
        self.count += 1


@pytest.fixture
def fallbacks() -> Fallbacks:
    return Fallbacks()


@pytest.fixture
async def pair(
    redis: Redis, fallbacks: Fallbacks, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[RedisRateLimiter, RedisRateLimiter]]:
    """Two limiters, as two processes have them; on a busy machine Redis may take its time."""
    monkeypatch.setattr(shared_rate_limits, "PATIENCE", 10.0)
    limiters = RedisRateLimiter(redis.url, fallbacks), RedisRateLimiter(redis.url, fallbacks)
    yield limiters
    for limiter in limiters:
        await limiter.close()


Pair = tuple[RedisRateLimiter, RedisRateLimiter]


class TestInRedis:
    async def test_processes_share_windows(self, pair: Pair) -> None:
        one, other = pair

        assert await hits(one, 2, 3, 100, NOW) == Quota(3, 1)
        assert await hits(other, 1, 3, 100, NOW) == Quota(3, 0)
        refused = await hits(one, 1, 3, 100, NOW)
        assert (refused.limit, refused.remaining) == (3, 0)
        assert 50 < refused.retry_after <= 60

    async def test_a_refusal_by_the_hour_consumes_nothing(self, pair: Pair) -> None:
        one, other = pair

        assert 3500 < (await hits(one, 50, 10, 2, NOW)).retry_after <= HOUR
        assert await hits(other, 1, 10, None, NOW) == Quota(10, 7)

    async def test_a_refusal_by_the_minute_consumes_nothing(self, pair: Pair) -> None:
        one, other = pair
        await hits(one, 50, 2, 10, NOW)

        assert await hits(other, 1, None, 10, NOW) == Quota(UNLIMITED_COUNT, 7)

    async def test_parallel_requests_never_exceed_the_limit(self, pair: Pair) -> None:
        quotas = await asyncio.gather(*(limiter.hit("key", 20, 15, NOW) for limiter in pair for _ in range(30)))

        assert sum(quota.retry_after == 0 for quota in quotas) == 15

    async def test_no_limit_asks_nobody(self, pair: Pair, redis: Redis, fallbacks: Fallbacks) -> None:
        redis.kill()

        assert await hits(pair[0], 1, None, None, NOW) == Quota(UNLIMITED_COUNT, UNLIMITED_COUNT)
        assert fallbacks.count == 0

    async def test_without_redis_each_process_counts_and_says_so_once(
        self, pair: Pair, redis: Redis, fallbacks: Fallbacks, caplog: pytest.LogCaptureFixture
    ) -> None:
        one, _ = pair
        await hits(one, 1, 3, None, NOW)
        redis.kill()

        assert await hits(one, 3, 3, None, NOW) == Quota(3, 0)
        assert await hits(one, 1, 3, None, NOW + 1) == Quota(3, 0, retry_after=59)
        assert fallbacks.count == 4
        assert [record.levelno for record in caplog.records] == [logging.WARNING]

    async def test_it_is_shared_again_when_redis_is_back(self, pair: Pair, redis: Redis, fallbacks: Fallbacks) -> None:
        one, other = pair
        redis.kill()
        await hits(one, 1, 3, None, NOW)
        await hits(other, 1, 3, None, NOW)
        redis.start()

        assert await hits(one, 1, 3, None, NOW + PAUSE - 1) == Quota(3, 1)
        assert await hits(one, 1, 3, None, NOW + PAUSE) == Quota(3, 2)
        assert await hits(other, 1, 3, None, NOW + PAUSE) == Quota(3, 1)
        assert fallbacks.count == 3

    async def test_a_frozen_redis_is_waited_for_once(
        self, pair: Pair, redis: Redis, fallbacks: Fallbacks, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        one, _ = pair
        await hits(one, 1, 3, None, NOW)
        monkeypatch.setattr(shared_rate_limits, "PATIENCE", PATIENCE)
        redis.send(signal.SIGSTOP)
        async with within(2.5 * PATIENCE):
            assert await hits(one, 3, 3, None, NOW) == Quota(3, 0)
        assert fallbacks.count == 3
